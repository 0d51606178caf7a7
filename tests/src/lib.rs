//! The simulation: whole lives of one supervisor on a simulated machine, each from one seed.
//!
//! First troubles strike and what the supervisor promises is checked at every step
//! ([`promises`]); then they stop, and it must serve again within a bound, or hold with a reason
//! that an operator can act on. A seed replays its life exactly: there is no clock, thread or
//! hash order in it.

pub mod coverage;
mod dice;
pub mod life;
pub mod node;
mod oracle;
pub mod pair;
pub mod promises;
pub mod record;
pub mod run;
mod setups;
pub mod trouble;

#[cfg(test)]
mod tests;
