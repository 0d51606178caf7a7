//! macOS: what both platforms share is read; the rest says that it is not.

use std::{
    io::{self, Read},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use tandem_policy::{
    Memory, Repair, ThunderboltPort,
    invariant::{Found, Invariant, Unknown},
    settings::Host,
};

use crate::{MendError, disk, limits};

/// How often a process that is not our child is asked for.
const EXIT_POLL: Duration = Duration::from_millis(250);

/// Most of a command line that is read: far more than any of ours has.
const COMMAND_BYTES_MAX: u64 = 64 * 1024;

/// Reads one invariant: what was found, and where.
///
/// # Errors
/// Why it is not known.
pub fn read(
    invariant: Invariant,
    _host: &Host,
    disks: &[PathBuf],
) -> Result<(Found, String), Unknown> {
    match invariant {
        Invariant::DiskSpace => disk::least_free(disks),
        Invariant::OpenFiles => limits::open_files(),
        _ => Err(Unknown::Failed("not read yet on this platform".into())),
    }
}

/// Makes one setting. Making it again does no harm.
///
/// # Errors
/// What was to be set, and why it was not.
pub fn mend(repair: &Repair) -> Result<(), MendError> {
    match repair {
        Repair::OpenFiles { count } => limits::raise_open_files(*count),
        other => Err(MendError::system(format!("{other:?}"), io::ErrorKind::Unsupported.into())),
    }
}

/// One sample of the host's memory.
///
/// # Errors
/// `Unsupported`: it is not read yet on this platform.
pub fn memory(_owner_min_bytes: u64) -> io::Result<Memory> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Waits for any change of any link or IPv4 address.
pub struct LinkWatch(std::convert::Infallible);

impl LinkWatch {
    /// Begins to watch.
    ///
    /// # Errors
    /// `Unsupported`: changes are not announced yet on this platform.
    pub fn open() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Waits for the next change.
    ///
    /// # Errors
    /// The system's.
    #[allow(clippy::unused_async)]
    pub async fn changed(&mut self) -> io::Result<()> {
        match self.0 {}
    }
}

/// A process's arguments in one line; empty if there is none.
pub fn command_line(pid: u32) -> String {
    ps(pid, "command=")
}

/// Whether a process runs, and does not just wait to be reaped.
pub fn is_running(pid: u32) -> bool {
    let state = ps(pid, "state=");
    !state.is_empty() && !state.starts_with('Z')
}

/// One column of `ps` for one process; empty if there is none.
fn ps(pid: u32, column: &str) -> String {
    let child = Command::new("/bin/ps")
        .args(["-o", column, "-p", &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return String::new() };
    let mut bytes = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        // What was read before an error counts: the process may end meanwhile.
        let _ = stdout.take(COMMAND_BYTES_MAX).read_to_end(&mut bytes);
    }
    let _ = child.wait();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// Waits until a process that need not be our child has ended.
///
/// # Errors
/// None yet.
#[allow(clippy::unnecessary_wraps)]
pub async fn exited(pid: u32) -> io::Result<()> {
    while is_running(pid) {
        tokio::time::sleep(EXIT_POLL).await;
    }
    Ok(())
}

/// A process's memory, in bytes.
///
/// # Errors
/// `Unsupported`: it is not read yet on this platform.
pub fn footprint_bytes(_pid: u32) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The CPU time that a process has used, in milliseconds.
///
/// # Errors
/// `Unsupported`: it is not read yet on this platform.
pub fn cpu_time_ms(_pid: u32) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Gives back memory that only the start needed: nothing here, where the kernel compresses and drops
/// what is not used by itself.
pub const fn release_start_memory() {}

/// Every Thunderbolt port. Starts tools and takes seconds.
///
/// # Errors
/// Why they are not known.
pub fn thunderbolt_ports() -> Result<Vec<ThunderboltPort>, Unknown> {
    Err(Unknown::Failed("not read yet on this platform".into()))
}
