//! Stories of several nodes: each decides alone, by what it hears.

mod boots;
mod ends;
mod fabric;
mod fallback;
mod parity;
mod rig;

use rig::Rig;

use crate::{
    OrderKind, What,
    event::PeerChange,
    gates::{GateName, GateState},
    gateway,
};

#[test]
fn two_nodes_form_one_epoch_serve_and_stop_together() {
    let mut rig = Rig::new(2);
    rig.serve();
    assert_eq!(rig.phases(), ["serving", "serving"]);
    assert_eq!(rig.nodes[0].started, [(1, 512, false)]);
    assert_eq!(rig.nodes[1].started, [(1, 512, false)]);
    let modes = [Some(gateway::Mode::Serve), Some(gateway::Mode::Proxy)];
    assert_eq!([rig.nodes[0].gateway_mode, rig.nodes[1].gateway_mode], modes);
    for node in &rig.nodes {
        let gates = &node.status().gates;
        assert!(gates.iter().all(|gate| gate.state == GateState::Passed), "{gates:?}");
        let transport = "2 ranks joined in epoch 1 by ring; 4 KiB in 25.0 us, 64 MiB at 7.90 GB/s";
        assert_eq!(gates[4].evidence, transport);
        assert_eq!(node.faults(), Vec::<&str>::new());
        assert_eq!(node.status().health, crate::Health::Healthy);
    }

    rig.order(0, OrderKind::Drain);
    rig.until("all have stopped", |rig| rig.nodes.iter().all(|n| n.gang_epoch().is_none()));
    rig.pass(5_000);
    assert_eq!(rig.phases(), ["drained", "idle"]);
    assert!(rig.nodes.iter().all(|node| node.state.last_failure.is_none()));
}

#[test]
fn three_and_four_nodes_form_one_epoch_too() {
    for count in [3, 4] {
        let mut rig = Rig::new(count);
        rig.serve();
        assert!(rig.nodes.iter().all(|node| node.started == [(1, 512, false)]), "{count}");
        rig.end_rank(count - 1, crate::Ended::Signal(9));
        rig.pass(1_000).serve();
        assert!(rig.nodes.iter().all(|node| node.started.len() == 2), "{count}");
    }
}

#[test]
fn rank_0_starts_first_and_the_others_when_it_listens() {
    let mut rig = Rig::new(2);
    rig.until("rank 0 was started", |rig| !rig.nodes[0].started.is_empty());
    assert!(rig.nodes[1].started.is_empty());
    // A leader that told an epoch and never started it: nobody follows.
    let mut rig = Rig::new(2);
    rig.nodes[0].acts = false;
    rig.pass(20_000);
    assert_eq!((rig.nodes[0].state.gang.name(), rig.nodes[0].state.epoch), ("starting", 1));
    assert!(rig.nodes[1].started.is_empty());
}

#[test]
fn one_nodes_gateway_alone_proves_nothing() {
    let mut rig = Rig::new(2);
    rig.nodes[1].is_canary_lost = true;
    rig.until("both serve", |rig| rig.phases() == ["serving", "serving"]).pass(20_000);
    for (index, node) in rig.nodes.iter().enumerate() {
        assert!(!node.is_proven(), "{index}");
        assert_eq!(node.status().health, crate::Health::Degraded);
        assert_ne!(node.gate(GateName::Serving).state, GateState::Passed);
    }
    let evidence = &rig.nodes[0].gate(GateName::Serving).evidence;
    assert!(evidence.contains("through the gateway of studio-b"), "{evidence}");
    assert_eq!(
        rig.nodes[0].started.len(),
        1,
        "the way to rank 0 is no reason to start ranks again"
    );
    rig.nodes[1].is_canary_lost = false;
    rig.pass(70_000);
    assert!(rig.nodes.iter().all(|node| node.is_proven()));
}

#[test]
fn reports_that_are_lost_stop_nothing_and_prove_nothing_new() {
    let mut rig = Rig::new(2);
    rig.serve();
    rig.is_cut = true;
    rig.pass(60_000);
    assert_eq!(rig.phases(), ["serving", "serving"]);
    assert_eq!(rig.nodes[0].faults(), ["peer_lost"]);
    assert!(rig.nodes[0].is_proven(), "by what it last heard");
    let gates = &rig.nodes[0].status().gates;
    assert!(gates.iter().all(|gate| gate.state == GateState::Passed), "{gates:?}");
    rig.pass(300_000);
    assert!(!rig.nodes[0].is_proven(), "but not for ever");
    assert_eq!(rig.phases(), ["serving", "serving"]);
    rig.is_cut = false;
    rig.pass(5_000);
    assert!(rig.nodes.iter().all(|node| node.is_proven() && node.faults().is_empty()));
    assert_eq!(rig.nodes[0].started.len(), 1);
    let is_of = |change: PeerChange| move |what: &What| matches!(what, What::Peer { change: c, .. } if *c == change);
    assert_eq!(rig.nodes[0].told_of(is_of(PeerChange::Lost)), 1);
    assert_eq!(rig.nodes[0].told_of(is_of(PeerChange::Back)), 2, "heard first, and again");
    assert_eq!(rig.nodes[0].told_of(is_of(PeerChange::PathDown)), 2);
}

#[test]
fn a_rank_that_dies_while_nobody_hears_is_found_by_the_ranks() {
    let mut rig = Rig::new(2);
    rig.serve();
    rig.is_cut = true;
    rig.pass(5_000);
    rig.end_rank(1, crate::Ended::Signal(9));
    rig.pass(10_000);
    assert!(rig.nodes.iter().all(|node| node.gang_epoch().is_none()));
    assert!(rig.nodes.iter().all(|node| node.started.len() == 1), "no epoch without the others");
    rig.is_cut = false;
    rig.serve();
    assert!(rig.nodes.iter().all(|node| node.state.epoch == 2));
}

#[test]
fn one_way_of_two_is_a_fault_and_nothing_more() {
    let mut rig = Rig::new(2);
    rig.serve();
    rig.is_second_way_down = true;
    rig.pass(2_000);
    for node in &rig.nodes {
        assert_eq!(node.faults(), ["path_lost"]);
        let fault = &node.state.faults[0];
        assert!(fault.evidence.contains("192.168.0.1:52390"), "{}", fault.evidence);
        assert!(fault.remedy.contains("tandem pair status"), "{}", fault.remedy);
        assert_eq!(node.status().health, crate::Health::Degraded);
        assert!(node.is_proven());
    }
    assert_eq!(rig.nodes[0].started.len(), 1);
}

#[test]
fn a_supervisor_that_starts_again_adopts_its_ranks_in_the_leaders_epoch() {
    for node in [0, 1] {
        let mut rig = Rig::new(2);
        rig.serve();
        rig.kill_supervisor(node);
        rig.pass(10_000);
        assert_eq!(rig.nodes[1 - node].state.gang.name(), "serving", "{node}");
        assert!(rig.nodes[1 - node].is_proven(), "{node}: the proof outlives the supervisor");
        rig.start_supervisor(node);
        rig.pass(10_000).serve();
        assert!(rig.nodes.iter().all(|n| n.started.len() == 1), "{node}");
    }
}

#[test]
fn a_follower_that_comes_back_after_its_epoch_is_over_lets_it_go() {
    let mut rig = Rig::new(2);
    rig.serve();
    rig.kill_supervisor(1);
    rig.end_rank(0, crate::Ended::Signal(9));
    rig.pass(10_000);
    assert!(rig.nodes[1].gang_epoch().is_none(), "its rank noticed");
    assert_eq!(rig.nodes[0].started.len(), 1, "no epoch without the other node");
    rig.start_supervisor(1);
    rig.serve();
    assert_eq!((rig.nodes[0].state.epoch, rig.nodes[1].state.epoch), (2, 2));
}

#[test]
fn the_status_shows_every_node() {
    let mut rig = Rig::new(2);
    rig.serve();
    let pair = &rig.nodes[1].status().pair;
    assert_eq!((pair.role, pair.mode.as_str()), (super::Role::Follower, "pair"));
    assert_eq!(pair.transport.as_ref().map(|t| t.rows.len()), Some(2));
    assert_eq!(pair.nodes.iter().map(|n| n.is_self).collect::<Vec<_>>(), [false, true]);
    for node in &pair.nodes {
        assert!(node.is_heard && node.is_paired);
        assert_eq!(node.phase.as_deref(), Some("serving"));
        assert_eq!((node.ranks.len(), node.ranks[0].phase.as_str()), (1, "ready"));
        assert!(node.refusal.is_none() && node.differences.is_empty());
    }
    assert_eq!(pair.nodes[0].paths.len(), 2);
    assert_eq!(pair.hindrance, None);

    rig.nodes[0].is_paired = false;
    rig.pass(1_000);
    let pair = &rig.nodes[0].status().pair;
    assert!(!pair.nodes[1].is_paired && !pair.nodes[1].is_heard);
    assert_eq!(rig.nodes[0].faults(), ["unpaired"]);
    assert!(rig.nodes[0].state.faults[0].remedy.contains("tandem pair init"));
}
