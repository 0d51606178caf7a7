//! What holds whatever a host does.

use proptest::{prelude::*, test_runner::RngSeed};

use super::*;

/// What a host does for some seconds: who runs, what is wired and owned in GiB, if memory is read.
#[derive(Clone, Debug)]
struct Spell {
    seconds: u64,
    runs: bool,
    crashes: bool,
    wired_gib: Option<u64>,
    owned_gib: u64,
}

fn spells() -> impl Strategy<Value = Vec<Spell>> {
    let wired = prop::option::weighted(0.9, prop_oneof![0_u64..40, 0_u64..500]);
    let spell = (1_u64..120, prop::bool::weighted(0.2), any::<bool>(), wired, 0_u64..500).prop_map(
        |(seconds, runs, crashes, wired_gib, owned_gib)| Spell {
            seconds,
            runs,
            crashes,
            wired_gib,
            // Most hosts have no large owner, or leaks would hardly ever be met.
            owned_gib: owned_gib.saturating_sub(400),
        },
    );
    prop::collection::vec(spell, 1..12)
}

fn live(life: &mut Life, spell: &Spell) {
    if spell.runs {
        life.start();
    } else if life.seen.ranks.iter().any(|rank| rank.process.is_running()) {
        life.end(crate::Ended::Code(0));
        life.state.crashed_in_boot |= spell.crashes;
    }
    if !spell.runs {
        life.owners(vec![scene::owner(500, "other", spell.owned_gib)]);
    }
    match spell.wired_gib {
        Some(wired_gib) => life.pass(spell.seconds, |_| wired_gib),
        None => life.pass_blind(spell.seconds),
    }
}

fn is_allowed(from: &str, to: &str) -> bool {
    matches!(
        (from, to),
        ("clear", "watching")
            | ("watching", "suspect")
            | ("suspect", "confirmed")
            | ("watching" | "suspect" | "confirmed", "clear")
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        rng_seed: RngSeed::Fixed(0x7461_6e64),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_verdict_moves_one_step_at_a_time_and_back_only_to_clear(spells in spells()) {
        let mut life = Life::new();
        spells.iter().for_each(|spell| live(&mut life, spell));
        for pair in life.verdicts.windows(2) {
            prop_assert!(is_allowed(pair[0], pair[1]), "{:?}", life.verdicts);
        }
    }

    #[test]
    fn owners_that_cover_all_that_is_wired_are_never_suspected(spells in spells()) {
        let mut life = Life::new();
        for mut spell in spells {
            spell.owned_gib = spell.wired_gib.unwrap_or(0);
            spell.runs = false;
            live(&mut life, &spell);
        }
        prop_assert_eq!(life.verdicts, vec!["clear"]);
    }

    #[test]
    fn quiet_turns_change_nothing_on_disk(spells in spells(), wired_gib in 0_u64..500) {
        let mut life = Life::new();
        spells.iter().for_each(|spell| live(&mut life, spell));
        // Long enough for every verdict to come to its end.
        life.pass(1_500, |_| wired_gib);
        let saves = life.saves;
        life.pass(300, |_| wired_gib);
        prop_assert_eq!(life.saves, saves);
    }

    #[test]
    fn blind_turns_neither_accuse_nor_clear(spells in spells(), seconds in 1_u64..2_000) {
        let mut life = Life::new();
        spells.iter().for_each(|spell| live(&mut life, spell));
        life.pass(1, |_| 5);
        // An engine that runs ends all watching; this is about hosts without one.
        if life.seen.ranks.iter().any(|rank| rank.process.is_running()) {
            return Ok(());
        }
        let before = life.state.leak.clone();
        life.pass_blind(seconds);
        prop_assert_eq!(life.state.leak, before);
    }
}
