//! From evidence to the smallest action, and from there to a reboot or an operator.

use super::*;

fn evidence(id: &str, rung: Rung, epoch: u64) -> Evidence {
    Evidence {
        id: id.into(),
        rung,
        is_of_fabric: false,
        text: format!("text of {id}"),
        remedy: "remedy".into(),
        source: EvidenceSource::Rank { rank: 0, epoch },
    }
}

/// A gang that has just ended, with this evidence.
fn after(found: Vec<Evidence>) -> Decision {
    let mut seen = seen([ended(EPOCH, Ended::Code(exit::ENGINE)), lost(exit::PEER_LOST)]);
    seen.evidence = found;
    decide(&setup(), &state(stopping("rank 0: x")), &seen, at(NOW))
}

#[test]
fn a_signature_decides_what_a_failure_leads_to() {
    let of = |id: &str, rung| evidence(id, rung, EPOCH);
    let rows: Vec<(Vec<Evidence>, &str, Option<&str>)> = vec![
        (vec![], "backoff", None),
        (vec![of("lost", Rung::Restart)], "backoff", None),
        (vec![of("note", Rung::None)], "backoff", None),
        (vec![of("bad-config", Rung::Hold)], "held", None),
        (vec![of("qp-leaked", Rung::Reboot)], "held", Some("qp-leaked")),
        // A consequence does not hide its cause.
        (vec![of("lost", Rung::Restart), of("bad-config", Rung::Hold)], "held", None),
        (vec![evidence("old", Rung::Hold, EPOCH - 1)], "backoff", None),
    ];
    for (found, phase, reboot) in rows {
        let described = format!("{found:?}");
        let decision = after(found);
        assert_eq!(decision.state.gang.name(), phase, "{described}");
        if let Gang::Held { reboot: cause, .. } = &decision.state.gang {
            assert_eq!(cause.as_ref().map(|cause| cause.kind.as_str()), reboot, "{described}");
        }
    }
}

#[test]
fn running_out_of_memory_halves_the_step_until_it_is_the_least() {
    let mut state = state(stopping("rank 0: x"));
    let mut steps = Vec::new();
    for epoch in EPOCH..EPOCH + 10 {
        let mut seen =
            seen([ended(epoch, Ended::Code(exit::ENGINE)), ended(epoch, Ended::Code(0))]);
        seen.evidence = vec![evidence("oom", Rung::Retune, epoch)];
        let stopped = decide(&setup(), &state, &seen, at(NOW)).state;
        let Gang::Backoff { until_ms } = stopped.gang else {
            assert_eq!(stopped.gang.name(), "held");
            break;
        };
        let next = decide(&setup(), &stopped, &seen, at(until_ms.min(NOW + 4_000)));
        let next = if next.state.gang.name() == "starting" {
            next
        } else {
            // Later pauses are longer than a reading of the host stays fresh.
            let due = State { gang: Gang::Idle, ..stopped };
            decide(&setup(), &due, &seen, at(NOW))
        };
        for action in &next.actions {
            if let StartGang { prefill_step_tokens, .. } = action {
                steps.push(*prefill_step_tokens);
            }
        }
        state = State { gang: stopping("rank 0: x"), ..next.state };
    }
    assert_eq!(steps, [256, 128, 64, 32]);
}

#[test]
fn what_the_kernel_killed_for_memory_gets_a_smaller_step_and_is_tried_again_at_the_least() {
    let least = retune::Retune {
        model: setup().model,
        prefill_step_tokens: retune::STEP_TOKENS_MIN,
        epoch: EPOCH - 1,
    };
    let rows = [
        (KILLED_FOR_MEMORY, None, "backoff", Some(256)),
        (KILLED_FOR_MEMORY, Some(least.clone()), "backoff", Some(32)),
        ("oom", Some(least), "held", Some(32)),
    ];
    for (id, retune, phase, step) in rows {
        let mut seen = seen([killed(), lost(exit::PEER_LOST)]);
        seen.evidence = vec![
            evidence("signal-killed", Rung::Restart, EPOCH),
            evidence(id, Rung::Retune, EPOCH),
        ];
        let before = State { retune, ..state(stopping("rank 0: x")) };
        let after = decide(&setup(), &before, &seen, at(NOW)).state;
        let lowered = after.retune.as_ref().map(|retune| retune.prefill_step_tokens);
        assert_eq!((after.gang.name(), lowered), (phase, step), "{id}");
    }
}

#[test]
fn a_crash_is_told_from_an_orderly_end() {
    let crashed = |ranks: [RankSeen; 2]| {
        decide(&setup(), &state(Gang::Serving), &seen(ranks), at(NOW)).state.crashed_in_boot
    };
    assert!(crashed([killed(), ready()]));
    assert!(crashed([lost(exit::ENGINE), ready()]));
    assert!(!crashed([lost(exit::PEER_LOST), ready()]), "it unloaded and told");
    assert!(!crashed([lost(exit::OK), lost(exit::OK)]));
}

fn spent() -> State {
    let reboot = reboot::Cause { kind: "restarts".into(), evidence: "too many".into() };
    state(Gang::Held { reason: "r".into(), reboot: Some(reboot) })
}

fn gone() -> Observation {
    let mut seen = seen([lost(80), lost(82)]);
    seen.gateway.process = Process::Ended { epoch: 0, how: Ended::Code(0) };
    seen
}

#[test]
fn a_reboot_drains_first_is_saved_and_counted_and_ends_with_the_boot() {
    let one = decide(&setup(), &spent(), &seen([lost(80), lost(82)]), at(NOW));
    assert_eq!(one.state.reboot.name(), "draining");
    assert_eq!(done(&one), [StopGateway]);
    let two = decide(&setup(), &one.state, &gone(), at(NOW + 1_000));
    assert_eq!(done(&two), [Reboot { attempt: 0 }]);
    assert_eq!(two.state.reboots.len(), 1, "the budget is spent with the intent");
    assert!(two.actions.iter().all(Action::is_risky), "nothing of it without a save");
    let three = decide(&setup(), &two.state, &gone(), at(NOW + 130_000));
    assert_eq!(done(&three), [Reboot { attempt: 1 }], "harder, because it did not happen");

    let back = two.state.resumed("next boot");
    assert_eq!((back.reboot.name(), back.gang.name()), ("verifying", "idle"));
    let resting = Moment { boot_ms: 1_000, wall_ms: 0 };
    let left = reboot::status(&setup(), &back, &gone(), resting).budget_left;
    assert_eq!(left, setup().reboot.per_day_max - 1);
}

#[test]
fn a_reboot_that_does_not_happen_ends_with_an_operator() {
    let asked = decide(&setup(), &spent(), &gone(), at(NOW)).state;
    let asked = decide(&setup(), &asked, &gone(), at(NOW)).state;
    let given_up = decide(&setup(), &asked, &gone(), at(NOW + 360_000));
    assert_eq!(given_up.state.reboot.name(), "steady");
    let again = decide(&setup(), &given_up.state, &gone(), at(NOW + 370_000));
    assert_eq!(again.state.reboot.name(), "steady", "not tried for ever");
    assert!(again.status.faults.iter().any(|fault| fault.kind == fault::Kind::RebootRefused));
}

#[test]
fn a_reboot_is_refused_wherever_it_could_do_harm() {
    type Change = fn(&mut Setup, &mut State, &mut Observation);
    let rows: Vec<(&str, Change)> = vec![
        ("reboot.automatic", |setup, _, _| setup.reboot.automatic = false),
        ("reboot.command", |setup, _, _| setup.can_reboot = false),
        ("operator holds", |_, state, _| {
            state.operator.hold = Some(Hold { until_wall_ms: None });
        }),
        ("unattended", |_, _, seen| {
            let found = Found::Flag(false);
            let locked = Sighting::Known { found, source: "test".into(), at_ms: NOW };
            seen.invariants.insert(Invariant::UnattendedBoot, locked);
        }),
        ("unattended", |_, _, seen| {
            let unread = Sighting::Unknown(Unknown::Unread);
            seen.invariants.insert(Invariant::UnattendedBoot, unread);
        }),
        ("booted less than", |setup, _, _| setup.reboot.uptime_min_ms = NOW + 1),
        ("same cause", |_, state, _| state.latch.kinds = ["restarts".to_owned()].into()),
        ("in 24 hours", |_, state, _| {
            state.running.before_ms = 80_000_000;
            state.reboots = vec![past(0), past(1), past(2)];
        }),
        ("last automatic reboot", |_, state, _| {
            state.running.before_ms = 80_000_000;
            state.reboots = vec![reboot::Past {
                wall_ms: 0,
                running_ms: 80_000_000,
                boot: "earlier".into(),
                kind: "leak".into(),
            }];
        }),
    ];
    for (why, change) in rows {
        let (mut setup, mut state, mut seen) = (setup(), spent(), gone());
        change(&mut setup, &mut state, &mut seen);
        let decision = decide(&setup, &state, &seen, at(NOW));
        assert_eq!(decision.state.reboot.name(), "steady", "{why}");
        let refused = decision.status.reboot.refused.clone().unwrap_or_default();
        assert!(refused.contains(why), "{why}: {refused}");
        assert!(decision.status.held.is_some(), "{why}: it says so and waits");
    }
}

#[test]
fn the_same_cause_right_after_its_reboot_waits_for_an_operator() {
    let mut back = spent();
    back.boots = vec!["before".into(), "boot".into()];
    back.reboots =
        vec![reboot::Past { boot: "before".into(), kind: "restarts".into(), ..past(NOW) }];
    let soon = Moment { boot_ms: 60_000, wall_ms: 0 };
    let latched = decide(&setup(), &back, &gone(), soon).state;
    assert!(latched.latch.kinds.contains("restarts"));
    let much_later = at(90_000_000);
    let refused = reboot::refusal(&setup(), &latched, &gone(), much_later, "restarts");
    assert!(refused.unwrap().contains("same cause"));
    let other = reboot::refusal(&setup(), &latched, &gone(), at(NOW + 9_000_000), "leak");
    assert_ne!(other.unwrap_or_default(), "same cause");
}

fn past(running_ms: u64) -> reboot::Past {
    reboot::Past { wall_ms: 0, running_ms, boot: "earlier".into(), kind: "leak".into() }
}

#[test]
fn lost_memory_spends_the_reboots_of_a_day() {
    let state = State::after_loss("boot", at(1_000));
    let later = |ms| reboot::refusal(&setup(), &state, &gone(), at(ms), "leak");
    assert!(later(3_600_000).unwrap().contains("24 hours"));
    let unread = later(90_000_000).unwrap_or_default();
    assert!(!unread.contains("24 hours"), "a day of running later it may again: {unread}");
}

#[test]
fn gates_tell_where_a_start_stands_and_what_a_failed_one_needs() {
    let states = |decision: &Decision| -> Vec<gates::GateState> {
        decision.status.gates.iter().map(|gate| gate.state).collect()
    };
    use gates::GateState::{Checking, Failed, Passed, Waiting};
    let loads = decide(&setup(), &state(starting()), &seen([loading(), loading()]), at(NOW));
    let engine = [Passed, Passed, Passed, Passed, Passed, Checking, Waiting, Waiting];
    assert_eq!(states(&loads), engine);
    let serves = decide(&setup(), &proven(Gang::Serving), &seen([ready(), ready()]), at(NOW));
    assert_eq!(states(&serves), [Passed; 8]);

    let mut broken = seen([never(), never()]);
    broken.artifacts = Artifacts::Incomplete("1 of 2 files".into());
    let stuck = decide(&setup(), &state(Gang::Idle), &broken, at(NOW));
    let artifacts = &stuck.status.gates[2];
    assert_eq!((artifacts.state, artifacts.evidence.as_str()), (Failed, "1 of 2 files"));
    assert!(artifacts.remedy.contains("model.path"));
    assert_eq!(done(&stuck), [], "nothing starts on half a model");
    assert_eq!(stuck.status.health, Health::NotServing, "and nobody but a person completes it");
    let failed_gates = stuck
        .events
        .iter()
        .filter(|event| matches!(&event.what, What::Gate(gate) if gate.state == Failed));
    assert_eq!(failed_gates.count(), 1, "and the ledger is told once");
    let again = decide(&setup(), &stuck.state, &broken, at(NOW + 1));
    assert_eq!(again.events, []);
}

#[test]
fn a_hint_of_the_systems_log_is_never_acted_on() {
    let hint = |rung| Evidence {
        source: EvidenceSource::SystemLog { process: "kernel".into() },
        ..evidence("log-hint", rung, EPOCH)
    };
    let scenes: [(Gang, [RankSeen; 2]); 4] = [
        (Gang::Serving, [ready(), ready()]),
        (stopping("rank 0: x"), [ended(EPOCH, Ended::Code(exit::ENGINE)), lost(exit::PEER_LOST)]),
        (starting(), [loading(), loading()]),
        (Gang::Idle, [never(), never()]),
    ];
    for (gang, ranks) in scenes {
        let mut seen = seen(ranks);
        let without = decide(&setup(), &proven(gang.clone()), &seen, at(NOW));
        // The catalogue allows only the smallest; policy would ignore any other too.
        for rung in Rung::ALL {
            seen.evidence = vec![hint(rung); 3];
            let with = decide(&setup(), &proven(gang.clone()), &seen, at(NOW));
            assert_eq!(with, without, "{gang:?} {rung:?}");
        }
    }
}

#[test]
fn the_end_that_others_followed_from_is_the_cause_whichever_is_seen_first() {
    let follows = |rank: u32| format!("rank {rank}: {}", Ended::Code(exit::PEER_LOST));
    let cause = |before: State, ranks| {
        let after = decide(&setup(), &before, &seen(ranks), at(NOW)).state;
        after.last_failure.unwrap().text
    };
    let before = |text: &str| state(stopping(text));
    let ends = || [killed(), lost(exit::PEER_LOST)];
    assert_eq!(cause(before(&follows(1)), ends()), "rank 0: killed by signal 9");
    assert_eq!(cause(before("rank 0: killed by signal 9"), ends()), "rank 0: killed by signal 9");
    assert_eq!(cause(before("not ready in time"), ends()), "not ready in time");
    let both = [lost(exit::PEER_LOST), lost(exit::PEER_LOST)];
    assert_eq!(cause(before(&follows(1)), both), follows(1), "nothing better is known");
    // One that was killed because it did not end tells nothing.
    let mut killed_here = before(&follows(1));
    killed_here.suspect(Leak { epoch: EPOCH, rank: 0, pid: 100, wall_ms: 0 });
    assert_eq!(cause(killed_here, ends()), follows(1));
}
