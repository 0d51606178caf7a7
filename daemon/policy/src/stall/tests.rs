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

/// Looks once a second at what the rank does then, and returns the last verdict.
fn over(seconds: u64, doing: impl Fn(u64) -> Observation) -> Option<String> {
    let setup = Setup::default();
    let mut state = State { epoch: EPOCH, gang: gang::Phase::Serving, ..State::new("boot") };
    let mut verdict = None;
    for second in 0..=seconds {
        let seen = doing(second * 1_000);
        canary::step(&setup, &mut state, &seen, scene::at(second * 1_000), &mut Vec::new());
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
