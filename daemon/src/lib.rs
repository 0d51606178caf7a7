//! Tandem's one executable: every role and the command line, as a library, so that what decides
//! can be tested without a process.
//!
//! ```text
//!  supervise ─▶ tandem_policy ─▶ World ─┬▶ tandem gateway ─▶ tandem_gateway
//!     │                           │      └▶ tandem rank N  ─▶ tandem_engine
//!     └▶ tandem_console           ├▶ tandem_host      the operating system
//!        status, orders,          ├▶ tandem_evidence  signatures of crashes
//!        metrics, events          └▶ tandem_ledger    memory and history
//! ```

#![deny(clippy::print_stdout, clippy::print_stderr)]

// First, since its macros are known from there on.
#[macro_use]
mod output;

pub mod bench;
pub mod cli;
pub mod config;
mod console;
pub mod fit;
pub mod log;
mod own_checks;
mod pair_command;
pub mod role;
mod selftest;
pub mod service;
pub mod supervise;
pub mod world;
