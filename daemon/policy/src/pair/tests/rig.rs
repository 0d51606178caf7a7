//! Some nodes, their reports and a simple engine, as far as policy sees them.

use std::collections::BTreeMap;

use tandem_wire::{Phase as RankPhase, Transport, TransportRow, Vitals, exit};

use crate::{
    Action, Artifacts, CanaryOutcome, CanarySeen, Decision, Ended, Event, Evidence, Fallback,
    GatewaySeen, Memory, Moment, Observation, Order, OrderKind, Process, RankSeen, Reading, Setup,
    State, Status, What, decide,
    gang::Phase,
    gates::{Gate, GateName},
    gateway,
    invariant::{Invariant, Sighting, Unknown},
    pair::{Component, NodePlace, NodeReport, PathSeen, PeerSeen},
};

/// Time between two turns of all nodes, in milliseconds.
pub(super) const TICK_MS: u64 = 500;

pub(super) const GIB: u64 = 1 << 30;

/// One machine and its supervisor.
pub(super) struct Node {
    pub(super) setup: Setup,
    pub(super) state: State,
    /// What it last told; what the others would hear now.
    pub(super) told: Option<NodeReport>,
    heard: BTreeMap<String, (NodeReport, u64)>,
    pub(super) ranks: Vec<RankSeen>,
    pub(super) gateway: Process,
    pub(super) gateway_mode: Option<gateway::Mode>,
    pub(super) canary: Option<CanarySeen>,
    pub(super) manifest: Option<String>,
    pub(super) artifacts: Artifacts,
    pub(super) available_bytes: u64,
    pub(super) is_paired: bool,
    pub(super) evidence: Vec<Evidence>,
    pub(super) terminations: u32,
    pub(super) orders: Vec<Order>,
    /// When it booted, in the rig's time.
    booted_ms: u64,
    boots: u32,
    pub(super) has_power: bool,
    pub(super) is_supervised: bool,
    /// Whether actions are done; a supervisor whose actions are lost still tells.
    pub(super) acts: bool,
    pub(super) is_canary_lost: bool,
    /// Whether it takes no turn and tells the same again and again.
    pub(super) is_stuck: bool,
    /// Where the others' files differ from its own.
    pub(super) differences: Vec<String>,
    pub(super) started: Vec<(u64, u32, bool)>,
    pub(super) status: Option<Status>,
    pub(super) events: Vec<Event>,
}

/// All of them.
pub(super) struct Rig {
    pub(super) nodes: Vec<Node>,
    pub(super) now_ms: u64,
    /// Whether reports get through.
    pub(super) is_cut: bool,
    /// The second way of every node, of which the first is always as `is_cut`.
    pub(super) is_second_way_down: bool,
    /// Requests that run.
    pub(super) active: u32,
}

fn name(index: usize) -> String {
    format!("studio-{}", char::from(b'a' + u8::try_from(index).unwrap()))
}

impl Rig {
    /// So many nodes with one rank each.
    pub(super) fn new(count: usize) -> Self {
        let place = |index: usize| NodePlace {
            name: name(index),
            ranks: vec![u32::try_from(index).unwrap()],
        };
        let places: Vec<NodePlace> = (0..count).map(place).collect();
        let nodes = (0..count).map(|index| Node::new(index, &places)).collect();
        Self { nodes, now_ms: 1_000_000, is_cut: false, is_second_way_down: false, active: 0 }
    }

    /// The same with a fallback on every node.
    pub(super) fn with_fallback(count: usize) -> Self {
        let mut rig = Self::new(count);
        for node in &mut rig.nodes {
            node.setup.fallback = Some(Fallback {
                model: "small".into(),
                rank_plan: "small plan".into(),
                gateway_plan: "small gateway".into(),
                after_ms: 20_000,
            });
        }
        rig
    }

    pub(super) fn pass(&mut self, ms: u64) -> &mut Self {
        for _ in 0..ms / TICK_MS {
            self.tick();
        }
        self
    }

    /// Goes on until something holds; panics if it does not within two minutes.
    pub(super) fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> &mut Self {
        for _ in 0..240 {
            if holds(self) {
                return self;
            }
            self.tick();
        }
        panic!("never: {what}; {:?}", self.nodes.iter().map(|n| &n.state.gang).collect::<Vec<_>>())
    }

    /// Until all nodes serve and are proven to.
    pub(super) fn serve(&mut self) -> &mut Self {
        self.until("all are proven", |rig| rig.nodes.iter().all(|n| n.is_proven()))
    }

    pub(super) fn tick(&mut self) {
        self.now_ms += TICK_MS;
        self.deliver();
        self.compute();
        let serving = self.serving_epoch();
        for index in 0..self.nodes.len() {
            let (is_cut, is_second_way_down) = (self.is_cut, self.is_second_way_down);
            let names: Vec<String> = self.nodes.iter().map(|n| n.setup.node.clone()).collect();
            let node = &mut self.nodes[index];
            if node.has_power && node.is_supervised && !node.is_stuck {
                let seen = node.observe(&names, serving, (is_cut, is_second_way_down), self.now_ms);
                node.turn(&seen, serving, self.now_ms);
            }
        }
        self.check();
    }

    fn deliver(&mut self) {
        if self.is_cut {
            return;
        }
        for from in 0..self.nodes.len() {
            let sender = &self.nodes[from];
            let is_telling = sender.has_power && sender.is_supervised;
            let Some(report) = sender.told.clone().filter(|_| is_telling) else { continue };
            for (to, receiver) in self.nodes.iter_mut().enumerate() {
                if to != from && receiver.has_power && receiver.is_supervised {
                    let at_ms = self.now_ms - receiver.booted_ms;
                    receiver.heard.insert(report.node.clone(), (report.clone(), at_ms));
                }
            }
        }
    }

    /// Ranks go on while all of their epoch run; one that has joined ends when another is gone.
    fn compute(&mut self) {
        let world = self.nodes.len();
        let epochs: Vec<Option<u64>> = self.nodes.iter().map(Node::gang_epoch).collect();
        for node in &mut self.nodes {
            let is_alone = node.runs_alone();
            let Some(rank) = node.ranks.first_mut() else { continue };
            let Process::Running { epoch, .. } = rank.process else { continue };
            let is_whole =
                is_alone || epochs.iter().filter(|e| **e == Some(epoch)).count() == world;
            match rank.phase {
                None => rank.phase = Some(RankPhase::Forming),
                Some(RankPhase::Forming) if !is_whole => {}
                Some(_) if !is_whole => rank.end(epoch, Ended::Code(exit::PEER_LOST)),
                Some(RankPhase::Forming) => rank.phase = Some(RankPhase::Loading),
                Some(RankPhase::Loading) => rank.phase = Some(RankPhase::Warming),
                Some(_) => rank.phase = Some(RankPhase::Ready),
            }
            let number = node.setup.own_ranks[0];
            rank.vitals = rank.phase.map(|phase| vitals(epoch, number, phase, self.active));
        }
    }

    fn serving_epoch(&self) -> Option<u64> {
        let first = self.nodes[0].gang_epoch()?;
        let is_ready = |node: &Node| {
            node.gang_epoch() == Some(first) && node.ranks[0].phase == Some(RankPhase::Ready)
        };
        self.nodes.iter().all(is_ready).then_some(first)
    }

    /// What must be true at any time.
    fn check(&self) {
        let mut epochs: Vec<u64> = self.nodes.iter().filter_map(Node::gang_epoch).collect();
        epochs.dedup();
        assert!(epochs.len() < 2, "two epochs alive: {epochs:?}");
        for node in &self.nodes {
            let mut started: Vec<u64> = node.started.iter().map(|(epoch, ..)| *epoch).collect();
            let count = started.len();
            started.sort_unstable();
            started.dedup();
            assert_eq!(started.len(), count, "{} started an epoch twice", node.setup.node);
        }
    }

    pub(super) fn order(&mut self, node: usize, what: OrderKind) {
        let node = &mut self.nodes[node];
        node.orders = vec![Order { number: node.state.last_order + 1, what }];
    }

    /// The supervisor dies; what it started runs on.
    pub(super) fn kill_supervisor(&mut self, node: usize) {
        self.nodes[node].is_supervised = false;
    }

    pub(super) fn start_supervisor(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.is_supervised = true;
        node.terminations = 0;
        node.heard.clear();
        node.told = None;
        let boot = node.boot();
        node.state = node.state.clone().resumed(&boot);
    }

    /// The machine loses its power.
    pub(super) fn power_off(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.has_power = false;
        node.ranks[0] = never();
        node.gateway = Process::Never;
    }

    pub(super) fn power_on(&mut self, node: usize) {
        let now_ms = self.now_ms;
        let booted = &mut self.nodes[node];
        booted.has_power = true;
        booted.booted_ms = now_ms;
        booted.boots += 1;
        booted.canary = None;
        self.start_supervisor(node);
    }

    /// A rank ends.
    pub(super) fn end_rank(&mut self, node: usize, how: Ended) {
        let rank = &mut self.nodes[node].ranks[0];
        let Process::Running { epoch, .. } = rank.process else { panic!("{rank:?}") };
        rank.end(epoch, how);
    }

    pub(super) fn phases(&self) -> Vec<&str> {
        self.nodes.iter().map(|node| node.state.gang.name()).collect()
    }
}

impl RankSeen {
    fn end(&mut self, epoch: u64, how: Ended) {
        *self = Self { process: Process::Ended { epoch, how }, phase: None, vitals: None };
    }
}

fn never() -> RankSeen {
    RankSeen { process: Process::Never, phase: None, vitals: None }
}

fn vitals(epoch: u64, rank: u32, phase: RankPhase, active: u32) -> Vitals {
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
    fn new(index: usize, places: &[NodePlace]) -> Self {
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
            artifacts: Artifacts::Complete { weights_bytes: 400 * GIB },
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
            status: None,
            events: Vec::new(),
        }
    }

    fn boot(&self) -> String {
        format!("{}-boot-{}", self.setup.node, self.boots)
    }

    fn runs_alone(&self) -> bool {
        self.started.last().is_some_and(|(.., alone)| *alone)
    }

    /// The epoch of the pair's rank that runs here.
    pub(super) fn gang_epoch(&self) -> Option<u64> {
        let is_running = self.ranks[0].process.is_running() && !self.runs_alone();
        self.ranks[0].process.epoch().filter(|_| is_running)
    }

    pub(super) fn is_proven(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.proven)
    }

    /// Whether it is proven to serve a model of this name.
    pub(super) fn serves(&self, model: &str) -> bool {
        self.status.as_ref().is_some_and(|status| status.proven && status.model == model)
    }

    pub(super) fn status(&self) -> &Status {
        self.status.as_ref().unwrap()
    }

    /// The faults that are open, in one word each.
    pub(super) fn faults(&self) -> Vec<&str> {
        self.state.faults.iter().map(|fault| fault.kind.name()).collect()
    }

    /// How often something like this was told.
    pub(super) fn told_of(&self, is_it: impl Fn(&What) -> bool) -> usize {
        self.events.iter().filter(|event| is_it(&event.what)).count()
    }

    pub(super) fn peer(
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

    fn observe(
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
            memory: Some(Memory {
                at_ms: boot_ms,
                total_bytes: 512 * GIB,
                wired_bytes: 5 * GIB,
                available_bytes: self.available_bytes.saturating_sub(engine_bytes),
                owners: Vec::new(),
            }),
            artifacts: self.artifacts.clone(),
            fallback_artifacts: if self.setup.fallback.is_some() {
                Artifacts::Complete { weights_bytes: 8 * GIB }
            } else {
                Artifacts::Unread
            },
            manifest: self.manifest.clone(),
            peers: self.peer(names, cut),
            evidence: self.evidence.clone(),
            canary: self.canary.clone(),
            orders: std::mem::take(&mut self.orders),
            config_refused: None,
            ledger_trouble: None,
        }
    }

    /// Whether a request to this node's gateway would be answered.
    fn is_served(&self, serving: Option<u64>) -> bool {
        let is_fallback_ready = self.runs_alone() && self.ranks[0].phase == Some(RankPhase::Ready);
        match self.gateway_mode.filter(|_| self.gateway.is_running()) {
            None => false,
            Some(gateway::Mode::Alone) => is_fallback_ready,
            Some(gateway::Mode::Serve | gateway::Mode::Proxy) => serving.is_some(),
        }
    }

    fn turn(&mut self, seen: &Observation, serving: Option<u64>, now_ms: u64) {
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
            Action::StartGang { epoch, prefill_step_tokens, alone } => {
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

    pub(super) fn gate(&self, name: GateName) -> &Gate {
        self.status().gates.iter().find(|gate| gate.gate == name).unwrap()
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self.state.gang, Phase::Held { .. })
    }
}

pub(super) fn component(name: &str, value: &str) -> Component {
    Component { name: name.into(), value: value.into() }
}
