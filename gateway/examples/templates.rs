//! Renders chat templates as the gateway does, for the comparison with Jinja2 in `tests/python`: reads
//! lines of `{"template": …, "context": {…}}`, writes a line `{"text": …}` or `{"error": …}` for each.

use std::io::{BufRead, Write, stdin, stdout};

use serde_json::{Map, Value, json};

fn main() -> std::io::Result<()> {
    let mut out = stdout().lock();
    for line in stdin().lock().lines() {
        let mut job: Value = serde_json::from_str(&line?)?;
        let context = job["context"].as_object_mut().map(std::mem::take).unwrap_or_default();
        let template = job["template"].as_str().unwrap_or_default();
        let answer = match render(template, context) {
            Ok(text) => json!({ "text": text }),
            Err(error) => json!({ "error": error }),
        };
        writeln!(out, "{answer}")?;
    }
    Ok(())
}

fn render(template: &str, mut context: Map<String, Value>) -> Result<String, String> {
    let messages = context.remove("messages").unwrap_or_default();
    let prompt = context.remove("add_generation_prompt").is_some_and(|value| value == true);
    let messages = messages.as_array().map_or(&[][..], Vec::as_slice);
    tandem_gateway::render_chat_template(template, messages, &context, prompt)
}
