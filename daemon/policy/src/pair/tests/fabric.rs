//! Two nodes whose config asks for JACCL: with it, without it, and back.

use super::rig::Rig;
use crate::{
    Ended, Evidence, EvidenceSource, OrderKind, Rung, ThunderboltPort,
    gates::{GateName, GateState},
    invariant::Mode,
    pair::fabric::Carrier,
};

fn port(interface: &str, domain: &str, sees: Option<&str>) -> ThunderboltPort {
    ThunderboltPort {
        interface: interface.into(),
        rdma_device: Some(format!("rdma_{interface}")),
        domain_uuid: domain.into(),
        peer_domain_uuid: sees.map(str::to_owned),
    }
}

fn plug(rig: &mut Rig) {
    rig.nodes[0].ports = Some(vec![port("en5", "A", Some("B"))]);
    rig.nodes[1].ports = Some(vec![port("en3", "B", Some("A"))]);
}

/// Two nodes with a cable between them.
fn cabled() -> Rig {
    let mut rig = Rig::new(2);
    for (node, link) in rig.nodes.iter_mut().zip(["en5", "en3"]) {
        node.setup.uses_fabric = true;
        node.setup.host.link = link.into();
        node.setup.supervise.fabric_timeout_ms = 20_000;
        // What else the link needs is another story.
        for invariant in crate::invariant::Invariant::ALL {
            node.setup.invariants.0.insert(invariant, Mode::Observe);
        }
    }
    plug(&mut rig);
    rig
}

fn jaccl() -> Carrier {
    let device = |name: &str| Some(name.to_owned());
    Carrier::Jaccl { devices: vec![vec![None, device("rdma_en5")], vec![device("rdma_en3"), None]] }
}

fn is_ring(carrier: Option<&Carrier>) -> bool {
    matches!(carrier, Some(Carrier::Ring { instead: Some(_) }))
}

/// The ranks of an epoch fail to form their group.
fn fail(rig: &mut Rig, rung: Rung) {
    rig.until("the ranks run", |rig| rig.nodes.iter().all(|node| node.gang_epoch().is_some()));
    let epoch = rig.nodes[1].gang_epoch().unwrap();
    rig.nodes[1].evidence.push(Evidence {
        id: "rdma-pairing-failed".into(),
        rung,
        is_of_fabric: true,
        text: format!("[jaccl] no queue pair in epoch {epoch}"),
        remedy: "remedy".into(),
        source: EvidenceSource::Rank { rank: 1, epoch },
    });
    rig.end_rank(1, Ended::Code(tandem_wire::exit::GROUP));
    rig.until("none runs", |rig| rig.nodes.iter().all(|node| node.gang_epoch().is_none()));
}

#[test]
fn both_start_by_the_devices_that_join_them() {
    let mut rig = cabled();
    rig.serve();
    for node in &rig.nodes {
        assert_eq!(node.carriers, [jaccl()]);
        assert_eq!(node.state.fabric_starts, 1);
        assert_eq!(node.faults(), Vec::<&str>::new());
    }
}

#[test]
fn a_cable_in_another_port_is_named_before_anything_starts() {
    let mut rig = cabled();
    for node in &mut rig.nodes {
        node.setup.ring_fallback = false;
    }
    rig.nodes[1].ports = Some(vec![port("en3", "B", None), port("en4", "B2", Some("A"))]);
    rig.nodes[0].ports = Some(vec![port("en5", "A", Some("B2"))]);
    rig.pass(60_000);
    assert!(rig.nodes.iter().all(|node| node.started.is_empty()));
    let gate = rig.nodes[1].gate(GateName::Transport);
    assert_eq!(gate.state, GateState::Failed);
    let expected = "host.link of studio-b is en3, but its cable is at en4";
    assert!(gate.evidence.contains(expected), "{}", gate.evidence);
    assert_eq!(rig.nodes[1].faults(), ["fabric"]);
    let gate = rig.nodes[0].gate(GateName::Parity);
    assert_eq!(gate.state, GateState::Passed, "{}", gate.evidence);
    let hindrance = rig.nodes[0].status().pair.hindrance.clone().unwrap();
    assert!(hindrance.contains(expected), "{hindrance}");
    rig.nodes[1].setup.host.link = "en4".into();
    rig.serve();
    assert!(rig.nodes.iter().all(|node| node.carriers.iter().all(Carrier::is_fabric)));
}

#[test]
fn without_a_fabric_the_ring_serves_after_its_time_and_a_fault_says_so_until_it_is_back() {
    let mut rig = cabled();
    rig.nodes[0].ports = Some(vec![port("en5", "A", None)]);
    rig.nodes[1].ports = Some(vec![port("en3", "B", None)]);
    rig.pass(15_000);
    assert!(rig.nodes.iter().all(|node| node.started.is_empty()), "not before its time");
    rig.serve();
    for node in &rig.nodes {
        assert!(is_ring(node.carriers.last()), "{:?}", node.carriers);
        assert_eq!(node.faults(), ["fabric"]);
        let fault = &node.state.faults[0];
        assert!(fault.evidence.contains("no cable joins studio-a and studio-b"), "{fault:?}");
        assert!(fault.remedy.contains("tandem drain"), "{fault:?}");
        assert_eq!(node.state.fabric_starts, 0);
    }
    plug(&mut rig);
    rig.pass(120_000);
    assert!(rig.nodes.iter().all(|node| node.started.len() == 1), "what serves is not ended");
    assert!(rig.nodes.iter().all(|node| node.faults() == ["fabric"]));
    rig.order(0, OrderKind::Drain);
    rig.until("all have stopped", |rig| rig.nodes.iter().all(|n| n.gang_epoch().is_none()));
    rig.order(0, OrderKind::Resume);
    rig.until("all have started", |rig| rig.nodes.iter().all(|n| n.started.len() == 2));
    assert!(rig.nodes.iter().all(|node| node.faults() == ["fabric"]), "until it serves");
    rig.serve();
    rig.pass(2_000);
    for node in &rig.nodes {
        assert_eq!(node.carriers.last(), Some(&jaccl()));
        assert_eq!(node.faults(), Vec::<&str>::new());
    }
}

#[test]
fn the_next_epoch_for_another_reason_is_by_the_fabric_again() {
    let mut rig = cabled();
    rig.nodes[1].ports = None;
    rig.serve();
    assert!(is_ring(rig.nodes[0].carriers.last()));
    plug(&mut rig);
    rig.end_rank(0, Ended::Signal(9));
    rig.pass(1_000).serve();
    assert!(rig.nodes.iter().all(|node| node.carriers.last() == Some(&jaccl())));
}

#[test]
fn a_fabric_that_fails_again_and_again_is_left_for_the_ring() {
    let mut rig = cabled();
    let max = rig.nodes[0].setup.supervise.fabric_failures_max;
    for _ in 0..max {
        fail(&mut rig, Rung::Restart);
    }
    rig.serve();
    for node in &rig.nodes {
        let by_fabric = node.carriers.iter().filter(|carrier| carrier.is_fabric()).count();
        assert_eq!(by_fabric, max as usize);
        assert!(is_ring(node.carriers.last()));
        assert!(node.state.faults[0].evidence.contains("[jaccl] no queue pair"));
    }
    // Only an operator or another boot has it tried again: nothing says that it would go better.
    rig.end_rank(0, Ended::Signal(9));
    rig.pass(1_000).serve();
    assert!(is_ring(rig.nodes[0].carriers.last()));
    rig.order(0, OrderKind::Drain);
    rig.until("all have stopped", |rig| rig.nodes.iter().all(|n| n.gang_epoch().is_none()));
    rig.order(0, OrderKind::Resume);
    rig.serve();
    assert_eq!(rig.nodes[0].carriers.last(), Some(&jaccl()));
}

#[test]
fn the_last_restart_of_a_window_is_not_for_a_fabric_that_fails() {
    let mut rig = cabled();
    rig.nodes[0].setup.supervise.restarts_max = 2;
    for _ in 0..2 {
        fail(&mut rig, Rung::Restart);
    }
    rig.serve();
    assert!(rig.nodes.iter().all(|node| is_ring(node.carriers.last())));
    assert_eq!(rig.nodes[0].carriers.len(), 3);
}

#[test]
fn what_only_a_reboot_or_an_operator_mends_is_served_by_the_ring_at_once() {
    for rung in [Rung::Hold, Rung::Reboot] {
        let mut rig = cabled();
        fail(&mut rig, rung);
        rig.serve();
        assert!(rig.nodes.iter().all(|node| is_ring(node.carriers.last())), "{rung:?}");
        assert!(rig.nodes.iter().all(|node| node.started.len() == 2), "{rung:?}");

        let mut rig = cabled();
        rig.nodes.iter_mut().for_each(|node| {
            node.setup.ring_fallback = false;
            node.setup.can_reboot = false;
        });
        fail(&mut rig, rung);
        rig.pass(5_000);
        assert!(rig.nodes[0].is_held(), "{rung:?}: without a ring the ladder is as ever");
    }
}

#[test]
fn spent_starts_of_either_node_lead_to_the_ring() {
    for node in [0, 1] {
        let mut rig = cabled();
        rig.nodes[node].state.fabric_starts = rig.nodes[node].setup.supervise.fabric_starts_max;
        rig.serve();
        for node in &rig.nodes {
            assert!(is_ring(node.carriers.last()), "{:?}", node.carriers);
            assert!(node.state.faults[0].evidence.contains("fabric_starts_max"));
        }
    }
}

#[test]
fn a_node_that_is_not_heard_for_long_costs_the_fabric_no_time() {
    let mut rig = cabled();
    rig.is_cut = true;
    rig.nodes[1].ports = None;
    rig.pass(60_000);
    rig.is_cut = false;
    rig.pass(10_000);
    plug(&mut rig);
    rig.serve();
    assert!(rig.nodes.iter().all(|node| node.carriers == [jaccl()]), "{:?}", rig.nodes[0].carriers);
}
