//! Ranks as real processes on loopback, with an executor of arithmetic instead of MLX: what a
//! gateway sees, and how each rank ends when another dies, hangs, lies or is told to go.

#![allow(clippy::unwrap_used, reason = "clippy sees tests only in what is marked as one")]

mod fake;
mod troupe;

use std::io::Write;
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tandem_wire::{FailureCode, FinishReason, FromRank, Phase, Session, ToRank, Vitals, exit};

use fake::{Play, VOCAB, next_token};
use troupe::{PATIENCE, Troupe, Wire, spawn};

/// Another's death is known at once; the rest is for a busy machine to notice and reap.
const GONE: Duration = Duration::from_secs(15);

fn expected(prompt: &[u32], count: usize) -> Vec<u32> {
    let mut tokens = prompt.to_vec();
    for _ in 0..count {
        tokens.push(next_token(&tokens));
    }
    tokens.split_off(prompt.len())
}

fn long_prompt() -> Vec<u32> {
    (0..1500).map(|i| i % VOCAB).collect()
}

#[test]
fn two_ranks_stream_requests_and_idle_without_spinning() {
    let (troupe, mut wire) = Troupe::ready(2, |_| {});
    wire.submit(1, &long_prompt(), 40);
    let (tokens, end) = wire.finish(1);
    assert_eq!(tokens, expected(&long_prompt(), 40));
    assert!(matches!(end, FromRank::Done { id: 1, reason: FinishReason::Length }), "{end:?}");

    let mut other = Wire::connect(&troupe.socket(1));
    assert_eq!(other.wait_phase(Phase::Ready).unwrap().vocab_size, VOCAB);
    other.submit(1, &[1], 1);
    let (_, end) = other.finish(1);
    assert!(matches!(end, FromRank::Failed { code: FailureCode::NotReady, .. }), "{end:?}");
    // Three chunks of the prompt, the last of which gives the first of 40 tokens. Rank 0 may tell the last
    // token while rank 1 still ends the step.
    let vitals = vitals_when(&mut other, |vitals| vitals.steps >= 42);
    assert_eq!((vitals.rank, vitals.epoch, vitals.phase), (1, 3, Phase::Ready));
    assert_eq!((vitals.weights_bytes, vitals.memory_peak_bytes), (22, 44));
    assert_eq!(vitals.transport, Some(fake::measured(2)));

    let ids: Vec<u32> = troupe.ranks.iter().map(Child::id).collect();
    let before: Vec<u64> = ids.iter().map(|id| cpu_ticks(*id)).collect();
    std::thread::sleep(Duration::from_secs(2));
    for (id, before) in ids.into_iter().zip(before) {
        // A tick is 10 ms. One spinning thread would take 200; heartbeats take one or two.
        let ticks = cpu_ticks(id) - before;
        assert!(ticks <= 20, "process {id} used {ticks} ticks of CPU time in 2 s of idling");
    }
}

/// Asks for vitals until they are such.
fn vitals_when(wire: &mut Wire, are: impl Fn(&Vitals) -> bool) -> Vitals {
    let started = Instant::now();
    loop {
        wire.send(&ToRank::Vitals);
        let FromRank::Vitals(vitals) = wire.read() else { panic!("no vitals") };
        if are(&vitals) {
            return vitals;
        }
        assert!(started.elapsed() < PATIENCE, "{vitals:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// User and system time of a process, in ticks.
fn cpu_ticks(id: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_rank_alone_serves_many_connections_and_forgets_those_that_leave() {
    let (mut troupe, mut wire) = Troupe::ready(1, |_| {});
    let mut leaver = Wire::connect(&troupe.socket(0));
    leaver.run_long();
    drop(leaver);
    wire.submit(1, &[4], 10);
    wire.submit(2, &[5], 4000);
    wire.send(&ToRank::Cancel { id: 2 });
    wire.submit(3, &[VOCAB], 1);
    let (tokens, _) = wire.finish(1);
    assert_eq!(tokens, expected(&[4], 10));
    let mut asker = Wire::connect(&troupe.socket(0));
    asker.wait_phase(Phase::Ready);
    vitals_when(&mut asker, |vitals| vitals.active == 0);
    wire.send(&ToRank::Unload);
    troupe.assert_unloaded();
}

#[test]
fn every_cancel_is_answered_and_a_storm_of_them_leaves_nothing_behind() {
    let (mut troupe, mut wire) = Troupe::ready(1, |_| {});
    let storm = 2_000;
    for id in 1..=storm {
        // The prompts are of some pieces each: a step for one would make all others wait.
        wire.submit(id, &long_prompt(), 40);
        wire.send(&ToRank::Cancel { id });
    }
    wire.submit(storm + 1, &[4], 10);
    let mut unanswered: std::collections::BTreeSet<u64> = (1..=storm).collect();
    let mut tokens = Vec::new();
    loop {
        match wire.read() {
            FromRank::Failed { id, code, .. } => {
                assert!(matches!(code, FailureCode::Cancelled | FailureCode::Full), "{code:?}");
                assert!(unanswered.remove(&id), "{id} was answered twice");
            }
            FromRank::Token(token) if token.id == storm + 1 => tokens.push(token.token),
            FromRank::Done { id, .. } if id == storm + 1 => break,
            _ => {}
        }
    }
    assert_eq!(tokens, expected(&[4], 10));
    assert!(unanswered.is_empty(), "{unanswered:?} were not answered before what came later");
    let mut asker = Wire::connect(&troupe.socket(0));
    asker.wait_phase(Phase::Ready);
    vitals_when(&mut asker, |vitals| (vitals.active, vitals.queued) == (0, 0));
    wire.send(&ToRank::Unload);
    troupe.assert_unloaded();
}

#[test]
fn a_killed_follower_ends_rank_0_with_peer_lost() {
    let (mut troupe, mut wire) = Troupe::ready(2, |_| {});
    wire.run_long();
    troupe.signal(1, Signal::SIGKILL);
    assert_eq!(troupe.code_within(0, GONE), exit::PEER_LOST);
}

#[test]
fn a_killed_rank_0_ends_both_followers_with_peer_lost() {
    let (mut troupe, mut wire) = Troupe::ready(3, |_| {});
    wire.run_long();
    troupe.signal(0, Signal::SIGKILL);
    assert_eq!(troupe.code_within(1, GONE), exit::PEER_LOST);
    assert_eq!(troupe.code_within(2, GONE), exit::PEER_LOST);
}

#[test]
fn a_stopped_follower_ends_rank_0_with_peer_silent() {
    let (mut troupe, mut wire) = Troupe::ready(2, |_| {});
    wire.run_long();
    troupe.signal(1, Signal::SIGSTOP);
    assert_eq!(troupe.code(0), exit::PEER_SILENT);
}

/// Stopped itself, it hears all that was said meanwhile before it judges anybody. Rank 1 is one that
/// has more patience.
#[test]
fn a_rank_that_was_stopped_for_a_while_takes_nobody_for_lost() {
    let (mut troupe, mut wire) = Troupe::ready(2, |play| {
        play.silence_timeout_ms = if play.rank == 0 { 1500 } else { 60_000 };
        play.step_timeout_ms = if play.rank == 0 { 1500 } else { 60_000 };
    });
    wire.run_long();
    troupe.signal(0, Signal::SIGSTOP);
    // Far more than any of rank 0's limits.
    std::thread::sleep(Duration::from_secs(4));
    troupe.signal(0, Signal::SIGCONT);
    wire.submit(1, &[4], 10);
    assert_eq!(wire.finish(1).0, expected(&[4], 10));
    wire.send(&ToRank::Unload);
    troupe.assert_unloaded();
}

#[test]
fn a_rank_that_computes_another_token_ends_all_with_integrity() {
    let (mut troupe, mut wire) = Troupe::ready(3, |play| {
        play.lie_at = (play.rank == 1).then_some(20);
    });
    wire.submit(1, &[1, 2, 3], 4000);
    for rank in 0..3 {
        assert_eq!(troupe.code(rank), exit::INTEGRITY, "rank {rank}");
    }
}

#[test]
fn a_failed_step_has_its_own_code_and_is_a_lost_peer_to_the_others() {
    let (mut troupe, mut wire) = Troupe::ready(2, |play| {
        play.fail_at = (play.rank == 1).then_some(20);
    });
    wire.submit(1, &[1, 2, 3], 4000);
    assert_eq!(troupe.code(1), exit::ENGINE);
    assert_eq!(troupe.code(0), exit::PEER_LOST);
    assert!(troupe.dir.path().join("dropped-0").exists(), "its arrays were dropped first");
}

#[test]
fn a_hung_step_ends_the_rank_as_stalled_although_its_thread_is_stuck() {
    let (mut troupe, mut wire) = Troupe::ready(2, |play| {
        play.hang_at = (play.rank == 0).then_some(20);
        play.step_timeout_ms = if play.rank == 0 { 300 } else { 10_000 };
    });
    wire.submit(1, &[1, 2, 3], 4000);
    assert_eq!(troupe.code(0), exit::STALLED);
    assert_eq!(troupe.code(1), exit::PEER_LOST);
    assert!(!troupe.dir.path().join("dropped-0").exists());
}

#[test]
fn vitals_are_answered_and_show_no_progress_while_a_step_hangs() {
    let (_troupe, mut wire) = Troupe::ready(1, |play| play.hang_at = Some(20));
    wire.submit(1, &[1, 2, 3], 4000);
    let started = Instant::now();
    loop {
        wire.send(&ToRank::Vitals);
        let vitals = loop {
            if let FromRank::Vitals(vitals) = wire.read() {
                break vitals;
            }
        };
        // Step 20 is never collected; work waits, and the last step grows old.
        if vitals.steps == 19 && vitals.last_step_age_ms > Some(100) {
            assert_eq!((vitals.active, vitals.phase), (1, Phase::Ready));
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{vitals:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn unload_asked_of_any_rank_unloads_all_in_mid_request() {
    for asked in [0, 1] {
        let (mut troupe, mut wire) = Troupe::ready(2, |_| {});
        wire.run_long();
        Wire::connect(&troupe.socket(asked)).send(&ToRank::Unload);
        let (_, end) = wire.finish(77);
        assert!(matches!(end, FromRank::Failed { code: FailureCode::NotReady, .. }), "{end:?}");
        troupe.assert_unloaded();
    }
}

#[test]
fn sigterm_to_all_at_once_is_an_orderly_unload() {
    let (mut troupe, _wire) = Troupe::ready(2, |_| {});
    troupe.signal(1, Signal::SIGTERM);
    troupe.signal(0, Signal::SIGTERM);
    troupe.assert_unloaded();
}

#[test]
fn a_group_that_never_forms_ends_in_time_and_sigterm_ends_it_sooner() {
    let mut troupe = Troupe::start(2, |play| {
        play.group_hangs = true;
        play.form_timeout_ms = 1500;
    });
    // Whichever is first tells the other.
    let codes = [troupe.code(0), troupe.code(1)];
    assert!(codes.contains(&exit::GROUP), "{codes:?}");
    assert!(codes.iter().all(|c| matches!(*c, exit::GROUP | exit::PEER_LOST)), "{codes:?}");

    let mut troupe = Troupe::start(1, |play| play.group_hangs = true);
    Wire::connect(&troupe.socket(0));
    troupe.signal(0, Signal::SIGTERM);
    assert_eq!(troupe.code_within(0, GONE), exit::OK);
    assert!(!troupe.socket(0).exists());
}

#[test]
fn a_wrong_sum_ends_all_with_integrity_and_a_long_measurement_is_no_silence() {
    let mut troupe = Troupe::start(2, |play| {
        play.silence_timeout_ms = 500;
        // Rank 1 gives up between two sums; rank 0 waits for it in the next.
        play.group_hangs = play.rank == 0;
        play.wrong_sum_after_ms = (play.rank == 1).then_some(1000);
    });
    assert_eq!([troupe.code(0), troupe.code(1)], [exit::INTEGRITY; 2]);
}

#[test]
fn ranks_with_different_models_refuse_each_other() {
    let mut troupe = Troupe::start(2, |play| {
        play.parity = format!("{{\"hidden_size\": {}}}", play.rank);
    });
    assert_eq!(troupe.code(0), exit::MODEL);
    assert_eq!(troupe.code(1), exit::MODEL);
}

#[test]
fn a_missing_rank_is_given_up_and_a_living_rank_keeps_its_socket() {
    let mut alone = Troupe::start(1, |play| {
        play.world = 2;
        play.form_timeout_ms = 1500;
    });
    let mut twin = Wire::connect(&alone.socket(0));
    assert!(matches!(twin.read(), FromRank::Phase { phase: Phase::Forming, model: None }));
    let play = Play {
        rank: 0,
        world: 1,
        port: 1,
        run_dir: alone.dir.path().to_owned(),
        session: Session { epoch: 3, control_key: String::new() },
        parity: String::new(),
        step_ms: 0,
        lie_at: None,
        hang_at: None,
        fail_at: None,
        group_hangs: false,
        wrong_sum_after_ms: None,
        silence_timeout_ms: 500,
        step_timeout_ms: 1000,
        form_timeout_ms: 1000,
    };
    let status = spawn(&play).wait().unwrap();
    assert_eq!(status.code(), Some(exit::OS));
    assert_eq!(alone.code(0), exit::GROUP);
}

#[test]
fn a_reader_that_stops_reading_is_cut_off_and_nobody_else_suffers() {
    let (mut troupe, mut wire) = Troupe::ready(1, |play| play.step_ms = 0);
    let mut deaf = Wire::connect(&troupe.socket(0));
    deaf.stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // Each refusal is an answer that nobody reads: in the end the rank hangs up.
    let empty = tandem_wire::encode(&ToRank::Vitals).unwrap();
    let cut = (0..1_000_000).find_map(|_| deaf.stream.write_all(&empty).err());
    assert!(cut.is_some(), "a connection may fill the rank's memory");
    wire.submit(1, &[9], 20);
    assert_eq!(wire.finish(1).0, expected(&[9], 20));
    wire.send(&ToRank::Unload);
    troupe.assert_unloaded();
}
