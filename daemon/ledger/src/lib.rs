//! The supervisor's memory and history in one SQLite file.
//!
//! ```text
//!  supervisor ── Ledger ──▶ ledger.db   state (one row), events, requests
//!                           │           views: gates faults drifts epochs boots ...
//!  tandem's CLI ◀─ Reader ──┘           read-only, while the supervisor writes
//! ```
//!
//! What the file promises:
//! - State and events of one save are there together or not at all, after a crash and after a power
//!   cut, once [`Ledger::save`] has returned.
//! - What can't be understood is never used and never overwritten: it is set aside, and
//!   [`Opened::SetAside`] says so.
//! - It does not grow without end: see [`Limits`].

mod error;
mod event_row;
mod files;
mod history;
mod ledger;
mod memory;
mod open;
mod prune;
mod query;
mod reader;
mod request;
mod reserve;
mod schema;

pub use error::LedgerError;
pub use history::{Boot, DriftCount, Epoch, Events, FaultChange, Quantiles, RequestTotals};
pub use ledger::{Ledger, Recorded};
pub use memory::STATE_BYTES_MAX;
pub use open::Opened;
pub use prune::{Limits, Pruned};
pub use query::{Cell, QueryError, QueryLimits, Table};
pub use reader::Reader;
pub use request::{Finish, ID_BYTES_MAX, MODEL_BYTES_MAX, Request};

/// Name of the ledger within its folder.
pub const FILE_NAME: &str = "ledger.db";
