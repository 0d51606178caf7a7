//! From a conversation to the text of a prompt: as the chat template has it, with the two things
//! that clients ask for beyond it.
//!
//! *Instructions where the template takes none.* Agents put a system message behind others or send
//! several. Where a template refuses that, the same words are put where it takes them.
//!
//! *Going on with a message.* The last message is rendered and the text is cut behind its words, so
//! that the model goes on with them, as `transformers` does it.

use serde_json::{Map, Value};

use crate::chat_template::{ChatTemplate, RenderError};

/// How a prompt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With the head of a new turn of the assistant.
    NewTurn,
    /// Behind the last message, closed.
    Closed,
    /// Inside the last message, behind its words.
    Open,
}

/// Stands behind the words to go on with, so that their end is found in the rendered text. A
/// template that trims messages takes the space away, which tells that it does.
const MARK: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// Between what was several messages.
const GAP: &str = "\n\n";

/// Renders. The error of the conversation as it was given, if no other form of it helps.
pub(crate) fn prompt(
    template: &ChatTemplate,
    mut messages: Vec<Value>,
    kwargs: &Map<String, Value>,
    ending: Ending,
) -> Result<String, RenderError> {
    if !template.knows_developer {
        for message in &mut messages {
            if message["role"] == "developer" {
                message["role"] = "system".into();
            }
        }
    }
    if ending == Ending::Open
        && let Some(last) = messages.last_mut()
    {
        last["content"] = format!("{}{MARK}", words(last)).into();
    }
    let text = accepted(template, messages, kwargs, ending == Ending::NewTurn)?;
    if ending == Ending::Open { cut(text) } else { Ok(text) }
}

fn cut(mut text: String) -> Result<String, RenderError> {
    let Some(at) = text.rfind(MARK.trim_end()) else {
        let why = "the template leaves the last message's words out, so they can't be gone on with";
        return Err(RenderError::Failed(why.into()));
    };
    let trims = !text[at..].starts_with(MARK);
    text.truncate(at);
    if trims {
        text.truncate(text.trim_end().len());
    }
    Ok(text)
}

/// Renders what was given or, where the template raises an exception about it, the first form with
/// its instructions elsewhere that the template takes.
fn accepted(
    template: &ChatTemplate,
    messages: Vec<Value>,
    kwargs: &Map<String, Value>,
    new_turn: bool,
) -> Result<String, RenderError> {
    let refusal = match template.render(&messages, kwargs, new_turn) {
        Err(refusal @ RenderError::Raised(_)) => refusal,
        rendered => return rendered,
    };
    for form in other_forms(messages) {
        if let Ok(text) = template.render(&form, kwargs, new_turn) {
            return Ok(text);
        }
    }
    Err(refusal)
}

/// The same conversation with its instructions in one message at the front; so, with what the user
/// said in a row in one message; and with the instructions in front of the user's first words.
/// Nothing, if it has none.
fn other_forms(messages: Vec<Value>) -> Vec<Vec<Value>> {
    let (instructions, others): (Vec<Value>, Vec<Value>) =
        messages.into_iter().partition(is_instruction);
    let Some(mut front) = instructions.first().cloned() else {
        return Vec::new();
    };
    let said: Vec<&str> = instructions.iter().map(words).filter(|text| !text.is_empty()).collect();
    let said = said.join(GAP);
    front["content"] = said.as_str().into();
    let merged: Vec<Value> = std::iter::once(front.clone()).chain(others.clone()).collect();
    let joined = join_users(others);
    let in_turn: Vec<Value> = std::iter::once(front).chain(joined.clone()).collect();
    let mut forms = vec![merged, in_turn];
    let mut folded = joined;
    if let Some(user) = folded.iter_mut().find(|message| message["role"] == "user") {
        user["content"] = [said.as_str(), words(user)].join(GAP).into();
        forms.push(folded);
    }
    forms
}

fn is_instruction(message: &Value) -> bool {
    message["role"] == "system" || message["role"] == "developer"
}

fn join_users(messages: Vec<Value>) -> Vec<Value> {
    let mut joined: Vec<Value> = Vec::with_capacity(messages.len());
    for message in messages {
        match joined.last_mut() {
            Some(last) if last["role"] == "user" && message["role"] == "user" => {
                last["content"] = [words(last), words(&message)].join(GAP).into();
            }
            _ => joined.push(message),
        }
    }
    joined
}

fn words(message: &Value) -> &str {
    message["content"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests;
