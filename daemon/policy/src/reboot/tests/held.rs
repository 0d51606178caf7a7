//! Nodes that a person holds or drains when there is no way back.

use super::{
    super::{ATTEMPTS_MAX, RETRY_MS},
    LONG_MS,
    rig::Rig,
};
use crate::OrderKind;

/// Longest that a system is asked to reboot.
const ASKED_MS: u64 = RETRY_MS * ATTEMPTS_MAX as u64;

/// What stops a node, and what lets it go on.
const STOPS: [[OrderKind; 2]; 2] = [
    [OrderKind::Hold { until_wall_ms: None }, OrderKind::Release],
    [OrderKind::Drain, OrderKind::Resume],
];

/// A node that was stopped when it had committed, so that its system was never asked to reboot.
fn stopped_after_the_commit(stop: &OrderKind) -> Rig {
    let mut rig = Rig::of(2);
    rig.fault(0, "leak");
    assert!(rig.run_until(30_000, |rig| rig.nodes[1].saved.reboot.name() == "committed"));
    rig.order(1, stop.clone());
    assert!(rig.run_until(30_000, |rig| rig.nodes[1].saved.reboot.name() == "rebooting"));
    rig
}

#[test]
fn a_system_has_all_of_its_time_to_reboot_once_nobody_stops_that_any_more() {
    for [stop, go] in STOPS {
        let mut rig = stopped_after_the_commit(&stop);
        rig.run(ASKED_MS - 2_000);
        assert_eq!((rig.phases()[1], rig.boots()[1]), ("rebooting", 1), "{stop:?}");
        rig.nodes[1].is_stuck = true;
        rig.order(1, go.clone());
        rig.run(ASKED_MS - 2_000);
        assert_eq!(rig.phases()[1], "rebooting", "{stop:?}: it is not given up before");
        rig.run(4_000);
        assert_eq!((rig.phases()[1], rig.outcomes(1)), ("steady", vec!["failed"]), "{stop:?}");
    }
}

#[test]
fn who_stops_a_reboot_for_long_is_told_so_and_not_that_the_system_failed() {
    for [stop, _] in STOPS {
        let mut rig = stopped_after_the_commit(&stop);
        assert!(rig.run_until(LONG_MS, |rig| rig.phases()[1] == "steady"), "{stop:?}");
        let node = &rig.nodes[1];
        assert_eq!((rig.boots()[1], rig.outcomes(1)), (1, vec!["failed"]), "{stop:?}");
        assert!(node.saved.latch.kinds.is_empty(), "{stop:?}: it might well have helped");
        let trouble = node.saved.reboot_memory.trouble.as_ref().unwrap();
        assert!(trouble.contains("an operator"), "{stop:?}: {trouble}");
    }
}
