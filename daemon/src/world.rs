//! The one seam: everything outside of `policy`. The real world is [`RealWorld`]; the simulated one
//! is in the tests.

mod child;
mod health;
mod host;
mod launch;
mod link;
mod logs;
mod real;
mod run_dir;
mod stale;
mod store;

pub use host::{boot_id, now};
pub use launch::random_hex;
pub use real::RealWorld;
pub use run_dir::{RunDir, RunDirError};
pub use store::{SaveError, Store};

use crate::policy::{Action, Moment, Observation, State};

/// What a turn needs of the outside. All four are quick: none waits for another process.
pub trait World {
    /// The time.
    fn now(&mut self) -> Moment;
    /// What is.
    fn observe(&mut self) -> Observation;
    /// Writes the state so that it survives a power cut.
    fn save(&mut self, state: &State) -> Result<(), SaveError>;
    /// Begins an action. Whether it worked shows in the next observations.
    fn perform(&mut self, action: &Action);
}
