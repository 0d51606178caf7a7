//! Every row: where the machine is and what is seen; then where it goes and what it does.

use std::collections::BTreeMap;

use tandem_wire::exit;

use super::{Action::*, gang::Phase as Gang, gang::StopCause, gateway::Phase as Gateway, *};
use crate::invariant::{Found, Invariant, Sighting, Unknown};

mod climbing;
mod ending;
mod files;
mod keeping;
mod ordering;
mod promising;

const EPOCH: u64 = 5;
const NOW: u64 = 1_000_000;
/// What carries epochs where the config asks for no fabric.
const RING: Carrier = Carrier::Ring { instead: None };
const SERVE: Action = StartGateway { mode: gateway::Mode::Serve };

fn setup() -> Setup {
    Setup::default()
}

fn at(boot_ms: u64) -> Moment {
    Moment { boot_ms, wall_ms: 0 }
}

/// Of a supervisor that decided all of it itself, and asked every rank long ago.
fn state(gang: Gang) -> State {
    let asked_ms = NOW - setup().supervise.unload_timeout_ms;
    let scratch = Scratch {
        begun_epoch: Some(EPOCH),
        unload_asked_ms: [(100, asked_ms)].into(),
        ..Scratch::default()
    };
    State {
        scratch,
        epoch: EPOCH,
        gang,
        gang_since_ms: NOW - 1_000,
        rank_plan: setup().rank_plan,
        gateway: Gateway::Up { since_ms: NOW },
        gateway_plan: setup().gateway_plan,
        ..State::new("boot")
    }
}

/// Tokens came just now.
fn proven(gang: Gang) -> State {
    let mut state = state(gang);
    state.scratch.canary = canary::Proof {
        epoch: EPOCH,
        number: 1,
        counted: 1,
        passed: true,
        proven_ms: Some(NOW),
        ..canary::Proof::default()
    };
    state
}

fn running(epoch: u64, phase: tandem_wire::Phase) -> RankSeen {
    let process = Process::Running { pid: 100, epoch };
    RankSeen { process, phase: Some(phase), vitals: None }
}

fn ended(epoch: u64, how: Ended) -> RankSeen {
    RankSeen { process: Process::Ended { epoch, how }, phase: None, vitals: None }
}

fn never() -> RankSeen {
    RankSeen { process: Process::Never, phase: None, vitals: None }
}

fn ready() -> RankSeen {
    running(EPOCH, tandem_wire::Phase::Ready)
}

fn loading() -> RankSeen {
    running(EPOCH, tandem_wire::Phase::Loading)
}

fn lost(code: i32) -> RankSeen {
    ended(EPOCH, Ended::Code(code))
}

fn killed() -> RankSeen {
    ended(EPOCH, Ended::Signal(9))
}

fn seen(ranks: [RankSeen; 2]) -> Observation {
    let process = Process::Running { pid: 200, epoch: 0 };
    let gateway = GatewaySeen { process, ready: Reading::Known { value: true, age_ms: 10 } };
    Observation {
        ranks: ranks.into(),
        gateway,
        terminations: 0,
        invariants: sound_host(),
        thunderbolt: None,
        memory: Some(Memory {
            at_ms: NOW,
            total_bytes: 64 << 30,
            wired_bytes: 1 << 30,
            available_bytes: 60 << 30,
            owners: Vec::new(),
        }),
        artifacts: Artifacts::Complete { weights_bytes: 1 << 30, need: Need::Estimated },
        fallback_artifacts: Artifacts::Unread,
        manifest: None,
        peers: Vec::new(),
        evidence: Vec::new(),
        canary: None,
        requests: Default::default(),
        orders: Vec::new(),
        config_refused: None,
        ledger_trouble: None,
    }
}

/// As on Linux: some are read and hold, the others are not there.
fn sound_host() -> BTreeMap<Invariant, Sighting> {
    let known = |found| Sighting::Known { found, source: "test".into(), at_ms: NOW };
    Invariant::ALL
        .into_iter()
        .map(|invariant| {
            let sighting = match invariant {
                Invariant::DiskSpace => known(Found::Count(1 << 40)),
                Invariant::OpenFiles => known(Found::Count(1 << 16)),
                Invariant::ClockSynchronised => known(Found::Flag(true)),
                _ => Sighting::Unknown(Unknown::NotOnThisPlatform),
            };
            (invariant, sighting)
        })
        .collect()
}

/// What is done, but for canaries, which have tests of their own.
fn done(decision: &Decision) -> Vec<Action> {
    decision.actions.iter().filter(|action| !matches!(action, Canary { .. })).cloned().collect()
}

fn starting() -> Gang {
    Gang::Starting { deadline_ms: NOW + 1_000 }
}

fn late(gang: Gang) -> Gang {
    match gang {
        Gang::Starting { .. } => Gang::Starting { deadline_ms: NOW },
        Gang::Stopping { cause, .. } => Gang::Stopping { deadline_ms: NOW, cause },
        other => other,
    }
}

fn failed(why: &str) -> StopCause {
    StopCause::Failed { kind: fault::Kind::Engine, text: why.into() }
}

fn stopping(why: &str) -> Gang {
    Gang::Stopping { deadline_ms: NOW + 1_000, cause: failed(why) }
}

fn clearing() -> Gang {
    Gang::Stopping { deadline_ms: NOW + 1_000, cause: StopCause::Stale }
}

fn held() -> Gang {
    Gang::Held { reason: "r".into(), reboot: None }
}

type Row = (Gang, [RankSeen; 2], &'static str, Vec<Action>);

/// What is remembered after a turn a second over this time.
fn watched(
    setup: &Setup,
    mut state: State,
    seen: &Observation,
    over_ms: std::ops::RangeInclusive<u64>,
) -> State {
    for boot_ms in over_ms.step_by(1_000) {
        state = decide(setup, &state, seen, at(boot_ms)).state;
    }
    state
}

fn unload_both() -> Vec<Action> {
    vec![UnloadRank { rank: 0 }, UnloadRank { rank: 1 }]
}

fn old() -> RankSeen {
    running(EPOCH - 1, tandem_wire::Phase::Ready)
}

fn newer() -> RankSeen {
    running(EPOCH + 3, tandem_wire::Phase::Ready)
}

fn backoff(until_ms: u64) -> Gang {
    Gang::Backoff { until_ms }
}

fn check(rows: Vec<Row>) {
    for (gang, ranks, phase, actions) in rows {
        let described = format!("{gang:?} {ranks:?}");
        let decision = decide(&setup(), &state(gang), &seen(ranks), at(NOW));
        assert_eq!(decision.state.gang.name(), phase, "{described}");
        assert_eq!(done(&decision), actions, "{described}");
        assert_eq!(decision.status.phase, phase);
    }
}

#[test]
fn ranks_start_together_and_stop_together() {
    let start =
        |epoch| vec![StartGang { epoch, prefill_step_tokens: 512, alone: false, carrier: RING }];
    let none = Vec::new;
    check(vec![
        // Start.
        (Gang::Idle, [never(), never()], "starting", start(6)),
        (Gang::Idle, [lost(0), killed()], "starting", start(6)),
        (Gang::Idle, [never(), ended(9, Ended::Unseen)], "starting", start(10)),
        (starting(), [never(), never()], "starting", start(5)),
        (starting(), [ended(4, Ended::Code(0)), never()], "starting", start(5)),
        (starting(), [loading(), loading()], "starting", none()),
        (starting(), [ready(), loading()], "starting", none()),
        (starting(), [ready(), ready()], "serving", none()),
        (late(starting()), [ready(), loading()], "stopping", unload_both()),
        // A rank is lost: the others unload, none is killed.
        (starting(), [killed(), loading()], "stopping", vec![UnloadRank { rank: 1 }]),
        (Gang::Serving, [ready(), killed()], "stopping", vec![UnloadRank { rank: 0 }]),
        (Gang::Serving, [lost(82), killed()], "stopping", none()),
        (Gang::Serving, [ready(), ready()], "serving", none()),
        // A rank that is only silent is not lost: its peers know better, by its progress.
        (Gang::Serving, [ready(), RankSeen { phase: None, ..ready() }], "serving", none()),
    ]);
}

#[test]
fn stopping_waits_for_all_and_kills_last() {
    let start =
        |epoch| vec![StartGang { epoch, prefill_step_tokens: 512, alone: false, carrier: RING }];
    let none = Vec::new;
    check(vec![
        // Stopping waits for all, and kills only after the deadline.
        (stopping("x"), [ready(), ready()], "stopping", unload_both()),
        (late(stopping("x")), [lost(0), ready()], "stopping", vec![KillRank { rank: 1 }]),
        (stopping("x"), [lost(0), lost(82)], "backoff", none()),
        // Only the culprit's code counts, even if it came last.
        (stopping("x"), [lost(82), lost(exit::MODEL)], "held", none()),
        (stopping("x"), [lost(exit::USAGE), lost(0)], "held", none()),
        (backoff(NOW + 1), [lost(0), killed()], "backoff", none()),
        (backoff(NOW), [lost(0), killed()], "starting", start(6)),
        // Whatever an earlier supervisor left is cleared first, whatever its epoch.
        (Gang::Idle, [ready(), ready()], "stopping", unload_both()),
        (Gang::Idle, [old(), never()], "stopping", vec![UnloadRank { rank: 0 }]),
        (Gang::Idle, [never(), newer()], "stopping", vec![UnloadRank { rank: 1 }]),
        (backoff(NOW + 1), [never(), old()], "stopping", vec![UnloadRank { rank: 1 }]),
        (Gang::Drained, [ready(), never()], "stopping", vec![UnloadRank { rank: 0 }]),
        (Gang::Serving, [old(), ready()], "stopping", unload_both()),
        (clearing(), [ended(3, Ended::Unseen), never()], "idle", none()),
        (late(clearing()), [old(), never()], "stopping", vec![KillRank { rank: 0 }]),
        // Held stays held.
        (held(), [lost(65), lost(82)], "held", none()),
        (held(), [ready(), never()], "held", vec![UnloadRank { rank: 0 }]),
    ]);
}

#[test]
fn failures_wait_longer_and_longer_until_the_budget_is_spent() {
    let mut setup = setup();
    setup.supervise.restarts_max = 4;
    let mut now = NOW;
    let mut state = state(Gang::Serving);
    let mut pauses = Vec::new();
    for _ in 0..4 {
        state.gang = stopping("x");
        state = decide(&setup, &state, &seen([killed(), lost(82)]), at(now)).state;
        let Gang::Backoff { until_ms } = state.gang else { panic!("{:?}", state.gang) };
        pauses.push(until_ms - now);
        now = until_ms;
    }
    assert_eq!(pauses, [500, 1_000, 2_000, 4_000]);
    state.gang = stopping("x");
    let held = decide(&setup, &state, &seen([killed(), lost(82)]), at(now));
    let Gang::Held { reason, reboot } = &held.state.gang else { panic!("{:?}", held.state.gang) };
    assert!(reason.contains("4 restarts") && reason.contains("tandem release"), "{reason}");
    assert_eq!(reboot.as_ref().map(|cause| cause.kind.as_str()), Some("restarts"));
    assert_eq!(held.status.health, Health::NotServing);
    assert!(matches!(held.state.clone().resumed("boot").gang, Gang::Held { .. }), "crash");
    assert_eq!(held.state.resumed("next boot").gang, Gang::Idle);

    // The same failures, spread over more than the window, are no reason to give up.
    let later = at(now + setup.supervise.restart_window_ms);
    let again = decide(&setup, &state, &seen([killed(), lost(82)]), later).state;
    assert_eq!((again.gang.name(), again.restarts_ms.len()), ("backoff", 1));
}

#[test]
fn serving_for_long_forgets_failures() {
    let setup = setup();
    let mut state = State { gang_failures: 6, ..state(Gang::Serving) };
    let stable = state.gang_since_ms + setup.supervise.stable_after_ms;
    state = decide(&setup, &state, &seen([ready(), ready()]), at(stable - 1)).state;
    assert_eq!(state.gang_failures, 6);
    state = decide(&setup, &state, &seen([ready(), ready()]), at(stable)).state;
    assert_eq!(state.gang_failures, 0);
}

#[test]
fn a_gang_that_says_nothing_is_restarted_in_the_end() {
    let setup = setup();
    let silent = || seen([RankSeen { phase: None, ..ready() }, ready()]);
    let one = decide(&setup, &state(Gang::Serving), &silent(), at(NOW)).state;
    let spoke = decide(&setup, &one, &seen([ready(), ready()]), at(NOW + 20_000)).state;
    let still = watched(&setup, spoke, &silent(), NOW + 20_000..=NOW + 49_000);
    assert_eq!(still.gang.name(), "serving", "it spoke in between");
    let stopped = watched(&setup, still, &silent(), NOW + 50_000..=NOW + 60_000);
    assert_eq!(stopped.gang.name(), "stopping");
    let gone = decide(&setup, &stopped, &seen([lost(0), lost(0)]), at(NOW + 60_001));
    assert!(gone.status.faults.iter().any(|fault| fault.kind == fault::Kind::Stall));
}

#[test]
fn a_killed_rank_is_remembered_once() {
    let setup = setup();
    let mut state = state(late(stopping("x")));
    for turn in 0..3 {
        state = decide(&setup, &state, &seen([ready(), lost(0)]), at(NOW + turn)).state;
    }
    assert_eq!(state.suspected_leaks.len(), 1);
    assert_eq!((state.suspected_leaks[0].rank, state.suspected_leaks[0].pid), (0, 100));
}

#[test]
fn healthy_is_only_what_is_known_to_serve() {
    type Change = fn(&mut Observation);
    let cases: [(Change, Health); 5] = [
        (|_| {}, Health::Healthy),
        (|seen| seen.gateway.ready = Reading::Unknown, Health::Degraded),
        (
            |seen| seen.gateway.ready = Reading::Known { value: true, age_ms: 60_000 },
            Health::Degraded,
        ),
        (|seen| seen.ranks[1].phase = None, Health::Degraded),
        (|seen| seen.terminations = 1, Health::NotServing),
    ];
    for (change, expected) in cases {
        let mut seen = seen([ready(), ready()]);
        change(&mut seen);
        let status = decide(&setup(), &proven(Gang::Serving), &seen, at(NOW)).status;
        assert_eq!(status.health, expected, "{seen:?}");
    }
}
