//! One supervisor at a time has a run directory.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    libc::O_NOFOLLOW,
};

use super::RunDirError;
use crate::world::own_file::{open_own, set_aside};

/// The file that the supervisor has locked; its process id is in it.
pub(super) const LOCK: &str = "supervise.pid";

/// How long a lock is tried. A child that a supervisor was about to start when it was killed holds its
/// lock, too, until it runs its own program.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// Locks the run directory until the lock is dropped.
pub(super) fn take(run_dir: &Path) -> Result<Flock<File>, RunDirError> {
    let path = run_dir.join(LOCK);
    let failed = |source| RunDirError::Io { what: "open", path: path.clone(), source };
    let mut file = open(&path).map_err(failed)?;
    let mut holder = String::new();
    // A process id is a few digits; whatever else stands there is not read.
    let _ = (&mut file).take(20).read_to_string(&mut holder);
    let until = Instant::now() + PATIENCE;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                let written = lock
                    .set_len(0)
                    .and_then(|()| lock.seek(SeekFrom::Start(0)))
                    .and_then(|_| writeln!(lock, "{}", std::process::id()));
                written.map_err(failed)?;
                return Ok(lock);
            }
            Err((again, Errno::EWOULDBLOCK)) if Instant::now() < until => file = again,
            Err((_, Errno::EWOULDBLOCK)) => {
                let holder = match holder.trim().parse::<u32>() {
                    Ok(pid) => format!(" (process {pid})"),
                    Err(_) => String::new(),
                };
                return Err(RunDirError::Taken { path: run_dir.into(), holder });
            }
            Err((_, errno)) => return Err(failed(errno.into())),
        }
        thread::sleep(PAUSE);
    }
}

/// The lock's file, which nobody else can open: whoever can read a file can lock it.
fn open(path: &Path) -> io::Result<File> {
    let open = || open_own(path, OpenOptions::new().read(true).write(true));
    let file = match open() {
        Ok(file) => file,
        Err(_) => {
            set_aside(path)?;
            let mut make = OpenOptions::new();
            make.read(true).write(true).create_new(true).mode(0o600).custom_flags(O_NOFOLLOW);
            match make.open(path) {
                // Another supervisor made it just now.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open()?,
                made => made?,
            }
        }
    };
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}
