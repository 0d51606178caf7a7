//! Reboots that are refused, and orders, which few things refuse.

use super::{
    super::{VetoKind, refused as refused_by, told},
    LONG_MS, order_all,
    rig::Rig,
};
use crate::OrderKind;

#[test]
fn nothing_stops_before_all_agree_and_a_refusal_is_not_asked_again_soon() {
    let mut rig = Rig::of(2);
    rig.run(1_000);
    // It is latched only here, so nobody can know before asking.
    rig.nodes[1].state.latch.kinds = ["leak".to_owned()].into();
    rig.fault(0, "leak");
    let stops = |rig: &Rig| rig.nodes.iter().any(|node| node.state.draining_since_ms.is_some());
    assert!(rig.run_until(5_000, |rig| stops(rig) || rig.outcomes(0) == ["vetoed"]));
    assert!(!stops(&rig), "nothing was stopped for it");
    let told = told(&rig.nodes[1].saved).map(|told| told.veto);
    assert_eq!(told, Some(Some(VetoKind::Latched)));
    rig.run(60_000);
    assert_eq!(rig.nodes[0].course, ["steady", "draining", "steady"]);
    let (cause, why) = refused(&rig, 0).unwrap();
    assert!(
        cause == "leak" && why.contains("node b refused") && why.contains("same cause"),
        "{why}"
    );
    rig.run(700_000);
    assert_eq!(rig.nodes[0].course.len(), 5, "later it is asked once more");
    assert_eq!(rig.boots(), [1, 1]);
}

fn refused(rig: &Rig, node: usize) -> Option<(String, String)> {
    let (setup, state) = (&rig.nodes[node].setup, &rig.nodes[node].state);
    let (cause, why) = refused_by(setup, state, &rig.observe(node), rig.now(node))?;
    Some((cause.kind, why))
}

#[test]
fn what_would_be_refused_is_not_proposed_and_says_why() {
    type Change = fn(&mut Rig);
    let rows: [(&str, Change); 6] = [
        ("holds or drained", |rig| rig.hold(1, true)),
        ("holds or drained", |rig| rig.nodes[1].state.operator.drained = true),
        ("might not come back", |rig| rig.nodes[1].is_attended = true),
        ("can't save", |rig| rig.nodes[1].cannot_save = true),
        ("is ending", |rig| rig.nodes[1].terminations = 1),
        ("does not allow", |rig| rig.nodes[1].setup.reboot.automatic = false),
    ];
    for (why, change) in rows {
        let mut rig = Rig::of(2);
        change(&mut rig);
        rig.run(2_000);
        rig.fault(0, "leak");
        rig.run(LONG_MS / 4);
        assert_eq!(rig.boots(), [1, 1], "{why}");
        assert_eq!(rig.nodes[0].course, ["steady"], "{why}");
        let text = refused(&rig, 0).unwrap().1;
        assert!(text.contains("node b") && text.contains(why), "{why}: {text}");
    }
}

#[test]
fn a_silent_node_is_left_behind_after_a_time_of_grace_and_only_for_a_fault() {
    let mut rig = Rig::of(2);
    rig.set_isolated(1, true);
    rig.run(5_000);
    rig.fault(0, "leak");
    let grace_ms = rig.nodes[0].setup.reboot.alone_after_ms;
    rig.run(grace_ms - 10_000);
    assert_eq!(rig.nodes[0].course, ["steady"], "not before");
    assert!(refused(&rig, 0).unwrap().1.contains("node b has been silent"));
    rig.run(LONG_MS);
    assert_eq!(rig.boots(), [2, 1]);
    let ordered = |all| {
        let mut rig = Rig::of(2);
        rig.set_isolated(1, true);
        rig.run(LONG_MS);
        rig.order(0, OrderKind::Reboot { all, reason: "update".into() });
        rig.run(60_000);
        rig
    };
    let rig = ordered(true);
    assert_eq!(rig.boots(), [1, 1], "an order for all is not one for some");
    assert!(refused(&rig, 0).unwrap().1.contains("node b is not heard"));
    assert_eq!(ordered(false).boots(), [2, 1]);
}

#[test]
fn a_node_that_spoke_between_two_turns_far_apart_is_not_left_behind() {
    let mut rig = Rig::of(2);
    rig.set_isolated(1, true);
    rig.fault(0, "leak");
    assert!(rig.run_until(LONG_MS, |rig| rig.nodes[0].saved.reboot.name() == "draining"));
    // It is heard once, and this machine's next turn comes so late that it counts as silent again.
    let report = rig.report(1);
    rig.deliver(0, report);
    rig.t += rig.nodes[0].setup.pair.silence_timeout_ms + 1_000;
    let grace_ms = rig.nodes[0].setup.reboot.alone_after_ms;
    rig.run(grace_ms - 10_000);
    assert_eq!((rig.phases()[0], rig.boots()), ("steady", vec![1, 1]));
    assert_eq!(rig.outcomes(0), ["withdrawn"]);
    rig.run(LONG_MS);
    assert_eq!(rig.boots(), [2, 1]);
}

#[test]
fn silence_begins_anew_with_a_word_that_came_between_two_turns_far_apart() {
    let mut rig = Rig::of(2);
    rig.set_isolated(1, true);
    let grace_ms = rig.nodes[0].setup.reboot.alone_after_ms;
    rig.run(grace_ms);
    let report = rig.report(1);
    rig.deliver(0, report);
    rig.t += rig.nodes[0].setup.pair.silence_timeout_ms + 1_000;
    rig.fault(0, "leak");
    rig.run(grace_ms - 10_000);
    assert_eq!(rig.nodes[0].course, ["steady"], "not even proposed");
    rig.run(LONG_MS);
    assert_eq!(rig.boots(), [2, 1]);
}

#[test]
fn an_order_needs_no_budget_and_is_never_silently_dropped() {
    let mut rig = Rig::of(2);
    rig.nodes[1].setup.reboot.per_day_max = 0;
    rig.nodes[0].setup.reboot.automatic = false;
    rig.order(0, order_all());
    rig.run(LONG_MS);
    assert_eq!((rig.boots(), rig.phases()), (vec![2, 2], vec!["steady"; 2]));
    assert!(rig.nodes.iter().all(|node| node.saved.reboots.is_empty()), "no budget is spent");
    // Right after the last one, too.
    rig.order(1, order_all());
    rig.run(LONG_MS);
    assert_eq!(rig.boots(), [3, 3]);

    rig.hold(1, true);
    rig.run(1_000);
    rig.order(0, order_all());
    rig.run(60_000);
    let (kind, why) = refused(&rig, 0).unwrap();
    assert!(kind == "ordered" && why.contains("node b would refuse"), "{why}");
    rig.run(LONG_MS);
    assert_eq!(refused(&rig, 0), None, "and nobody is surprised by it later");
    rig.hold(1, false);
    rig.run(LONG_MS);
    assert_eq!(rig.boots(), [3, 3]);

    rig.hold(0, true);
    rig.order(0, order_all());
    rig.run(2_000);
    assert!(refused(&rig, 0).unwrap().1.contains("tandem release"));
    rig.order(0, OrderKind::Release);
    rig.run(LONG_MS);
    assert_eq!(rig.boots(), [3, 3], "a release takes it back");
}

#[test]
fn an_order_that_another_refuses_is_shown_and_not_repeated() {
    let mut rig = Rig::of(2);
    // Nobody can know this before asking: an order overrules a config, but not a platform.
    rig.nodes[1].setup.can_reboot = false;
    rig.order(0, order_all());
    rig.run(60_000);
    assert_eq!(rig.nodes[0].course, ["steady", "draining", "steady"]);
    assert!(refused(&rig, 0).unwrap().1.contains("node b refused"));
    assert!(rig.nodes.iter().all(|node| node.state.draining_since_ms.is_none()));
}
