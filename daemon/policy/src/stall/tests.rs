use tandem_wire::Vitals;

use super::*;
use crate::{Ended, canary, gang, leak::scene};

const EPOCH: u64 = 3;

/// (active, queued, steps, the rank's own age of its last step in ms).
type Doing = (u32, u32, u64, Option<u64>);

fn vitals(rank: u32, doing: Doing) -> Vitals {
    let (active, queued, steps, last_step_age_ms) = doing;
    Vitals {
        epoch: EPOCH,
        rank,
        phase: Phase::Ready,
        steps,
        last_step_age_ms,
        active,
        queued,
        tokens: 0,
        bytes_read: 0,
        weights_bytes: 0,
        memory_bytes: 0,
        memory_peak_bytes: 0,
        transport: None,
    }
}

fn seen(boot_ms: u64, doing: Doing) -> Observation {
    let rank = |n, doing| RankSeen { vitals: Some(vitals(n, doing)), ..scene::running(EPOCH) };
    let idle = (0, 0, 7, Some(900_000));
    Observation { ranks: vec![rank(0, idle), rank(1, doing)], ..scene::quiet(boot_ms) }
}

fn setup() -> Setup {
    let mut setup = Setup::default();
    setup.supervise.stall_timeout_ms = 120_000;
    setup
}

/// Looks once a second at what the rank does then, and returns the last verdict.
fn over(seconds: u64, doing: impl Fn(u64) -> Observation) -> Option<String> {
    let setup = setup();
    let mut state = State { epoch: EPOCH, gang: gang::Phase::Serving, ..State::new("boot") };
    let mut verdict = None;
    for second in 0..=seconds {
        let seen = doing(second * 1_000);
        let now = scene::at(second * 1_000);
        state.scratch.watched.pass(now);
        canary::step(&setup, &mut state, &seen, now, &mut Vec::new());
        verdict = look(&setup, &state, &seen);
    }
    verdict
}

#[test]
fn work_without_a_step_is_a_stall_after_the_timeout() {
    let hung = |ms| seen(ms, (2, 1, 7, Some(10_000 + ms)));
    assert_eq!(over(119, hung), None);
    let text = "rank 1 has 3 requests and finished no step for 120000 ms";
    assert_eq!(over(120, hung).as_deref(), Some(text));
}

#[test]
fn what_moves_idles_or_only_just_began_is_no_stall() {
    type Story = (&'static str, fn(u64) -> Observation);
    let stories: [Story; 5] = [
        ("idle", |ms| seen(ms, (0, 0, 7, Some(900_000 + ms)))),
        ("steps are finished", |ms| seen(ms, (1, 0, ms / 1_000, Some(500)))),
        ("a request after a quiet hour", |ms| {
            let active = u32::from(ms >= 250_000);
            seen(ms, (active, 0, 7, Some(3_600_000 + ms)))
        }),
        ("the rank itself says that a step was finished", |ms| seen(ms, (1, 0, 7, Some(50)))),
        ("it loads", |ms| {
            let mut seen = seen(ms, (1, 0, 7, Some(ms)));
            seen.ranks[1].phase = Some(Phase::Loading);
            seen
        }),
    ];
    for (story, doing) in stories {
        assert_eq!(over(300, doing), None, "{story}");
    }
}

#[test]
fn a_first_step_that_never_ends_is_a_stall_too() {
    let text = over(120, |ms| seen(ms, (1, 0, 0, None)));
    let expected = "rank 1 has 1 request and finished no step for 120000 ms";
    assert_eq!(text.as_deref(), Some(expected));
}

#[test]
fn vitals_of_another_epoch_or_of_a_rank_that_ended_say_nothing() {
    let other_epoch = over(200, |ms| {
        let mut seen = seen(ms, (1, 0, 7, Some(ms)));
        seen.ranks[1].vitals.as_mut().unwrap().epoch = EPOCH - 1;
        seen
    });
    let ended = over(200, |ms| {
        let mut seen = seen(ms, (1, 0, 7, Some(ms)));
        seen.ranks[1].process = Process::Ended { epoch: EPOCH, how: Ended::Code(0) };
        seen
    });
    assert_eq!((other_epoch, ended), (None, None));
}

/// Steps that each take so long, one after another; then one that never ends.
fn stalled_after(steps_s: &[u64]) -> u64 {
    let ends: Vec<u64> = steps_s
        .iter()
        .scan(0, |at, took| {
            *at += took * 1_000;
            Some(*at)
        })
        .collect();
    let last_ms = ends.last().copied().unwrap_or(0);
    let doing = |ms: u64| {
        let done = ends.iter().filter(|end| **end <= ms).count() as u64;
        let since_ms = ends.iter().filter(|end| **end <= ms).max().copied().unwrap_or(0);
        seen(ms, (1, 0, done, Some(ms - since_ms)))
    };
    let is_stalled = |seconds: &u64| over(*seconds, doing).is_some();
    let from = last_ms / 1_000;
    (from..from + 2_000).step_by(10).find(is_stalled).map_or(u64::MAX, |at| at - from)
}

#[test]
fn a_step_may_take_four_times_as_long_as_the_slowest_of_late_and_no_longer_than_three_limits() {
    assert_eq!(stalled_after(&[1, 1, 1]), 120);
    assert_eq!(stalled_after(&[1, 60, 1]), 240);
    assert_eq!(stalled_after(&[10, 30, 80, 1]), 320);
    assert_eq!(stalled_after(&[100, 350]), 360, "three limits");
    let quiet = vec![10; 130];
    assert_eq!(stalled_after(&[&[60], quiet.as_slice()].concat()), 120, "long ago");
}

#[test]
fn the_step_that_ends_all_work_is_remembered_too() {
    // A request of one step that takes 60 s, then none, then one that never ends.
    let doing = |ms: u64| match ms / 1_000 {
        0..60 => seen(ms, (1, 0, 7, Some(ms))),
        60..100 => seen(ms, (0, 0, 8, Some(ms - 60_000))),
        _ => seen(ms, (1, 0, 8, Some(ms - 60_000))),
    };
    assert_eq!(over(339, doing), None, "four times as long");
    assert!(over(340, doing).is_some());
}

#[test]
fn how_slow_the_machine_is_outlives_an_epoch() {
    let setup = setup();
    let mut state = State { epoch: EPOCH - 1, gang: gang::Phase::Serving, ..State::new("boot") };
    for second in 0..=310 {
        let boot_ms = second * 1_000;
        if second == 62 {
            state.epoch = EPOCH;
        }
        let mut seen = seen(boot_ms, (1, 0, second / 60, None));
        for rank in &mut seen.ranks {
            rank.process = Process::Running { pid: 1, epoch: state.epoch };
            rank.vitals.as_mut().unwrap().epoch = state.epoch;
        }
        if second >= 62 {
            // The first step of this epoch takes longer than any may without such a history.
            seen.ranks[1].vitals.as_mut().unwrap().steps = 0;
        }
        state.scratch.watched.pass(scene::at(boot_ms));
        canary::step(&setup, &mut state, &seen, scene::at(boot_ms), &mut Vec::new());
        assert_eq!(look(&setup, &state, &seen).is_some(), second >= 302, "at {second} s");
    }
}

#[test]
fn a_machine_that_slept_or_had_no_turn_stalls_nobody() {
    let setup = setup();
    let mut state = State { epoch: EPOCH, gang: gang::Phase::Serving, ..State::new("boot") };
    for boot_ms in [0, 1_000, 400_000, 401_000, 900_000, 901_000] {
        let seen = seen(boot_ms, (1, 0, 7, Some(boot_ms)));
        state.scratch.watched.pass(scene::at(boot_ms));
        canary::step(&setup, &mut state, &seen, scene::at(boot_ms), &mut Vec::new());
        assert_eq!(look(&setup, &state, &seen), None, "at {boot_ms}");
    }
}

#[test]
fn a_rank_whose_vitals_are_missing_once_stalls_nevertheless() {
    let text = over(130, |ms| {
        let mut seen = seen(ms, (1, 0, 7, Some(10_000 + ms)));
        if ms % 10_000 == 5_000 {
            seen.ranks[1].vitals = None;
        }
        seen
    });
    assert!(text.is_some());
}
