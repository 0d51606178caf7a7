//! Operators' orders, and what stops everything: a signal, an order or a reboot.

use crate::{
    Hold, Moment, Observation, OrderKind, Process, State, gang, gateway,
    pair::fabric,
    reboot::{self, Latch},
};

/// Obeys new orders, ends a hold that is over, and sets or ends the drain.
pub(crate) fn step(state: &mut State, seen: &Observation, now: Moment) {
    let were_stopped = state.operator.stops_reboots();
    for order in &seen.orders {
        if order.number > state.last_order {
            obey(state, order.what.clone(), now);
            state.last_order = order.number;
        }
    }
    let is_over = |hold: Hold| hold.until_wall_ms.is_some_and(|until| until <= now.wall_ms);
    if state.operator.hold.is_some_and(is_over) {
        state.operator.hold = None;
    }
    if were_stopped && !state.operator.stops_reboots() {
        reboot::ask_anew(state, now);
    }
    drain(state, seen, now);
}

fn obey(state: &mut State, what: OrderKind, now: Moment) {
    match what {
        OrderKind::Drain => state.operator.drained = true,
        OrderKind::Resume => {
            state.operator.drained = false;
            fabric::forgive(state);
        }
        OrderKind::Hold { until_wall_ms } => state.operator.hold = Some(Hold { until_wall_ms }),
        OrderKind::Release => release(state),
        OrderKind::Reboot { all, reason } => state.reboot_memory.order(all, reason, now),
    }
}

/// Ends every hold. Whoever releases has seen to the cause, so the budgets of this boot begin anew;
/// what a day allows does not.
fn release(state: &mut State) {
    state.operator.hold = None;
    fabric::forgive(state);
    if matches!(state.gang, gang::Phase::Held { .. }) {
        state.gang = gang::Phase::Idle;
        state.forget_restarts();
        state.starts_in_boot = 0;
        state.fabric_starts = 0;
    }
    if matches!(state.gateway, gateway::Phase::Held { .. }) {
        state.gateway = gateway::Phase::Down;
        state.gateway_failures = 0;
    }
    state.latch = Latch::default();
    state.reboot_memory.release();
}

/// Whether all is to be stopped.
fn must_stop(state: &State, seen: &Observation) -> bool {
    seen.terminations > 0 || state.operator.drained || state.reboot.stops()
}

/// Begins or ends the drain. What was stopped by one that is over starts again.
pub(crate) fn drain(state: &mut State, seen: &Observation, now: Moment) {
    if must_stop(state, seen) {
        state.draining_since_ms.get_or_insert(now.boot_ms);
        return;
    }
    state.draining_since_ms = None;
    if state.gang == gang::Phase::Drained {
        state.gang = gang::Phase::Idle;
        state.gang_since_ms = now.boot_ms;
    }
    if state.gateway == gateway::Phase::Stopped {
        state.gateway = gateway::Phase::Down;
    }
}

/// Whether the supervisor was asked to end and has nothing left to wait for: all is stopped, or the
/// system goes down because this supervisor asked it to.
pub(crate) fn has_ended(state: &State, seen: &Observation, now: Moment) -> bool {
    let no_ranks = matches!(state.gang, gang::Phase::Drained | gang::Phase::Held { .. });
    let idle = |process: &Process| !process.is_running();
    let is_stopped = idle(&seen.gateway.process)
        && no_ranks
        && seen.ranks.iter().all(|rank| idle(&rank.process))
        && matches!(state.gateway, gateway::Phase::Stopped | gateway::Phase::Held { .. });
    seen.terminations > 0 && (is_stopped || goes_down(state, seen, now))
}

/// Whether the system was asked to reboot, in an earlier turn that could be saved. Being asked to end
/// is then the system ending its jobs, and it waits for this one. What still runs was given all of its
/// time before; the reboot ends it, and gives back what it holds.
fn goes_down(state: &State, seen: &Observation, now: Moment) -> bool {
    let reboot::Phase::Rebooting { since_ms, .. } = &state.reboot else { return false };
    *since_ms < now.boot_ms && seen.ledger_trouble.is_none()
}
