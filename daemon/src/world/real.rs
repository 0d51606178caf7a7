//! The real world: processes, sockets, clock, disk.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tracing::{info, warn};

use super::{
    RunDir, SaveError, Store, World,
    child::{Child, Shared, Who},
    health, host,
    launch::{Launcher, new_session},
    link, logs, stale,
};
use crate::{
    config::Config,
    policy::{Action, Ended, GatewaySeen, Moment, Observation, Process, RankSeen, Reading, State},
};

/// How often a process that is not our child is looked for.
const STALE_PERIOD: Duration = Duration::from_millis(500);

/// Rank numbers that an earlier config may have had: the most that any may have.
const RANKS_MAX: u32 = 8;

/// The machine that this supervisor runs on.
pub struct RealWorld {
    config: Arc<Config>,
    shared: Shared,
    launcher: Launcher,
    store: Store,
    run_dir: RunDir,
}

impl RealWorld {
    /// Finds what an earlier supervisor left and begins to watch. To be called within a tokio
    /// runtime.
    pub fn new(config: Arc<Config>, config_path: &Path, run_dir: RunDir) -> io::Result<Self> {
        let launcher = Launcher {
            executable: std::env::current_exe()?,
            config_path: config_path.canonicalize()?,
            run_dir: run_dir.path.clone(),
            user: run_dir.user.clone(),
        };
        let world = Self {
            shared: Shared::new(config.rank.len()),
            store: Store::new(&run_dir.path),
            config,
            launcher,
            run_dir,
        };
        world.find_stale();
        for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
            tokio::spawn(count_signals(world.shared.clone(), signal(kind)?));
        }
        tokio::spawn(health::watch(world.shared.clone(), world.config.gateway.listen));
        Ok(world)
    }

    /// Where the state is kept.
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    /// Resolves when there may be something new to observe.
    pub fn changed(&self) -> impl Future<Output = ()> + use<> {
        let shared = self.shared.clone();
        async move { shared.changed().await }
    }

    fn socket(&self, rank: u32) -> PathBuf {
        self.config.rank_socket(rank)
    }

    fn find_stale(&self) {
        let ranks = (0..RANKS_MAX).map(Who::Rank);
        for who in ranks.chain([Who::Gateway]) {
            let found = stale::find(&self.run_dir.path, &self.launcher.config_path, who);
            let Some(stale::Stale { pid, epoch }) = found else {
                continue;
            };
            warn!("an earlier supervisor left {who} (process {pid}, epoch {epoch}) running");
            let mut child = Child::of(Process::Running { pid, epoch });
            if self.shared.facts().child(who).is_none() {
                // The config now has fewer ranks, so policy has no place for this one.
                child.ask_to_end();
                continue;
            }
            self.shared.change(|facts| {
                if let Some(place) = facts.child(who) {
                    *place = child;
                }
            });
            tokio::spawn(watch_stale(self.shared.clone(), who, pid));
            self.connect(who, pid);
        }
    }

    fn connect(&self, who: Who, pid: u32) {
        if let Who::Rank(rank) = who {
            tokio::spawn(link::keep(self.shared.clone(), rank, pid, self.socket(rank)));
        }
    }

    fn start_gang(&self, epoch: u64) {
        info!(epoch, ranks = self.config.rank.len(), "starting the ranks");
        let line = self.launcher.write_hosts(&self.config).and_then(|()| {
            let mut line = serde_json::to_vec(&new_session(epoch)?)?;
            line.push(b'\n');
            Ok(line)
        });
        for rank in 0..self.config.rank.len() as u32 {
            // Nobody listens on it any more; the new rank may be another user than the old one was,
            // who could not remove it.
            let _ = std::fs::remove_file(self.socket(rank));
            match &line {
                Ok(line) => self.start(Who::Rank(rank), epoch, line),
                Err(error) => self.not_started(Who::Rank(rank), epoch, error),
            }
        }
    }

    fn start(&self, who: Who, epoch: u64, input: &[u8]) {
        match self.spawn(who, epoch, input) {
            Ok(pid) => {
                info!("started {who} (process {pid})");
                self.connect(who, pid);
            }
            Err(error) => self.not_started(who, epoch, &error),
        }
    }

    fn not_started(&self, who: Who, epoch: u64, error: &io::Error) {
        let how = Ended::NotStarted(error.to_string());
        warn!("{who} {how}");
        self.shared.change(|facts| {
            if let Some(child) = facts.child(who) {
                *child = Child::of(Process::Ended { epoch, how });
            }
        });
    }

    fn spawn(&self, who: Who, epoch: u64, input: &[u8]) -> io::Result<u32> {
        let mut command = self.launcher.command(&self.config, who);
        command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
        let mut process = command.spawn()?;
        let pid = process.id();
        if let Some(mut stdin) = process.stdin.take() {
            // Less than a pipe holds, so this never waits; a child that already ended says why by
            // its exit code.
            let _ = stdin.write_all(input);
        }
        if let Err(error) = self.launcher.note_pid(who, pid, epoch) {
            warn!("{who}'s process id can't be noted, so a later supervisor may miss it: {error}");
        }
        self.shared.change(|facts| {
            if let Some(child) = facts.child(who) {
                *child = Child::of(Process::Running { pid, epoch });
            }
        });
        let outputs = (process.stdout.take(), process.stderr.take());
        if let (Some(stdout), Some(stderr)) = outputs {
            let stdout = tokio::process::ChildStdout::from_std(stdout)?;
            let stderr = tokio::process::ChildStderr::from_std(stderr)?;
            tokio::spawn(logs::forward(who, epoch, stdout));
            tokio::spawn(logs::forward(who, epoch, stderr));
        }
        let shared = self.shared.clone();
        // One thread a child, which sleeps until it ends: the wait can't be missed or reordered.
        std::thread::spawn(move || {
            let how = match process.wait() {
                Ok(status) => ended(status),
                Err(_) => Ended::Unseen,
            };
            match &how {
                Ended::Code(0) => info!("{who} (process {pid}) ended: {how}"),
                _ => warn!("{who} (process {pid}) ended: {how}"),
            }
            shared.ended(who, pid, how);
        });
        Ok(pid)
    }
}

fn ended(status: std::process::ExitStatus) -> Ended {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Code(code),
        (None, Some(signal)) => Ended::Signal(signal),
        (None, None) => Ended::Unseen,
    }
}

async fn count_signals(shared: Shared, mut signals: tokio::signal::unix::Signal) {
    while signals.recv().await.is_some() {
        shared.change(|facts| facts.terminations = facts.terminations.saturating_add(1));
    }
}

async fn watch_stale(shared: Shared, who: Who, pid: u32) {
    while shared.is_running(who, pid) {
        if !stale::runs(pid) {
            info!("{who} (process {pid}) of an earlier supervisor is gone");
            shared.ended(who, pid, Ended::Unseen);
        }
        sleep(STALE_PERIOD).await;
    }
}

impl World for RealWorld {
    fn now(&mut self) -> Moment {
        host::now()
    }

    fn observe(&mut self) -> Observation {
        let facts = self.shared.facts();
        let rank = |child: &Child| RankSeen {
            process: child.process.clone(),
            phase: child.phase,
            vitals: child.vitals.clone(),
        };
        let ready = match facts.ready {
            Some((value, at)) => Reading::Known {
                value,
                age_ms: u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX),
            },
            None => Reading::Unknown,
        };
        Observation {
            ranks: facts.ranks.iter().map(rank).collect(),
            gateway: GatewaySeen { process: facts.gateway.process.clone(), ready },
            terminations: facts.terminations,
        }
    }

    fn save(&mut self, state: &State) -> Result<(), SaveError> {
        self.store.save(state)
    }

    fn perform(&mut self, action: &Action) {
        match *action {
            Action::StartGang { epoch } => self.start_gang(epoch),
            Action::StartGateway => self.start(Who::Gateway, 0, &[]),
            Action::UnloadRank { rank } => self.with(Who::Rank(rank), Child::ask_to_end),
            Action::StopGateway => self.with(Who::Gateway, Child::ask_to_end),
            Action::KillRank { rank } => self.kill(Who::Rank(rank)),
            Action::KillGateway => self.kill(Who::Gateway),
            Action::Exit => {}
        }
    }
}

impl RealWorld {
    fn with(&self, who: Who, act: impl FnOnce(&mut Child)) {
        if let Some(child) = self.shared.facts().child(who) {
            act(child);
        }
    }

    fn kill(&self, who: Who) {
        warn!("{who} did not end when asked; killing it");
        self.with(who, |child| child.signal(Signal::SIGKILL));
    }
}
