//! The real world behind policy's seam: processes, sockets, the host, the clock, the disk. The
//! simulated one is in the top-level `tests` folder.

mod artifacts;
mod canary;
mod child;
mod config_file;
mod evidence;
mod files;
mod health;
mod hints;
mod host;
mod launch;
mod link;
mod logs;
pub mod manifest;
mod memory_kills;
mod neighbours;
mod own_file;
mod process_id;
mod real;
mod reboot;
mod requests;
mod run_dir;
mod stale;
mod unified_log;

pub use launch::{random_hex, rank_environment};
pub use real::{Parts, RealWorld};
pub use run_dir::{RunDir, RunDirError, refusal as run_dir_refusal};
