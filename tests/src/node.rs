//! One simulated machine: its processes, host, memory, disk and operators, from one seed.
//!
//! It knows the truth; the supervisor only gets what [`tandem_policy::World::observe`] shows of it. Every call of
//! the supervisor is checked against the truth (see [`crate::promises`]).

pub mod canary;
pub mod desk;
mod files;
pub mod gateway;
pub mod host;
pub mod machine;
pub mod memory;
pub mod ranks;
pub mod traffic;
mod world;

use std::rc::Rc;

use tandem_policy::{Health, Moment, Observation, Setup, State, Status};

use crate::{
    coverage::Met,
    dice::Dice,
    pair::around::Around,
    promises::restarts::have_lied_too_often,
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
    pub(crate) traffic: traffic::Traffic,
    pub(crate) desk: desk::Desk,
    pub(crate) disk: Disk,
    files: files::Files,
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
            traffic: traffic::Traffic::default(),
            desk: desk::Desk::default(),
            disk: Disk::default(),
            files: files::Files::default(),
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
            self.machine.woke_at = Some(self.t);
            self.traffic.sleep(ms);
            self.tell(|_| format!("slept for {ms} ms"));
        }
        self.pass_machine();
        if self.machine.is_off() {
            return;
        }
        self.pass_host();
        self.pass_memory();
        self.pass_traffic();
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
        self.machine.spare();
        self.disk.full_until = 0;
        self.disk.missing_until = 0;
        self.machine.void_try = None;
        self.heal_host();
        self.heal_memory();
        self.heal_desk();
        self.heal_traffic();
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
        if self.is_held_for_files() {
            excuses.push("the model's files are damaged");
        }
        if have_lied_too_often(self) {
            excuses.push("the ranks answered garbage again and again");
        }
        if burnt {
            excuses.push("the starts of the fabric are spent");
        }
        // A leak of one is mended by all, so each can be in its way.
        let others = self.around.as_ref().map(|around| around.others.as_slice());
        let latch = self.disk.saved.as_ref().map(|saved| &saved.latch.kinds);
        // One that a power cut forestalled is as good as asked for.
        let asked = self.record.reboots_asked.len().max(self.record.reboots_decided.len());
        let has_asked = asked > 0 || self.record.memory_was_lost;
        if self.around.is_some() && has_asked && latch.is_some_and(|kinds| !kinds.is_empty()) {
            excuses.push("a reboot was done, and serving did not come back with it");
        }
        let leaks = self.memory.stranded_bytes > 0
            || others.unwrap_or_default().iter().any(|other| other.leaks);
        if !(leaks || is_spent || burnt) {
            return excuses;
        }
        // The day is one of running time, of which a power cut loses some: it may be a long one.
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
}
