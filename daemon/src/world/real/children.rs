//! Starting, following, adopting and ending the children.

use std::{io, io::Write, process::Stdio};

use nix::sys::signal::Signal;
use tandem_policy::{Ended, Process};
use tracing::{info, warn};

use super::RealWorld;
use crate::{
    config::Config,
    world::{
        child::{Child, Shared, Who},
        evidence,
        launch::new_session,
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
            let found = stale::find(&self.launcher.run_dir, &self.launcher.config_path, who);
            let Some(stale::Stale { pid, epoch }) = found else {
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
            self.attend(who, pid, &outputs);
        }
    }

    /// Connects to a child and follows its output.
    fn attend(&self, who: Who, pid: u32, outputs: &[Output]) {
        if let Who::Rank(rank) = who {
            tokio::spawn(link::keep(self.shared.clone(), rank, pid, self.socket(rank)));
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

    pub(super) fn start_gang(&self, epoch: u64, prefill_step_tokens: u32) {
        info!(epoch, ranks = self.config.rank.len(), prefill_step_tokens, "starting the ranks");
        let mut config = Config::clone(&self.config);
        config.engine.prefill_step_tokens = prefill_step_tokens;
        let line = self
            .launcher
            .write_config(&config)
            .and_then(|()| self.launcher.write_hosts(&self.config))
            .and_then(|()| {
                let mut line = serde_json::to_vec(&new_session(epoch)?)?;
                line.push(b'\n');
                Ok(line)
            });
        self.shared.facts().canary = None;
        for rank in self.config.own_ranks() {
            // Nobody listens on it any more; the new rank may be another user than the old one was,
            // who could not remove it.
            let _ = std::fs::remove_file(self.socket(rank));
            match &line {
                Ok(line) => self.start(Who::Rank(rank), epoch, line),
                Err(error) => self.not_started(Who::Rank(rank), epoch, error),
            }
        }
    }

    pub(super) fn start_gateway(&self) {
        self.gateway_listen.send_replace(self.config.gateway.listen);
        self.start(Who::Gateway, 0, &[]);
    }

    fn start(&self, who: Who, epoch: u64, input: &[u8]) {
        match self.spawn(who, epoch, input) {
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

    fn spawn(&self, who: Who, epoch: u64, input: &[u8]) -> io::Result<u32> {
        let run_dir = &self.launcher.run_dir;
        let mut command = self.launcher.command(&self.config, who);
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
        self.attend(who, pid, &outputs);
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
