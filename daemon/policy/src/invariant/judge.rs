//! stub
use crate::{Moment, Observation, Setup};
/// stub
pub fn unattended_boot(_setup: &Setup, _seen: &Observation, _now: Moment) -> Result<(), String> {
    Ok(())
}
