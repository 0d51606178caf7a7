//! Requests: JSON in, checked values out. Everything here is pure.
//!
//! Fields that OpenAI's API does not have are ignored, as by other servers of it: agents and
//! clients send their own. Fields it has are checked strictly, and those that ask for what this
//! server can't do are refused by name, never ignored.

mod chat;
mod completion;
mod fields;
mod message;
mod params;
mod surrogate;
mod unsupported;

pub(crate) use chat::ChatRequest;
pub(crate) use completion::{CompletionRequest, Prompt};
pub(crate) use fields::Fields;
pub(crate) use params::{Defaults, Params};
