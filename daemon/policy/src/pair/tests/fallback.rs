//! Serving a smaller model alone while the others can't take part.

use super::rig::Rig;
use crate::{
    Ended, Observation, OrderKind, Process, RankSeen, Setup, State, What, gang, gateway,
    leak::scene,
    pair::{self, alone},
};

#[test]
fn a_node_whose_other_dies_serves_alone_and_hands_back() {
    for gone in [0, 1] {
        let mut rig = Rig::with_fallback(2);
        rig.serve();
        let left = 1 - gone;
        rig.power_off(gone);
        rig.until("it serves alone", |rig| rig.nodes[left].serves("small"));
        let node = &rig.nodes[left];
        assert_eq!(node.started.last(), Some(&(2, 512, true)), "{gone}");
        assert_eq!(node.gateway_mode, Some(gateway::Mode::Alone));
        let status = node.status();
        assert_eq!((status.model.as_str(), status.pair.mode.as_str()), ("small", "alone"));
        assert_eq!(status.health, crate::Health::Degraded);
        assert!(status.pair.why_alone.as_ref().is_some_and(|why| why.contains("not heard")));
        assert!(node.faults().contains(&"fallback"), "{:?}", node.faults());
        assert_eq!(status.ranks.iter().map(|r| r.rank).collect::<Vec<_>>(), [0]);

        rig.power_on(gone);
        rig.until("both are a pair", |rig| rig.nodes.iter().all(|n| n.serves("large")));
        for node in &rig.nodes {
            assert_eq!((node.status().model.as_str(), node.state.epoch), ("large", 3), "{gone}");
            assert_eq!(node.faults(), Vec::<&str>::new());
        }
        let modes = [Some(gateway::Mode::Serve), Some(gateway::Mode::Proxy)];
        assert_eq!([rig.nodes[0].gateway_mode, rig.nodes[1].gateway_mode], modes);
        let changes = rig.nodes[left].told_of(|what| matches!(what, What::Mode { .. }));
        assert_eq!(changes, 3, "alone, returning, pair");
    }
}

#[test]
fn it_waits_for_all_of_its_time_and_begins_anew_when_the_other_is_back() {
    let mut rig = Rig::with_fallback(2);
    rig.power_off(1);
    rig.pass(19_000);
    assert!(rig.nodes[0].started.is_empty());
    rig.power_on(1);
    rig.nodes[1].manifest = None;
    rig.pass(2_000);
    assert_eq!(rig.nodes[0].started.len(), 1, "it is heard, but still can't take part");

    let mut rig = Rig::with_fallback(2);
    rig.power_off(1);
    rig.pass(19_000);
    rig.power_on(1);
    rig.serve();
    assert_eq!(rig.nodes[0].started, [(1, 512, false)]);
}

#[test]
fn both_serve_alone_while_they_do_not_hear_each_other_and_both_hand_back() {
    let mut rig = Rig::with_fallback(2);
    rig.serve();
    rig.is_cut = true;
    rig.pass(60_000);
    assert_eq!(rig.phases(), ["serving", "serving"], "what runs goes on");
    rig.end_rank(0, Ended::Signal(9));
    rig.until("both serve alone", |rig| rig.nodes.iter().all(|node| node.serves("small")));
    rig.is_cut = false;
    rig.until("both are a pair again", |rig| rig.nodes.iter().all(|n| n.serves("large")));
    assert_eq!(rig.nodes[0].state.epoch, rig.nodes[1].state.epoch);
}

#[test]
fn a_way_that_flaps_costs_no_unload() {
    let mut rig = Rig::with_fallback(2);
    rig.power_off(1);
    rig.until("it serves alone", |rig| rig.nodes[0].serves("small"));
    rig.power_on(1);
    for _ in 0..10 {
        rig.is_cut = false;
        rig.pass(2_000);
        rig.is_cut = true;
        rig.pass(5_000);
    }
    assert_eq!(rig.nodes[0].status().model, "small");
    assert_eq!(rig.nodes[0].started.len(), 1, "the same fallback all the time");
}

#[test]
fn nothing_is_served_alone_while_an_operator_holds_or_drains_it() {
    for order in [OrderKind::Hold { until_wall_ms: None }, OrderKind::Drain] {
        let mut rig = Rig::with_fallback(2);
        rig.order(0, order);
        rig.power_off(1);
        rig.pass(60_000);
        assert!(rig.nodes[0].started.is_empty());
    }
    let mut rig = Rig::with_fallback(2);
    rig.power_off(1);
    rig.until("it serves alone", |rig| rig.nodes[0].serves("small"));
    rig.order(0, OrderKind::Drain);
    rig.pass(5_000);
    assert!(!rig.nodes[0].ranks[0].process.is_running());
    rig.order(0, OrderKind::Resume);
    rig.pass(10_000);
    assert_eq!(rig.nodes[0].status().model, "small");
    assert!(rig.nodes[0].is_proven());
}

#[test]
fn a_supervisor_that_starts_again_goes_on_with_the_fallback() {
    let mut rig = Rig::with_fallback(2);
    rig.power_off(0);
    rig.until("it serves alone", |rig| rig.nodes[1].serves("small"));
    rig.kill_supervisor(1);
    rig.pass(2_000);
    rig.start_supervisor(1);
    rig.pass(10_000);
    assert_eq!(rig.nodes[1].started.len(), 1);
    assert!(rig.nodes[1].is_proven());
    rig.power_on(0);
    rig.until("both are a pair", |rig| rig.nodes.iter().all(|n| n.serves("large")));
}

#[test]
fn a_fallback_that_fails_for_good_does_not_keep_the_pair_from_coming_back() {
    let mut rig = Rig::with_fallback(2);
    rig.power_off(1);
    rig.until("it serves alone", |rig| rig.nodes[0].serves("small"));
    rig.end_rank(0, Ended::Code(tandem_wire::exit::MODEL));
    rig.pass(5_000);
    assert!(rig.nodes[0].is_held());
    rig.power_on(1);
    rig.until("both are a pair", |rig| rig.nodes.iter().all(|n| n.serves("large")));
}

#[test]
fn a_held_leader_leaves_the_other_to_serve_alone() {
    let mut rig = Rig::with_fallback(2);
    rig.serve();
    rig.end_rank(1, Ended::Code(tandem_wire::exit::MODEL));
    rig.pass(5_000);
    assert!(rig.nodes[0].is_held());
    rig.until("the other serves alone", |rig| rig.nodes[1].serves("small"));
    assert_eq!(rig.nodes[1].status().model, "small");
    rig.order(0, OrderKind::Release);
    rig.until("both are a pair", |rig| rig.nodes.iter().all(|n| n.serves("large")));
}

#[test]
fn a_number_that_only_a_rank_beside_the_fallback_had_is_used_up_once_nothing_runs() {
    let ended = |epoch| RankSeen {
        process: Process::Ended { epoch, how: Ended::Code(0) },
        phase: None,
        vitals: None,
    };
    let seen = Observation { ranks: vec![ended(5), ended(6)], ..scene::quiet(1_000) };
    let rows = [
        (gang::Phase::Idle, 6),
        (gang::Phase::Backoff { until_ms: 9 }, 6),
        (gang::Phase::Serving, 5),
    ];
    for (phase, expected) in rows {
        let mode = pair::Mode::Alone { why: "b is not heard".into() };
        let mut state = State { epoch: 5, mode, gang: phase.clone(), ..State::new("boot") };
        alone::step(&Setup::default(), &mut state, &seen, scene::at(1_000));
        assert_eq!(state.epoch, expected, "{phase:?}");
    }
}
