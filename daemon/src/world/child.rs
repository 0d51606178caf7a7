//! What is known of the children, shared between the tasks that learn it and the turn that reads it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use nix::sys::signal::Signal;
use tandem_policy::{
    Artifacts, CanarySeen, Ended, Evidence, Memory, Process, ThunderboltPort, What,
    invariant::{Invariant, Sighting},
};
use tandem_wire::{Phase, ToRank, Vitals};
use tokio::sync::{Notify, mpsc};

use super::files::ModelFiles;
use super::memory_kills::MemoryKills;
use super::process_id::OwnProcess;
use crate::config::Config;

/// One child.
pub(super) struct Child {
    pub(super) process: Process,
    /// What signals go to; `None` from when the process is waited for, since its id may be another's then, though
    /// it is not known yet how it ended.
    own: Option<OwnProcess>,
    /// Phase of a rank whose socket is connected.
    pub(super) phase: Option<Phase>,
    pub(super) vitals: Option<Vitals>,
    /// To a connected rank.
    pub(super) orders: Option<mpsc::Sender<ToRank>>,
    /// Whether it was asked to end by each way: asking again would only fill its queue.
    pub(super) told_to_unload: bool,
    pub(super) sent_term: bool,
    /// Whether it was killed, which no process survives: it only takes a while until it is gone.
    pub(super) sent_kill: bool,
}

impl Child {
    /// One that does not run.
    pub(super) const fn of(process: Process) -> Self {
        Self {
            process,
            own: None,
            phase: None,
            vitals: None,
            orders: None,
            told_to_unload: false,
            sent_term: false,
            sent_kill: false,
        }
    }

    /// One that runs.
    pub(super) fn running(own: OwnProcess, epoch: u64) -> Self {
        let process = Process::Running { pid: own.id.get(), epoch };
        Self { own: Some(own), ..Self::of(process) }
    }

    /// Gives up its id: no signal is sent to it any more.
    pub(super) fn forget_id(&mut self) {
        self.own = None;
    }

    /// The process id, while it runs.
    pub(super) const fn pid(&self) -> Option<u32> {
        match self.process {
            Process::Running { pid, .. } => Some(pid),
            _ => None,
        }
    }

    /// The epoch, while it runs.
    pub(super) const fn epoch(&self) -> Option<u64> {
        match self.process {
            Process::Running { epoch, .. } => Some(epoch),
            _ => None,
        }
    }

    /// Asks for an orderly end: over the socket if it is connected, else by SIGTERM.
    pub(super) fn ask_to_end(&mut self) {
        if let Some(orders) = &self.orders {
            self.told_to_unload |= !self.told_to_unload && orders.try_send(ToRank::Unload).is_ok();
        }
        if !self.told_to_unload && !self.sent_term {
            self.sent_term = true;
            self.signal(Signal::SIGTERM);
        }
    }

    fn signal(&self, signal: Signal) -> bool {
        self.own.as_ref().is_some_and(|own| own.signal(signal))
    }

    /// Kills it with its whole process group. Whether that was news: it is done once, however often it is asked for.
    pub(super) fn kill(&mut self) -> bool {
        let is_news = !self.sent_kill && self.signal(Signal::SIGKILL);
        self.sent_kill |= is_news;
        is_news
    }
}

/// All that the tasks learn.
pub(super) struct Facts {
    /// Those that run here, in the order of their numbers.
    pub(super) ranks: Vec<(u32, Child)>,
    pub(super) gateway: Child,
    /// What the gateway's `/health` said, and when.
    pub(super) ready: Option<(bool, Instant)>,
    pub(super) terminations: u32,
    pub(super) invariants: BTreeMap<Invariant, Sighting>,
    /// The Thunderbolt ports; `None` while they are not read.
    pub(super) thunderbolt: Option<Vec<ThunderboltPort>>,
    pub(super) memory: Option<Memory>,
    /// The kernel's kills for memory.
    pub(super) memory_kills: MemoryKills,
    pub(super) artifacts: Artifacts,
    /// The fallback model's files.
    pub(super) fallback_artifacts: Artifacts,
    /// What is in the model's files.
    pub(super) files: ModelFiles,
    pub(super) evidence: Vec<Evidence>,
    pub(super) canary: Option<CanarySeen>,
    /// The epoch in which canaries are asked as plain text, since a chat is refused.
    pub(super) plain_canary_epoch: Option<u64>,
    /// Why the config file as it is now was refused.
    pub(super) config_refused: Option<String>,
    /// What the ledger is to be told of that policy does not decide on.
    pub(super) news: Vec<What>,
    /// A changed config that was accepted and is not in force yet.
    pub(super) new_config: Option<Box<Config>>,
}

/// Most news that wait for the turn; a turn takes all, so only a storm meets this.
const NEWS_MAX: usize = 256;

impl Facts {
    /// Keeps something for the ledger; what is too much is not told.
    pub(super) fn tell(&mut self, what: What) {
        if self.news.len() < NEWS_MAX {
            self.news.push(what);
        }
    }
}

/// Which child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Gateway,
    Rank(u32),
}

impl Who {
    /// The name of its files in the run directory.
    pub(super) fn name(self) -> String {
        match self {
            Self::Gateway => "gateway".into(),
            Self::Rank(rank) => format!("rank-{rank}"),
        }
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gateway => write!(f, "gateway"),
            Self::Rank(rank) => write!(f, "rank {rank}"),
        }
    }
}

impl Facts {
    pub(super) fn child(&mut self, who: Who) -> Option<&mut Child> {
        match who {
            Who::Gateway => Some(&mut self.gateway),
            Who::Rank(rank) => {
                let mut ranks = self.ranks.iter_mut();
                ranks.find(|(number, _)| *number == rank).map(|(_, child)| child)
            }
        }
    }
}

/// The facts, and who waits for them to change.
#[derive(Clone)]
pub(super) struct Shared {
    facts: Arc<Mutex<Facts>>,
    changed: Arc<Notify>,
}

impl Shared {
    /// For ranks of these numbers.
    pub(super) fn new(ranks: impl IntoIterator<Item = u32>) -> Self {
        let facts = Facts {
            ranks: ranks.into_iter().map(|rank| (rank, Child::of(Process::Never))).collect(),
            gateway: Child::of(Process::Never),
            ready: None,
            terminations: 0,
            invariants: BTreeMap::new(),
            thunderbolt: None,
            memory: None,
            memory_kills: MemoryKills::default(),
            artifacts: Artifacts::Unread,
            fallback_artifacts: Artifacts::Unread,
            files: ModelFiles::default(),
            evidence: Vec::new(),
            canary: None,
            plain_canary_epoch: None,
            config_refused: None,
            news: Vec::new(),
            new_config: None,
        };
        Self { facts: Arc::new(Mutex::new(facts)), changed: Arc::default() }
    }

    /// The facts as they are. A panic aborts the process, so a poisoned lock can't be met.
    pub(super) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the facts and wakes the turn.
    pub(super) fn change(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.facts());
        self.changed.notify_one();
    }

    /// Changes a child's facts if it still is the process of this id.
    pub(super) fn change_child(&self, who: Who, pid: u32, change: impl FnOnce(&mut Child)) {
        self.change(|facts| {
            if let Some(child) = facts.child(who).filter(|child| child.pid() == Some(pid)) {
                change(child);
            }
        });
    }

    /// Whether a child still is the process of this id.
    pub(super) fn is_running(&self, who: Who, pid: u32) -> bool {
        self.facts().child(who).and_then(|child| child.pid()) == Some(pid)
    }

    pub(super) fn ended(&self, who: Who, pid: u32, how: Ended) {
        self.change_child(who, pid, |child| {
            if let Process::Running { epoch, .. } = child.process {
                *child = Child::of(Process::Ended { epoch, how });
            }
        });
    }

    /// Resolves when the facts have changed since it last did.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::CommandExt, process::Command};

    use super::*;

    #[test]
    fn a_child_is_killed_once_and_never_by_an_id_that_was_given_back() {
        let start = || Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let (mut first, mut second) = (start(), start());
        let child = |pid: u32| Child::running(OwnProcess::child(pid).unwrap(), 3);
        let mut killed = child(first.id());
        assert!(killed.kill());
        for _ in 0..30 {
            assert!(!killed.kill(), "it is dying already");
        }
        first.wait().unwrap();
        // As between the wait and the news of the end: it still counts as running.
        let mut waited_for = child(second.id());
        waited_for.forget_id();
        assert_eq!((waited_for.pid(), waited_for.epoch()), (Some(second.id()), Some(3)));
        assert!(!waited_for.kill());
        waited_for.ask_to_end();
        assert_eq!(second.try_wait().unwrap(), None, "whoever has this id now lives on");
        second.kill().unwrap();
        second.wait().unwrap();
    }
}
