//! The real gateway on a real port, with a small real tokeniser, against a rank played by the
//! test: what clients see, and what the engine is told.

// Clippy's leave for tests covers only functions marked as such, not what they call.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod accepted;
mod answers;
mod envelope;
mod fake_rank;
mod fallback;
mod faults;
mod http;
mod leaving;
mod limits;
mod model_folder;
mod pair;
mod peers;
mod proxy;
mod proxy_bounds;
mod proxy_faults;
mod refusals;
mod server;
