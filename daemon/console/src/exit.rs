//! Exit codes of the commands: a script needs no other output.
//!
//! 64, 69 and 77 are the ones of BSD `sysexits.h`.

use tandem_policy::Health;

/// All is well.
pub const HEALTHY: i32 = 0;
/// It starts, is being mended, or serves but not as it should.
pub const DEGRADED: i32 = 1;
/// It does not serve, and will not without an operator.
pub const NOT_SERVING: i32 = 2;
/// The other machine of a pair can't be reached. Kept for pairs: a single machine never says so.
pub const PEER_UNREACHABLE: i32 = 3;
/// The command line is wrong (`EX_USAGE`).
pub const USAGE: i32 = 64;
/// No supervisor answers, or it did not say that it obeyed (`EX_UNAVAILABLE`).
pub const UNAVAILABLE: i32 = 69;
/// It needs root (`EX_NOPERM`).
pub const NEEDS_ROOT: i32 = 77;

/// The exit code of a health.
pub const fn of(health: Health) -> i32 {
    match health {
        Health::Healthy => HEALTHY,
        Health::Degraded => DEGRADED,
        Health::NotServing => NOT_SERVING,
    }
}
