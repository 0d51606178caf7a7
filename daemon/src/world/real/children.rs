//! Starting, following, adopting and ending the children.

use std::{
    io::{self, Write},
    process::{Command, Stdio},
    time::Duration,
};

use tandem_engine::settings::Backend;
use tandem_policy::{Ended, Process, gateway::Mode, pair::fabric::Carrier};
use tokio::task::spawn_blocking;
use tracing::{debug, info, warn};

use super::RealWorld;
use crate::{
    config::Config,
    world::{
        child::{Child, Shared, Who},
        evidence,
        launch::{Served, new_session},
        link,
        logs::{self, Output},
        own_file::set_aside,
        process_id::OwnProcess,
        stale::{Finder, Stale},
    },
};

/// How often a process is looked at whose end can't be waited for.
const END_POLL: Duration = Duration::from_millis(500);

/// Rank numbers that an earlier config may have had: the most that any may have.
const RANKS_MAX: u32 = 8;

impl RealWorld {
    /// Finds the children of an earlier supervisor. Policy decides whether they are adopted. `epoch` is the last
    /// that was begun.
    pub(super) async fn find_running(&self, epoch: u64) -> io::Result<()> {
        let finder = Finder {
            run_dir: self.launcher.run_dir.clone(),
            // In the form in which those of other processes are told.
            executable: tandem_host::identity(std::process::id())?.executable,
            uid: self.launcher.children_uid(),
            epoch,
        };
        let ranks = (0..RANKS_MAX).map(Who::Rank);
        // All at once: each may take its time to answer.
        let searches: Vec<_> = ranks
            .chain([Who::Gateway])
            .map(|who| {
                let finder = finder.clone();
                (who, tokio::spawn(async move { finder.find(who).await }))
            })
            .collect();
        for (who, search) in searches {
            if let Ok(Some(found)) = search.await {
                self.take_over(who, found);
            }
        }
        Ok(())
    }

    fn take_over(&self, who: Who, found: Stale) {
        let Stale { own, epoch, served } = found;
        let pid = own.id.get();
        let has_place = self.shared.facts().child(who).is_some();
        let Some(epoch) = epoch.filter(|_| has_place) else {
            // The config now has fewer ranks, so policy has no place for this one; or there never was its epoch.
            warn!(
                "{who} (process {pid}) of an earlier supervisor runs and is of no use; it is ended"
            );
            Child::running(own, 0).ask_to_end();
            return;
        };
        info!("{who} (process {pid}, epoch {epoch}) of an earlier supervisor runs");
        let child = Child::running(own, epoch);
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
        let on_line = move |line: &str, is_passed_on: bool| {
            if is_passed_on {
                logs::emit(who, epoch, line);
            }
            evidence::of_line(&shared, &catalogue, who, epoch, line);
        };
        let mut outputs =
            vec![Output::new(who, logs::output_path(run_dir, who), Box::new(on_line))];
        if who == Who::Gateway {
            let (requests, shared) = (self.requests.clone(), self.shared.clone());
            let on_line = move |line: &str, is_passed_on: bool| {
                let epoch = shared.facts().ranks.first().and_then(|(_, child)| child.epoch());
                if !requests.take_line(line, epoch) && is_passed_on {
                    warn!("a line of the gateway is no record of a request and is not kept");
                }
            };
            outputs.push(Output::new(who, logs::requests_path(run_dir), Box::new(on_line)));
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
            .and_then(|()| self.launcher.write_group(carrier))
            .and_then(|()| {
                let mut line = serde_json::to_vec(&session)?;
                line.push(b'\n');
                Ok(line)
            });
        self.shared.facts().canary = None;
        let own = self.config.own_ranks();
        for rank in own.into_iter().take(if alone { 1 } else { usize::MAX }) {
            let who = Who::Rank(rank);
            // Nobody listens on it any more; and what the rank could not remove itself would keep it from starting.
            if let Err(error) = set_aside(&self.config.rank_socket(served.rank(rank))) {
                warn!("what stands in the place of {who}'s socket can't be removed: {error}");
            }
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
        // Ranks wait for each other in every step, so one that has no core holds up all: tokens go
        // before what clients ask of the gateway, and before what other programs do.
        if matches!(who, Who::Rank(_))
            && let Err(error) = tandem_host::put_first(pid)
        {
            debug!("{who} gets no more of the CPU than others: {error}");
        }
        if let Some(mut stdin) = process.stdin.take() {
            // Less than a pipe holds, so this never waits; a child that already ended says why by
            // its exit code.
            let _ = stdin.write_all(input);
        }
        let own = OwnProcess::child(pid).ok_or_else(|| io::Error::other("an odd process id"))?;
        if let Err(error) = self.launcher.note_pid(who, &own, epoch) {
            warn!("{who}'s process id can't be noted, so a later supervisor may miss it: {error}");
        }
        self.shared.change(|facts| {
            if let Some(child) = facts.child(who) {
                *child = Child::running(own, epoch);
            }
        });
        let outputs = self.outputs(who, epoch);
        self.attend(who, pid, served, &outputs);
        let (shared, catalogue) = (self.shared.clone(), self.catalogue.clone());
        // One thread a child, which sleeps until it ends: the wait can't be missed or reordered.
        std::thread::spawn(move || {
            // What it said is read before policy learns that it ended.
            let outputs = || outputs.iter().for_each(Output::finish);
            let how = end_of(&shared, who, &mut process, outputs);
            match &how {
                Ended::Code(0) => info!("{who} (process {pid}) ended: {how}"),
                _ => warn!("{who} (process {pid}) ended: {how}"),
            }
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
        self.with(who, |child| {
            if child.kill() {
                warn!("{who} did not end when asked; it was killed");
            }
        });
    }
}

/// Waits for the end of a child; `before` is done when it has ended and its id is still its own. From before the wait,
/// which gives the id back, nobody sends it a signal.
fn end_of(
    shared: &Shared,
    who: Who,
    process: &mut std::process::Child,
    before: impl FnOnce(),
) -> Ended {
    let pid = process.id();
    if let Err(error) = tandem_host::await_end(pid) {
        warn!("the end of {who} (process {pid}) can't be awaited: {error}");
        while tandem_host::is_running(pid) {
            std::thread::sleep(END_POLL);
        }
    }
    before();
    shared.change_child(who, pid, Child::forget_id);
    process.wait().map_or(Ended::Unseen, ended)
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
            tokio::time::sleep(END_POLL).await;
        }
    }
    info!("{who} (process {pid}) of an earlier supervisor is gone");
    // It can't have panicked: a panic ends the process.
    let _ = spawn_blocking(move || outputs.iter().for_each(Output::finish)).await;
    shared.ended(who, pid, Ended::Unseen);
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;

    use super::*;

    #[test]
    fn a_child_can_be_killed_until_it_is_waited_for_and_not_after() {
        let shared = Shared::new([0]);
        let who = Who::Rank(0);
        let mut process =
            Command::new("sh").args(["-c", "exit 7"]).process_group(0).spawn().unwrap();
        let pid = process.id();
        let own = OwnProcess::child(pid).unwrap();
        shared.change(|facts| *facts.child(who).unwrap() = Child::running(own, 1));
        let kill = || shared.facts().child(who).unwrap().kill();
        // While its outputs are read its id is still its own: the signal meets nobody else.
        let how = end_of(&shared, who, &mut process, || {
            assert!(
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), None).is_ok()
            );
        });
        assert!(matches!(how, Ended::Code(7)), "{how}");
        // It was waited for and policy does not know it yet; whoever has the id now is left alone.
        assert!(shared.is_running(who, pid));
        assert!(!kill());
        shared.ended(who, pid, how);
        assert!(!shared.is_running(who, pid));
    }
}
