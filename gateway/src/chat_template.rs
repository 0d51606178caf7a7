//! Renders a conversation to the text the model was trained on, with the model's own Jinja
//! template, as `transformers`' `apply_chat_template` does.

mod characters;
mod containers;
mod filters;
mod format;
mod globals;
mod json;
mod language;
mod lookup;
mod number_filters;
mod operators;
mod pieces;
mod print;
mod rewrite;
mod sizes;
mod strings;
mod text_filters;
mod type_tests;
mod value;

use std::collections::BTreeMap;

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Value,
    machinery::{CodeGenerator, eval, make_string_output, parse},
    value::Serde,
};
use serde_json::Map;

use crate::template_functions::RAISED;

/// Most work of one rendering: instructions, and 64 bytes each of what is read or made. This is a
/// second or two, and bounds memory too.
const FUEL: u64 = 10_000_000;

/// Most bytes a template may make of a request that is itself bounded by `max_body_bytes`.
const OUTPUT_BYTES_MAX: usize = 128 << 20;

const NAME: &str = "chat_template";

/// A template that compiles.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    /// The template's text. Compiled code borrows from it and takes less time than tokenising, so
    /// each rendering compiles it anew.
    source: String,
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
        let environment = language::environment(FUEL).map_err(|e| e.to_string())?;
        // As Jinja2 reads it: every line ends in one way.
        let lines = source.replace("\r\n", "\n").replace('\r', "\n");
        let template = Self {
            environment,
            source: without_generation_blocks(&lines),
            special_tokens,
            knows_developer: source.contains("developer"),
        };
        template.compile().map_err(|e| e.to_string())?;
        Ok(template)
    }

    fn compile(&self) -> Result<CodeGenerator<'_>, Error> {
        let parsed = parse(&self.source, NAME, self.environment.syntax().clone())?;
        let rewritten = rewrite::rewrite(&parsed).map_err(|statement| {
            Error::new(ErrorKind::SyntaxError, format!("a chat template has no {statement}"))
        })?;
        let mut code = CodeGenerator::new(NAME, &self.source);
        code.compile_stmt(&rewritten);
        Ok(code)
    }

    /// Renders messages (maps of `role`, `content` and more). `kwargs` are further variables of
    /// the template; they win over the special tokens but not over the messages.
    pub(crate) fn render(
        &self,
        messages: &[serde_json::Value],
        kwargs: &Map<String, serde_json::Value>,
        add_generation_prompt: bool,
    ) -> Result<String, RenderError> {
        let none = Value::from(());
        let mut variables = BTreeMap::from([("tools", none.clone()), ("documents", none)]);
        let named = self.special_tokens.iter().chain(kwargs);
        variables.extend(named.map(|(name, value)| (name.as_str(), Value::from(Serde(value)))));
        variables.insert("messages", Value::from(Serde(messages)));
        variables.insert("add_generation_prompt", add_generation_prompt.into());
        let text = self.run(Value::from_pairs(variables)).map_err(|e| {
            let raised = e.detail().and_then(|detail| detail.strip_prefix(RAISED));
            match raised {
                Some(message) => RenderError::Raised(message.to_owned()),
                None if e.kind() == ErrorKind::OutOfFuel => RenderError::TooLarge,
                None => RenderError::Failed(e.to_string()),
            }
        })?;
        if text.len() > OUTPUT_BYTES_MAX {
            return Err(RenderError::TooLarge);
        }
        Ok(text)
    }

    fn run(&self, variables: Value) -> Result<String, Error> {
        let (code, blocks) = self.compile()?.finish();
        let mut text = String::new();
        let mut out = make_string_output(&mut text);
        eval(&self.environment, &code, variables, &blocks, &mut out, AutoEscape::None)?;
        Ok(text)
    }
}

/// `{% generation %}` marks the assistant's words for training (an extension of `transformers`);
/// for generation it means nothing but a scope, so it becomes `{% with %}`. Only a tag of its own
/// does: not what stands in a comment, a string or a raw block.
fn without_generation_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find('{') {
        let (before, opened) = rest.split_at(start);
        out += before;
        let end = match opened.get(..2) {
            Some("{%") => tag_end(opened, "%}"),
            Some("{{") => tag_end(opened, "}}"),
            Some("{#") => opened.find("#}").map(|end| end + 2),
            _ => Some(1),
        };
        let (mut tag, mut after) = opened.split_at(end.unwrap_or(opened.len()));
        let is_block = tag.starts_with("{%");
        let name = tag.trim_matches(['{', '%', '}', '-', '+', ' ', '\t', '\n']);
        if is_block && name == "raw" {
            (tag, after) = opened.split_at(opened.find("endraw").unwrap_or(opened.len()));
        }
        out += &match name {
            "generation" if is_block => tag.replace("generation", "with"),
            "endgeneration" if is_block => tag.replace("endgeneration", "endwith"),
            _ => tag.to_owned(),
        };
        rest = after;
    }
    out + rest
}

/// Where a tag ends, which may have its end in a string.
fn tag_end(tag: &str, end: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in tag.char_indices().skip(2) {
        match quote {
            _ if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(opened) if c == opened => quote = None,
            Some(_) => {}
            None if matches!(c, '\'' | '"') => quote = Some(c),
            None if tag[at..].starts_with(end) => return Some(at + end.len()),
            None => {}
        }
    }
    None
}

#[cfg(test)]
#[path = "chat_template/tests.rs"]
mod tests;
