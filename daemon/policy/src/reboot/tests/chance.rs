//! Whatever happens to several nodes at once, by chance.

use super::{
    LONG_MS, nobody_obeyed_twice, order_all,
    rig::{Mishap, Rig},
};
use crate::{OrderKind, reboot::memory::ORDER_MS};

/// SplitMix64 (Steele, Lea, Flood 2014), by its published constants.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }
}

fn trouble(rig: &mut Rig, dice: &mut Dice) {
    let count = rig.nodes.len();
    let (one, other) = (dice.index(count), dice.index(count));
    let phases = ["draining", "ready", "committed", "rebooting", "verifying"];
    match dice.below(14) {
        0..=2 => rig.fault(one, ["leak", "restarts"][dice.index(2)]),
        3 => rig.order(one, order_all()),
        4 => rig.order(one, OrderKind::Reboot { all: false, reason: "r".into() }),
        5..=6 => rig.set_link(one, other, false),
        7 => rig.cut.clear(),
        8 => rig.cut_power(one),
        9..=10 => {
            let mishap = [Mishap::CutBefore, Mishap::CutAfter, Mishap::Crash][dice.index(3)];
            rig.nodes[one].mishap = Some((mishap, phases[dice.index(5)]));
        }
        11 => rig.hold(one, dice.below(2) == 0),
        12 => rig.hang(one),
        _ => rig.nodes[one].cannot_save = dice.below(2) == 0,
    }
}

fn heal(rig: &mut Rig) {
    rig.cut.clear();
    for index in 0..rig.nodes.len() {
        rig.hold(index, false);
        let node = &mut rig.nodes[index];
        node.cannot_save = false;
        node.mishap = None;
        node.fault = None;
    }
}

#[test]
fn whatever_happens_nobody_goes_twice_and_all_come_to_rest() {
    let mut went_together = 0;
    for seed in 0..150 {
        let mut dice = Dice(seed);
        let mut rig = Rig::of(2 + dice.index(3));
        for _ in 0..1 + dice.index(12) {
            trouble(&mut rig, &mut dice);
            let pause_ms = [500, 2_000, 8_000, 60_000][dice.index(4)];
            rig.run(pause_ms);
            nobody_obeyed_twice(&rig);
        }
        heal(&mut rig);
        // An order that was refused may still be carried out now.
        rig.run(ORDER_MS);
        assert!(
            rig.run_until(2 * LONG_MS, Rig::all_steady),
            "seed {seed}: {:?}, {:?}",
            rig.phases(),
            rig.nodes.iter().map(|node| &node.course).collect::<Vec<_>>()
        );
        rig.run(60_000);
        assert!(rig.all_steady(), "seed {seed}: it stays so");
        nobody_obeyed_twice(&rig);
        for node in &rig.nodes {
            let per_day_max = node.setup.reboot.per_day_max as usize;
            assert!(node.saved.reboots.len() <= per_day_max, "seed {seed}: {}", node.name);
        }
        let ids: Vec<_> = rig.nodes.iter().map(|node| node.told_ids()).collect();
        went_together += usize::from(ids.iter().skip(1).any(|of| !of.is_disjoint(&ids[0])));
    }
    assert!(went_together > 15, "only {went_together} of the stories had a reboot together");
}
