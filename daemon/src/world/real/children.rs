//! Starting, following, adopting and ending the children.

use std::{
    io::{self, Write},
    process::{Command, Stdio},
};

use nix::sys::signal::Signal;
use tandem_engine::settings::Backend;
use tandem_policy::{Ended, Process, gateway::Mode, pair::fabric::Carrier};
use tracing::{info, warn};

use super::RealWorld;
use crate::{
    config::Config,
    world::{
        child::{Child, Shared, Who},
        evidence,
        launch::{Served, new_session},
        link,
        logs::{self, Output},
        stale,
    },
};

/// Rank numbers that an earlier config may have had: the most that any may have.
const RANKS_MAX: u32 = 8;

impl RealWorld {
    /// Finds the children of an earlier supervisor. Policy decides whether they are adopted.
    pub(super) fn find_running(&self) {
        let ranks = (0..RANKS_MAX).map(Who::Rank);
        for who in ranks.chain([Who::Gateway]) {
            let found = stale::find(&self.launcher.run_dir, who);
            let Some(stale::Stale { pid, epoch, served }) = found else {
                continue;
            };
            info!("{who} (process {pid}, epoch {epoch}) of an earlier supervisor runs");
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
            let outputs: Vec<Output> =
                self.outputs(who, epoch).into_iter().map(Output::at_end).collect();
            tokio::spawn(watch_adopted(self.shared.clone(), who, pid, outputs.clone()));
            self.attend(who, pid, served, &outputs);
        }
    }

    /// Connects to a child and follows its output.
    fn attend(&self, who: Who, pid: u32, served: Served, outputs: &[Output]) {
        if let Who::Rank(rank) = who {
            let number = served.rank(rank);
            let socket = self.config.rank_socket(number);
            tokio::spawn(link::keep(self.shared.clone(), rank, number, pid, socket));
        }
        for output in outputs {
            tokio::spawn(output.clone().follow(self.shared.clone(), who, pid));
        }
    }

    /// Readers of what a child writes: its log, and a gateway's records of requests.
    fn outputs(&self, who: Who, epoch: u64) -> Vec<Output> {
        let run_dir = &self.launcher.run_dir;
        let (shared, catalogue) = (self.shared.clone(), self.catalogue.clone());
        let on_line = move |line: &str| {
            logs::emit(who, epoch, line);
            evidence::of_line(&shared, &catalogue, who, epoch, line);
        };
        let mut outputs = vec![Output::new(logs::output_path(run_dir, who), Box::new(on_line))];
        if who == Who::Gateway {
            let (requests, shared) = (self.requests.clone(), self.shared.clone());
            let on_line = move |line: &str| {
                let epoch = shared.facts().ranks.first().and_then(|(_, child)| child.epoch());
                requests.take_line(line, epoch);
            };
            outputs.push(Output::new(logs::requests_path(run_dir), Box::new(on_line)));
        }
        outputs
    }

    pub(super) fn start_gang(
        &mut self,
        epoch: u64,
        prefill_step_tokens: u32,
        alone: bool,
        carrier: &Carrier,
    ) {
        let mut config = if alone { self.config.alone() } else { Config::clone(&self.config) };
        config.engine.prefill_step_tokens = prefill_step_tokens;
        config.engine.backend = if carrier.is_fabric() { Backend::Jaccl } else { Backend::Ring };
        let served = if alone { Served::Alone } else { Served::Together };
        if !alone {
            self.started = Some(config.engine.clone());
        }
        let session = match &mut self.neighbours {
            Some(neighbours) if !alone => neighbours.session(epoch),
            _ => new_session(epoch),
        };
        // Asked for again while nothing is seen of it, so what was not heard yet is waited for.
        let session = match session {
            Ok(session) => session,
            Err(error) => return warn!(epoch, "the ranks are not started yet: {error}"),
        };
        info!(epoch, ranks = config.own_ranks().len(), prefill_step_tokens, "starting the ranks");
        let line = self
            .launcher
            .write_config(&config, served)
            .and_then(|()| self.launcher.write_group(&config, carrier))
            .and_then(|()| {
                let mut line = serde_json::to_vec(&session)?;
                line.push(b'\n');
                Ok(line)
            });
        self.shared.facts().canary = None;
        let own = self.config.own_ranks();
        for rank in own.into_iter().take(if alone { 1 } else { usize::MAX }) {
            // Nobody listens on it any more; the new rank may be another user than the old one was,
            // who could not remove it.
            let _ = std::fs::remove_file(self.config.rank_socket(served.rank(rank)));
            let who = Who::Rank(rank);
            match &line {
                Ok(line) => {
                    let command = self.launcher.rank(&config, rank, served);
                    self.start(who, epoch, served, command, line);
                }
                Err(error) => self.not_started(who, epoch, error),
            }
        }
    }

    pub(super) fn start_gateway(&self, mode: Mode) {
        self.gateway_listen.send_replace(self.config.gateway.listen);
        let (config, served) = match mode {
            Mode::Alone => (self.config.alone(), Served::Alone),
            Mode::Serve | Mode::Proxy => {
                // Ranks that have just been started read the same file: it stays as they are to find it.
                let engine = self.started.clone().unwrap_or_else(|| self.config.engine.clone());
                (Config { engine, ..Config::clone(&self.config) }, Served::Together)
            }
        };
        if let Err(error) = self.launcher.write_config(&config, served) {
            return self.not_started(Who::Gateway, 0, &error);
        }
        let command = self.launcher.gateway(&config, mode);
        self.start(Who::Gateway, 0, served, command, &[]);
    }

    fn start(&self, who: Who, epoch: u64, served: Served, command: Command, input: &[u8]) {
        match self.spawn(who, epoch, served, command, input) {
            Ok(pid) => info!("started {who} (process {pid})"),
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

    fn spawn(
        &self,
        who: Who,
        epoch: u64,
        served: Served,
        mut command: Command,
        input: &[u8],
    ) -> io::Result<u32> {
        let run_dir = &self.launcher.run_dir;
        let (stdout, stderr) = logs::create(&logs::output_path(run_dir, who))?;
        command.stdout(stdout).stderr(stderr);
        if who == Who::Gateway {
            command.stdout(logs::create(&logs::requests_path(run_dir))?.0);
        }
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
        let outputs = self.outputs(who, epoch);
        self.attend(who, pid, served, &outputs);
        let (shared, catalogue) = (self.shared.clone(), self.catalogue.clone());
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
            // What it said and how it ended is known before policy learns that it did.
            outputs.iter().for_each(Output::finish);
            evidence::of_exit(&shared, &catalogue, who, epoch, &how);
            shared.ended(who, pid, how);
        });
        Ok(pid)
    }

    pub(super) fn with(&self, who: Who, act: impl FnOnce(&mut Child)) {
        if let Some(child) = self.shared.facts().child(who) {
            act(child);
        }
    }

    /// The child of a rank's number: the fallback's one rank has the place of this node's first.
    pub(super) fn place(&self, rank: u32) -> Who {
        let own = self.config.own_ranks();
        Who::Rank(if own.contains(&rank) { rank } else { own.first().copied().unwrap_or(rank) })
    }

    pub(super) fn kill(&self, who: Who) {
        warn!("{who} did not end when asked; killing it");
        self.with(who, |child| child.signal(Signal::SIGKILL));
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

/// Learns of the end of a process that is not our child.
async fn watch_adopted(shared: Shared, who: Who, pid: u32, outputs: Vec<Output>) {
    if let Err(error) = tandem_host::exited(pid).await {
        warn!("the end of {who} (process {pid}) can't be waited for: {error}");
        while tandem_host::is_running(pid) {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    }
    info!("{who} (process {pid}) of an earlier supervisor is gone");
    outputs.iter().for_each(Output::finish);
    shared.ended(who, pid, Ended::Unseen);
}
