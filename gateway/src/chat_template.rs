//! Renders a conversation to the text the model was trained on, with the model's own Jinja
//! template, as `transformers`' `apply_chat_template` does.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use minijinja::{Environment, ErrorKind, Value};
use serde_json::Map;

use crate::template_functions::{RAISED, raise_exception, strftime_now, tojson};

/// Most instructions of one rendering. A thousand messages take about a hundred thousand; this is
/// under a second.
const FUEL: u64 = 10_000_000;

/// Most bytes a template may make of a request that is itself bounded by `max_body_bytes`.
const OUTPUT_BYTES_MAX: usize = 128 << 20;

const NAME: &str = "chat_template";

/// A compiled template.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    /// Special tokens by name (`bos_token`, `eos_token`, …), as templates refer to them.
    special_tokens: Map<String, serde_json::Value>,
    /// Whether the template tells a `developer` from a `system` message.
    pub(crate) knows_developer: bool,
}

/// Why a conversation could not be rendered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RenderError {
    /// The template raised an exception about the messages; its text.
    Raised(String),
    /// The rendering takes too long or grows too large.
    TooLarge,
    /// The template itself fails on these messages.
    Failed(String),
}

impl ChatTemplate {
    /// Compiles; the error says where the template is wrong.
    pub(crate) fn new(
        source: &str,
        special_tokens: Map<String, serde_json::Value>,
    ) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", tojson);
        environment
            .add_template_owned(NAME, without_generation_blocks(source))
            .map_err(|e| format!("{e:#}"))?;
        Ok(Self { environment, special_tokens, knows_developer: source.contains("developer") })
    }

    /// Renders messages (maps of `role`, `content` and more). `kwargs` are further variables of
    /// the template; they win over the special tokens but not over the messages.
    pub(crate) fn render(
        &self,
        messages: &[serde_json::Value],
        kwargs: &Map<String, serde_json::Value>,
        add_generation_prompt: bool,
    ) -> Result<String, RenderError> {
        let failed = |e: minijinja::Error| RenderError::Failed(format!("{e:#}"));
        let template = self.environment.get_template(NAME).map_err(failed)?;
        let mut variables = BTreeMap::from([("tools", Value::from(())), ("documents", ().into())]);
        let named = self.special_tokens.iter().chain(kwargs);
        variables.extend(named.map(|(name, value)| (name.as_str(), Value::from_serialize(value))));
        variables.insert("messages", Value::from_serialize(messages));
        variables.insert("add_generation_prompt", add_generation_prompt.into());
        let mut out = Bounded { bytes: Vec::new(), left: OUTPUT_BYTES_MAX };
        match template.render_captured_to(variables, &mut out) {
            Ok(_) => String::from_utf8(out.bytes)
                .map_err(|_| RenderError::Failed("the text is not UTF-8".into())),
            Err(e) if e.kind() == ErrorKind::OutOfFuel || e.kind() == ErrorKind::WriteFailure => {
                Err(RenderError::TooLarge)
            }
            Err(e) => match e.detail().and_then(|detail| detail.strip_prefix(RAISED)) {
                Some(message) => Err(RenderError::Raised(message.to_owned())),
                None => Err(failed(e)),
            },
        }
    }
}

/// A writer that refuses more than its bound.
struct Bounded {
    bytes: Vec<u8>,
    left: usize,
}

impl Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(piece.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `{% generation %}` marks the assistant's words for training (an extension of `transformers`);
/// for generation it means nothing, so it becomes `{% if true %}`.
fn without_generation_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else {
            break;
        };
        let (before, after) = rest.split_at(start);
        let (tag, after) = after.split_at(length);
        out += before;
        out += &match tag.trim_matches(['{', '%', '-', '+', ' ', '\t', '\r', '\n']) {
            "generation" => tag.replace("generation", "if true"),
            "endgeneration" => tag.replace("endgeneration", "endif"),
            _ => tag.to_owned(),
        };
        rest = after;
    }
    out + rest
}

#[cfg(test)]
#[path = "chat_template/tests.rs"]
mod tests;
