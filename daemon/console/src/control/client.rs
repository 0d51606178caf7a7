//! The commands' end of the control socket.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{FRAME_BYTES_MAX, OBEY_TIMEOUT, Reply, Request, Why};
use crate::exit;

/// The supervisor answers within [`OBEY_TIMEOUT`] and the time it waits for the request.
const REPLY_TIMEOUT: Duration = OBEY_TIMEOUT.saturating_add(Duration::from_secs(3));

/// Why a request was not obeyed, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket can't be opened by this user.
    #[error("{} is for root alone; use sudo", path.display())]
    NeedsRoot {
        /// The socket.
        path: PathBuf,
    },
    /// Nobody listens.
    #[error("no supervisor listens at {}; is one running with this config?", path.display())]
    Absent {
        /// The socket.
        path: PathBuf,
    },
    /// The supervisor refused or could not obey.
    #[error("{message}")]
    Refused {
        /// As a word.
        why: Why,
        /// In words.
        message: String,
    },
    /// It did not answer, or with nothing that this version knows.
    #[error("the supervisor at {} gave no answer; tandem status shows what it does", path.display())]
    Unanswered {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl ControlError {
    /// The exit code of a command that ends with it.
    pub const fn exit_code(&self) -> i32 {
        match self {
            Self::NeedsRoot { .. } | Self::Refused { why: Why::Forbidden, .. } => exit::NEEDS_ROOT,
            Self::Refused { why: Why::Malformed, .. } => exit::USAGE,
            _ => exit::UNAVAILABLE,
        }
    }
}

/// Asks once and waits for the reply, at most some seconds.
///
/// # Errors
///
/// All but [`Reply::Pong`] and [`Reply::Obeyed`] is one.
pub fn ask(path: &Path, request: Request) -> Result<Reply, ControlError> {
    let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => ControlError::NeedsRoot { path: path.to_owned() },
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ControlError::Absent { path: path.to_owned() }
        }
        _ => ControlError::Unanswered { path: path.to_owned(), source: error },
    })?;
    match converse(stream, request) {
        Ok(Reply::Error { why, message }) => Err(ControlError::Refused { why, message }),
        Ok(reply) => Ok(reply),
        Err(source) => Err(ControlError::Unanswered { path: path.to_owned(), source }),
    }
}

fn converse(mut stream: UnixStream, request: Request) -> io::Result<Reply> {
    stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
    stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    // A client that is refused is answered without being read: the answer says more than the
    // broken pipe.
    let written = stream.write_all(&line);
    let mut reply = Vec::new();
    BufReader::new(stream.take(FRAME_BYTES_MAX as u64)).read_until(b'\n', &mut reply)?;
    if reply.is_empty() {
        written?;
    }
    Ok(serde_json::from_slice(&reply)?)
}
