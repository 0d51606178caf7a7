//! How an epoch of several nodes ends, and what it leads to.

use tandem_wire::exit;

use super::rig::Rig;
use crate::{Ended, Evidence, EvidenceSource, OrderKind, Rung, fault::Kind};

fn evidence(id: &str, rung: Rung, rank: u32, epoch: u64) -> Evidence {
    Evidence {
        id: id.into(),
        rung,
        is_of_fabric: false,
        text: format!("text of {id}"),
        remedy: "remedy".into(),
        source: EvidenceSource::Rank { rank, epoch },
    }
}

#[test]
fn a_rank_of_the_other_node_that_dies_ends_the_epoch_on_all_and_only_the_leader_counts_it() {
    let mut rig = Rig::new(2);
    rig.serve();
    rig.end_rank(1, Ended::Signal(9));
    rig.until("none runs", |rig| rig.nodes.iter().all(|node| node.gang_epoch().is_none()));
    rig.until("it is known why", |rig| rig.nodes[0].state.last_failure.is_some());
    let failure = rig.nodes[0].state.last_failure.clone().unwrap();
    assert!(failure.text.contains("rank 1 on studio-b: killed by signal 9"), "{}", failure.text);
    rig.serve();
    let counts: Vec<_> = rig.nodes.iter().map(|n| n.state.restarts_ms.len()).collect();
    assert_eq!(counts, [1, 0]);
    let starts: Vec<_> = rig.nodes.iter().map(|n| n.state.starts_in_boot).collect();
    assert_eq!(starts, [2, 2], "each node counts what its fabric has seen");
    assert!(rig.nodes.iter().all(|node| node.state.last_failure.is_none()), "it serves again");
}

#[test]
fn a_rank_that_only_noticed_is_nobodys_failure() {
    let mut rig = Rig::new(2);
    rig.serve();
    rig.end_rank(0, Ended::Signal(9));
    rig.pass(2_000);
    assert_eq!(rig.nodes[1].state.last_failure, None);
    let failure = rig.nodes[0].state.last_failure.clone().unwrap();
    assert!(failure.text.contains("rank 0: killed"), "{}", failure.text);
    rig.serve();
}

#[test]
fn what_a_follower_found_decides_what_the_leader_does() {
    let rows = [
        (Ended::Code(exit::MODEL), None, true, None),
        (Ended::Signal(6), Some(("bad-config", Rung::Hold)), true, None),
        (Ended::Signal(6), Some(("qp-leaked", Rung::Reboot)), true, Some("qp-leaked")),
        (Ended::Signal(6), Some(("lost", Rung::Restart)), false, None),
    ];
    for (how, found, is_held, reboot) in rows {
        let described = format!("{how:?} {found:?}");
        let mut rig = Rig::new(2);
        // What a reboot is for is another story.
        rig.nodes.iter_mut().for_each(|node| node.setup.can_reboot = false);
        rig.serve();
        if let Some((id, rung)) = found {
            rig.nodes[1].evidence = vec![evidence(id, rung, 1, 1)];
        }
        rig.end_rank(1, how);
        rig.pass(10_000);
        assert_eq!(rig.nodes[0].is_held(), is_held, "{described}");
        assert!(!rig.nodes[1].is_held(), "{described}: the leader says it for all");
        if let crate::gang::Phase::Held { reboot: cause, .. } = &rig.nodes[0].state.gang {
            assert_eq!(cause.as_ref().map(|cause| cause.kind.as_str()), reboot, "{described}");
        }
        if let Some((id, _)) = found.filter(|_| is_held) {
            assert!(rig.nodes[0].state.faults.iter().any(|f| f.kind == Kind::Signature(id.into())));
        }
        rig.order(0, OrderKind::Release);
        rig.nodes[1].evidence.clear();
        rig.pass(1_000).serve();
    }
}

#[test]
fn a_follower_that_runs_out_of_memory_lowers_the_step_of_all() {
    let mut rig = Rig::new(2);
    rig.serve();
    rig.nodes[1].evidence = vec![evidence("oom", Rung::Retune, 1, 1)];
    rig.end_rank(1, Ended::Code(exit::ENGINE));
    rig.pass(1_500).serve();
    for node in &rig.nodes {
        assert_eq!(node.started, [(1, 512, false), (2, 256, false)], "{}", node.setup.node);
    }
    assert_eq!(rig.nodes[1].state.retune, None, "the leader remembers it");
}

#[test]
fn a_follower_that_drains_ends_the_epoch_in_order() {
    let mut rig = Rig::new(2);
    rig.serve();
    rig.order(1, OrderKind::Drain);
    rig.pass(10_000);
    assert_eq!(rig.phases(), ["idle", "drained"]);
    assert!(rig.nodes.iter().all(|node| node.state.last_failure.is_none()));
    assert_eq!(rig.nodes[0].state.restarts_ms.len(), 0, "no failure");
    let hindrance = rig.nodes[0].status().pair.hindrance.clone().unwrap();
    assert!(hindrance.contains("studio-b: it is drained"), "{hindrance}");
    rig.order(1, OrderKind::Resume);
    rig.serve();
}

#[test]
fn a_follower_that_drains_waits_for_the_leader_no_longer_than_for_its_gateway() {
    let mut rig = Rig::new(2);
    rig.serve();
    rig.nodes[0].is_stuck = true;
    rig.order(1, OrderKind::Drain);
    rig.pass(30_000);
    assert!(rig.nodes[1].gang_epoch().is_some(), "it waits for the leader");
    rig.pass(10_000);
    assert_eq!(rig.nodes[1].state.gang.name(), "drained");

    let mut rig = Rig::new(2);
    rig.serve();
    rig.kill_supervisor(0);
    rig.pass(5_000);
    rig.order(1, OrderKind::Drain);
    rig.pass(3_000);
    assert_eq!(rig.nodes[1].state.gang.name(), "drained", "nobody to wait for");
}

#[test]
fn requests_that_run_get_half_of_the_time_that_a_follower_drains_for() {
    let mut rig = Rig::new(2);
    rig.serve();
    rig.active = 1;
    rig.pass(1_000);
    rig.order(1, OrderKind::Drain);
    rig.pass(15_000);
    assert_eq!(rig.phases(), ["serving", "serving"]);
    rig.active = 0;
    rig.pass(3_000);
    assert_eq!(rig.phases(), ["idle", "drained"]);

    let mut rig = Rig::new(2);
    rig.serve();
    rig.active = 1;
    rig.pass(1_000);
    rig.order(1, OrderKind::Drain);
    rig.pass(20_000);
    assert_eq!(rig.phases(), ["idle", "drained"], "but no more");
    assert_eq!(rig.nodes[0].state.last_failure, None);
}

#[test]
fn a_supervisor_that_is_asked_to_end_does_and_the_other_waits() {
    for node in [0, 1] {
        let mut rig = Rig::new(2);
        rig.serve();
        rig.nodes[node].terminations = 1;
        rig.pass(20_000);
        assert!(!rig.nodes[node].is_supervised, "{node}: it has ended");
        assert!(rig.nodes.iter().all(|n| n.gang_epoch().is_none()), "{node}");
        assert!(rig.nodes.iter().all(|n| n.state.last_failure.is_none()), "{node}");
        rig.start_supervisor(node);
        rig.serve();
    }
}

#[test]
fn a_node_that_loses_its_power_ends_the_epoch_and_comes_back_into_the_next() {
    for node in [0, 1] {
        let mut rig = Rig::new(2);
        rig.serve();
        rig.power_off(node);
        rig.pass(10_000);
        let left = &rig.nodes[1 - node];
        assert!(left.gang_epoch().is_none(), "{node}: its rank noticed");
        assert_eq!(left.started.len(), 1, "{node}");
        assert!(left.faults().contains(&"peer_lost"), "{node}: {:?}", left.faults());
        rig.power_on(node);
        rig.serve();
        assert!(rig.nodes.iter().all(|n| n.state.epoch >= 2), "{node}");
    }
}

#[test]
fn a_node_that_reboots_faster_than_anyone_notices_is_noticed() {
    for node in [0, 1] {
        let mut rig = Rig::new(2);
        rig.serve();
        rig.power_off(node);
        rig.power_on(node);
        rig.pass(1_000).serve();
        assert!(rig.nodes.iter().all(|n| n.state.epoch == 2), "{node}");
        let rebooted = |what: &crate::What| {
            let change = crate::event::PeerChange::Rebooted;
            matches!(what, crate::What::Peer { change: c, .. } if *c == change)
        };
        assert_eq!(rig.nodes[1 - node].told_of(rebooted), 1, "{node}");
    }
}

#[test]
fn a_node_that_never_starts_its_ranks_fails_the_epoch_by_name() {
    let mut rig = Rig::new(2);
    rig.nodes[1].acts = false;
    rig.until("the epoch fails", |rig| rig.nodes[0].state.last_failure.is_some());
    let failure = rig.nodes[0].state.last_failure.clone().unwrap();
    assert!(failure.text.contains("studio-b: it did not start its ranks"), "{}", failure.text);
    rig.nodes[1].acts = true;
    rig.serve();
}

#[test]
fn no_epoch_begins_while_a_node_refuses_and_one_that_refuses_late_fails_it() {
    let mut rig = Rig::new(2);
    rig.nodes[1].available_bytes = 100 * super::rig::GIB;
    rig.pass(60_000);
    assert!(rig.nodes.iter().all(|node| node.started.is_empty()));
    let hindrance = rig.nodes[0].status().pair.hindrance.clone().unwrap();
    assert!(hindrance.contains("studio-b: this host's ranks need 204800 MiB"), "{hindrance}");
    rig.nodes[1].available_bytes = 300 * super::rig::GIB;
    rig.until("rank 0 was started", |rig| !rig.nodes[0].started.is_empty());
    rig.nodes[1].available_bytes = 100 * super::rig::GIB;
    rig.pass(10_000);
    let failure = rig.nodes[0].state.last_failure.clone().unwrap();
    assert!(failure.text.contains("studio-b: this host's ranks"), "{}", failure.text);
    assert_eq!(rig.nodes[0].started.len(), 1, "and none is begun again");
}

#[test]
fn each_node_needs_room_for_its_share_only() {
    let mut rig = Rig::new(2);
    rig.nodes.iter_mut().for_each(|node| node.available_bytes = 210 * super::rig::GIB);
    rig.serve();
}

#[test]
fn a_node_whose_fabric_is_used_up_says_so_and_no_epoch_begins() {
    for node in [0, 1] {
        let mut rig = Rig::new(2);
        rig.nodes.iter_mut().for_each(|node| {
            node.setup.can_reboot = false;
            node.setup.uses_fabric = true;
            node.setup.ring_fallback = false;
            node.setup.supervise.fabric_starts_max = 10;
        });
        rig.nodes[node].state.fabric_starts = 10;
        rig.pass(30_000);
        assert!(rig.nodes[node].is_held(), "{node}");
        assert!(rig.nodes.iter().all(|n| n.started.is_empty()), "{node}");
        let hindrance = &rig.nodes[1 - node].status().pair.hindrance;
        assert!(hindrance.as_ref().is_some_and(|h| h.contains("fabric_starts_max")), "{node}");
    }
}

#[test]
fn an_operators_hold_on_one_node_keeps_all_from_the_next_epoch_but_stops_none() {
    for node in [0, 1] {
        let mut rig = Rig::new(2);
        rig.serve();
        rig.order(node, OrderKind::Hold { until_wall_ms: None });
        rig.pass(10_000);
        assert_eq!(rig.phases(), ["serving", "serving"], "{node}");
        rig.end_rank(1, Ended::Signal(9));
        rig.pass(30_000);
        assert!(rig.nodes.iter().all(|n| n.started.len() == 1), "{node}");
        rig.order(node, OrderKind::Release);
        rig.serve();
    }
}

#[test]
fn epochs_grow_even_when_a_leader_has_lost_its_memory() {
    let mut rig = Rig::new(2);
    rig.serve();
    rig.end_rank(0, Ended::Signal(9));
    rig.pass(2_000).serve();
    rig.power_off(0);
    rig.pass(5_000);
    rig.nodes[0].state = crate::State::new("studio-a-boot-0");
    rig.power_on(0);
    rig.serve();
    assert_eq!((rig.nodes[0].state.epoch, rig.nodes[1].state.epoch), (3, 3));
}

#[test]
fn a_report_that_was_long_on_its_way_starts_nothing() {
    let mut rig = Rig::new(2);
    rig.until("rank 0 listens", |rig| {
        let told = rig.nodes[0].told.as_ref();
        told.is_some_and(|told| told.start.is_some() && told.ranks[0].phase.is_some())
    });
    let late = rig.nodes[0].told.clone().unwrap();
    rig.power_off(0);
    rig.pass(1_000);
    rig.power_on(0);
    rig.pass(1_000);
    rig.nodes[1].started.clear();
    rig.nodes[1].state.epoch = 0;
    rig.nodes[0].told = Some(late);
    rig.nodes[0].is_stuck = true;
    rig.pass(3_000);
    assert!(rig.nodes[1].started.is_empty(), "its boot is over");
}
