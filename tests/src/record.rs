//! What the promises are checked against: what truly happened, and what was shown of it.

use std::collections::{BTreeMap, BTreeSet};

use tandem_policy::{
    CanaryOutcome, Event, Hold, Moment, Observation, OrderKind, Process, Setup, State, What, gang,
    gateway, invariant::Invariant,
};

use crate::oracle;

/// What operators have ordered, as far as the supervisor has it on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Intent {
    /// A hold.
    pub hold: Option<Hold>,
    /// Nothing is to be served.
    pub drained: bool,
    number: u64,
}

/// How a rank's process was asked to unload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unload {
    /// When first, in true time, and since boot.
    pub(crate) at: u64,
    boot_ms: u64,
    /// In how many turns.
    pub(crate) count: u64,
    /// In how many turns of its time it had to be.
    pub(crate) turns: u64,
    /// Whether it was killed since.
    pub(crate) is_killed: bool,
}

/// The records of one life.
#[derive(Default)]
pub struct Record {
    /// Saves that worked.
    pub saves: u64,
    /// The highest epoch that was started since the memory of epochs was last lost.
    pub(crate) epoch_floor: u64,
    /// The highest of those that somebody else started and that this supervisor can see.
    pub(crate) foreign_epoch: u64,
    /// Starts of the ranks in this boot, since the budget last began anew.
    pub(crate) starts_in_boot: u32,
    /// How many of them were by the RDMA fabric.
    pub(crate) fabric_starts_in_boot: u32,
    /// Supervisors of this boot: each may have died between counting a start and doing it.
    pub(crate) takeovers_in_boot: u32,
    /// Starts of the ranks, and what allows one: a decision to try again after a failure, a new
    /// supervisor, an order, a new plan, a reboot that did not come.
    pub(crate) starts: u64,
    pub(crate) allowed_starts: u64,
    /// When it was decided to try again after a failure, since boot, as saved, since the budget last
    /// began anew.
    pub(crate) restarts_ms: Vec<u64>,
    /// The same for ranks that had answered garbage.
    pub(crate) garbage_restarts_ms: Vec<u64>,
    /// The epoch whose ranks last answered garbage; the rank that did may be another's, and gone by now.
    pub(crate) garbled_epoch: Option<u64>,
    last_reboot: String,
    /// Whether a reboot was decided in this boot, and thus did not come so far.
    pub(crate) reboot_failed: bool,
    /// Whether the memory of past reboots was ever lost.
    pub(crate) memory_was_lost: bool,
    /// What may end in a hold, since the last release.
    excuses: BTreeSet<&'static str>,
    /// True times of the reboots that were ordered, and the boot that each ended.
    pub(crate) reboots: Vec<(u64, u32)>,
    /// The reboot that was last asked for: boot, since when, cause.
    pub(crate) reboot_asked: Option<(u32, u64, String)>,
    /// Intents of reboots that were decided and told: they count, even if the power went, or nothing
    /// could be saved, until it was too late to ask for them.
    pub(crate) reboots_decided: BTreeSet<String>,
    /// When each was first asked for, in true time: these count, whatever came of them.
    pub(crate) reboots_asked: Vec<u64>,
    /// Whether the reboot that was last asked for was ordered by an operator: no budget counts it.
    pub(crate) is_reboot_ordered: bool,
    /// Causes that came back right after a reboot for them.
    pub(crate) latched: BTreeSet<String>,
    /// The cause of a reboot for which the last turn held the ranks.
    pub(crate) held_for: Option<String>,
    /// Orders given, and those that the ledger says were obeyed.
    pub(crate) orders_given: u64,
    pub(crate) orders_told: u64,
    pub(crate) intent: Intent,
    /// How each rank's process was asked to unload.
    pub(crate) unloads: BTreeMap<usize, Unload>,
    /// Drifts as they were shown, since boot, and until when the invariant is to be left alone.
    drifts_ms: BTreeMap<Invariant, Vec<u64>>,
    held_before: BTreeMap<Invariant, bool>,
    pub(crate) paused_until: BTreeMap<Invariant, u64>,
    /// How often each was tried to be mended since it was last shown to hold, and when it last was,
    /// since boot.
    pub(crate) mends: BTreeMap<Invariant, (u32, u64)>,
    /// The epoch that was proven by a sane answer, and when tokens last came in it, since boot.
    pub(crate) proof: Option<(u64, u64)>,
    last_tokens: Option<(u64, u64)>,
    /// Whether tokens that come now are of requests that nobody waits for.
    pub(crate) are_tokens_wasted: bool,
    pub(crate) events: u64,
    /// Whether ranks or gateway were held at the end of the last turn.
    is_gateway_held: bool,
    /// Whether the last turn left the ranks stopping.
    pub(crate) was_stopping: bool,
    are_ranks_held: bool,
    /// When the pair was last shown to be possible, since boot, and since when a supervisor looks.
    pub(crate) pair_possible_ms: u64,
    /// For how long it has been shown so, turn after turn.
    pub(crate) pair_possible_for_ms: u64,
    /// Whether the supervisor serves alone, as it last decided.
    pub(crate) mode: Option<tandem_policy::pair::Mode>,
    /// The intent that the supervisor last decided to go for.
    pub(crate) left_for: Option<String>,
    /// The intent that the supervisor itself proposes, as it last decided.
    pub(crate) proposes: Option<String>,
    /// Whether the last turn's verdict was one of leaked memory.
    pub(crate) had_leak: bool,
}

impl Record {
    /// Something happened that may end in a hold.
    pub(crate) fn excuse(&mut self, why: &'static str) {
        self.excuses.insert(why);
    }

    /// What may have ended in a hold since the last release, whatever the settings.
    pub(crate) fn excuses(&self) -> Vec<&'static str> {
        self.excuses.iter().copied().collect()
    }

    fn forget_restarts(&mut self) {
        self.restarts_ms.clear();
        self.garbage_restarts_ms.clear();
    }

    pub(crate) fn booted(&mut self) {
        self.starts_in_boot = 0;
        self.fabric_starts_in_boot = 0;
        self.takeovers_in_boot = 0;
        self.forget_restarts();
        self.latched.clear();
        self.reboot_failed = false;
        self.unloads.clear();
        self.drifts_ms.clear();
        self.held_before.clear();
        self.paused_until.clear();
        self.mends.clear();
        self.proof = None;
        self.last_tokens = None;
        self.had_leak = false;
        self.excuses.clear();
    }

    pub(crate) fn lost_memory(&mut self) {
        self.epoch_floor = 0;
        self.memory_was_lost = true;
        // One is taken as done: an engine may have run.
        self.starts_in_boot = 1;
        self.fabric_starts_in_boot = 1;
        self.forget_restarts();
        self.latched.clear();
        // Nor does it know what it was that a reboot was asked for.
        self.reboot_asked = None;
    }

    /// A supervisor starts with this memory, and sees running ranks of this epoch at most.
    pub(crate) fn supervisor_started(&mut self, state: &State, running: u64) {
        self.foreign_epoch = running;
        self.allowed_starts += 1;
        self.takeovers_in_boot += 1;
        self.intent = Intent {
            hold: state.operator.hold,
            drained: state.operator.drained,
            number: state.last_order,
        };
        self.drifts_ms.clear();
        self.held_before.clear();
        self.paused_until.clear();
        for (invariant, drift) in &state.drifts {
            self.drifts_ms.insert(*invariant, drift.recent_ms.clone());
            self.held_before.insert(*invariant, drift.held_ms.is_some());
            if let Some(until) = drift.paused_until_ms {
                self.paused_until.insert(*invariant, until);
            }
        }
        self.proof = None;
        self.last_tokens = None;
        self.had_leak = false;
        self.was_stopping = matches!(state.gang, gang::Phase::Stopping { .. });
        self.held_for = None;
        // What could not be saved is forgotten with the supervisor that knew it.
        self.latched.clone_from(&state.latch.kinds);
        self.note_held(state);
        self.mends.clear();
        // It does not know whom the last one asked, so it asks anew.
        self.unloads.clear();
        self.last_reboot.clear();
    }

    /// A rank is asked to unload.
    pub(crate) fn note_unload(&mut self, rank: usize, at: u64, boot_ms: u64) {
        let asked = Unload { at, boot_ms, count: 0, turns: 1, is_killed: false };
        self.unloads.entry(rank).or_insert(asked).count += 1;
    }

    /// How a turn left ranks and gateway.
    pub(crate) const fn note_held(&mut self, state: &State) {
        self.are_ranks_held = matches!(state.gang, gang::Phase::Held { .. });
        self.is_gateway_held = matches!(state.gateway, gateway::Phase::Held { .. });
    }

    pub(crate) fn replanned(&mut self, _t: u64) {
        self.allowed_starts += 1;
    }

    pub(crate) fn rebooted(&mut self, t: u64, boots: u32) {
        self.reboots.push((t, boots));
    }

    pub(crate) fn started(&mut self, epoch: u64, is_by_fabric: bool) {
        self.starts += 1;
        self.starts_in_boot += 1;
        self.fabric_starts_in_boot += u32::from(is_by_fabric);
        self.epoch_floor = self.epoch_floor.max(epoch);
        self.unloads.clear();
    }

    /// What was saved tells what was decided.
    pub(crate) fn saved(&mut self, events: &[Event]) {
        self.saves += 1;
        let is_order = |event: &&Event| matches!(event.what, What::Order { .. });
        self.orders_told += events.iter().filter(is_order).count() as u64;
        let decided = |event: &Event| match &event.what {
            What::Reboot { phase, intent, .. }
                if ["committed", "rebooting"].contains(&phase.as_str()) =>
            {
                intent.clone()
            }
            _ => None,
        };
        self.reboots_decided.extend(events.iter().filter_map(decided));
        self.events += events.len() as u64;
    }

    /// A state was saved: it tells what was decided to be tried again. An orderly end begins anew.
    pub(crate) fn decided(&mut self, state: &State, is_ending: bool) {
        if is_ending && state.restarts_ms.is_empty() {
            self.forget_restarts();
        }
        for at in &state.restarts_ms {
            if self.restarts_ms.last().is_none_or(|last| at > last) {
                self.restarts_ms.push(*at);
                self.allowed_starts += 1;
            }
        }
        for at in &state.garbage_restarts_ms {
            if self.garbage_restarts_ms.last().is_none_or(|last| at > last) {
                self.garbage_restarts_ms.push(*at);
                self.allowed_starts += 1;
            }
        }
        if state.reboot.name() == "steady" && self.last_reboot == "draining" {
            self.allowed_starts += 1;
        }
        self.reboot_failed |= state.reboot.name() == "rebooting";
        state.reboot.name().clone_into(&mut self.last_reboot);
    }

    /// What the supervisor is shown.
    pub(crate) fn shown(&mut self, setup: &Setup, seen: &Observation, now: Moment) {
        for asked in self.unloads.values_mut() {
            let is_in_time = now.boot_ms - asked.boot_ms < setup.supervise.unload_timeout_ms;
            asked.turns += u64::from(is_in_time);
        }
        self.end_hold(now);
        self.show_tokens(seen, now);
        for invariant in Invariant::ALL {
            self.show_invariant(setup, seen, invariant, now);
        }
    }

    /// Orders up to this number are obeyed: they are in force from when that is on disk, and one that can't
    /// be saved is not, since whoever gave it is told so.
    pub(crate) fn obeyed(&mut self, seen: &Observation, last_order: u64, now: Moment) {
        for order in seen.orders.iter().filter(|order| order.number <= last_order) {
            if order.number <= self.intent.number {
                continue;
            }
            self.intent.number = order.number;
            self.allowed_starts += 1;
            match order.what.clone() {
                OrderKind::Drain => self.intent.drained = true,
                OrderKind::Resume => self.intent.drained = false,
                OrderKind::Hold { until_wall_ms } => {
                    self.intent.hold = Some(Hold { until_wall_ms });
                }
                OrderKind::Release => self.show_release(),
                OrderKind::Reboot { .. } => {}
            }
        }
        self.end_hold(now);
    }

    fn end_hold(&mut self, now: Moment) {
        let is_over = |hold: Hold| hold.until_wall_ms.is_some_and(|until| until <= now.wall_ms);
        if self.intent.hold.is_some_and(is_over) {
            self.intent.hold = None;
        }
    }

    /// Whoever releases held ranks has seen to the cause: their budgets begin anew.
    fn show_release(&mut self) {
        self.intent.hold = None;
        self.latched.clear();
        self.held_for = None;
        let is_of_gateway = |why: &str| why.starts_with("the gateway");
        if self.is_gateway_held {
            self.excuses.retain(|why| !is_of_gateway(why));
        }
        if self.are_ranks_held {
            self.excuses.retain(|why| is_of_gateway(why));
            self.starts_in_boot = 0;
            self.fabric_starts_in_boot = 0;
            self.forget_restarts();
        }
    }

    fn show_tokens(&mut self, seen: &Observation, now: Moment) {
        let epoch = match seen.ranks.first().map(|rank| &rank.process) {
            Some(Process::Running { epoch, .. }) => *epoch,
            _ => return,
        };
        if let Some(canary) = &seen.canary
            && let Some(CanaryOutcome::Answered { text, .. }) = &canary.outcome
            && canary.epoch == epoch
            && oracle::is_sane(text)
            && self.proof.is_none_or(|(proven, at)| proven != epoch || canary.at_ms > at)
        {
            self.proof = Some((epoch, canary.at_ms));
        }
        let Some(vitals) = seen.ranks.first().and_then(|rank| rank.vitals.as_ref()) else {
            return;
        };
        let grew = self.last_tokens.is_some_and(|(e, tokens)| e == epoch && vitals.tokens > tokens);
        let is_first = self.last_tokens.is_none_or(|(e, _)| e != epoch);
        self.last_tokens = Some((epoch, vitals.tokens));
        if let Some((proven, at)) = &mut self.proof
            && *proven == epoch
            && (grew || is_first)
            && !self.are_tokens_wasted
        {
            *at = now.boot_ms;
        }
    }

    fn show_invariant(
        &mut self,
        setup: &Setup,
        seen: &Observation,
        invariant: Invariant,
        now: Moment,
    ) {
        let Some(holds) = oracle::holds(setup, invariant, seen, now) else { return };
        if holds {
            self.mends.remove(&invariant);
        }
        // While it is left alone no drift counts.
        if self.is_paused(invariant, now) {
            return;
        }
        let before = self.held_before.insert(invariant, holds);
        if holds || before == Some(false) {
            return;
        }
        let window_ms = setup.host.flap_window_ms;
        let drifts = self.drifts_ms.entry(invariant).or_default();
        drifts.retain(|at| now.boot_ms - at < window_ms);
        drifts.push(now.boot_ms);
        if drifts.len() > setup.host.flap_max as usize {
            self.paused_until.insert(invariant, now.boot_ms + window_ms);
        }
    }

    /// Whether this one flapped so much that it is to be left alone now.
    pub(crate) fn is_paused(&mut self, invariant: Invariant, now: Moment) -> bool {
        let until = self.paused_until.get(&invariant).copied();
        let paused = until.is_some_and(|until| now.boot_ms < until);
        if until.is_some() && !paused {
            self.paused_until.remove(&invariant);
            self.drifts_ms.remove(&invariant);
        }
        paused
    }
}
