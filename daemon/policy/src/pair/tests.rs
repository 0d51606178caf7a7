//! Stories of several nodes: each decides alone, by what it hears.

mod rig;

use rig::Rig;

use crate::{Action, Ended, OrderKind, gateway};

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
        assert!(
            gates.iter().all(|gate| gate.state == crate::gates::GateState::Passed),
            "{gates:?}"
        );
        let transport = "2 ranks joined in epoch 1 by ring; 4 KiB in 25.0 us, 64 MiB at 7.90 GB/s";
        assert_eq!(gates[4].evidence, transport);
        assert_eq!(node.faults(), Vec::<&str>::new());
    }

    rig.order(0, OrderKind::Drain);
    rig.until("all have stopped", |rig| rig.nodes.iter().all(|n| n.gang_epoch().is_none()));
    rig.pass(5_000);
    assert_eq!(rig.phases(), ["drained", "idle"]);
    assert!(rig.nodes.iter().all(|node| node.state.last_failure.is_none()));
}
