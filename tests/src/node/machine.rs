//! The machine: its boots, its clocks, and the life of the supervisor on it.

use tandem_policy::{Ended, State, Turns, reboot};

use super::Node;
use crate::trouble::{PairTrouble, Trouble};

/// The machine and its supervisor's process.
#[derive(Default)]
pub(crate) struct Machine {
    pub(crate) boots: u32,
    pub(crate) booted_at: u64,
    off_until: Option<u64>,
    /// When it goes down because it was asked to.
    reboots_at: Option<u64>,
    /// The last try to reboot it that had no effect, by when it was begun and its number.
    pub(crate) void_try: Option<(u64, u32)>,
    /// SIGTERMs that the supervisor got.
    pub(crate) terminations: u32,
    pub(crate) supervisor_since: u64,
    /// The supervisor is killed after so many more calls of the world.
    dies_in: Option<u64>,
    /// When it last woke up: what ranks do goes on from then.
    pub(crate) woke_at: Option<u64>,
    /// It is killed because the power is.
    is_power_cut: bool,
    pub(crate) is_dead: bool,
    starts_at: u64,
    /// When the supervisor has looked at the model's files.
    pub(crate) files_known_at: u64,
}

impl Machine {
    /// A death that was to come in the middle of a turn does not: it would take with it what operators
    /// ordered, and they have no turn to see that it was not done.
    pub(crate) const fn spare(&mut self) {
        self.dies_in = None;
        self.is_power_cut = false;
    }

    pub(crate) const fn is_off(&self) -> bool {
        self.off_until.is_some()
    }
}

impl Node {
    /// The boot that the machine is in; no two nodes ever have the same.
    pub(crate) fn boot_id(&self) -> String {
        match &self.around {
            Some(_) => format!("{}-boot-{}", self.setup.node, self.machine.boots),
            None => format!("boot-{}", self.machine.boots),
        }
    }

    /// Another boot.
    pub(crate) fn boot_up(&mut self) {
        self.machine = Machine {
            boots: self.machine.boots + 1,
            booted_at: self.t,
            is_dead: true,
            ..Machine::default()
        };
        self.t += self.dice.between(1_000, 20_000);
        self.boot_host();
        self.boot_memory();
        self.record.booted();
        self.note_boot();
        self.tell(|node| format!("boots: {}", node.boot_id()));
    }

    pub(crate) fn go_down(&mut self) {
        for rank in &mut self.ranks {
            *rank = super::ranks::Rank::none();
        }
        self.gateway = super::gateway::Gateway::none();
        self.machine.off_until = Some(self.t + self.dice.between(2_000, 60_000));
        self.machine.is_dead = true;
        self.note_down();
        self.tell(|_| "the machine goes down".into());
    }

    pub(crate) fn pass_machine(&mut self) {
        let t = self.t;
        if let Some(until) = self.machine.off_until {
            if t >= until {
                self.boot_up();
            }
            return;
        }
        if self.machine.reboots_at.is_some_and(|at| t >= at) {
            self.met.mark("rebooted automatically");
            if !self.record.is_reboot_ordered {
                self.record.rebooted(t, self.machine.boots);
            }
            self.note_commanded();
            return self.go_down();
        }
        if self.strikes(Trouble::WallJump) {
            let hours = i64::try_from(self.dice.between(0, 144)).unwrap_or(0) - 72;
            self.wall_offset_ms += hours * 3_600_000;
            self.tell(|_| format!("the wall clock jumps by {hours} hours"));
        }
        if self.strikes(Trouble::Panic) {
            if self.dice.once_in(2) {
                self.machine.is_power_cut = true;
                self.machine.dies_in = Some(self.dice.below(8));
            } else {
                let boot = self.boot_id();
                self.leave_panic(boot);
                self.go_down();
            }
        }
        if self.strikes(Trouble::SupervisorKilled) {
            self.machine.dies_in = Some(self.dice.below(8));
        }
        if self.strikes(Trouble::Terminated) && !self.machine.is_dead {
            self.terminate();
        }
    }

    /// SIGTERM to the supervisor.
    pub fn terminate(&mut self) {
        self.machine.terminations += 1;
        self.tell(|_| "SIGTERM".into());
    }

    /// The supervisor is killed within its next calls of the world, perhaps with all the machine.
    pub(crate) fn die_soon(&mut self) {
        self.machine.is_power_cut = self.dice.once_in(2);
        self.machine.dies_in = Some(self.dice.below(4));
    }

    /// One call of the world by the supervisor: whether it is dead, or dies now, before the call
    /// has an effect.
    pub(crate) fn supervisor_dies(&mut self) -> bool {
        match self.machine.dies_in {
            _ if self.machine.is_dead => return true,
            None => return false,
            Some(0) => {}
            Some(calls) => {
                self.machine.dies_in = Some(calls - 1);
                return false;
            }
        }
        self.kill_supervisor();
        true
    }

    /// SIGKILL to the supervisor.
    pub fn kill_supervisor(&mut self) {
        self.machine.dies_in = None;
        self.machine.is_dead = true;
        self.machine.starts_at = self.t + self.dice.between(300, 15_000);
        self.tell(|_| "the supervisor is killed".into());
        if std::mem::take(&mut self.machine.is_power_cut) {
            self.go_down();
        }
    }

    /// A turn is over: who should have died in it does now.
    pub fn end_turn(&mut self, ends: bool) {
        if self.machine.dies_in.is_some() && !self.machine.is_dead {
            self.kill_supervisor();
        }
        if ends && !self.machine.is_dead {
            self.machine.is_dead = true;
            self.machine.starts_at = self.t + self.dice.between(300, 5_000);
            self.tell(|_| "the supervisor has ended".into());
        }
    }

    /// Whether a supervisor runs.
    pub const fn is_supervised(&self) -> bool {
        !self.machine.is_dead && !self.machine.is_off()
    }

    /// The next supervisor, once it is time for it.
    pub fn next_supervisor(&mut self) -> Option<Turns> {
        if self.machine.is_off() || !self.machine.is_dead || self.t < self.machine.starts_at {
            return None;
        }
        self.machine.is_dead = false;
        self.machine.dies_in = None;
        self.machine.terminations = 0;
        self.machine.supervisor_since = self.t;
        if let Some(around) = &mut self.around {
            around.instance += 1;
            around.peers.clear();
            around.told = None;
            around.leader_boots = crate::pair::around::LeaderBoots::default();
            self.record.pair_possible_ms = self.t - self.machine.booted_at;
            self.record.pair_possible_for_ms = 0;
            self.record.mode = None;
            self.record.left_for = None;
            self.record.proposes = None;
        }
        self.ranks_outlive();
        self.gateway_outlives();
        self.canary_is_lost();
        // How slow steps were before, no new supervisor can know.
        self.traffic.steps_are_quick_again();
        self.host_is_read_anew();
        // A new supervisor may have read everything by its first turn, or nothing.
        let is_quick = self.dice.once_in(2);
        self.machine.files_known_at = self.t + if is_quick { 0 } else { 300 };
        if is_quick {
            self.change_facts();
        }
        let is_first = self.disk.saved.is_none() && self.record.saves == 0;
        self.disk.lost = None;
        let is_after_reboot = self.is_back_by_command();
        let is_lost = is_after_reboot && self.strikes_between(PairTrouble::LostInReboot);
        if !is_first && (is_lost || self.strikes(Trouble::LedgerLost)) {
            self.disk.saved = None;
        }
        if !is_first && self.strikes(Trouble::ForeignRanks) {
            self.other_supervisor_ran();
        }
        let running: Vec<u64> = self.ranks.iter().filter_map(super::ranks::Rank::epoch).collect();
        let boot = self.boot_id();
        let state = match self.disk.saved.clone() {
            Some(state) => state.resumed(&boot),
            None if is_first => State::new(&boot),
            None => {
                self.disk.lost = Some("the ledger was damaged; it is set aside".into());
                self.record.lost_memory();
                self.note_lost_memory();
                State::after_loss(&boot, self.moment())
            }
        };
        if running.contains(&state.epoch) {
            self.met.mark("ranks adopted");
        } else if !running.is_empty() {
            self.met.mark("ranks of another epoch cleared");
        }
        self.desk_is_cleared(state.last_order);
        self.record.mode = Some(state.mode.clone());
        self.record.supervisor_started(&state, running.iter().copied().max().unwrap_or(0));
        self.tell(|_| format!("a supervisor starts: epoch {}, {}", state.epoch, state.gang.name()));
        Some(Turns::new(state))
    }

    /// Ranks run that this memory knows nothing of: another supervisor ran, with another memory.
    fn other_supervisor_ran(&mut self) {
        for index in 0..self.ranks.len() {
            self.end_rank(index, Ended::Code(0));
            self.ranks[index] = super::ranks::Rank::none();
        }
        let last = self.disk.saved.as_ref().map_or(0, |state| state.epoch);
        let epoch = if last > 1 && self.dice.once_in(2) {
            last - 1
        } else {
            self.record.epoch_floor.max(last) + 1 + self.dice.below(3)
        };
        self.foreign_ranks(epoch);
        self.tell(|_| format!("ranks of epoch {epoch} run that nobody remembers"));
    }

    /// The system is asked to reboot.
    pub(crate) fn begin_reboot(&mut self, attempt: u32) {
        let begun_at = match self.disk.saved.as_ref().map(|state| &state.reboot) {
            Some(reboot::Phase::Rebooting { since_ms, .. }) => *since_ms,
            _ => 0,
        };
        if self.machine.reboots_at.is_some() || self.machine.void_try == Some((begun_at, attempt)) {
            return;
        }
        if self.strikes(Trouble::RebootVoid) {
            self.machine.void_try = Some((begun_at, attempt));
            return;
        }
        self.machine.reboots_at = Some(self.t + self.dice.between(500, 8_000));
        if self.dice.once_in(2) {
            self.terminate();
        }
    }
}
