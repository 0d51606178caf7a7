mod properties;
mod stories;

use super::{scene::GIB, *};

/// A host that lives through seconds, with one turn and one reading of memory in each.
struct Life {
    setup: Setup,
    state: State,
    seen: Observation,
    now_ms: u64,
    /// Verdicts in the order in which they came.
    verdicts: Vec<&'static str>,
    /// How often the state on disk changed.
    saves: u32,
}

impl Life {
    /// A supervisor without a memory, on a host that just booted.
    fn new() -> Self {
        Self {
            setup: Setup::default(),
            state: State::new("boot"),
            seen: scene::quiet(0),
            now_ms: 20_000,
            verdicts: vec!["clear"],
            saves: 0,
        }
    }

    /// The same after an epoch was started and ended, with 5 GiB learned as the baseline.
    fn after_an_epoch() -> Self {
        let mut life = Self::new();
        life.pass(10, |_| 5);
        life.start();
        life.pass(600, |_| 420);
        life
    }

    fn start(&mut self) {
        self.state.epoch += 1;
        self.state.starts_in_boot += 1;
        self.state.gang = gang::Phase::Serving;
        self.seen.ranks = vec![scene::running(self.state.epoch), scene::running(self.state.epoch)];
        let footprints = [scene::owner(100, "tandem", 208), scene::owner(101, "tandem", 208)];
        self.owners(footprints.into());
    }

    fn end(&mut self, how: crate::Ended) {
        let process = Process::Ended { epoch: self.state.epoch, how };
        let ended = crate::RankSeen { process, ..scene::never() };
        self.seen.ranks = vec![ended.clone(), ended];
        self.state.gang = gang::Phase::Idle;
        self.owners(Vec::new());
    }

    fn crash(&mut self) {
        self.end(crate::Ended::Signal(9));
        self.state.crashed_in_boot = true;
    }

    fn owners(&mut self, owners: Vec<crate::Owner>) {
        self.seen.memory = Some(scene::memory(self.now_ms, 5, owners));
    }

    /// Lets seconds pass; wired memory in GiB is a function of the second.
    fn pass(&mut self, seconds: u64, wired_gib: impl Fn(u64) -> u64) {
        for second in 0..seconds {
            let owners = self.seen.memory.take().map(|m| m.owners).unwrap_or_default();
            self.seen.memory = Some(scene::memory(self.now_ms, wired_gib(second), owners));
            self.turn();
        }
    }

    /// Lets seconds pass in which memory can't be read.
    fn pass_blind(&mut self, seconds: u64) {
        let memory = self.seen.memory.take();
        (0..seconds).for_each(|_| self.turn());
        self.seen.memory = memory;
    }

    fn turn(&mut self) {
        let before = self.state.clone();
        step(&self.setup, &mut self.state, &self.seen, scene::at(self.now_ms));
        self.saves += u32::from(!before.is_same_on_disk(&self.state));
        if self.verdicts.last() != Some(&self.state.leak.name()) {
            self.verdicts.push(self.state.leak.name());
        }
        self.now_ms += 1_000;
    }

    fn baseline_gib(&self) -> Option<u64> {
        self.state.baseline.as_ref().map(|baseline| baseline.wired_bytes / GIB)
    }
}
