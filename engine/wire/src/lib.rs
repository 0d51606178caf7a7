//! The messages that cross a process border inside one node: gateway → rank 0 (requests),
//! supervisor → every rank (vitals, unload), and what the ranks answer.
//!
//! ```text
//!   gateway ──Submit/Cancel──▶ rank 0      supervisor ──Vitals/Unload──▶ rank N
//!           ◀─Token/Done/Failed─                      ◀─Phase/Vitals──
//! ```
//!
//! Every connection is a Unix socket (`run_dir/rank-N.sock`) and every message is one frame: a
//! little-endian `u32` body length, then that many bytes of JSON. The rank speaks first, with
//! [`FromRank::Hello`], and pushes [`FromRank::Phase`] at once and on every change. JSON, because a
//! frame costs microseconds beside a decode step and an operator can read it with `socat`.

pub mod date;
pub mod exit;
mod frame;
mod message;
mod record;
pub mod way;

pub use frame::{FRAME_BYTES_MAX, FrameError, decode, encode, read_frame, write_frame};
pub use message::{
    Candidate, FailureCode, FinishReason, FromRank, Hello, ModelCard, Phase, Sampling, Session,
    Submit, ToRank, Token, Transport, TransportRow, Vitals,
};
pub use record::RequestRecord;

/// Raised whenever a message changes its meaning; a peer that says another number is refused.
pub const PROTOCOL_VERSION: u32 = 3;
