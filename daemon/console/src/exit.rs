//! Exit codes of the commands: a script needs no other output.
//!
//! 64, 69 and 77 are the ones of BSD `sysexits.h`.

use tandem_policy::{Health, Status};

/// All is well.
pub const HEALTHY: i32 = 0;
/// It starts, is being mended, or serves but not as it should.
pub const DEGRADED: i32 = 1;
/// It does not serve, and will not without an operator.
pub const NOT_SERVING: i32 = 2;
/// It is degraded, and another machine of the pair is not heard. A single machine never says so.
pub const PEER_UNREACHABLE: i32 = 3;
/// The command line is wrong (`EX_USAGE`).
pub const USAGE: i32 = 64;
/// No supervisor answers, or it did not say that it obeyed (`EX_UNAVAILABLE`).
pub const UNAVAILABLE: i32 = 69;
/// It needs root (`EX_NOPERM`).
pub const NEEDS_ROOT: i32 = 77;

/// The exit code of a status.
pub fn of(status: &Status) -> i32 {
    match status.health {
        Health::Healthy => HEALTHY,
        Health::Degraded if status.pair.nodes.iter().any(|node| !node.is_heard) => PEER_UNREACHABLE,
        Health::Degraded => DEGRADED,
        Health::NotServing => NOT_SERVING,
    }
}
