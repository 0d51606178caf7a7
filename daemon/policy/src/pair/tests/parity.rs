//! What must be equal, and how it is told when it is not.

use super::rig::{Node, Rig, component};
use crate::{
    Artifacts,
    gates::{GateName, GateState},
};

type Change = fn(&mut Node);

#[test]
fn nodes_that_differ_in_anything_start_nothing_and_say_in_what() {
    let rows: [(&str, Change); 6] = [
        ("tandem: 0.1.0 here, 0.2.0 on studio-b", |node| node.setup.version = "0.2.0".into()),
        ("system: macOS 26.2 (25C56) here, macOS 26.3 on studio-b", |node| {
            node.setup.os = "macOS 26.3".into();
        }),
        ("engine.max_active: 8 here, 16 on studio-b", |node| {
            node.setup.plan[0] = component("engine.max_active", "16");
        }),
        ("environment: A=1 here, nothing on studio-b", |node| drop(node.setup.plan.pop())),
        ("engine.more: nothing here, 1 on studio-b", |node| {
            node.setup.plan.push(component("engine.more", "1"));
        }),
        ("the model's files: manifest here, other on studio-b", |node| {
            node.manifest = Some("other".into());
        }),
    ];
    for (expected, change) in rows {
        let mut rig = Rig::new(2);
        change(&mut rig.nodes[1]);
        rig.pass(60_000);
        assert!(rig.nodes.iter().all(|node| node.started.is_empty()), "{expected}");
        for node in &rig.nodes {
            assert_eq!(node.gate(GateName::Parity).state, GateState::Failed, "{expected}");
            assert!(node.faults().contains(&"parity"), "{expected}: {:?}", node.faults());
        }
        let gate = rig.nodes[0].gate(GateName::Parity);
        assert!(gate.evidence.contains(expected), "{expected}: {}", gate.evidence);
        assert!(gate.remedy.contains("tandem pair status"), "{}", gate.remedy);
        let differences = &rig.nodes[0].status().pair.nodes[1].differences;
        assert_eq!(differences.len(), 1, "{differences:?}");
    }
}

#[test]
fn files_that_differ_are_told_one_by_one_and_not_without_end() {
    let mut rig = Rig::new(2);
    rig.nodes[1].manifest = Some("other".into());
    let lines = (0..100).map(|n| format!("model-{n}.safetensors: other bytes"));
    rig.nodes[0].differences = lines.collect();
    rig.pass(5_000);
    let told = &rig.nodes[0].status().pair.nodes[1].differences;
    assert_eq!(told[0], "model-0.safetensors: other bytes");
    assert_eq!((told.len(), told[16].as_str()), (17, "and 84 more"));
    let refusal = rig.nodes[0].told.as_ref().unwrap().refusal.clone().unwrap();
    assert!(refusal.chars().count() <= crate::pair::TEXT_CHARS_MAX, "{refusal}");
}

#[test]
fn nothing_starts_before_all_have_read_their_files() {
    for node in [0, 1] {
        let mut rig = Rig::new(2);
        rig.nodes[node].manifest = None;
        rig.pass(60_000);
        assert!(rig.nodes.iter().all(|n| n.started.is_empty()), "{node}");
        rig.nodes[node].manifest = Some("manifest".into());
        rig.serve();
    }
}

#[test]
fn files_that_are_missing_on_another_node_are_told_here() {
    let mut rig = Rig::new(2);
    rig.nodes[1].artifacts = Artifacts::Incomplete("no config.json".into());
    rig.nodes[1].manifest = None;
    rig.pass(60_000);
    let gate = rig.nodes[0].gate(GateName::Artifacts);
    assert_eq!(gate.state, GateState::Failed);
    assert!(gate.evidence.contains("studio-b"), "{}", gate.evidence);
    assert!(rig.nodes[1].gateway.is_running(), "what only passes requests on needs no model");
}

#[test]
fn a_node_that_is_not_paired_or_not_heard_is_told() {
    let mut rig = Rig::new(2);
    rig.nodes.iter_mut().for_each(|node| node.is_paired = false);
    rig.pass(5_000);
    let gate = rig.nodes[0].gate(GateName::Parity);
    assert_eq!(gate.state, GateState::Failed);
    assert!(gate.remedy.contains("tandem pair init"), "{}", gate.remedy);

    let mut rig = Rig::new(2);
    rig.power_off(1);
    rig.pass(5_000);
    assert_eq!(rig.nodes[0].gate(GateName::Parity).state, GateState::Checking);
    assert_eq!(rig.nodes[0].faults(), ["peer_lost"]);
    rig.pass(30_000);
    let gate = rig.nodes[0].gate(GateName::Parity);
    assert_eq!((gate.state, gate.evidence.as_str()), (GateState::Failed, "studio-b is not heard"));
}

#[test]
fn a_change_of_one_node_while_all_serve_ends_nothing_but_is_told() {
    let mut rig = Rig::new(2);
    rig.serve();
    rig.nodes[1].setup.version = "0.2.0".into();
    rig.pass(5_000);
    assert_eq!(rig.phases(), ["serving", "serving"]);
    assert_eq!(rig.nodes[0].faults(), ["parity"]);
    rig.end_rank(0, crate::Ended::Signal(9));
    rig.pass(20_000);
    assert!(rig.nodes.iter().all(|node| node.started.len() == 1), "but no other epoch begins");
}
