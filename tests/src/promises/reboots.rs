//! What is promised of a node's own reboots.

use tandem_policy::{Moment, reboot};

use super::{Outcome, broken};
use crate::{node::Node, oracle, pair::promises::reboots as pair};

/// Reboots: the first time that one is asked for it must be allowed by all of its limits.
pub(super) fn start(node: &mut Node, now: Moment) -> Outcome {
    if node.around.is_some() {
        return reboot_of_several(node, now);
    }
    let Some(reboot::Phase::Rebooting { intent: reboot::Intent { cause, .. }, since_ms }) =
        node.disk.saved.as_ref().map(|state| state.reboot.clone())
    else {
        return broken("a reboot was asked for and not saved first");
    };
    let asked = (node.machine.boots, since_ms, cause.kind.clone());
    if node.record.reboot_asked.as_ref() == Some(&asked) {
        return Ok(());
    }
    node.record.reboot_asked = Some(asked);
    node.record.reboots_asked.push(node.t);
    node.record.excuse("a reboot that was asked for and did not come");
    a_reboot_is_wanted_by_nobody_else(node, now)?;
    the_reboot_budget_is_kept(node, now)?;
    a_reboot_that_did_not_help_is_not_repeated(node, &cause.kind)
}

/// The same for one of several nodes, which acts on an intent.
fn reboot_of_several(node: &mut Node, now: Moment) -> Outcome {
    let Some(intent) = pair::start(node)? else { return Ok(()) };
    node.record.is_reboot_ordered = intent.is_ordered;
    node.met.mark(match (intent.is_ordered, intent.boots.len()) {
        (true, _) => "reboot ordered",
        (false, 1) => "reboot alone",
        (false, _) => "reboot of all",
    });
    if pair::is_following(node, &intent) {
        node.met.mark("followed a proposer that was already gone");
    }
    node.record.reboot_asked = Some((node.machine.boots, now.boot_ms, intent.cause.kind.clone()));
    node.record.excuse("a reboot that was asked for and did not come");
    a_reboot_is_wanted_by_nobody_else(node, now)?;
    if intent.is_ordered {
        return Ok(());
    }
    node.record.reboots_asked.push(node.t);
    the_reboot_budget_is_kept(node, now)?;
    a_reboot_that_did_not_help_is_not_repeated(node, &intent.cause.kind)
}

/// Only where it is configured, possible, safe to come back from, and no person is at it.
fn a_reboot_is_wanted_by_nobody_else(node: &Node, now: Moment) -> Outcome {
    let Some((seen, _)) = &node.shown else { return Ok(()) };
    let is_allowed = node.setup.reboot.automatic || node.record.is_reboot_ordered;
    if !is_allowed || !node.setup.can_reboot {
        return broken("a reboot that the config forbids");
    }
    if node.record.intent.hold.is_some() {
        return broken("a reboot under an operator's hold");
    }
    if node.record.intent.drained {
        return broken("a reboot of a node that an operator drained");
    }
    if !oracle::boots_unattended(&node.setup, seen, now) {
        return broken("a reboot of a machine that may not come back unattended");
    }
    Ok(())
}

/// True time counts: so many in 24 hours, so long between two, and so long after a boot.
fn the_reboot_budget_is_kept(node: &Node, now: Moment) -> Outcome {
    const DAY_MS: u64 = 86_400_000;
    let limits = &node.setup.reboot;
    let recent = |at: &&(u64, u32)| node.t - at.0 < DAY_MS;
    let count = node.record.reboots.iter().filter(recent).count();
    if count >= limits.per_day_max as usize {
        return broken(format!("reboot {} in 24 hours", count + 1));
    }
    if let Some((at, _)) = node.record.reboots.last()
        && node.t - at < limits.interval_min_ms
    {
        return broken(format!("a reboot {} ms after the last", node.t - at));
    }
    if now.boot_ms < limits.uptime_min_ms {
        return broken(format!("a reboot {} ms after a boot", now.boot_ms));
    }
    let saved = node.disk.saved.as_ref();
    let boot = node.boot_id();
    if !saved.is_some_and(|state| state.reboots.iter().any(|past| past.boot == boot)) {
        return broken("a reboot that was not counted before it was asked for");
    }
    Ok(())
}

/// The same cause, back right after a reboot, is not mended by another.
fn a_reboot_that_did_not_help_is_not_repeated(node: &Node, kind: &str) -> Outcome {
    if node.record.latched.contains(kind) {
        return broken(format!("a reboot for {kind}, which came back right after the last one"));
    }
    Ok(())
}
