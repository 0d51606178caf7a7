//! What a new supervisor goes on with, what a changed config restarts, and what operators order.

use super::*;

fn orders(whats: &[OrderKind]) -> Vec<Order> {
    (1..).zip(whats).map(|(number, what)| Order { number, what: what.clone() }).collect()
}

#[test]
fn a_new_supervisor_adopts_what_serves() {
    for gang in [Gang::Serving, starting()] {
        let resumed = state(gang.clone()).resumed("boot");
        let decision = decide(&setup(), &resumed, &seen([ready(), ready()]), at(NOW));
        assert_eq!(decision.state.gang, Gang::Serving, "from {gang:?}");
        assert_eq!(decision.state.gateway.name(), "up");
        assert_eq!(done(&decision), [], "from {gang:?}");
    }
    // Its socket is not connected yet: the adopted rank is no worse for it.
    let silent = || RankSeen { phase: None, ..ready() };
    let resumed = state(Gang::Serving).resumed("boot");
    let decision = decide(&setup(), &resumed, &seen([silent(), silent()]), at(NOW));
    assert_eq!((decision.state.gang.name(), done(&decision)), ("serving", vec![]));
}

#[test]
fn what_died_while_no_supervisor_looked_is_started_again() {
    let resumed = || state(Gang::Serving).resumed("boot");
    let one = decide(&setup(), &resumed(), &seen([never(), ready()]), at(NOW));
    assert_eq!(done(&one), [UnloadRank { rank: 1 }], "half an epoch is none");
    let all = decide(&setup(), &resumed(), &seen([never(), never()]), at(NOW));
    assert!(all.state.crashed_in_boot, "nobody knows how they ended");
    let idle = decide(&setup(), &all.state, &seen([never(), never()]), at(NOW)).state;
    let next = decide(&setup(), &idle, &seen([never(), never()]), at(NOW));
    assert_eq!(
        done(&next),
        [StartGang { epoch: EPOCH + 1, prefill_step_tokens: 512, alone: false, carrier: RING }]
    );
}

#[test]
fn after_a_boot_only_what_outlives_one_is_kept() {
    let mut before = state(Gang::Serving);
    before.crashed_in_boot = true;
    before.starts_in_boot = 7;
    before.running.this_boot_ms = 5_000;
    before.operator.drained = true;
    let after = before.resumed("another");
    assert_eq!((after.epoch, after.gang.name(), after.gateway.name()), (EPOCH, "idle", "down"));
    assert_eq!((after.starts_in_boot, after.crashed_in_boot), (0, false));
    assert_eq!((after.running.before_ms, after.operator.drained), (5_000, true));
    assert_eq!(after.boots, ["boot", "another"]);
}

#[test]
fn a_new_plan_restarts_what_it_is_for_and_counts_as_no_failure() {
    let mut changed = setup();
    changed.rank_plan = "another".into();
    let one = decide(&changed, &state(Gang::Serving), &seen([ready(), ready()]), at(NOW));
    assert_eq!(done(&one), unload_both());
    let two = decide(&changed, &one.state, &seen([lost(0), lost(0)]), at(NOW + 1)).state;
    let three = decide(&changed, &two, &seen([lost(0), lost(0)]), at(NOW + 2));
    assert_eq!(
        done(&three),
        [StartGang { epoch: EPOCH + 1, prefill_step_tokens: 512, alone: false, carrier: RING }]
    );
    assert_eq!((three.state.restarts_ms.len(), three.state.gang_failures), (0, 0));

    let mut changed = setup();
    changed.gateway_plan = "another".into();
    let one = decide(&changed, &state(Gang::Serving), &seen([ready(), ready()]), at(NOW));
    assert_eq!(done(&one), [StopGateway], "the ranks go on");
}

#[test]
fn a_gateway_that_does_not_answer_is_replaced() {
    let mut seen = seen([ready(), ready()]);
    seen.gateway.ready = Reading::Unknown;
    let limit_ms = setup().supervise.gateway_timeout_ms;
    let one = watched(&setup(), state(Gang::Serving), &seen, NOW..=NOW + limit_ms - 1_000);
    let still = decide(&setup(), &one, &seen, at(NOW + limit_ms - 1));
    assert_eq!(done(&still), []);
    let mute = decide(&setup(), &still.state, &seen, at(NOW + limit_ms));
    assert_eq!(done(&mute), [StopGateway]);
    let deaf = decide(&setup(), &mute.state, &seen, at(NOW + limit_ms + 5_000));
    assert_eq!(done(&deaf), [KillGateway]);
    seen.gateway.process = Process::Ended { epoch: 0, how: Ended::Signal(9) };
    let down = decide(&setup(), &deaf.state, &seen, at(NOW + limit_ms + 5_001)).state;
    let up = decide(&setup(), &down, &seen, at(NOW + limit_ms + 5_002));
    assert_eq!(done(&up), [SERVE]);
}

#[test]
fn a_drain_stops_all_until_it_is_resumed() {
    let mut seen = seen([ready(), ready()]);
    seen.orders = orders(&[OrderKind::Drain]);
    let one = decide(&setup(), &state(Gang::Serving), &seen, at(NOW));
    assert_eq!((done(&one), one.state.last_order), (vec![StopGateway], 1));
    seen.orders = Vec::new();
    seen.gateway.process = Process::Ended { epoch: 0, how: Ended::Code(0) };
    let two = decide(&setup(), &one.state, &seen, at(NOW + 1));
    assert_eq!(done(&two), unload_both());
    seen.ranks = vec![lost(0), lost(0)];
    let three = decide(&setup(), &two.state, &seen, at(NOW + 2));
    assert_eq!((three.state.gang.name(), done(&three)), ("drained", vec![]), "and no exit");
    // It stays so over a restart of the supervisor, and over a boot.
    for boot in ["boot", "another"] {
        let resumed = three.state.clone().resumed(boot);
        let later = decide(&setup(), &resumed, &seen, at(NOW + 3));
        assert_eq!((later.state.gang.name(), done(&later)), ("drained", vec![]), "{boot}");
        assert_eq!(later.status.health, Health::NotServing);
    }
    seen.orders = vec![Order { number: 2, what: OrderKind::Resume }];
    let four = decide(&setup(), &three.state, &seen, at(NOW + 4));
    let starts = [
        SERVE,
        StartGang { epoch: EPOCH + 1, prefill_step_tokens: 512, alone: false, carrier: RING },
    ];
    assert_eq!(done(&four), starts);
}

#[test]
fn a_hold_leaves_what_runs_alone_until_it_is_over() {
    let until_wall_ms = Some(10_000);
    let mut seen = seen([ready(), killed()]);
    seen.orders = orders(&[OrderKind::Hold { until_wall_ms }]);
    let one = decide(&setup(), &state(stopping("x")), &seen, at(NOW)).state;
    seen.orders = Vec::new();
    seen.ranks = vec![lost(82), killed()];
    let two = decide(&setup(), &one, &seen, at(NOW + 1)).state;
    let much_later = NOW + 1_000_000;
    let three = decide(&setup(), &two, &seen, Moment { boot_ms: much_later, wall_ms: 9_999 });
    assert_eq!(done(&three), [], "nothing is started");
    seen.memory = seen.memory.map(|memory| Memory { at_ms: much_later, ..memory });
    for sighting in seen.invariants.values_mut() {
        if let Sighting::Known { at_ms, .. } = sighting {
            *at_ms = much_later;
        }
    }
    let four =
        decide(&setup(), &three.state, &seen, Moment { boot_ms: much_later, wall_ms: 10_000 });
    assert_eq!(
        done(&four),
        [StartGang { epoch: EPOCH + 1, prefill_step_tokens: 512, alone: false, carrier: RING }]
    );
    assert_eq!(four.status.operator_hold_until_ms, None);
}

#[test]
fn a_release_tries_again_what_was_given_up_and_no_order_counts_twice() {
    let mut given_up = state(held());
    given_up.restarts_ms = vec![NOW; 10];
    given_up.starts_in_boot = 10;
    given_up.fabric_starts = 10;
    let mut seen = seen([lost(80), lost(82)]);
    seen.orders = orders(&[OrderKind::Release]);
    let one = decide(&setup(), &given_up, &seen, at(NOW));
    assert_eq!(
        done(&one),
        [StartGang { epoch: EPOCH + 1, prefill_step_tokens: 512, alone: false, carrier: RING }]
    );
    assert_eq!((one.state.starts_in_boot, one.state.restarts_ms.len()), (1, 0));
    let again = State { gang: held(), ..one.state };
    let two = decide(&setup(), &again, &seen, at(NOW + 1));
    assert_eq!((two.state.gang.name(), done(&two)), ("held", vec![]));
}

#[test]
fn a_start_that_an_earlier_supervisor_only_decided_uses_up_its_number() {
    let resumed = state(starting()).resumed("boot");
    let one = decide(&setup(), &resumed, &seen([never(), never()]), at(NOW));
    assert_eq!((one.state.gang.name(), done(&one)), ("idle", vec![]), "it may have run, and ended");
    let two = decide(&setup(), &one.state, &seen([never(), never()]), at(NOW));
    assert_eq!(
        done(&two),
        [StartGang { epoch: EPOCH + 1, prefill_step_tokens: 512, alone: false, carrier: RING }]
    );
}

#[test]
fn a_rank_that_hangs_unloading_for_a_dead_supervisor_does_not_hang_the_next() {
    let unloading = || running(EPOCH, tandem_wire::Phase::Unloading);
    let resumed = state(Gang::Serving).resumed("boot");
    let limit_ms = setup().supervise.silence_timeout_ms;
    let seen = seen([unloading(), ready()]);
    let one = watched(&setup(), resumed, &seen, NOW..=NOW + limit_ms - 1_000);
    assert_eq!(one.gang.name(), "serving");
    let two = decide(&setup(), &one, &seen, at(NOW + limit_ms));
    assert_eq!(done(&two), unload_both());
}

#[test]
fn a_rank_gets_all_of_its_time_from_whoever_kills_it() {
    let resumed = state(late(stopping("x"))).resumed("boot");
    let one = decide(&setup(), &resumed, &seen([ready(), lost(0)]), at(NOW));
    assert_eq!(done(&one), [UnloadRank { rank: 0 }], "the last supervisor may never have asked");
    let later = at(NOW + setup().supervise.unload_timeout_ms);
    assert_eq!(
        done(&decide(&setup(), &one.state, &seen([ready(), lost(0)]), later)),
        [KillRank { rank: 0 }]
    );
}

#[test]
fn a_start_that_could_not_be_saved_is_dropped_when_it_is_not_admitted_any_more() {
    let mut seen = seen([never(), never()]);
    seen.memory = None;
    let one = decide(&setup(), &state(starting()), &seen, at(NOW));
    assert_eq!((one.state.gang.name(), done(&one)), ("idle", vec![]));
}
