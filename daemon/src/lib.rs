//! Tandem's one executable: every role and the command line, as a library, so that what decides
//! can be tested without a process.
//!
//! ```text
//!  supervise ─▶ policy::decide ─▶ World ─┬▶ tandem gateway ─▶ tandem_gateway
//!     └─ status endpoint ◀─ tandem status└▶ tandem rank N  ─▶ tandem_engine
//! ```

#![allow(clippy::disallowed_methods, reason = "banned in policy only")]

pub mod bench;
pub mod cli;
pub mod config;
pub mod log;
#[deny(clippy::disallowed_methods, reason = "policy is pure; clippy.toml says what is banned")]
pub mod policy;
pub mod role;
pub mod status;
pub mod supervise;
pub mod world;
