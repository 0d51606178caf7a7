//! Children that an earlier supervisor left running.
//!
//! ```text
//!   its note: process id, epoch, start ──▶ the process of that id began then, and is a gateway or rank of ours
//!   a rank's socket ─▶ kernel: who serves it ─▶ its user, executable and arguments are those of a rank of ours
//! ```
//!
//! The notes are the supervisor's own files. The sockets are in the children's folder, so anybody may answer there who
//! got hold of their user, and say anything: only what the kernel says of him counts, and his epoch not beyond
//! what was ever begun.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tandem_host::Identity;
use tandem_wire::{FromRank, Hello, decode};
use tokio::{io::AsyncReadExt, net::UnixStream, time::timeout};

use super::{
    child::Who,
    launch::{Served, pid_path},
    own_file::read_own,
    process_id::{OwnProcess, ProcessId},
};
use crate::config::children_dir;

/// How long a found socket may take for all: to be connected to, and to say a whole `Hello`. Asked at start only,
/// all sockets at once.
const HELLO_TIMEOUT: Duration = Duration::from_millis(500);

/// Most bytes of a `Hello`: five numbers.
const HELLO_BYTES_MAX: usize = 4 << 10;

/// Most bytes of a note: three numbers.
const NOTE_BYTES_MAX: u64 = 80;

/// The highest epoch that a note is believed: one each millisecond for longer than machines last, and far from
/// where numbers end.
const EPOCH_MAX: u64 = 1 << 48;

/// A process that was left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stale {
    pub(super) own: OwnProcess,
    /// `None` if it says one that can't be.
    pub(super) epoch: Option<u64>,
    pub(super) served: Served,
}

/// What the children of an earlier supervisor are known by.
#[derive(Clone, Debug)]
pub(super) struct Finder {
    pub(super) run_dir: PathBuf,
    /// The program that they execute.
    pub(super) executable: PathBuf,
    /// The user that they run as.
    pub(super) uid: u32,
    /// The last epoch that was begun: it is saved before its ranks are started.
    pub(super) epoch: u64,
}

impl Finder {
    /// The process that now runs as this child, if any.
    pub(super) async fn find(&self, who: Who) -> Option<Stale> {
        match (self.noted(who), who) {
            (Some(found), _) => Some(found),
            (None, Who::Rank(rank)) => self.heard(rank).await,
            (None, Who::Gateway) => None,
        }
    }

    fn noted(&self, who: Who) -> Option<Stale> {
        let note = Note::read(&pid_path(&self.run_dir, who))?;
        let id = ProcessId::new(note.pid)?;
        let identity = tandem_host::identity(note.pid).ok()?;
        // Earlier versions did not note when it began.
        let is_it =
            note.started.map_or_else(|| self.is_ours(&identity), |at| at == identity.started);
        let served = self.served(note.pid, who).filter(|_| is_it)?;
        let epoch = Some(note.epoch).filter(|epoch| *epoch <= EPOCH_MAX);
        Some(Stale { own: OwnProcess::found(id, identity), epoch, served })
    }

    async fn heard(&self, rank: u32) -> Option<Stale> {
        let socket = children_dir(&self.run_dir).join(format!("rank-{rank}.sock"));
        let (hello, pid) = timeout(HELLO_TIMEOUT, ask(&socket)).await.ok()??;
        let id = ProcessId::new(pid)?;
        let identity = tandem_host::identity(pid).ok().filter(|found| self.is_ours(found))?;
        let served = self.served(pid, Who::Rank(rank))?;
        let epoch = Some(hello.epoch).filter(|epoch| *epoch <= self.epoch);
        Some(Stale { own: OwnProcess::found(id, identity), epoch, served })
    }

    /// Whether a process has the children's user, in every respect, and executes this program.
    fn is_ours(&self, identity: &Identity) -> bool {
        identity.uids == [self.uid; 3] && identity.executable == self.executable
    }

    /// What a process serves that was started as this child.
    fn served(&self, pid: u32, who: Who) -> Option<Served> {
        let command = tandem_host::command_line(pid);
        let is_it = |served: &Served| {
            let role = match who {
                Who::Gateway => " gateway --config ".to_owned(),
                Who::Rank(rank) => format!(" rank --rank {} --config ", served.rank(rank)),
            };
            command.contains(&format!("{role}{}", served.config_path(&self.run_dir).display()))
        };
        Served::ALL.into_iter().find(is_it)
    }
}

/// What whoever serves a rank's socket says first, and the id of his process by the kernel's word.
async fn ask(socket: &Path) -> Option<(Hello, u32)> {
    let mut stream = UnixStream::connect(socket).await.ok()?;
    let length = usize::try_from(stream.read_u32_le().await.ok()?).ok()?;
    if length > HELLO_BYTES_MAX {
        return None;
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let Ok(FromRank::Hello(hello)) = decode(&body) else { return None };
    let pid = u32::try_from(stream.peer_cred().ok()?.pid()?).ok()?;
    Some((hello, pid))
}

/// What was noted of a child.
struct Note {
    pid: u32,
    epoch: u64,
    started: Option<u64>,
}

impl Note {
    fn read(path: &Path) -> Option<Self> {
        let text = String::from_utf8(read_own(path, NOTE_BYTES_MAX).ok()?).ok()?;
        let mut words = text.split_ascii_whitespace();
        let (pid, epoch) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let started = words.next().map(str::parse).transpose().ok()?;
        words.next().is_none().then_some(Self { pid, epoch, started })
    }
}

#[cfg(test)]
mod tests;
