//! What an admin sees: the status endpoint with its metrics and events, the control socket, and the
//! commands that ask them and print the answer.
//!
//! ```text
//!  supervisor ──Publisher──▶ http      /status /healthz /readyz /metrics /events   (loopback)
//!             ◀──Orders───── control   drain resume hold release                   (root's socket)
//!  tandem status, check, gates, doctor, explain, events, handoff, ledger, drain, ... : command
//! ```

mod ask;
pub mod command;
pub mod control;
pub mod exit;
pub mod http;
mod print;
mod publish;

pub use ask::{AskError, Asked, status as ask_status};
pub use print::{Style, Terminal};
pub use publish::{Build, Published, Publisher, Told};
