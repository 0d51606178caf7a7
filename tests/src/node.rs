//! One simulated machine: its processes, host, memory, disk and operators, from one seed.
//!
//! It knows the truth; the supervisor only gets what [`World::observe`] shows of it. Every call of
//! the supervisor is checked against the truth (see [`crate::promises`]).

pub mod canary;
pub mod desk;
pub mod gateway;
pub mod host;
pub mod machine;
pub mod memory;
pub mod ranks;

use std::rc::Rc;

use tandem_policy::{
    Action, Artifacts, Event, Health, Moment, Need, Observation, SaveError, Setup, State, Status,
    World,
};

use crate::{
    coverage::Met,
    dice::Dice,
    pair::{self, around::Around},
    promises,
    record::Record,
    setups,
    trouble::{Kind, Trouble, Troubles},
};

/// Size of the weights, over all ranks of this machine.
pub const WEIGHTS_BYTES: u64 = 120 << 30;

/// Size of the fallback's weights.
pub const FALLBACK_BYTES: u64 = 20 << 30;

/// When life begins, since 1970.
const WALL_START_MS: u64 = 1_780_000_000_000;

/// Longest sleep of one node of several.
const SLEEP_MS_MAX: u64 = 120_000;

/// Longest that one turn counts for a state that lasts: while it sleeps nobody can act.
const TURN_MS_MAX: u64 = 4_000;

/// A machine.
pub struct Node {
    /// The settings in force.
    pub setup: Rc<Setup>,
    pub(crate) dice: Dice,
    pub(crate) troubles: Troubles<Trouble>,
    /// Whether troubles strike.
    pub faulty: bool,
    /// True time, in milliseconds since this life began.
    pub t: u64,
    pub(crate) wall_offset_ms: i64,
    pub(crate) machine: machine::Machine,
    pub(crate) ranks: Vec<ranks::Rank>,
    pub(crate) gateway: gateway::Gateway,
    pub(crate) host: host::Host,
    pub(crate) memory: memory::MemoryTruth,
    pub(crate) canary: canary::Canary,
    pub(crate) desk: desk::Desk,
    pub(crate) disk: Disk,
    /// What the supervisor was shown last, and when.
    pub(crate) shown: Option<(Observation, Moment)>,
    /// What the promises are checked against.
    pub record: Record,
    /// What was met.
    pub met: Met,
    /// What happened, if it is to be told.
    pub log: Option<Vec<String>>,
    /// The first promise that was broken.
    pub broken: Option<String>,
    pub(crate) next_pid: u32,
    /// What is around it, if it is one of several.
    pub(crate) around: Option<Around>,
}

/// The disk, as the supervisor's memory uses it.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) saved: Option<State>,
    full_until: u64,
    missing_until: u64,
    last_failed: bool,
    /// Why earlier memory was lost, while that is told.
    pub(crate) lost: Option<String>,
}

impl Node {
    /// The machine of a seed.
    pub fn new(seed: u64, tells: bool) -> Self {
        let mut dice = Dice::new(seed);
        let setup = setups::roll(&mut dice);
        Self::of(setup, dice, None, tells)
    }

    /// A machine with these settings, alone or one of several.
    pub(crate) fn of(setup: Setup, mut dice: Dice, around: Option<Around>, tells: bool) -> Self {
        let setup = Rc::new(setup);
        // All nodes of a life together are to have as much trouble as one alone.
        let troubles = Troubles::roll(&mut dice, setup.nodes.len() as u64);
        let host = host::Host::roll(&mut dice, &setup);
        let memory = memory::MemoryTruth::roll(&mut dice);
        let ranks = setup.own_ranks.iter().map(|_| ranks::Rank::none()).collect();
        let mut node = Self {
            setup,
            dice,
            troubles,
            faulty: true,
            t: 0,
            wall_offset_ms: 0,
            machine: machine::Machine::default(),
            ranks,
            gateway: gateway::Gateway::none(),
            host,
            memory,
            canary: canary::Canary::default(),
            desk: desk::Desk::default(),
            disk: Disk::default(),
            shown: None,
            record: Record::default(),
            met: Met::default(),
            log: tells.then(Vec::new),
            broken: None,
            next_pid: 100,
            around,
        };
        if tells {
            let on = |t: &&Trouble| node.troubles.every(**t) > 0;
            let on: Vec<_> = Trouble::ALL.iter().filter(on).map(|t| t.name()).collect();
            let line = format!("{:?}\ntroubles: {}", node.setup, on.join(" "));
            node.tell(|_| line);
        }
        node.boot_up();
        node
    }

    /// Whether this trouble strikes now.
    pub(crate) fn strikes(&mut self, trouble: Trouble) -> bool {
        let every = self.troubles.every(trouble);
        let struck = self.faulty && self.dice.once_in(every);
        if struck {
            self.met.mark(&format!("trouble {}", trouble.name()));
        }
        struck
    }

    /// Tells a line of the log.
    pub(crate) fn tell(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.log.is_some() {
            let line = format!("{:>9} {}", self.t, line(self));
            self.log.get_or_insert_default().push(line);
        }
    }

    /// A promise was checked.
    pub(crate) fn check(&mut self, outcome: Result<(), String>) {
        if let Err(why) = outcome
            && self.broken.is_none()
        {
            self.tell(|_| format!("BROKEN: {why}"));
            self.broken = Some(why);
        }
    }

    /// Time as the machine's clocks say.
    pub fn moment(&self) -> Moment {
        let wall_ms = (WALL_START_MS + self.t).saturating_add_signed(self.wall_offset_ms);
        Moment { boot_ms: self.t - self.machine.booted_at, wall_ms }
    }

    pub(crate) const fn pid(&mut self) -> u32 {
        self.next_pid += 1;
        self.next_pid
    }

    /// What happens by itself until the next turn.
    pub fn pass(&mut self) {
        self.t += match self.dice.below(8) {
            0 => self.dice.between(1, 100),
            7 => self.dice.between(1_000, 4_000),
            _ => self.dice.between(200, 1_500),
        };
        if self.strikes(Trouble::Sleep) {
            let ms = self.dice.pick(&[20_000, 120_000, 900_000, 7_200_000, 90_000_000]);
            // The others go on meanwhile: no longer than all of them can be simulated.
            let ms = if self.around.is_some() { ms.min(SLEEP_MS_MAX) } else { ms };
            if let Some(around) = &mut self.around {
                around.slept = Some((self.t, self.t + ms));
            }
            self.t += ms;
            self.tell(|_| format!("slept for {ms} ms"));
        }
        self.pass_machine();
        if self.machine.is_off() {
            return;
        }
        self.pass_host();
        self.pass_memory();
        self.pass_ranks();
        self.pass_gateway();
        self.pass_canary();
        self.pass_desk();
        self.pass_disk();
    }

    fn pass_disk(&mut self) {
        if self.strikes(Trouble::DiskFull) {
            self.disk.full_until = self.t + self.dice.between(500, 60_000);
        }
        if self.strikes(Trouble::FilesMissing) {
            self.disk.missing_until = self.t + self.dice.between(500, 60_000);
        }
    }

    /// Nothing can be saved for a while.
    pub(crate) fn fill_disk(&mut self) {
        self.disk.full_until = self.t + self.dice.between(500, 60_000);
    }

    /// Whether nothing can be saved now.
    pub(crate) const fn is_disk_full(&self) -> bool {
        self.t < self.disk.full_until
    }

    /// All lasting troubles end: disk, files, host, memory, clock; what a mend can do is left.
    pub fn heal(&mut self) {
        self.faulty = false;
        self.disk.full_until = 0;
        self.disk.missing_until = 0;
        self.machine.void_try = None;
        self.heal_host();
        self.heal_memory();
        self.heal_desk();
        self.tell(|_| "HEALING: no trouble strikes any more".into());
    }

    /// Whether what runs is what the config asks for.
    pub fn serves_the_plan(&self) -> bool {
        self.gateway.plan == self.setup.gateway_plan
            && self.gateway.mode != tandem_policy::gateway::Mode::Alone
            && self.ranks.iter().all(|rank| rank.plan == self.setup.rank_plan)
    }

    /// What justifies that it holds for an operator.
    pub fn excuses(&self) -> Vec<&'static str> {
        let mut excuses = self.record.excuses();
        let limits = &self.setup.reboot;
        let supervise = &self.setup.supervise;
        let last = self.record.restarts_ms.last().copied().unwrap_or(0);
        let in_window = |at: &&u64| last - **at < supervise.restart_window_ms;
        let restarts = self.record.restarts_ms.iter().filter(in_window).count();
        let is_spent = restarts >= supervise.restarts_max as usize;
        let starts = self.record.fabric_starts_in_boot + self.record.takeovers_in_boot;
        let must_be_fabric = self.setup.uses_fabric && !self.setup.ring_fallback;
        let burnt = must_be_fabric && starts >= supervise.fabric_starts_max;
        if is_spent {
            excuses.push("the restarts of the window are spent");
        }
        if burnt {
            excuses.push("the starts of the fabric are spent");
        }
        // A leak of one is mended by all, so each can be in its way.
        let others = self.around.as_ref().map(|around| around.others.as_slice());
        let latch = self.disk.saved.as_ref().map(|saved| &saved.latch.kinds);
        let has_asked = !self.record.reboots_asked.is_empty() || self.record.memory_was_lost;
        if self.around.is_some() && has_asked && latch.is_some_and(|kinds| !kinds.is_empty()) {
            excuses.push("a reboot was done, and serving did not come back with it");
        }
        let leaks = self.memory.stranded_bytes > 0
            || others.unwrap_or_default().iter().any(|other| other.leaks);
        if !(leaks || is_spent || burnt) {
            return excuses;
        }
        // The day is one of running time, of which a power cut loses some: it may be a long one.
        let asked = self.record.reboots_asked.len().max(self.record.reboots_decided.len());
        let is_lost = self.record.memory_was_lost;
        if leaks && (!limits.automatic || !self.setup.can_reboot) {
            excuses.push("memory is stranded and no reboot is allowed");
        }
        if leaks && (asked >= limits.per_day_max as usize || is_lost) {
            excuses.push("memory is stranded and the reboots of the day are spent");
        }
        if leaks && self.record.reboot_failed {
            excuses.push("memory is stranded and the reboot for it did not come");
        }
        if leaks && !self.record.latched.is_empty() {
            excuses.push("memory is stranded again, right after a reboot");
        }
        excuses
    }

    /// An operator reboots the machine.
    pub fn replace_and_reboot(&mut self) {
        self.tell(|_| "an operator reboots the machine".into());
        self.go_down();
    }

    /// Tells a line.
    pub fn tell_line(&mut self, line: String) {
        self.tell(|_| line);
    }

    /// Tells how a turn ended.
    pub fn tell_status(&mut self, status: &Status, saves_before: u64) {
        self.met.mark(match status.health {
            Health::Healthy => "status healthy",
            Health::Degraded => "status degraded",
            Health::NotServing => "status not_serving",
        });
        for fault in &status.faults {
            self.met.mark(&format!("fault {}", fault.kind.name()));
        }
        if status.lowered_prefill_step_tokens.is_some() {
            self.met.mark("prefill step lowered");
        }
        let saved = if self.record.saves > saves_before { "saved" } else { "" };
        self.tell(|node| {
            let memory = status.memory.as_ref().map_or_else(String::new, |memory| {
                let [wired, baseline, unexplained] = [
                    memory.wired_bytes,
                    memory.baseline_bytes.unwrap_or(0),
                    memory.unexplained_bytes,
                ]
                .map(|bytes| bytes >> 30);
                format!("wired {wired}-{baseline} {} {unexplained} GiB", memory.leak)
            });
            format!(
                "= boot_ms {} {:?} epoch {} {} gateway {} reboot {} {memory} {saved}",
                node.moment().boot_ms,
                status.health,
                status.epoch,
                status.phase,
                status.gateway.phase,
                status.reboot.phase
            )
        });
    }

    /// Where a rank of this number is among this node's own.
    pub(crate) fn index_of(&self, rank: u32) -> Option<usize> {
        // The fallback's rank is number 0 of a gang of one, in the place of this node's first.
        let own = self.setup.own_ranks.iter().position(|own| *own == rank);
        own.or((rank == 0).then_some(0))
    }

    fn manifest(&self) -> Option<String> {
        let around = self.around.as_ref()?;
        matches!(self.artifacts(), Artifacts::Complete { .. }).then(|| around.manifest.clone())
    }

    fn fallback_artifacts(&self) -> Artifacts {
        if self.setup.fallback.is_none() || self.t < self.machine.files_known_at {
            Artifacts::Unread
        } else {
            Artifacts::Complete { weights_bytes: 1, need: Need::Bytes(FALLBACK_BYTES) }
        }
    }

    fn artifacts(&self) -> Artifacts {
        if self.t < self.disk.missing_until {
            Artifacts::Incomplete("model-2.safetensors is missing".into())
        } else if self.t < self.machine.files_known_at {
            Artifacts::Unread
        } else {
            Artifacts::Complete { weights_bytes: WEIGHTS_BYTES, need: Need::Estimated }
        }
    }
}

impl World for Node {
    fn now(&mut self) -> Moment {
        self.moment()
    }

    fn observe(&mut self) -> Observation {
        let moment = self.moment();
        let seen = Observation {
            ranks: self.ranks_seen(),
            gateway: self.gateway_seen(),
            terminations: self.machine.terminations,
            invariants: self.host_seen(),
            thunderbolt: self.around.as_ref().and_then(|around| around.fabric.shown.clone()),
            memory: self.memory_seen(),
            artifacts: self.artifacts(),
            fallback_artifacts: self.fallback_artifacts(),
            manifest: self.manifest(),
            peers: self.around.as_ref().map(|around| around.peers.clone()).unwrap_or_default(),
            evidence: self.desk.evidence.clone(),
            canary: self.canary.seen(moment),
            orders: self.orders_seen(),
            config_refused: self.config_refused(),
            ledger_trouble: if self.disk.last_failed {
                Some("can't write the ledger: no space left on device".into())
            } else if self.faulty && self.t < self.machine.supervisor_since + 30_000 {
                self.disk.lost.clone()
            } else {
                None
            },
        };
        self.record.shown(&self.setup, &seen, moment);
        let is_possible = pair::promises::is_pair_possible(self, &seen, moment);
        if self.around.is_some() && is_possible {
            let since_ms = moment.boot_ms - self.record.pair_possible_ms;
            self.record.pair_possible_ms = moment.boot_ms;
            // What keeps the pair may be this node itself.
            if pair::promises::could_start_fallback(self, &seen, moment) {
                self.record.pair_possible_for_ms += since_ms.min(TURN_MS_MAX);
            } else {
                self.record.pair_possible_for_ms = 0;
            }
        } else {
            self.record.pair_possible_for_ms = 0;
        }
        self.shown = Some((seen.clone(), moment));
        seen
    }

    fn save(&mut self, state: &State, events: &[Event]) -> Result<(), SaveError> {
        let died_before = self.supervisor_dies();
        self.note_decided(state);
        if died_before || self.t < self.disk.full_until {
            self.disk.last_failed |= !died_before;
            self.tell(|_| "save failed".into());
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(SaveError::new(std::path::Path::new("ledger.db"), full));
        }
        self.disk.last_failed = false;
        let sound = promises::a_saved_state_is_sound(self, state);
        let once = promises::no_order_is_obeyed_twice(self, events);
        self.check(sound.and(once));
        if self.log.is_some() {
            for event in events {
                let json = serde_json::to_string(&event.what).unwrap_or_default();
                self.tell(|_| format!("    event {json}"));
            }
        }
        self.record.saved(events);
        self.disk.saved = Some(state.clone());
        self.note_saved(state);
        self.supervisor_dies();
        Ok(())
    }

    fn tell(&mut self, report: &tandem_policy::pair::NodeReport) {
        if self.supervisor_dies() {
            return;
        }
        if let Some(around) = &mut self.around {
            around.told = Some(report.clone());
        }
    }

    fn perform(&mut self, action: &Action) {
        if self.supervisor_dies() || self.machine.is_off() {
            self.tell(|_| format!("  (not done, dead: {action:?})"));
            return;
        }
        self.tell(|_| format!("  {action:?}"));
        self.met.mark(action_name(action));
        promises::of_action(self, action);
        let can_be_lost = !matches!(action, Action::StartGang { .. } | Action::Exit);
        if can_be_lost && self.strikes(Trouble::ActionLost) {
            self.tell(|_| "    ... is lost".into());
            return;
        }
        match action {
            Action::Mend(repair) => self.mend(repair),
            Action::StartGang { epoch, alone: true, .. } => self.start_fallback(*epoch),
            Action::StartGang { epoch, carrier, .. } => self.start_gang(*epoch, carrier),
            Action::UnloadRank { rank } => {
                if let Some(index) = self.index_of(*rank) {
                    self.ask_to_unload(index);
                }
            }
            Action::KillRank { rank } => {
                if let Some(index) = self.index_of(*rank) {
                    self.kill_rank(index);
                }
            }
            Action::StartGateway { mode } => self.start_gateway(*mode),
            Action::StopGateway => self.ask_gateway_to_end(),
            Action::KillGateway => self.kill_gateway(),
            Action::Canary { epoch, number } => self.begin_canary(*epoch, *number),
            Action::Reboot { attempt } => self.begin_reboot(*attempt),
            Action::Exit => {}
        }
    }
}

const fn action_name(action: &Action) -> &'static str {
    match action {
        Action::Mend(_) => "action mend",
        Action::StartGang { alone: true, .. } => "action start_fallback",
        Action::StartGang { .. } => "action start_gang",
        Action::UnloadRank { .. } => "action unload_rank",
        Action::KillRank { .. } => "action kill_rank",
        Action::StartGateway { .. } => "action start_gateway",
        Action::StopGateway => "action stop_gateway",
        Action::KillGateway => "action kill_gateway",
        Action::Canary { .. } => "action canary",
        Action::Reboot { .. } => "action reboot",
        Action::Exit => "action exit",
    }
}
