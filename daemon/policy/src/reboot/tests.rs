//! Stories of reboots of several nodes.

mod chance;
mod held;
mod late;
mod refusing;
mod rig;

use rig::{Mishap, Rig};

use super::Phase;
use crate::{OrderKind, State, What};

/// Longer than any wait of a node for another.
const LONG_MS: u64 = 3_600_000;

const ALL: [&str; 6] = ["draining", "ready", "committed", "rebooting", "verifying", "steady"];

/// Every intent was obeyed at most once by each node, and no boot was ended twice.
fn nobody_obeyed_twice(rig: &Rig) {
    for node in &rig.nodes {
        let boots: std::collections::BTreeSet<_> = node.obeyed.iter().map(|(_, b)| b).collect();
        assert_eq!(node.told_ids().len(), node.obeyed.len(), "{}: {:?}", node.name, node.obeyed);
        assert_eq!(boots.len(), node.obeyed.len(), "{}: {:?}", node.name, node.obeyed);
    }
}

fn order_all() -> OrderKind {
    OrderKind::Reboot { all: true, reason: "update".into() }
}

#[test]
fn all_go_together_once_and_are_proven() {
    for count in [1, 2, 3, 4] {
        let mut rig = Rig::of(count);
        rig.fault(count - 1, "leak");
        assert!(rig.run_until(60_000, |rig| rig.nodes.iter().all(|node| !node.is_up())), "{count}");
        assert!(rig.run_until(LONG_MS, Rig::all_steady));
        assert_eq!(rig.boots(), vec![2; count]);
        let id = rig.nodes[0].obeyed[0].0.clone();
        for (index, node) in rig.nodes.iter().enumerate() {
            assert_eq!(node.obeyed.iter().map(|(id, _)| id).collect::<Vec<_>>(), [&id]);
            assert_eq!(rig.outcomes(index), ["proven"], "{count}");
            assert_eq!(node.saved.reboots.len(), 1, "it counts for each");
            assert_eq!(node.saved.reboots[0].kind, "leak");
        }
        if count > 1 {
            assert_eq!(rig.nodes[0].course[1..], ALL, "every step is saved");
        }
        rig.run(LONG_MS);
        assert_eq!(rig.boots(), vec![2; count], "and never again");
    }
}

#[test]
fn a_power_cut_of_any_node_in_any_phase_leaves_no_node_behind() {
    for count in [2, 3] {
        for victim in 0..count {
            for proposer in [0, count - 1] {
                for phase in &ALL[..5] {
                    for mishap in [Mishap::CutBefore, Mishap::CutAfter] {
                        let row = format!("{mishap:?} of {victim} {phase}, {proposer} of {count}");
                        a_power_cut_leaves_no_node_behind(
                            count,
                            victim,
                            proposer,
                            (mishap, phase),
                            &row,
                        );
                    }
                }
            }
        }
    }
}

fn a_power_cut_leaves_no_node_behind(
    count: usize,
    victim: usize,
    proposer: usize,
    mishap: (Mishap, &'static str),
    row: &str,
) {
    let mut rig = Rig::of(count);
    rig.nodes[victim].mishap = Some(mishap);
    rig.outpace(victim);
    rig.fault(proposer, "leak");
    rig.run(60_000);
    assert!(rig.run_until(LONG_MS, Rig::all_steady), "{row}: {:?}", rig.phases());
    rig.run(10_000);
    assert!(rig.all_steady() && rig.nodes[victim].mishap.is_none(), "{row}");
    nobody_obeyed_twice(&rig);
    if rig.nodes.iter().any(|node| !node.obeyed.is_empty()) {
        let boots = rig.boots();
        assert!(boots.iter().all(|boots| *boots > 1), "{row}: half a reboot, {boots:?}");
    }
    for node in &rig.nodes {
        assert!(node.boots <= 3, "{row}: {} boots", node.boots);
        assert!(node.saved.latch.kinds.is_empty(), "{row}");
    }
}

#[test]
fn a_crash_of_a_supervisor_changes_nothing() {
    for victim in 0..2 {
        for phase in &ALL[..5] {
            let mut rig = Rig::of(2);
            rig.nodes[victim].mishap = Some((Mishap::Crash, phase));
            rig.outpace(victim);
            rig.fault(0, "leak");
            rig.run(LONG_MS);
            assert!(rig.nodes[victim].mishap.is_none(), "{phase} was met");
            assert_eq!((rig.boots(), rig.phases()), (vec![2, 2], vec!["steady"; 2]), "{phase}");
            nobody_obeyed_twice(&rig);
        }
    }
}

#[test]
fn of_proposals_at_the_same_time_the_first_nodes_counts() {
    for count in [2, 3, 4] {
        let mut rig = Rig::of(count);
        (0..count).for_each(|node| rig.fault(node, "leak"));
        assert!(rig.run_until(LONG_MS, |rig| rig.boots() == vec![2; count]));
        assert!(rig.run_until(LONG_MS, Rig::all_steady));
        for node in &rig.nodes {
            assert!(
                node.obeyed.len() == 1 && node.obeyed[0].0.starts_with("a/"),
                "{:?}",
                node.obeyed
            );
        }
        let mut last = rig.outcomes(count - 1);
        assert_eq!(last.pop(), Some("proven"));
        assert!(last.iter().all(|outcome| *outcome == "withdrawn"), "{last:?}");
    }
}

#[test]
fn a_hold_before_the_commit_stops_all_and_one_after_it_only_that_node() {
    for (held, phase) in [(0, "draining"), (0, "ready"), (1, "draining"), (1, "ready")] {
        let mut rig = Rig::of(2);
        // The other is slow, so that both phases last.
        rig.hang(if phase == "ready" { 1 - held } else { held });
        rig.fault(0, "leak");
        assert!(rig.run_until(30_000, |rig| rig.nodes[held].saved.reboot.name() == phase));
        rig.run(3_000);
        rig.hold(held, true);
        rig.run(LONG_MS);
        assert_eq!((rig.boots(), rig.phases()), (vec![1, 1], vec!["steady"; 2]), "{held} {phase}");
        assert!(
            rig.nodes.iter().all(|node| node.state.draining_since_ms.is_none()),
            "serving again"
        );
        rig.hold(held, false);
        rig.run(LONG_MS);
        assert_eq!(rig.boots(), [2, 2], "{held} {phase}: once released it is done");
    }
    let mut rig = Rig::of(2);
    rig.fault(0, "leak");
    assert!(rig.run_until(30_000, |rig| rig.nodes[1].saved.reboot.name() == "committed"));
    rig.hold(1, true);
    rig.run(LONG_MS);
    assert_eq!(rig.boots(), [2, 1], "the other has gone; this one does nothing by itself");
    assert!(rig.nodes[1].obeyed.is_empty());
}

#[test]
fn a_node_that_falls_silent_is_left_behind_and_goes_when_it_hears_of_the_reboot() {
    let mut rig = Rig::of(3);
    rig.hang(0);
    rig.fault(0, "leak");
    assert!(rig.run_until(30_000, |rig| rig.phases() == ["draining", "ready", "ready"]));
    rig.set_isolated(2, true);
    assert!(rig.run_until(LONG_MS, |rig| rig.boots() == [2, 2, 1]), "two go without the third");
    rig.run(60_000);
    assert_eq!(rig.phases()[2], "ready", "it keeps its promise");
    rig.set_isolated(2, false);
    rig.run(LONG_MS);
    assert_eq!((rig.boots(), rig.phases()), (vec![2, 2, 2], vec!["steady"; 3]));
    nobody_obeyed_twice(&rig);
}

#[test]
fn a_promise_is_kept_when_the_commit_is_lost() {
    let mut rig = Rig::of(2);
    rig.fault(0, "leak");
    assert!(rig.run_until(30_000, |rig| rig.nodes[1].saved.reboot.name() == "ready"));
    rig.set_link(0, 1, false);
    assert!(rig.run_until(30_000, |rig| rig.boots() == [2, 1]), "it does not wait for ever");
    assert_eq!(rig.phases(), ["verifying", "ready"]);
    rig.set_link(0, 1, true);
    rig.run(LONG_MS);
    assert_eq!((rig.boots(), rig.phases()), (vec![2, 2], vec!["steady"; 2]));
    assert_eq!([rig.outcomes(0), rig.outcomes(1)], [["proven"], ["proven"]]);
}

#[test]
fn another_participants_commit_is_as_good_as_the_proposers() {
    let mut rig = Rig::of(3);
    rig.fault(0, "leak");
    assert!(rig.run_until(30_000, |rig| rig.nodes[2].saved.reboot.name() == "ready"));
    rig.set_link(0, 2, false);
    assert!(rig.run_until(30_000, |rig| rig.nodes[2].saved.reboot.name() == "committed"));
    assert_eq!(rig.boots(), [1, 1, 1], "before anyone is back");
}

#[test]
fn a_promise_ends_with_its_withdrawal_or_when_the_proposer_is_gone_for_good() {
    let mut rig = Rig::of(2);
    rig.hang(0);
    rig.fault(0, "leak");
    assert!(rig.run_until(30_000, |rig| rig.nodes[1].saved.reboot.name() == "ready"));
    rig.nodes[0].fault = None;
    rig.run(2_000);
    assert_eq!((rig.phases(), rig.boots()), (vec!["steady"; 2], vec![1, 1]));
    assert_eq!([rig.outcomes(0), rig.outcomes(1)], [["withdrawn"], ["withdrawn"]]);

    let mut rig = Rig::of(2);
    rig.hang(0);
    rig.fault(0, "leak");
    assert!(rig.run_until(30_000, |rig| rig.nodes[1].saved.reboot.name() == "ready"));
    rig.set_isolated(0, true);
    let patience_ms = rig.nodes[1].setup.reboot.return_timeout_ms;
    rig.run(patience_ms - 10_000);
    assert_eq!(rig.phases()[1], "ready");
    rig.nodes[1].fault = None;
    rig.run(20_000);
    assert_eq!((rig.phases()[1], rig.boots()[1]), ("steady", 1));
    assert_eq!(rig.outcomes(1), ["abandoned"]);
    assert!(rig.nodes[1].saved.reboot_memory.trouble.is_some(), "and a person is told");
}

#[test]
fn a_node_that_lost_its_memory_neither_goes_again_nor_keeps_others_waiting() {
    for loser in 0..2 {
        for phase in ALL {
            let mut rig = Rig::of(2);
            rig.outpace(loser);
            rig.fault(0, "leak");
            let is_there = |rig: &Rig| rig.nodes[loser].saved.reboot.name() == phase;
            assert!(rig.run_until(LONG_MS, |rig| is_there(rig) && rig.nodes[loser].is_up()));
            let node = &mut rig.nodes[loser];
            let boot = node.state.boot.clone();
            let now = crate::Moment { boot_ms: 10_000_000, wall_ms: 0 };
            node.state = State::after_loss(&boot, now);
            node.saved = node.state.clone();
            rig.run(2 * LONG_MS);
            let row = format!("{loser} in {phase}");
            assert_eq!(rig.phases(), ["steady"; 2], "{row}");
            assert!(rig.boots().iter().all(|boots| *boots <= 2), "{row}: {:?}", rig.boots());
            nobody_obeyed_twice(&rig);
        }
    }
}

#[test]
fn a_reboot_that_does_not_happen_on_one_node_ends_on_all() {
    let mut rig = Rig::of(2);
    rig.nodes[1].is_stuck = true;
    rig.fault(0, "leak");
    rig.run(LONG_MS);
    assert_eq!((rig.boots(), rig.phases()), (vec![2, 1], vec!["steady"; 2]));
    assert_eq!([rig.outcomes(0), rig.outcomes(1)], [["proven"], ["failed"]]);
    assert!(rig.nodes[1].saved.latch.kinds.contains("leak"));
}

#[test]
fn what_is_not_proven_in_time_is_told_and_its_cause_is_not_tried_again() {
    let mut rig = Rig::of(2);
    rig.fault(0, "leak");
    assert!(rig.run_until(60_000, |rig| rig.boots() == [2, 2]));
    rig.set_isolated(1, true);
    let patience_ms = rig.nodes[0].setup.reboot.return_timeout_ms;
    rig.run(patience_ms - 30_000);
    assert_eq!(rig.phases(), ["verifying"; 2]);
    rig.run(40_000);
    assert_eq!([rig.outcomes(0), rig.outcomes(1)], [["failed"], ["failed"]]);
    assert!(rig.nodes[0].saved.latch.kinds.contains("leak"));
    assert!(rig.nodes[1].saved.latch.kinds.is_empty(), "a leak of its own is another matter");
    assert!(matches!(rig.nodes[0].state.reboot, Phase::Steady));
}

#[test]
fn every_step_and_the_end_are_told_once_with_who_wanted_it_and_how_long_it_took() {
    let mut rig = Rig::of(2);
    rig.outpace(0);
    rig.fault(0, "leak");
    rig.run(LONG_MS);
    for node in &rig.nodes {
        let mut phases = Vec::new();
        let mut ends = Vec::new();
        for what in &node.told {
            match what {
                What::Reboot { phase, cause, intent, proposer } => {
                    assert_eq!(cause.as_deref(), Some("leak: found"));
                    assert_eq!(intent.as_deref(), Some("a/a-boot-1/1"));
                    assert_eq!(proposer.as_deref(), Some("a"));
                    phases.push(phase.as_str());
                }
                What::RebootClosed { intent, outcome, took_ms, .. } => {
                    assert_eq!(intent, "a/a-boot-1/1");
                    ends.push((outcome.name(), *took_ms > 40_000 && *took_ms < 120_000));
                }
                _ => {}
            }
        }
        // Verifying begins with the boot, which no turn decides.
        phases.dedup();
        assert!(phases.starts_with(&["draining"]) && phases.ends_with(&["rebooting", "steady"]));
        assert!(phases.contains(&"committed") && !phases.contains(&"verifying"), "{phases:?}");
        assert_eq!(ends, [("proven", true)], "{}", node.name);
    }
}
