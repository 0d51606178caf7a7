//! What happens to hosts, and what is thought of it.

use super::*;
use crate::Ended;

const TO_CONFIRMED: [&str; 4] = ["clear", "watching", "suspect", "confirmed"];

#[test]
fn loading_serving_and_unloading_in_order_never_suspects() {
    let mut life = Life::after_an_epoch();
    // 416 GiB are given back within 20 s.
    life.end(Ended::Code(0));
    life.pass(600, |second| 5 + 416 * 20_u64.saturating_sub(second) / 20);
    life.start();
    life.pass(120, |second| (5 + second * 4).min(420));
    life.end(Ended::Code(0));
    life.pass(600, |_| 6);
    assert_eq!(life.verdicts, ["clear"]);
    assert_eq!(life.saves, 1, "the baseline, once");
}

#[test]
fn a_leak_after_a_crash_is_confirmed_after_settling_and_so_many_samples() {
    let mut life = Life::after_an_epoch();
    life.crash();
    // 60 s to settle, then samples at 60, 65, 70, 75 and 80 s.
    life.pass(80, |_| 414);
    assert_eq!(life.verdicts, ["clear", "watching"]);
    life.pass(2, |_| 414);
    assert_eq!(life.verdicts, TO_CONFIRMED);
    assert_eq!(life.state.leak.unexplained_bytes(), 409 * GIB);

    let saves = life.saves;
    life.pass(600, |_| 414);
    assert_eq!(life.saves, saves, "nothing changes, so nothing is written");
}

#[test]
fn a_leak_without_evidence_of_a_crash_is_confirmed_by_time() {
    let mut life = Life::after_an_epoch();
    life.end(Ended::Code(0));
    life.pass(81 + 599, |_| 414);
    assert_eq!(life.verdicts, ["clear", "watching", "suspect"]);
    life.pass(2, |_| 414);
    assert_eq!(life.verdicts, TO_CONFIRMED);
}

#[test]
fn a_killed_rank_is_evidence_of_a_crash() {
    let mut life = Life::after_an_epoch();
    life.end(Ended::Code(0));
    life.state.suspect(crate::Leak { epoch: 1, rank: 0, pid: 100, wall_ms: 0 });
    life.pass(82, |_| 414);
    assert_eq!(life.verdicts, TO_CONFIRMED);
}

#[test]
fn a_ramp_is_watched_but_is_no_leak() {
    let mut life = Life::after_an_epoch();
    life.crash();
    life.pass(200, |second| 40 + second);
    assert_eq!(life.verdicts, ["clear", "watching"]);
    life.pass(10, |_| 8);
    assert_eq!(life.verdicts, ["clear", "watching", "clear"]);
}

#[test]
fn live_owners_explain_what_they_can_have_wired() {
    let stories = [
        ("another server", scene::owner(500, "ollama", 90)),
        ("a rank that looks stopped, but is there", scene::owner(100, "tandem", 95)),
    ];
    for (story, owner) in stories {
        let mut life = Life::after_an_epoch();
        life.crash();
        life.owners(vec![owner]);
        life.pass(900, |_| 100);
        assert_eq!(life.verdicts, ["clear"], "{story}");
    }
}

#[test]
fn kernel_task_explains_nothing_since_leaks_are_booked_on_it() {
    let mut life = Life::after_an_epoch();
    life.crash();
    life.owners(vec![scene::owner(0, "kernel_task", 410)]);
    life.pass(82, |_| 414);
    assert_eq!(life.verdicts, TO_CONFIRMED);
}

#[test]
fn a_leak_is_cleared_only_at_half_of_the_threshold() {
    // 5 % of 512 GiB are 25.6 GiB, above a baseline of 5 GiB.
    let mut life = Life::after_an_epoch();
    life.crash();
    life.pass(82, |_| 414);
    for (wired_gib, expected) in [(31, "confirmed"), (18, "confirmed"), (17, "clear")] {
        life.pass(10, |_| wired_gib);
        assert_eq!(life.state.leak.name(), expected, "{wired_gib} GiB");
    }
}

#[test]
fn settling_begins_again_with_every_run() {
    let mut life = Life::after_an_epoch();
    life.crash();
    life.pass(70, |_| 100);
    assert_eq!(life.verdicts, ["clear", "watching"]);
    life.start();
    life.pass(5, |_| 420);
    life.crash();
    life.pass(60, |_| 100);
    assert_eq!(life.verdicts, ["clear", "watching", "clear"]);
}

#[test]
fn the_least_that_was_wired_before_any_epoch_is_the_baseline_of_a_boot() {
    let mut life = Life::new();
    life.pass(30, |second| 9 - (second / 10).min(3));
    assert_eq!((life.baseline_gib(), life.saves), (Some(7), 3));
    life.pass(30, |_| 8);
    assert_eq!((life.baseline_gib(), life.saves), (Some(7), 3));

    let mut next = Life { state: life.state.resumed("next boot"), ..Life::new() };
    next.pass(10, |_| 8);
    assert_eq!(next.baseline_gib(), Some(8), "every boot learns its own");

    next.start();
    next.end(Ended::Code(0));
    next.pass(100, |_| 2);
    assert_eq!(next.baseline_gib(), Some(8), "no engine's aftermath is learned");
}

#[test]
fn a_remembered_baseline_wins_over_a_first_sample_that_is_far_above_it() {
    let mut life = Life::new();
    life.pass(10, |_| 5);
    let mut next = Life { state: life.state.resumed("next boot"), ..Life::new() };
    next.pass(82, |_| 200);
    assert_eq!(next.baseline_gib(), Some(5));
    assert_eq!(next.verdicts, ["clear", "watching", "suspect"]);
}

#[test]
fn another_hosts_baseline_means_nothing() {
    let mut life = Life::new();
    let (boot, wired_bytes) = ("old".to_owned(), 300 * GIB);
    life.state.baseline = Some(Baseline { boot, total_bytes: 1024 * GIB, wired_bytes });
    life.pass(82, |_| 200);
    assert_eq!(life.verdicts, ["clear", "watching", "suspect"]);
}

#[test]
fn a_leak_is_found_by_a_supervisor_that_lost_its_memory_within_the_boot() {
    let mut life = Life::new();
    life.state = State::after_loss("boot", scene::at(20_000));
    life.pass(82, |_| 414);
    assert_eq!(life.baseline_gib(), None, "what may be the leak is not learned");
    assert_eq!(life.verdicts, ["clear", "watching", "suspect"]);

    // Less than the threshold could be learned, but not after a rank that was seen to have run.
    let mut small = Life::new();
    small.end(Ended::Unseen);
    small.pass(82, |_| 20);
    assert_eq!((small.baseline_gib(), small.verdicts), (None, vec!["clear"]));
}

#[test]
fn unknown_memory_keeps_the_verdict() {
    let mut life = Life::after_an_epoch();
    life.crash();
    life.pass(82, |_| 414);
    life.pass_blind(3_600);
    assert_eq!(life.verdicts, TO_CONFIRMED);

    // A reading that no one renews is not known either.
    let mut stale = Life::after_an_epoch();
    stale.crash();
    stale.pass(1, |_| 414);
    (0..3_600).for_each(|_| stale.turn());
    assert_eq!(stale.verdicts, ["clear"]);
}

#[test]
fn samples_with_a_gap_between_them_are_not_in_a_row() {
    let mut life = Life::after_an_epoch();
    life.crash();
    life.pass(77, |_| 414);
    life.pass_blind(60);
    life.pass(17, |_| 414);
    assert_eq!(life.verdicts, ["clear", "watching"]);
    life.pass(5, |_| 414);
    assert_eq!(life.verdicts, TO_CONFIRMED);
}

#[test]
fn a_supervisor_that_restarts_keeps_the_verdict_and_tells_it() {
    let mut life = Life::after_an_epoch();
    life.crash();
    life.pass(82, |_| 414);
    let mut next = Life { now_ms: life.now_ms, seen: life.seen.clone(), ..Life::new() };
    next.state = life.state.resumed("boot");
    next.pass(5, |_| 414);
    assert_eq!(next.state.leak.name(), "confirmed");
    assert!(conditions(&next.setup, &next.state, &next.seen)[0].evidence.contains("threshold"));
    assert_eq!(next.state.resumed("next boot").leak, Verdict::Clear);
}

#[test]
fn what_is_told_names_figures_and_owners_and_stays_the_same() {
    let mut life = Life::after_an_epoch();
    life.end(Ended::Code(0));
    let owners = (1..=7).map(|pid| scene::owner(pid, "app", 9 - u64::from(pid))).collect();
    life.owners(owners);
    life.pass(70, |_| 414);
    assert_eq!(conditions(&life.setup, &life.state, &life.seen), Vec::new(), "only watched");
    life.pass(20, |_| 414);
    let told = conditions(&life.setup, &life.state, &life.seen);
    let expected = "382976 MiB of wired memory are owned by no live process (threshold 26214 MiB, \
                    baseline 5120 MiB; live owners: app (pid 1) 8192 MiB, app (pid 2) 7168 MiB, \
                    app (pid 3) 6144 MiB, app (pid 4) 5120 MiB, app (pid 5) 4096 MiB)";
    assert_eq!(told[0].evidence, expected);
    assert_eq!((&told[0].kind, told[0].rung), (&Kind::LeakSuspected, Rung::None));

    life.seen.memory.as_mut().unwrap().owners[0].footprint_bytes -= GIB / 2;
    life.pass(20, |_| 414);
    assert_eq!(conditions(&life.setup, &life.state, &life.seen), told);

    life.state.crashed_in_boot = true;
    life.pass(20, |_| 414);
    let told = conditions(&life.setup, &life.state, &life.seen);
    assert_eq!((&told[0].kind, told[0].rung), (&Kind::LeakConfirmed, Rung::Reboot));
}
