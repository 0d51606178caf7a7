//! Statuses as a supervisor would publish them.

use tandem_policy::{
    Fault, GatewayStatus, Health, InvariantStatus, MemoryStatus, RankStatus, RebootStatus, Rung,
    SCHEMA, Status,
    fault::Kind,
    gates::{Gate, GateName, GateState},
    invariant::{Found, Invariant, Mode, Severity, Unknown},
    pair::{NodeRank, NodeStatus, PairStatus, PathSeen, Role, TransportRowStatus, TransportStatus},
};

/// When the commands of the tests look, in milliseconds since 1970: 2025-06-15T15:06:40Z.
pub(crate) const NOW_WALL_MS: u64 = 1_750_000_000_000;

fn ago(ms: u64) -> u64 {
    NOW_WALL_MS - ms
}

fn gate(gate: GateName, state: GateState, evidence: &str, remedy: &str) -> Gate {
    Gate { gate, state, evidence: evidence.into(), remedy: remedy.into() }
}

fn rank(rank: u32) -> RankStatus {
    RankStatus {
        rank,
        pid: Some(900 + rank),
        phase: "ready".into(),
        steps: Some(15_000),
        last_step_age_ms: Some(40),
        tokens: Some(48_211),
        active: Some(1),
        queued: Some(0),
        weights_bytes: Some(120 << 30),
        memory_bytes: Some(131 << 30),
        memory_peak_bytes: Some(140 << 30),
        last_exit: None,
        last_exit_code: None,
    }
}

fn invariant(name: Invariant, wanted: &str, found: Found) -> InvariantStatus {
    InvariantStatus {
        name,
        mode: Mode::Enforce,
        severity: Severity::Blocks,
        holds: Some(true),
        wanted: wanted.into(),
        found: Some(found),
        source: Some("SIOCGIFMTU".into()),
        unknown: None,
        last_drift_wall_ms: None,
        drifts: 0,
        remedy: "sudo ifconfig en5 mtu 9000".into(),
    }
}

fn node(name: &str, is_self: bool) -> NodeStatus {
    let number = u32::from(!is_self);
    let path = |address: &str| PathSeen {
        address: address.into(),
        is_up: true,
        round_trip_us: Some(210),
        throughput_mbps: Some(38_000),
        problem: String::new(),
    };
    NodeStatus {
        name: name.into(),
        is_self,
        is_paired: true,
        is_heard: true,
        heard_age_ms: Some(if is_self { 0 } else { 240 }),
        boot: Some(if is_self { "9D3F" } else { "77AC" }.into()),
        version: Some("0.1.0".into()),
        os: Some("Darwin 26.3 (kernel 25.3.0)".into()),
        epoch: Some(3),
        phase: Some("serving".into()),
        is_alone: false,
        proven_age_ms: Some(12_000),
        refusal: None,
        differences: Vec::new(),
        ranks: vec![NodeRank { rank: number, phase: "ready".into(), epoch: Some(3) }],
        paths: if is_self {
            Vec::new()
        } else {
            vec![path("169.254.7.2:52390"), path("192.168.1.12:52390")]
        },
        faults: Vec::new(),
    }
}

/// One machine.
fn alone() -> PairStatus {
    let own = NodeStatus { paths: Vec::new(), ..node("studio-1", true) };
    PairStatus { role: Role::Alone, nodes: vec![own], transport: None, ..pair() }
}

/// Two machines serve; one of the ways between them is cut.
pub(crate) fn paired() -> Status {
    let mut status = Status { pair: pair(), ranks: vec![rank(0)], ..healthy() };
    let path = &mut status.pair.nodes[1].paths[1];
    (path.is_up, path.round_trip_us, path.problem) = (false, None, "no answer".into());
    status
}

/// Two machines, seen from the first.
fn pair() -> PairStatus {
    let row =
        |bytes, median_ns| TransportRowStatus { bytes, rounds: 20, median_ns, best_ns: median_ns };
    PairStatus {
        role: Role::Leader,
        mode: "pair".into(),
        why_alone: None,
        hindrance: None,
        nodes: vec![node("studio-1", true), node("studio-2", false)],
        transport: Some(TransportStatus {
            backend: "ring".into(),
            world: 2,
            rows: vec![row(4 << 10, 25_500), row(64 << 20, 8_450_000)],
        }),
    }
}

/// All serves.
pub(crate) fn healthy() -> Status {
    use GateName::*;
    Status {
        schema: SCHEMA,
        node: "studio-1".into(),
        health: Health::Healthy,
        pair: alone(),
        model: "qwen3-235b".into(),
        epoch: 3,
        phase: "serving".into(),
        phase_age_ms: 7_260_000,
        held: None,
        last_failure: None,
        restarts: 1,
        restarts_max: 10,
        ranks: vec![rank(0), rank(1)],
        gateway: GatewayStatus {
            pid: Some(812),
            phase: "up".into(),
            ready: Some(true),
            listen: "127.0.0.1:8080".into(),
            last_exit: None,
        },
        suspected_leaks: Vec::new(),
        draining: false,
        proven: true,
        proven_age_ms: Some(12_000),
        boot: "9D3F".into(),
        uptime_ms: 8_000_000,
        invariants: vec![
            invariant(Invariant::LinkMtu, "9000", Found::Count(9_000)),
            InvariantStatus {
                mode: Mode::Observe,
                severity: Severity::Degrades,
                holds: None,
                found: None,
                source: None,
                unknown: Some(Unknown::NotOnThisPlatform),
                remedy: String::new(),
                ..invariant(Invariant::SpotlightOff, "no volume is indexed", Found::Flag(true))
            },
        ],
        gates: [Preflight, Invariants, Artifacts, Parity, Transport, Engine, Canary, Serving]
            .map(|name| gate(name, GateState::Passed, "it is so", ""))
            .to_vec(),
        faults: Vec::new(),
        memory: Some(MemoryStatus {
            total_bytes: 512 << 30,
            wired_bytes: 270 << 30,
            available_bytes: 200 << 30,
            baseline_bytes: Some(6 << 30),
            unexplained_bytes: 0,
            leak: "clear".into(),
        }),
        reboot: RebootStatus {
            phase: "steady".into(),
            intent: None,
            proposer: None,
            nodes: Vec::new(),
            cause: None,
            budget_left: 3,
            refused: None,
            past_wall_ms: Vec::new(),
        },
        operator_hold_until_ms: None,
        operator_drained: false,
        lowered_prefill_step_tokens: None,
        config_refused: None,
        ledger_trouble: None,
    }
}

/// A drifted link and a rank that ended, being mended.
pub(crate) fn degraded() -> Status {
    let mut status = healthy();
    status.health = Health::Degraded;
    status.phase = "backoff".into();
    status.phase_age_ms = 2_000;
    status.proven = false;
    status.proven_age_ms = Some(95_000);
    status.last_failure =
        Some("rank 1: exit code 82 (another rank closed its control channel)".into());
    status.ranks[1] = RankStatus {
        pid: None,
        phase: "ended".into(),
        steps: None,
        last_step_age_ms: None,
        tokens: None,
        active: None,
        queued: None,
        weights_bytes: None,
        memory_bytes: None,
        memory_peak_bytes: None,
        last_exit: Some("exit code 82 (another rank closed its control channel)".into()),
        last_exit_code: Some(82),
        ..rank(1)
    };
    status.invariants[0] = InvariantStatus {
        holds: Some(false),
        found: Some(Found::Count(1_500)),
        last_drift_wall_ms: Some(ago(180_000)),
        drifts: 4,
        ..status.invariants[0].clone()
    };
    status.gates[1] = gate(
        GateName::Invariants,
        GateState::Failed,
        "link_mtu is 1500, wanted 9000",
        "sudo ifconfig en5 mtu 9000",
    );
    for gate in &mut status.gates[2..] {
        gate.state = GateState::Waiting;
        gate.evidence = String::new();
    }
    status.faults = vec![
        Fault {
            kind: Kind::Broken(Invariant::LinkMtu),
            since_wall_ms: ago(180_000),
            count: 4,
            evidence: "link_mtu is 1500, wanted 9000".into(),
            rung: Rung::Reassert,
            remedy: "sudo ifconfig en5 mtu 9000".into(),
        },
        Fault {
            kind: Kind::Signature("ring-peer-lost".into()),
            since_wall_ms: ago(2_000),
            count: 1,
            evidence: "[ring] Receiving from socket failed".into(),
            rung: Rung::Restart,
            remedy: "None; the ranks start again.".into(),
        },
    ];
    status
}

/// Held by the supervisor: nothing more is tried.
pub(crate) fn held() -> Status {
    let mut status = healthy();
    status.health = Health::NotServing;
    status.phase = "held".into();
    status.phase_age_ms = 600_000;
    status.held = Some("10 restarts in an hour did not help. Mend it, then: tandem release".into());
    status.proven = false;
    status.proven_age_ms = Some(700_000);
    status.ranks.clear();
    status.gates[5] = gate(GateName::Engine, GateState::Failed, "held", "tandem release");
    for gate in &mut status.gates[6..] {
        gate.state = GateState::Waiting;
        gate.evidence = String::new();
    }
    status.faults = vec![Fault {
        kind: Kind::Held,
        since_wall_ms: ago(600_000),
        count: 1,
        evidence: "10 restarts in an hour".into(),
        rung: Rung::Hold,
        remedy: "tandem release".into(),
    }];
    status.reboot.past_wall_ms = vec![ago(86_400_000), ago(7_200_000)];
    status.reboot.budget_left = 1;
    status
}

/// Drained by an operator.
pub(crate) fn drained() -> Status {
    let mut status = healthy();
    status.health = Health::NotServing;
    status.phase = "drained".into();
    status.draining = true;
    status.operator_drained = true;
    status.operator_hold_until_ms = Some(NOW_WALL_MS + 3_600_000);
    status.proven = false;
    status.ranks.clear();
    status.gateway.pid = None;
    status.gateway.ready = None;
    status.gateway.phase = "stopped".into();
    for gate in &mut status.gates[5..] {
        gate.state = GateState::Waiting;
        gate.evidence = String::new();
    }
    status
}

/// A supervisor that has seen nothing yet.
pub(crate) fn unknown() -> Status {
    let mut status = healthy();
    status.health = Health::Degraded;
    status.epoch = 0;
    status.phase = "idle".into();
    status.phase_age_ms = 0;
    status.restarts = 0;
    status.ranks.clear();
    status.gateway =
        GatewayStatus { pid: None, phase: "down".into(), ready: None, ..status.gateway };
    status.proven = false;
    status.proven_age_ms = None;
    for row in &mut status.invariants {
        row.holds = None;
        row.found = None;
        row.source = None;
        row.unknown = Some(Unknown::Unread);
    }
    status.gates.clear();
    status.memory = None;
    status
}

/// Every text of it tries to take over the terminal.
pub(crate) fn hostile() -> Status {
    let evil = || String::from("\x1b]0;pwned\x07\n\u{202e}x\u{9b}2J");
    let mut status = Status { pair: pair(), ..degraded() };
    status.node = evil();
    status.model = evil();
    status.phase = evil();
    status.held = Some(evil());
    status.last_failure = Some(evil());
    status.boot = evil();
    for rank in &mut status.ranks {
        rank.phase = evil();
        rank.last_exit = Some(evil());
    }
    status.gateway.phase = evil();
    status.gateway.listen = evil();
    status.gateway.last_exit = Some(evil());
    for row in &mut status.invariants {
        row.wanted = evil();
        row.found = Some(Found::Names(vec![evil(), evil()]));
        row.source = Some(evil());
        row.unknown = Some(Unknown::Failed(evil()));
        row.remedy = evil();
    }
    for gate in &mut status.gates {
        gate.evidence = evil();
        gate.remedy = evil();
    }
    for fault in &mut status.faults {
        fault.kind = Kind::Signature(evil());
        fault.evidence = evil();
        fault.remedy = evil();
    }
    if let Some(memory) = &mut status.memory {
        memory.leak = evil();
    }
    status.reboot.phase = evil();
    status.reboot.intent = Some(evil());
    status.reboot.proposer = Some(evil());
    status.reboot.nodes = vec![evil()];
    status.reboot.cause = Some(evil());
    status.reboot.refused = Some(evil());
    status.config_refused = Some(evil());
    status.ledger_trouble = Some(evil());
    let node = &mut status.pair.nodes[1];
    (node.name, node.boot, node.phase) = (evil(), Some(evil()), Some(evil()));
    (node.differences, node.paths[0].problem) = (vec![evil()], evil());
    (node.ranks[0].phase, node.paths[0].is_up) = (evil(), false);
    status.pair.hindrance = Some(evil());
    status
}

/// The integration tests' copy of [`healthy`], which they can't reach.
#[test]
fn the_status_of_the_integration_tests_is_the_healthy_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/status.json");
    let wanted = serde_json::to_string_pretty(&healthy()).unwrap() + "\n";
    if std::env::var_os("TANDEM_BLESS").is_some() {
        std::fs::write(path, &wanted).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), wanted);
}
