//! What the supervisor promises, whatever happens. Each is checked at every call of the world.

mod reboots;
pub(crate) mod restarts;

use tandem_policy::{
    Action, Event, Health, Moment, Process, State, Turn, What, gang,
    invariant::{Invariant, Mode},
    leak,
    pair::fabric::Carrier,
    reboot,
};

use crate::{
    node::Node,
    node::host::invariant_of,
    oracle,
    pair::{carriers, promises as pair},
};

type Outcome = Result<(), String>;

/// A promise that is broken.
fn broken(why: impl Into<String>) -> Outcome {
    Err(why.into())
}

/// Checks all that is promised of this action.
pub(crate) fn of_action(node: &mut Node, action: &Action) {
    let Some((_, now)) = node.shown.as_ref() else { return };
    let now = *now;
    let outcome = match action {
        Action::StartGang { epoch, alone, carrier, .. } => {
            start(node, *epoch, *alone, carrier, now)
        }
        Action::UnloadRank { rank } => {
            if let Some(index) = node.index_of(*rank) {
                node.record.note_unload(index, node.t, now.boot_ms);
            }
            Ok(())
        }
        Action::KillRank { rank } => a_kill_is_the_last_rung(node, *rank),
        Action::Reboot { .. } => reboots::start(node, now),
        Action::Mend(repair) => match invariant_of(repair) {
            Some(invariant) => mend(node, invariant, now),
            None => broken(format!("{repair:?} is for nothing that is known")),
        },
        Action::StartGateway { .. } if node.gateway.process.is_running() => {
            broken("a second gateway was started")
        }
        Action::Exit => nothing_is_left_alive(node),
        _ => Ok(()),
    };
    node.check(outcome);
}

fn start(node: &Node, epoch: u64, alone: bool, carrier: &Carrier, now: Moment) -> Outcome {
    one_epoch_at_most(node)?;
    epochs_grow(node, epoch)?;
    a_start_is_saved_first(node, epoch, carrier)?;
    a_start_is_admitted(node, alone, carrier, now)?;
    a_start_is_allowed(node)?;
    if alone {
        return pair::a_fallback_is_needed(node);
    }
    the_fabric_budget_is_kept(node, carrier)?;
    carriers::start(node, carrier, now)?;
    pair::start(node, epoch, now)
}

/// Never two epochs alive: ranks start only when none runs.
fn one_epoch_at_most(node: &Node) -> Outcome {
    match node.ranks.iter().find_map(crate::node::ranks::Rank::epoch) {
        Some(epoch) => broken(format!("ranks were started while epoch {epoch} was alive")),
        None => Ok(()),
    }
}

/// Every start has a number above all that anybody could still know of.
fn epochs_grow(node: &Node, epoch: u64) -> Outcome {
    let floor = node.record.epoch_floor.max(node.record.foreign_epoch);
    if epoch <= floor {
        return broken(format!("epoch {epoch} was started after epoch {floor}"));
    }
    Ok(())
}

/// No start without the state that led to it on disk: number, phase, count.
fn a_start_is_saved_first(node: &Node, epoch: u64, carrier: &Carrier) -> Outcome {
    let Some(saved) = &node.disk.saved else {
        return broken("ranks were started with nothing saved");
    };
    if saved.epoch != epoch || !matches!(saved.gang, gang::Phase::Starting { .. }) {
        return broken(format!(
            "epoch {epoch} was started while epoch {} ({}) was saved",
            saved.epoch,
            saved.gang.name()
        ));
    }
    if saved.carrier != *carrier {
        return broken(format!("{carrier:?} was started while {:?} was saved", saved.carrier));
    }
    if saved.starts_in_boot == 0 || saved.boot != node.boot_id() {
        return broken("a start was not counted in this boot before it was done");
    }
    Ok(())
}

/// No start onto a host that is not right or into memory that is not there, nor against an
/// operator's order; unknown is not right.
fn a_start_is_admitted(node: &Node, alone: bool, carrier: &Carrier, now: Moment) -> Outcome {
    let Some((seen, _)) = &node.shown else { return Ok(()) };
    if node.record.intent.hold.is_some() {
        return broken("ranks were started under an operator's hold");
    }
    if node.record.intent.drained {
        return broken("ranks were started though an operator drained the node");
    }
    if seen.terminations > 0 {
        return broken("ranks were started after SIGTERM");
    }
    let refused = if alone {
        let (setup, seen) = oracle::of_fallback(&node.setup, seen);
        oracle::refuses_start(node, &setup, &seen, now)
    } else if carrier.is_fabric() {
        oracle::refuses_start(node, &node.setup, seen, now)
    } else {
        oracle::refuses_start(node, &oracle::of_ring(&node.setup), seen, now)
    };
    match refused {
        Some(why) => broken(format!("ranks were started though {why}")),
        None => Ok(()),
    }
}

/// Restarts after failures stay in their budget, and nothing starts without a reason: a decision
/// to try again, a new supervisor, an order, a plan, a reboot that was called off.
fn a_start_is_allowed(node: &Node) -> Outcome {
    let record = &node.record;
    // Of several nodes a start may be the leader's decision.
    if node.around.is_none() && record.starts >= record.allowed_starts {
        return broken(format!("start {} had no reason", record.starts + 1));
    }
    let supervise = &node.setup.supervise;
    restarts::liars_have_a_budget(node)?;
    let Some(last) = record.restarts_ms.last() else { return Ok(()) };
    let is_in_window = |at: &&u64| last - **at < supervise.restart_window_ms;
    let count = record.restarts_ms.iter().filter(is_in_window).count();
    if count > supervise.restarts_max as usize {
        return broken(format!(
            "{count} restarts in one window; {} are allowed",
            supervise.restarts_max
        ));
    }
    Ok(())
}

/// Each start of the fabric burns driver resources: so many a boot and no more.
fn the_fabric_budget_is_kept(node: &Node, carrier: &Carrier) -> Outcome {
    let most = node.setup.supervise.fabric_starts_max;
    if carrier.is_fabric() && node.record.fabric_starts_in_boot >= most {
        return broken(format!("more than {most} starts of the fabric in one boot"));
    }
    Ok(())
}

/// A rank is killed only if it was asked to unload, has had its time, and the leak that this may be
/// is on disk.
fn a_kill_is_the_last_rung(node: &mut Node, rank: u32) -> Outcome {
    let Some(index) = node.index_of(rank) else { return Ok(()) };
    let Process::Running { pid, .. } = node.ranks[index].process else { return Ok(()) };
    let limit_ms = node.setup.supervise.unload_timeout_ms;
    match node.record.unloads.get_mut(&index) {
        None => return broken(format!("rank {rank} was killed and never asked to unload")),
        Some(asked) if node.t - asked.at < limit_ms => {
            return broken(format!("rank {rank} was killed {} ms after asking", node.t - asked.at));
        }
        // What was asked for may be lost: it is believed only when its effect is seen.
        Some(asked) if !asked.is_killed && asked.count < asked.turns => {
            return broken(format!("rank {rank} was not asked again to unload"));
        }
        Some(asked) => asked.is_killed = true,
    }
    let leaks = node.disk.saved.as_ref().map(|state| state.suspected_leaks.as_slice());
    if !leaks.unwrap_or_default().iter().any(|leak| leak.pid == pid && leak.rank == rank) {
        return broken(format!("rank {rank} was killed before the suspected leak was saved"));
    }
    Ok(())
}

/// Mends: only what is enforced and known to be broken, not against an operator, not while it
/// flaps, and not without end.
fn mend(node: &mut Node, invariant: Invariant, now: Moment) -> Outcome {
    let Some((seen, _)) = &node.shown else { return Ok(()) };
    if node.setup.invariants.mode(invariant) != Mode::Enforce {
        return broken(format!("{invariant:?} is only observed and was mended"));
    }
    if node.record.intent.hold.is_some() {
        return broken(format!("{invariant:?} was mended under an operator's hold"));
    }
    if oracle::holds(&node.setup, invariant, seen, now) != Some(false) {
        return broken(format!("{invariant:?} was mended and not known to be broken"));
    }
    if node.record.is_paused(invariant, now) {
        return broken(format!("{invariant:?} was mended while it flapped"));
    }
    mends_are_paced(node, invariant, now)
}

/// Each try to mend that had no effect doubles the pause before the next, from half a second to a
/// minute; only one that was seen to hold in between begins anew.
fn mends_are_paced(node: &mut Node, invariant: Invariant, now: Moment) -> Outcome {
    let (tries, last_ms) = node.record.mends.get(&invariant).copied().unwrap_or_default();
    node.record.mends.insert(invariant, (tries + 1, now.boot_ms));
    let pause_ms = if tries == 0 { 0 } else { (500_u64 << (tries - 1).min(7)).min(60_000) };
    if now.boot_ms - last_ms < pause_ms {
        let ms = now.boot_ms - last_ms;
        return broken(format!("try {} to mend {invariant:?} came after {ms} ms", tries + 1));
    }
    Ok(())
}

/// The supervisor does not end while something of it is alive, unless the system goes down anyway.
fn nothing_is_left_alive(node: &Node) -> Outcome {
    let goes_down = |state: &State| matches!(state.reboot, reboot::Phase::Rebooting { .. });
    if node.disk.saved.as_ref().is_some_and(goes_down) {
        return Ok(());
    }
    if node.ranks.iter().any(|rank| rank.process.is_running()) {
        return broken("it ended before its ranks");
    }
    if node.gateway.process.is_running() {
        return broken("it ended before its gateway");
    }
    Ok(())
}

/// What is saved is what operators ordered, and its lists are bounded.
pub(crate) fn a_saved_state_is_sound(node: &mut Node, state: &State) -> Outcome {
    let Some((seen, now)) = node.shown.clone() else { return Ok(()) };
    restarts::counted(state, now)?;
    node.record.decided(state, seen.terminations > 0);
    let intent = node.record.intent;
    if state.operator.hold != intent.hold || state.operator.drained != intent.drained {
        return broken(format!("operators ordered {intent:?}, saved is {:?}", state.operator));
    }
    let lists = [
        ("suspected_leaks", state.suspected_leaks.len(), 32),
        ("reboots", state.reboots.len(), reboot::HISTORY_MAX),
        ("faults", state.faults.len(), 64),
        ("boots", state.boots.len(), tandem_policy::BOOTS_MAX),
        ("restarts_ms", state.restarts_ms.len(), node.setup.supervise.restarts_max as usize),
        ("garbage_restarts_ms", state.garbage_restarts_ms.len(), restarts::GARBAGE_MAX),
    ];
    for (name, len, most) in lists {
        if len > most {
            return broken(format!("{name} has {len} entries"));
        }
    }
    Ok(())
}

/// No order is obeyed twice: the ledger tells no more of them than were given.
pub(crate) fn no_order_is_obeyed_twice(node: &Node, events: &[Event]) -> Outcome {
    let is_order = |event: &&Event| matches!(event.what, What::Order { .. });
    let told = node.record.orders_told + events.iter().filter(is_order).count() as u64;
    if told > node.record.orders_given {
        return broken(format!("{told} orders obeyed, {} given", node.record.orders_given));
    }
    Ok(())
}

/// Checks all that is promised of a finished turn.
pub fn of_turn(node: &mut Node, turn: &Turn, state: &State) {
    let Some((_, now)) = node.shown.as_ref() else { return };
    let now = *now;
    let outcome = proof_is_true(node, turn, now)
        .and_then(|()| pair::proof_is_of_all(node, turn))
        .and_then(|()| healthy_is_true(node, turn))
        .and_then(|()| carriers::a_ring_is_told(node, turn, state))
        .and_then(|()| strangers_are_not_adopted(node, turn))
        .and_then(|()| restarts::of_turn(node, state))
        .and_then(|()| events_are_bounded(turn))
        .and_then(|()| a_leak_is_cleared_by_evidence(node, state, now));
    node.record.note_held(state);
    node.check(outcome);
    note_latch(node, state, now);
}

/// A leak is cleared only by a fresh look at memory.
fn a_leak_is_cleared_by_evidence(node: &mut Node, state: &State, now: Moment) -> Outcome {
    let has_leak =
        matches!(state.leak, leak::Verdict::Suspect { .. } | leak::Verdict::Confirmed { .. });
    let had_leak = std::mem::replace(&mut node.record.had_leak, has_leak);
    let limit_ms = 3 * node.setup.leak.sample_ms + 10_000;
    let memory = node.shown.as_ref().and_then(|(seen, _)| seen.memory.as_ref());
    let is_fresh = memory.is_some_and(|memory| now.boot_ms - memory.at_ms <= limit_ms);
    if had_leak && state.leak == leak::Verdict::Clear && !is_fresh {
        return broken("a leak was cleared while memory was not known");
    }
    Ok(())
}

/// Ready is said only if tokens truly came, in this epoch, lately.
fn proof_is_true(node: &Node, turn: &Turn, now: Moment) -> Outcome {
    if !turn.status.proven {
        return Ok(());
    }
    let canary = &node.setup.canary;
    let limit_ms = 3 * canary.period_ms + canary.timeout_ms;
    match node.record.proof {
        Some((epoch, at)) if epoch == turn.status.epoch => {
            let age_ms = now.boot_ms.saturating_sub(at);
            if age_ms > limit_ms && !pair::was_busy(node, limit_ms) {
                return broken(format!("proven, by tokens that came {age_ms} ms ago"));
            }
            Ok(())
        }
        other => broken(format!("proven in epoch {}, tokens: {other:?}", turn.status.epoch)),
    }
}

/// Healthy is said only if every rank of the one epoch runs and the gateway does, and nobody
/// stopped it.
fn healthy_is_true(node: &Node, turn: &Turn) -> Outcome {
    if turn.status.health != Health::Healthy {
        return Ok(());
    }
    if !turn.status.proven {
        return broken("healthy and not proven");
    }
    if node.record.intent.drained {
        return broken("healthy though drained");
    }
    let Some((seen, _)) = &node.shown else { return Ok(()) };
    let epoch = turn.status.epoch;
    let is_of_epoch =
        |process: &Process| matches!(process, Process::Running { epoch: e, .. } if *e == epoch);
    let needed = if node.serves_alone() { 1 } else { seen.ranks.len() };
    if !seen.ranks.iter().take(needed).all(|rank| is_of_epoch(&rank.process)) {
        return broken(format!("healthy, and not all ranks are of epoch {epoch}"));
    }
    if !seen.gateway.process.is_running() {
        return broken("healthy without a gateway");
    }
    Ok(())
}

/// Ranks of another epoch are neither waited for nor served by: they are stopped.
fn strangers_are_not_adopted(node: &Node, turn: &Turn) -> Outcome {
    let Some((seen, _)) = &node.shown else { return Ok(()) };
    if turn.status.phase != "starting" && turn.status.phase != "serving" {
        return Ok(());
    }
    for rank in &seen.ranks {
        if let Process::Running { epoch, .. } = rank.process
            && epoch != turn.status.epoch
        {
            return broken(format!("ranks of epoch {epoch} in epoch {}", turn.status.epoch));
        }
    }
    Ok(())
}

/// A turn tells a bounded number of things.
fn events_are_bounded(turn: &Turn) -> Outcome {
    if turn.events.len() > 100 {
        return broken(format!("{} events in one turn", turn.events.len()));
    }
    Ok(())
}

/// Remembers causes that are back right after the reboot that was to mend them: a leak that this turn
/// judged, and ranks that the last turn held, so that this one saw it.
fn note_latch(node: &mut Node, state: &State, now: Moment) {
    let held = match &state.gang {
        gang::Phase::Held { reboot, .. } => reboot.as_ref().map(|cause| cause.kind.clone()),
        _ => None,
    };
    let held_before = std::mem::replace(&mut node.record.held_for, held);
    let leak = matches!(state.leak, leak::Verdict::Confirmed { .. }).then(|| "leak".to_owned());
    let Some((boots, _, kind)) = &node.record.reboot_asked else { return };
    let was_in_last_boot = *boots + 1 == node.machine.boots;
    // The supervisor may not know which boot was the last if its memory was lost.
    let is_known = state.boots.len() > 1;
    let is_soon = now.boot_ms < node.setup.reboot.latch_ms;
    for wanted in [held_before, leak].into_iter().flatten() {
        if was_in_last_boot && is_known && is_soon && *kind == wanted {
            node.record.latched.insert(wanted);
        }
    }
}
