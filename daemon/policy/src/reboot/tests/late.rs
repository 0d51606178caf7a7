//! Reports that come late, pass each other or are of a boot that is over.

use super::{LONG_MS, nobody_obeyed_twice, rig::Rig};
use crate::reboot::{Phase, Stage, told};

#[test]
fn reports_that_are_old_or_late_do_nothing() {
    let mut rig = Rig::of(2);
    let before = rig.report(0);
    rig.hang(0);
    rig.fault(0, "leak");
    assert!(rig.run_until(30_000, |rig| rig.nodes[1].saved.reboot.name() == "ready"));
    let proposal = rig.report(0);
    assert_eq!(proposal.reboot.as_ref().map(|told| told.stage), Some(Stage::Draining));
    // It passed a newer one on another path: no withdrawal.
    rig.set_link(0, 1, false);
    rig.deliver(1, before.clone());
    rig.run(500);
    assert_eq!(rig.phases()[1], "ready");
    // Withdrawn, and then told again by an old report: over is over.
    rig.set_link(0, 1, true);
    rig.nodes[0].fault = None;
    rig.run(2_000);
    assert_eq!(rig.phases(), ["steady"; 2]);
    rig.set_link(0, 1, false);
    rig.deliver(1, proposal.clone());
    rig.run(500);
    assert_eq!((rig.phases()[1], told(&rig.nodes[1].saved)), ("steady", None));
    // In another boot of either it means nothing, even to a node that forgot it.
    let mut foreign = proposal.clone();
    foreign.boot = "a-boot-2".into();
    rig.nodes[1].state.reboot_memory.closed.clear();
    rig.deliver(1, foreign);
    rig.run(500);
    assert_eq!(rig.phases()[1], "steady");
    rig.cut_power(1);
    // Long enough for its least uptime.
    rig.run(LONG_MS);
    rig.deliver(1, proposal);
    rig.run(500);
    assert_eq!((rig.phases()[1], rig.boots()[1]), ("steady", 2));
    assert_eq!(told(&rig.nodes[1].saved), None, "it is not even refused");
}

#[test]
fn one_late_report_of_an_earlier_boot_does_not_mean_that_a_node_is_back() {
    // Of the proposer, to one that is ready and would go; and of one that takes part, to the
    // proposer that waits for it.
    for (slow, to) in [(0, 1), (1, 0)] {
        let mut rig = Rig::of(2);
        let mut late = rig.report(slow);
        late.boot = "an-earlier-boot".into();
        rig.hang(slow);
        rig.fault(0, "leak");
        assert!(rig.run_until(30_000, |rig| rig.nodes[to].saved.reboot.name() == "ready"));
        rig.set_link(slow, to, false);
        rig.deliver(to, late);
        rig.run(4_000);
        assert_eq!((rig.phases()[to], rig.boots()), ("ready", vec![1, 1]), "{slow}");
        rig.set_link(slow, to, true);
        rig.run(LONG_MS);
        assert_eq!((rig.boots(), rig.phases()), (vec![2, 2], vec!["steady"; 2]), "{slow}");
        nobody_obeyed_twice(&rig);
    }
}

#[test]
fn a_report_of_before_does_not_take_back_what_its_proposer_looks_back_at() {
    let mut rig = Rig::of(2);
    let before = rig.report(0);
    rig.fault(0, "leak");
    assert!(rig.run_until(30_000, |rig| rig.nodes[1].saved.reboot.name() == "ready"));
    rig.set_link(0, 1, false);
    assert!(rig.run_until(30_000, |rig| rig.boots() == [2, 1] && rig.nodes[0].is_up()));
    // A supervisor that has just started knows only what it hears now: that, and then this.
    let node = &mut rig.nodes[1];
    node.state = node.saved.clone().resumed("b-boot-1");
    rig.deliver(1, rig.report(0));
    rig.run(500);
    rig.deliver(1, before);
    rig.run(500);
    assert_eq!(rig.phases()[1], "ready");
    rig.set_link(0, 1, true);
    rig.run(LONG_MS);
    assert_eq!((rig.boots(), rig.phases()), (vec![2, 2], vec!["steady"; 2]));
    nobody_obeyed_twice(&rig);
}

#[test]
fn a_node_that_hears_at_its_deadline_that_the_proposer_went_follows() {
    let mut rig = Rig::of(2);
    rig.fault(0, "leak");
    assert!(rig.run_until(30_000, |rig| rig.nodes[1].saved.reboot.name() == "ready"));
    rig.set_link(0, 1, false);
    // For too short a time to be sure, when all the time to wait is over.
    rig.run(rig.nodes[1].setup.reboot.return_timeout_ms - 2_000);
    assert_eq!((rig.phases()[1], rig.boots()), ("ready", vec![2, 1]));
    rig.set_link(0, 1, true);
    rig.run(60_000);
    assert_eq!(rig.boots(), [2, 2]);
}

#[test]
fn a_proposer_that_is_slow_and_heard_is_waited_for() {
    let mut rig = Rig::of(2);
    rig.hang(0);
    rig.fault(0, "leak");
    assert!(rig.run_until(30_000, |rig| rig.nodes[1].saved.reboot.name() == "ready"));
    // As after another supervisor began to wait anew.
    let Phase::Draining { deadline_ms, .. } = &mut rig.nodes[0].state.reboot else { panic!() };
    *deadline_ms = u64::MAX;
    let patience_ms = rig.nodes[1].setup.reboot.return_timeout_ms;
    rig.run(patience_ms + 60_000);
    assert_eq!(rig.phases(), ["draining", "ready"], "it may commit at any time");
    rig.nodes[0].unload_ms = 0;
    rig.run(LONG_MS);
    assert_eq!((rig.boots(), rig.phases()), (vec![2, 2], vec!["steady"; 2]));
}
