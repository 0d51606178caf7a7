//! One machine of the rig: what runs there, what it hears, and one turn of its supervisor.

use std::collections::BTreeMap;

use tandem_wire::{Phase as RankPhase, Transport, TransportRow, Vitals, exit};

use crate::{
    Action, Artifacts, CanaryOutcome, CanarySeen, Decision, Ended, Event, Evidence, GatewaySeen,
    Memory, Moment, Need, Observation, Order, Process, RankSeen, Reading, Setup, State, Status,
    ThunderboltPort, What, decide,
    gang::Phase,
    gates::{Gate, GateName},
    gateway,
    invariant::{Invariant, Sighting, Unknown},
    pair::{Component, NodePlace, NodeReport, PathSeen, PeerSeen, fabric::Carrier},
};

use super::name;

pub(in crate::pair::tests) const GIB: u64 = 1 << 30;

/// One machine and its supervisor.
pub(in crate::pair::tests) struct Node {
    pub(in crate::pair::tests) setup: Setup,
    pub(in crate::pair::tests) state: State,
    /// What it last told; what the others would hear now.
    pub(in crate::pair::tests) told: Option<NodeReport>,
    pub(super) heard: BTreeMap<String, (NodeReport, u64)>,
    pub(in crate::pair::tests) ranks: Vec<RankSeen>,
    pub(in crate::pair::tests) gateway: Process,
    pub(in crate::pair::tests) gateway_mode: Option<gateway::Mode>,
    pub(in crate::pair::tests) canary: Option<CanarySeen>,
    pub(in crate::pair::tests) manifest: Option<String>,
    /// Digest of the files with which serving was last proven.
    kept: Option<String>,
    pub(in crate::pair::tests) artifacts: Artifacts,
    pub(in crate::pair::tests) available_bytes: u64,
    pub(in crate::pair::tests) is_paired: bool,
    pub(in crate::pair::tests) evidence: Vec<Evidence>,
    pub(in crate::pair::tests) terminations: u32,
    pub(in crate::pair::tests) orders: Vec<Order>,
    /// When it booted, in the rig's time.
    pub(super) booted_ms: u64,
    pub(super) boots: u32,
    pub(in crate::pair::tests) has_power: bool,
    pub(in crate::pair::tests) is_supervised: bool,
    /// Whether actions are done; a supervisor whose actions are lost still tells.
    pub(in crate::pair::tests) acts: bool,
    pub(in crate::pair::tests) is_canary_lost: bool,
    /// Whether it takes no turn and tells the same again and again.
    pub(in crate::pair::tests) is_stuck: bool,
    /// Where the others' files differ from its own.
    pub(in crate::pair::tests) differences: Vec<String>,
    pub(in crate::pair::tests) started: Vec<(u64, u32, bool)>,
    /// What each of these starts was carried by.
    pub(in crate::pair::tests) carriers: Vec<Carrier>,
    /// Its Thunderbolt ports.
    pub(in crate::pair::tests) ports: Option<Vec<ThunderboltPort>>,
    pub(in crate::pair::tests) status: Option<Status>,
    pub(in crate::pair::tests) events: Vec<Event>,
}

impl RankSeen {
    pub(super) fn end(&mut self, epoch: u64, how: Ended) {
        *self = Self { process: Process::Ended { epoch, how }, phase: None, vitals: None };
    }
}

pub(super) fn never() -> RankSeen {
    RankSeen { process: Process::Never, phase: None, vitals: None }
}

pub(super) fn vitals(epoch: u64, rank: u32, phase: RankPhase, active: u32) -> Vitals {
    let row = |bytes, median_ns| TransportRow { bytes, rounds: 9, median_ns, best_ns: median_ns };
    let rows = vec![row(4_096, 25_000), row(64 << 20, 8_500_000)];
    Vitals {
        epoch,
        rank,
        phase,
        steps: 0,
        last_step_age_ms: None,
        active,
        queued: 0,
        tokens: 0,
        bytes_read: 0,
        weights_bytes: 0,
        memory_bytes: 0,
        memory_peak_bytes: 0,
        transport: Some(Transport { backend: "ring".into(), world: 2, rows }),
    }
}

impl Node {
    pub(super) fn new(index: usize, places: &[NodePlace]) -> Self {
        let count = u32::try_from(places.len()).unwrap();
        let setup = Setup {
            node: name(index),
            model: "large".into(),
            ranks: count,
            own_ranks: places[index].ranks.clone(),
            nodes: places.to_vec(),
            plan: vec![component("engine.max_active", "8"), component("environment", "A=1")],
            version: "0.1.0".into(),
            os: "macOS 26.2 (25C56)".into(),
            share_permille: 1_000 / count,
            ..Setup::default()
        };
        Self {
            setup,
            state: State::new(&format!("{}-boot-0", name(index))),
            told: None,
            heard: BTreeMap::new(),
            ranks: vec![never()],
            gateway: Process::Never,
            gateway_mode: None,
            canary: None,
            manifest: Some("manifest".into()),
            kept: None,
            artifacts: Artifacts::Complete { weights_bytes: 400 * GIB, need: Need::Estimated },
            available_bytes: 500 * GIB,
            is_paired: true,
            evidence: Vec::new(),
            terminations: 0,
            orders: Vec::new(),
            booted_ms: 0,
            boots: 0,
            has_power: true,
            is_supervised: true,
            acts: true,
            is_canary_lost: false,
            is_stuck: false,
            differences: Vec::new(),
            started: Vec::new(),
            carriers: Vec::new(),
            ports: None,
            status: None,
            events: Vec::new(),
        }
    }

    pub(super) fn boot(&self) -> String {
        format!("{}-boot-{}", self.setup.node, self.boots)
    }

    pub(super) fn runs_alone(&self) -> bool {
        self.started.last().is_some_and(|(.., alone)| *alone)
    }

    /// The epoch of the pair's rank that runs here.
    pub(in crate::pair::tests) fn gang_epoch(&self) -> Option<u64> {
        let is_running = self.ranks[0].process.is_running() && !self.runs_alone();
        self.ranks[0].process.epoch().filter(|_| is_running)
    }

    pub(in crate::pair::tests) fn is_proven(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.proven)
    }

    /// Whether it is proven to serve a model of this name.
    pub(in crate::pair::tests) fn serves(&self, model: &str) -> bool {
        self.status.as_ref().is_some_and(|status| status.proven && status.model == model)
    }

    pub(in crate::pair::tests) fn status(&self) -> &Status {
        self.status.as_ref().unwrap()
    }

    /// The faults that are open, in one word each.
    pub(in crate::pair::tests) fn faults(&self) -> Vec<&str> {
        self.state.faults.iter().map(|fault| fault.kind.name()).collect()
    }

    /// How often something like this was told.
    pub(in crate::pair::tests) fn told_of(&self, is_it: impl Fn(&What) -> bool) -> usize {
        self.events.iter().filter(|event| is_it(&event.what)).count()
    }

    pub(in crate::pair::tests) fn peer(
        &self,
        names: &[String],
        (is_cut, is_second_down): (bool, bool),
    ) -> Vec<PeerSeen> {
        let path = |address: &str, is_up: bool| PathSeen {
            address: address.into(),
            is_up,
            round_trip_us: is_up.then_some(80),
            throughput_mbps: None,
            problem: if is_up { String::new() } else { "no route".into() },
        };
        let others = names.iter().filter(|name| **name != self.setup.node);
        others
            .map(|name| PeerSeen {
                node: name.clone(),
                is_paired: self.is_paired,
                paths: vec![
                    path("10.0.0.1:52390", !is_cut),
                    path("192.168.0.1:52390", !is_cut && !is_second_down),
                ],
                report: self.heard.get(name).cloned().filter(|_| self.is_paired),
                differences: self.differences.clone(),
            })
            .collect()
    }

    pub(super) fn observe(
        &mut self,
        names: &[String],
        serving: Option<u64>,
        cut: (bool, bool),
        now_ms: u64,
    ) -> Observation {
        let boot_ms = now_ms - self.booted_ms;
        let is_ready = self.is_served(serving);
        let engine_bytes = if self.ranks[0].process.is_running() { 200 * GIB } else { 0 };
        let unknown = |invariant| (invariant, Sighting::Unknown(Unknown::NotOnThisPlatform));
        Observation {
            ranks: self.ranks.clone(),
            gateway: GatewaySeen {
                process: self.gateway.clone(),
                ready: Reading::Known { value: is_ready, age_ms: 10 },
            },
            terminations: self.terminations,
            invariants: Invariant::ALL.into_iter().map(unknown).collect(),
            thunderbolt: self.ports.clone(),
            memory: Some(Memory {
                at_ms: boot_ms,
                total_bytes: 512 * GIB,
                wired_bytes: 5 * GIB,
                available_bytes: self.available_bytes.saturating_sub(engine_bytes),
                owners: Vec::new(),
            }),
            artifacts: self.artifacts.clone(),
            fallback_artifacts: if self.setup.fallback.is_some() {
                Artifacts::Complete { weights_bytes: 8 * GIB, need: Need::Estimated }
            } else {
                Artifacts::Unread
            },
            manifest: self.manifest.clone().map(|digest| crate::ManifestSeen {
                changed: self.kept.as_ref().map(|kept| {
                    (*kept != digest)
                        .then(|| "a: other content before".into())
                        .into_iter()
                        .collect()
                }),
                digest,
                since_ms: 0,
            }),
            peers: self.peer(names, cut),
            evidence: self.evidence.clone(),
            canary: self.canary.clone(),
            requests: Default::default(),
            orders: std::mem::take(&mut self.orders),
            config_refused: None,
            ledger_trouble: None,
        }
    }

    /// Whether a request to this node's gateway would be answered.
    pub(super) fn is_served(&self, serving: Option<u64>) -> bool {
        let is_fallback_ready = self.runs_alone() && self.ranks[0].phase == Some(RankPhase::Ready);
        match self.gateway_mode.filter(|_| self.gateway.is_running()) {
            None => false,
            Some(gateway::Mode::Alone) => is_fallback_ready,
            Some(gateway::Mode::Serve | gateway::Mode::Proxy) => serving.is_some(),
        }
    }

    pub(super) fn turn(&mut self, seen: &Observation, serving: Option<u64>, now_ms: u64) {
        let boot_ms = now_ms - self.booted_ms;
        let now = Moment { boot_ms, wall_ms: 1_700_000_000_000 + now_ms };
        let Decision { state, actions, events, status } =
            decide(&self.setup, &self.state, seen, now);
        self.state = state;
        self.events.extend(events);
        assert!(
            self.state.next_deadline_ms().is_none_or(|at_ms| at_ms > boot_ms)
                || !actions.is_empty(),
            "a deadline that is past and wakes for nothing: {:?} at {boot_ms}",
            self.state.next_deadline_ms()
        );
        self.told = Some(NodeReport::of(&self.setup, &self.state, seen, now));
        self.status = Some(status);
        let is_served = self.is_served(serving) && !self.is_canary_lost;
        for action in actions {
            if self.acts {
                self.perform(&action, is_served, boot_ms);
            }
        }
    }

    fn perform(&mut self, action: &Action, is_served: bool, boot_ms: u64) {
        match action {
            Action::StartGang { epoch, prefill_step_tokens, alone, carrier } => {
                self.carriers.push(carrier.clone());
                assert!(!self.ranks[0].process.is_running(), "started over another");
                self.started.push((*epoch, *prefill_step_tokens, *alone));
                let process = Process::Running { pid: 100, epoch: *epoch };
                self.ranks[0] = RankSeen { process, phase: None, vitals: None };
            }
            Action::UnloadRank { rank } => {
                let expected = if self.runs_alone() { 0 } else { self.setup.own_ranks[0] };
                assert_eq!(*rank, expected, "the number in the gang");
                if let Process::Running { epoch, .. } = self.ranks[0].process {
                    self.ranks[0].end(epoch, Ended::Code(exit::OK));
                }
            }
            Action::StartGateway { mode } => {
                self.gateway = Process::Running { pid: 200, epoch: 0 };
                self.gateway_mode = Some(*mode);
            }
            Action::StopGateway => {
                self.gateway = Process::Ended { epoch: 0, how: Ended::Code(exit::OK) };
            }
            Action::KeepManifest { digest } => self.kept = Some(digest.clone()),
            Action::Canary { epoch, number } => {
                let outcome = if is_served {
                    CanaryOutcome::Answered { text: "Paris".into(), tokens: 2 }
                } else {
                    CanaryOutcome::Failed("no answer".into())
                };
                let (epoch, number) = (*epoch, *number);
                self.canary =
                    Some(CanarySeen { epoch, number, outcome: Some(outcome), at_ms: boot_ms });
            }
            Action::Exit => self.is_supervised = false,
            Action::Mend(_) => {}
            other => panic!("{}: {other:?}", self.setup.node),
        }
    }

    pub(in crate::pair::tests) fn gate(&self, name: GateName) -> &Gate {
        self.status().gates.iter().find(|gate| gate.gate == name).unwrap()
    }

    pub(in crate::pair::tests) fn is_held(&self) -> bool {
        matches!(self.state.gang, Phase::Held { .. })
    }
}

pub(in crate::pair::tests) fn component(name: &str, value: &str) -> Component {
    Component { name: name.into(), value: value.into() }
}
