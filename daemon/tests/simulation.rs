//! A whole life of one supervisor in a simulated world, from a seed: ranks and gateway that crash,
//! hang, start slowly or exit for good, a disk that is full at times, a supervisor that is killed
//! between saving and acting. First safety while faults go on, then liveness once they stop.

#![allow(clippy::unwrap_used, reason = "a test that panics fails, as it should")]

use std::collections::BTreeMap;

use tandem::{
    config::Config,
    policy::{
        Action, Ended, GatewaySeen, Moment, Observation, Process, RankSeen, Reading, State, Status,
        gang,
    },
    supervise::Turns,
    world::{SaveError, World},
};
use tandem_wire::{Phase, exit};

/// Seeds that are tried. Each is a few simulated hours and takes about a millisecond.
const SEEDS: u64 = 2_000;

/// Turns with faults, and then the most without until all must serve again.
const FAULTY_TURNS: u64 = 600;
const HEALING_TURNS: u64 = 600;

/// SplitMix64: one seed gives the whole life.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True once in `n`.
    fn once_in(&mut self, n: u64) -> bool {
        self.roll().is_multiple_of(n)
    }
}

struct Rank {
    process: Process,
    ready_at: u64,
    /// When it first was asked to unload.
    asked_at: Option<u64>,
    /// Does nothing that it is asked.
    hangs: bool,
}

struct Fake {
    dice: Dice,
    now: u64,
    faults: bool,
    ranks: Vec<Rank>,
    gateway: Process,
    saved: Option<State>,
    next_pid: u32,
    unload_timeout_ms: u64,
    terminations: u32,
    starts: Vec<u64>,
    log: Vec<String>,
}

impl Fake {
    fn new(seed: u64, config: &Config) -> Self {
        let rank = |_| Rank { process: Process::Never, ready_at: 0, asked_at: None, hangs: false };
        Self {
            dice: Dice(seed),
            now: 1_000,
            faults: true,
            ranks: (0..config.rank.len()).map(rank).collect(),
            gateway: Process::Never,
            saved: None,
            next_pid: 100,
            unload_timeout_ms: config.supervise.unload_timeout_ms,
            terminations: 0,
            starts: Vec::new(),
            log: Vec::new(),
        }
    }

    fn end(&mut self, rank: usize, how: Ended) {
        if let Process::Running { epoch, .. } = self.ranks[rank].process {
            self.log.push(format!("{} rank {rank} of epoch {epoch} ends: {how}", self.now));
            self.ranks[rank].process = Process::Ended { epoch, how };
        }
    }

    /// What happens by itself until the next turn.
    fn pass(&mut self) {
        self.now += 1 + self.dice.roll() % 1_500;
        for rank in 0..self.ranks.len() {
            if !self.ranks[rank].process.is_running() {
                continue;
            }
            if self.faults {
                if self.dice.once_in(60) {
                    self.end(rank, Ended::Signal(9));
                } else if self.dice.once_in(200) {
                    self.end(rank, Ended::Code(exit::ENGINE));
                } else if self.dice.once_in(100) {
                    self.ranks[rank].hangs = true;
                }
            }
            let asked = self.ranks[rank].asked_at.is_some_and(|at| self.now > at + 50);
            if asked && !self.ranks[rank].hangs {
                self.end(rank, Ended::Code(exit::OK));
            }
        }
        // A lost rank is noticed by the others, unless they hang.
        if self.ranks.iter().any(|r| !r.process.is_running()) && self.dice.once_in(2) {
            for rank in 0..self.ranks.len() {
                if !self.ranks[rank].hangs {
                    self.end(rank, Ended::Code(exit::PEER_LOST));
                }
            }
        }
        if self.faults && self.gateway.is_running() && self.dice.once_in(80) {
            self.gateway = Process::Ended { epoch: 0, how: Ended::Signal(11) };
        }
    }

    /// Some of the ranks may fail to start.
    fn start_gang(&mut self, epoch: u64) {
        assert_eq!(self.saved.as_ref().map(|s| s.epoch), Some(epoch), "a start before its save");
        assert!(self.ranks.iter().all(|r| !r.process.is_running()), "started over ranks");
        self.starts.push(epoch);
        for rank in 0..self.ranks.len() {
            self.next_pid += 1;
            let pid = self.next_pid;
            let process = if self.faults && self.dice.once_in(20) {
                Process::Ended { epoch, how: Ended::NotStarted("no memory".into()) }
            } else {
                Process::Running { pid, epoch }
            };
            let ready_at = self.now + self.dice.roll() % 20_000;
            self.ranks[rank] = Rank { process, ready_at, asked_at: None, hangs: false };
        }
    }

    fn is_safe(&self) -> Result<(), String> {
        let mut alive = BTreeMap::new();
        for rank in &self.ranks {
            if let Process::Running { epoch, .. } = rank.process {
                *alive.entry(epoch).or_insert(0) += 1;
            }
        }
        if alive.len() > 1 {
            return Err(format!("epochs {:?} are alive at once", alive.keys()));
        }
        if self.starts.windows(2).any(|pair| pair[1] <= pair[0]) {
            return Err(format!("epochs are not growing: {:?}", self.starts));
        }
        Ok(())
    }
}

impl World for Fake {
    fn now(&mut self) -> Moment {
        Moment { boot_ms: self.now, wall_ms: self.now }
    }

    fn observe(&mut self) -> Observation {
        let now = self.now;
        let seen =
            |rank: &Rank| RankSeen {
                process: rank.process.clone(),
                phase: (rank.process.is_running() && !rank.hangs)
                    .then_some(if now >= rank.ready_at { Phase::Ready } else { Phase::Loading }),
                vitals: None,
            };
        let all_ready = self.ranks.iter().all(|r| r.process.is_running() && now >= r.ready_at);
        let ready = Reading::Known { value: all_ready, age_ms: 0 };
        Observation {
            ranks: self.ranks.iter().map(seen).collect(),
            gateway: GatewaySeen { process: self.gateway.clone(), ready },
            terminations: self.terminations,
        }
    }

    fn save(&mut self, state: &State) -> Result<(), SaveError> {
        if self.faults && self.dice.once_in(10) {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(SaveError::new(std::path::Path::new("state.json"), full));
        }
        self.saved = Some(state.clone());
        Ok(())
    }

    fn perform(&mut self, action: &Action) {
        self.log.push(format!("{} {action:?}", self.now));
        let saved = self.saved.as_ref();
        match *action {
            Action::StartGang { epoch } => self.start_gang(epoch),
            Action::UnloadRank { rank } => {
                let now = self.now;
                self.ranks[rank as usize].asked_at.get_or_insert(now);
            }
            Action::KillRank { rank } => {
                let asked = self.ranks[rank as usize].asked_at;
                let waited = asked.map_or(0, |at| self.now - at);
                assert!(waited >= self.unload_timeout_ms, "killed {waited} ms after being asked");
                assert!(saved.is_some_and(|s| !s.suspected_leaks.is_empty()), "a leak unrecorded");
                self.end(rank as usize, Ended::Signal(9));
            }
            Action::StartGateway => {
                assert!(!self.gateway.is_running(), "two gateways");
                self.gateway = Process::Running { pid: 1, epoch: 0 };
            }
            Action::StopGateway | Action::KillGateway => {
                if self.gateway.is_running() {
                    self.gateway = Process::Ended { epoch: 0, how: Ended::Code(0) };
                }
            }
            Action::Exit => {
                let idle = |rank: &Rank| !rank.process.is_running();
                assert!(self.ranks.iter().all(idle), "it ended before its ranks");
                assert!(!self.gateway.is_running(), "it ended before its gateway");
            }
        }
    }
}

fn config() -> Config {
    let mut config = Config::default();
    config.supervise.restarts_max = 1_000;
    config.supervise.restart_window_ms = 1_000_000_000;
    config.supervise.start_timeout_ms = 60_000;
    config
}

/// One turn, and its safety.
fn turn(seed: u64, config: &Config, turns: &mut Turns, world: &mut Fake) -> (Status, bool) {
    let outcome = turns.take(config, world);
    if let Err(reason) = world.is_safe() {
        let tail = world.log.len().saturating_sub(40);
        panic!("seed {seed}: {reason}\n{}", world.log[tail..].join("\n"));
    }
    outcome
}

fn live(seed: u64) {
    let config = config();
    let mut world = Fake::new(seed, &config);
    let mut turns = Turns::new(State::new("boot"));
    for _ in 0..FAULTY_TURNS {
        world.pass();
        turn(seed, &config, &mut turns, &mut world);
        if world.dice.once_in(50) {
            // The supervisor is killed; the next one has what was saved, and finds the rest.
            world.log.push(format!("{} supervisor restarts", world.now));
            let state = world.saved.clone().unwrap_or_else(|| State::new("boot"));
            turns = Turns::new(state.resumed("boot"));
        }
    }
    world.faults = false;
    let mut healthy = false;
    for _ in 0..HEALING_TURNS {
        world.pass();
        let (status, _) = turn(seed, &config, &mut turns, &mut world);
        healthy = status.health == tandem::policy::Health::Healthy;
        if healthy {
            break;
        }
    }
    let tail = world.log.len().saturating_sub(40);
    assert!(healthy, "seed {seed}: not serving again\n{}", world.log[tail..].join("\n"));

    world.terminations = 1;
    let ends = (0..HEALING_TURNS).any(|_| {
        world.pass();
        turn(seed, &config, &mut turns, &mut world).1
    });
    assert!(ends, "seed {seed}: it did not end when asked");
}

#[test]
fn ranks_that_die_at_random_are_never_doubled_and_always_come_back() {
    for seed in 0..SEEDS {
        live(seed);
    }
}

#[test]
fn the_restart_budget_holds_whatever_happens() {
    let mut config = config();
    config.supervise.restarts_max = 5;
    for seed in 0..SEEDS / 10 {
        let mut world = Fake::new(seed, &config);
        let mut turns = Turns::new(State::new("boot"));
        let mut supervisors = 1;
        for _ in 0..FAULTY_TURNS {
            world.pass();
            turn(seed, &config, &mut turns, &mut world);
            if world.dice.once_in(100) {
                let state = world.saved.clone().unwrap_or_else(|| State::new("boot"));
                turns = Turns::new(state.resumed("boot"));
                supervisors += 1;
            }
        }
        // A new supervisor may start the ranks once without that being a restart.
        let starts = world.starts.len();
        assert!(
            starts <= 5 + supervisors,
            "seed {seed}: {starts} starts, {supervisors} supervisors"
        );
    }
}

#[test]
fn a_model_that_cannot_be_served_is_tried_once() {
    let config = config();
    let mut world = Fake::new(1, &config);
    world.faults = false;
    let mut turns = Turns::new(State::new("boot"));
    turn(1, &config, &mut turns, &mut world);
    world.end(1, Ended::Code(exit::MODEL));
    let mut last = None;
    for _ in 0..FAULTY_TURNS {
        world.pass();
        last = Some(turn(1, &config, &mut turns, &mut world).0);
    }
    let status = last.unwrap();
    assert_eq!(world.starts, [1]);
    assert_eq!(status.phase, gang::Phase::Held { reason: String::new() }.name());
    let held = status.held.unwrap();
    assert!(held.contains("rank 1") && held.contains("model folder"), "{held}");
}
