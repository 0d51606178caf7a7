//! Settings of a life: the product's, with times scaled so that hours pass in a few hundred turns.

use tandem_policy::{
    Setup,
    invariant::{Invariant, Mode},
    pair::NodePlace,
    settings::{Canary, Host, Leak, Reboot, Supervise},
};

use crate::dice::Dice;

/// The settings that a seed gives.
pub(crate) fn roll(dice: &mut Dice) -> Setup {
    let mut setup = Setup {
        ranks: u32::try_from(dice.pick(&[1, 2, 2, 2, 3])).unwrap_or(2),
        rank_plan: "ranks 0".into(),
        gateway_plan: "gateway 0".into(),
        uses_fabric: dice.once_in(2),
        ring_fallback: false,
        can_reboot: !dice.once_in(10),
        supervise: supervise(dice),
        host: Host {
            link: if dice.once_in(6) { String::new() } else { "en5".into() },
            wired_limit_mib: dice.pick(&[0, 400_000]),
            poll_ms: 2_000,
            slow_poll_ms: 10_000,
            probe_timeout_ms: 1_000,
            flap_max: u32::try_from(dice.between(3, 6)).unwrap_or(3),
            flap_window_ms: 30_000,
            ..Host::default()
        },
        leak: Leak {
            settle_ms: 8_000,
            samples: 3,
            sample_ms: 2_000,
            confirm_after_ms: 60_000,
            ..Leak::default()
        },
        canary: Canary { period_ms: 10_000, timeout_ms: 15_000, ..Canary::default() },
        reboot: Reboot {
            automatic: !dice.once_in(8),
            per_day_max: u32::try_from(dice.between(1, 3)).unwrap_or(1),
            interval_min_ms: 90_000,
            uptime_min_ms: 40_000,
            latch_ms: 60_000,
            ..Reboot::default()
        },
        ..Setup::default()
    };
    setup.own_ranks = (0..setup.ranks).collect();
    setup.nodes = vec![NodePlace { name: setup.node.clone(), ranks: setup.own_ranks.clone() }];
    for invariant in Invariant::ALL {
        if dice.once_in(8) {
            let mode = if dice.once_in(2) { Mode::Observe } else { Mode::Enforce };
            setup.invariants.0.insert(invariant, mode);
        }
    }
    setup
}

fn supervise(dice: &mut Dice) -> Supervise {
    Supervise {
        backoff_max_ms: 8_000,
        stable_after_ms: 60_000,
        restarts_max: u32::try_from(dice.pick(&[1, 2, 4, 10, 1_000])).unwrap_or(10),
        restart_window_ms: 300_000,
        fabric_starts_max: u32::try_from(dice.pick(&[3, 6, 12, 1_000])).unwrap_or(12),
        start_timeout_ms: 60_000,
        silence_timeout_ms: 15_000,
        stall_timeout_ms: 20_000,
        gateway_timeout_ms: 15_000,
        unload_timeout_ms: 10_000,
        drain_timeout_ms: 12_000,
        retune_raise_after_ms: 120_000,
        ..Supervise::default()
    }
}
