//! Who a process is: what tells it from all others that have had, or will have, its id.

use std::path::PathBuf;

/// One process, for as long as it does not start another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Real, effective and saved user.
    pub uids: [u32; 3],
    /// Its process group.
    pub group: u32,
    /// The file that it executes, with its links resolved. It may be gone, or another file by now.
    pub executable: PathBuf,
    /// When it began, in the system's own unit and from its own zero: equal for one process at any time,
    /// and for two of one id only if they began in the same hundredth of a second (Linux) or microsecond
    /// (macOS).
    pub started: u64,
}
