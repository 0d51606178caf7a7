//! The gateway's rows, and how all ends.

use super::*;

#[test]
fn the_gateway_is_kept_up_on_its_own() {
    let up = || Gateway::Up { since_ms: NOW - 10 };
    let soon = || Gateway::Backoff { until_ms: NOW + 1 };
    let due = || Gateway::Backoff { until_ms: NOW };
    let asked = || Gateway::Stopping { deadline_ms: NOW + 10 };
    let overdue = || Gateway::Stopping { deadline_ms: NOW };
    let runs = || Process::Running { pid: 9, epoch: 0 };
    let gone = |how| Process::Ended { epoch: 0, how };
    let crash = || gone(Ended::Signal(6));
    let rows: Vec<(Gateway, Process, bool, &str, Vec<Action>)> = vec![
        (Gateway::Down, Process::Never, false, "up", vec![SERVE]),
        (Gateway::Down, runs(), false, "stopping", vec![StopGateway]),
        (up(), Process::Never, false, "up", vec![SERVE]),
        (up(), runs(), false, "up", vec![]),
        (up(), crash(), false, "backoff", vec![]),
        (up(), gone(Ended::Code(exit::OK)), false, "backoff", vec![]),
        (up(), gone(Ended::NotStarted("no file".into())), false, "backoff", vec![]),
        (up(), gone(Ended::Code(exit::MODEL)), false, "held", vec![]),
        (soon(), crash(), false, "backoff", vec![]),
        (due(), crash(), false, "up", vec![SERVE]),
        (asked(), runs(), false, "stopping", vec![StopGateway]),
        (overdue(), runs(), false, "stopping", vec![KillGateway]),
        (asked(), gone(Ended::Unseen), false, "down", vec![]),
        // While the supervisor ends.
        (up(), runs(), true, "stopping", vec![StopGateway]),
        (up(), crash(), true, "stopped", vec![]),
        (soon(), crash(), true, "stopped", vec![]),
        (Gateway::Down, Process::Never, true, "stopped", vec![]),
        (asked(), gone(Ended::Code(0)), true, "stopped", vec![]),
    ];
    for (gateway, process, draining, phase, expected) in rows {
        let described = format!("{gateway:?} {process:?} draining: {draining}");
        let state = State { gateway, ..state(Gang::Serving) };
        let mut seen = seen([ready(), ready()]);
        seen.gateway.process = process;
        seen.terminations = draining.into();
        let decision = decide(&setup(), &state, &seen, at(NOW));
        assert_eq!(decision.state.gateway.name(), phase, "{described}");
        let of_gateway = |a: &Action| matches!(a, StartGateway { .. } | StopGateway | KillGateway);
        let actions: Vec<_> = decision.actions.into_iter().filter(of_gateway).collect();
        assert_eq!(actions, expected, "{described}");
    }
}

#[test]
fn no_gateway_starts_on_half_a_model() {
    let down = State { gateway: Gateway::Down, ..state(Gang::Idle) };
    let mut seen = seen([never(), never()]);
    seen.gateway.process = Process::Never;
    seen.artifacts = Artifacts::Incomplete("no config.json".into());
    let waits = decide(&setup(), &down, &seen, at(NOW));
    assert_eq!((waits.state.gateway.name(), done(&waits)), ("down", vec![]));
    seen.artifacts = Artifacts::Complete { weights_bytes: 1, need: Need::Estimated };
    assert!(done(&decide(&setup(), &down, &seen, at(NOW))).contains(&SERVE));
}

#[test]
fn an_end_waits_for_running_requests_then_unloads_then_exits() {
    let setup = setup();
    let mut seen = seen([ready(), ready()]);
    seen.terminations = 1;
    let one = decide(&setup, &state(Gang::Serving), &seen, at(NOW));
    assert_eq!(done(&one), [StopGateway], "the ranks still serve what runs");
    let two = decide(&setup, &one.state, &seen, at(NOW + 20_000));
    assert_eq!(done(&two), [StopGateway]);
    seen.gateway.process = Process::Ended { epoch: 0, how: Ended::Code(0) };
    let three = decide(&setup, &two.state, &seen, at(NOW + 21_000));
    assert_eq!(done(&three), [UnloadRank { rank: 0 }, UnloadRank { rank: 1 }]);
    seen.ranks = vec![lost(0), lost(0)];
    let four = decide(&setup, &three.state, &seen, at(NOW + 22_000));
    assert_eq!(done(&four), [Exit]);
    let next = four.state.resumed("boot");
    assert_eq!((next.gang, next.epoch, next.draining_since_ms), (Gang::Idle, EPOCH, None));
}

#[test]
fn a_second_request_to_end_does_not_wait_for_requests() {
    let setup = setup();
    let mut seen = seen([ready(), ready()]);
    seen.terminations = 2;
    let one = decide(&setup, &state(Gang::Serving), &seen, at(NOW));
    let unload = [UnloadRank { rank: 0 }, UnloadRank { rank: 1 }];
    assert_eq!(done(&one), [[StopGateway].as_slice(), &unload].concat());
    let two = decide(&setup, &one.state, &seen, at(NOW + 2_500));
    let three = decide(&setup, &two.state, &seen, at(NOW + 5_000));
    assert!(three.actions.contains(&KillGateway), "{:?}", three.actions);
    assert!(!three.actions.contains(&KillRank { rank: 0 }), "ranks get all of their time");
}

fn rebooting(since_ms: u64) -> reboot::Phase {
    let intent = reboot::Intent {
        id: "local/boot/1".into(),
        proposer: "local".into(),
        cause: reboot::Cause { kind: "ordered".into(), evidence: "test".into() },
        is_ordered: true,
        boots: [("local".into(), "boot".into())].into(),
    };
    reboot::Phase::Rebooting { intent, since_ms }
}

#[test]
fn a_shutdown_that_was_asked_for_is_not_made_to_wait() {
    let stopped = || [ended(EPOCH, Ended::Code(exit::OK)), ended(EPOCH, Ended::Code(exit::OK))];
    let stuck = || [running(EPOCH, tandem_wire::Phase::Unloading), stopped()[1].clone()];
    let overdue = || Gang::Stopping { deadline_ms: NOW - 1, cause: StopCause::Drain };
    // Ranks, since when the system reboots, whether the last save failed, and whether it ends.
    let rows: Vec<(Gang, [RankSeen; 2], Option<u64>, bool, bool)> = vec![
        (Gang::Drained, stopped(), Some(NOW - 1), false, true),
        (Gang::Drained, stopped(), None, false, true),
        // A rank that can't end does not end by waiting longer, and the reboot ends it.
        (overdue(), stuck(), Some(NOW - 1), false, true),
        // Nobody asked for a reboot, or not yet: what runs is waited for.
        (overdue(), stuck(), None, false, false),
        (overdue(), stuck(), Some(NOW), false, false),
        (overdue(), stuck(), Some(NOW - 1), true, false),
    ];
    for (gang, ranks, since_ms, is_unsaved, ends) in rows {
        let described = format!("{gang:?} {ranks:?} {since_ms:?} unsaved: {is_unsaved}");
        let is_stuck = ranks[0].process.is_running();
        let mut state = State {
            gateway: Gateway::Stopped,
            draining_since_ms: Some(NOW - 60_000),
            ..state(gang)
        };
        if let Some(since_ms) = since_ms {
            state.reboot = rebooting(since_ms);
        }
        let mut seen = seen(ranks);
        seen.gateway.process = Process::Ended { epoch: 0, how: Ended::Code(exit::OK) };
        seen.ledger_trouble = is_unsaved.then(|| "no space".into());
        let before = decide(&setup(), &state, &seen, at(NOW));
        assert!(!before.actions.contains(&Exit), "nobody asked it to end: {described}");
        seen.terminations = 1;
        let decision = decide(&setup(), &state, &seen, at(NOW));
        assert_eq!(decision.actions.contains(&Exit), ends, "{described}");
        let asks = |actions: &[Action]| actions.iter().any(|a| matches!(a, Reboot { .. }));
        assert_eq!(asks(&decision.actions), since_ms.is_some(), "{described}");
        assert!(is_stuck || !decision.actions.contains(&KillRank { rank: 0 }), "{described}");
    }
}

#[test]
fn without_a_reboot_an_end_unloads_and_kills_nothing_before_its_time() {
    let setup = setup();
    let unload_ms = setup.supervise.unload_timeout_ms;
    let mut seen = seen([ready(), ready()]);
    seen.terminations = 1;
    seen.gateway.process = Process::Ended { epoch: 0, how: Ended::Code(0) };
    let mut state = state(Gang::Serving);
    state.scratch.unload_asked_ms.clear();
    for waited_ms in [0, unload_ms / 2, unload_ms - 1] {
        let decision = decide(&setup, &state, &seen, at(NOW + waited_ms));
        let unload = [UnloadRank { rank: 0 }, UnloadRank { rank: 1 }];
        assert_eq!(done(&decision), unload, "after {waited_ms} ms");
        state = decision.state;
    }
}
