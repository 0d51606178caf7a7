//! Settings of a life of several nodes: one config, and what each node has of its own.

use tandem_policy::{
    Fallback, Setup,
    pair::{Component, NodePlace},
    settings::{Pair, Reboot},
};

use crate::{dice::Dice, setups};

/// Names of the nodes, in the config's order.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// The settings of every node, as a seed gives them.
pub(super) fn roll(dice: &mut Dice, of_cables: &mut Dice) -> Vec<Setup> {
    let mut common = setups::roll(dice);
    let count = dice.pick(&[2, 2, 2, 2, 3, 4]);
    let mut nodes = Vec::new();
    let mut ranks = 0;
    for name in NAMES.into_iter().take(count) {
        let own = if dice.once_in(8) { 2 } else { 1 };
        // An RDMA device joins two machines, so each has one rank.
        let own = if common.uses_fabric { 1 } else { own };
        nodes.push(NodePlace { name: name.into(), ranks: (ranks..ranks + own).collect() });
        ranks += own;
    }
    common.ranks = ranks;
    common.ring_fallback = !of_cables.once_in(4);
    common.supervise.fabric_timeout_ms = of_cables.pick(&[5_000, 20_000]);
    common.supervise.fabric_failures_max = u32::try_from(of_cables.between(1, 3)).unwrap_or(1);
    common.nodes = nodes;
    common.pair = Pair { report_ms: 500, silence_timeout_ms: 3_000, ..Pair::default() };
    common.reboot = Reboot {
        alone_after_ms: dice.pick(&[8_000, 20_000, 40_000]),
        return_timeout_ms: 120_000,
        ..common.reboot
    };
    common.fallback = dice.once_in(3).then(|| Fallback {
        model: "small".into(),
        rank_plan: "fallback ranks".into(),
        gateway_plan: "fallback gateway".into(),
        after_ms: dice.pick(&[5_000, 15_000]),
    });
    set_plan(&mut common, 0);
    common.nodes.clone().into_iter().map(|place| of_node(&common, &place, dice)).collect()
}

/// One node's.
fn of_node(common: &Setup, place: &NodePlace, dice: &mut Dice) -> Setup {
    let mut setup = common.clone();
    setup.node.clone_from(&place.name);
    setup.own_ranks.clone_from(&place.ranks);
    let own = u32::try_from(place.ranks.len()).unwrap_or(1);
    setup.share_permille = (1_000 * own).div_ceil(common.ranks);
    setup.can_reboot = !dice.once_in(16);
    setup.reboot.automatic = common.reboot.automatic || dice.once_in(2);
    if dice.once_in(6) {
        setup.host.link = String::new();
    }
    setup
}

/// The plan of this number: what must be equal on all nodes.
pub(super) fn set_plan(setup: &mut Setup, number: u32) {
    setup.rank_plan = format!("ranks {number}");
    setup.plan = vec![
        Component { name: "ranks".into(), value: setup.rank_plan.clone() },
        Component { name: "model".into(), value: setup.model.clone() },
    ];
}
