//! A few machines that hear each other's reports, with all that can go wrong between them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Action, Artifacts, Ended, GatewaySeen, Hold, Moment, Observation, Order, OrderKind, Process,
    RankSeen, Reading, Setup, State, What, canary, event, gang,
    invariant::{Found, Invariant, Sighting},
    operator,
    pair::{self, NodePlace, NodeReport, PeerSeen},
    reboot::{self, Cause, Phase},
};

/// A turn of every node, and a report of each to all others, in milliseconds.
pub(super) const TICK_MS: u64 = 500;

/// How long a machine is down for a reboot.
const DOWN_MS: u64 = 20_000;

/// How long the ranks take to unload, unless they are slow.
const UNLOAD_MS: u64 = 4_000;

/// How long all nodes must be up before tokens come.
const LOAD_MS: u64 = 30_000;

/// What ends a turn of a node early, once, at the first save of a phase of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mishap {
    /// The power goes before the state is saved.
    CutBefore,
    /// The power goes once it is saved, before it is told or done.
    CutAfter,
    /// The supervisor dies once it is saved, and the next one goes on from there.
    Crash,
}

pub(super) struct Node {
    pub(super) name: String,
    pub(super) setup: Setup,
    pub(super) state: State,
    pub(super) saved: State,
    pub(super) boots: u32,
    booted_ms: u64,
    /// When it is up again; `None` while it is up.
    up_ms: Option<u64>,
    /// When the system goes down that was asked to reboot.
    goes_ms: Option<u64>,
    /// Since when its ranks are asked to unload.
    unloads_ms: Option<u64>,
    ranks_run: bool,
    /// How long its ranks take to unload.
    pub(super) unload_ms: u64,
    pub(super) fault: Option<Cause>,
    pub(super) mishap: Option<(Mishap, &'static str)>,
    pub(super) cannot_save: bool,
    pub(super) is_attended: bool,
    pub(super) terminations: u32,
    orders: Vec<Order>,
    heard: BTreeMap<String, (NodeReport, u64)>,
    /// The system does not reboot when it is asked to.
    pub(super) is_stuck: bool,
    /// The intents that it rebooted for, and the boot that each ended.
    pub(super) obeyed: Vec<(String, String)>,
    /// What the ledger was told.
    pub(super) told: Vec<What>,
    /// Every phase that it saved, without repetitions in a row.
    pub(super) course: Vec<&'static str>,
}

pub(super) struct Rig {
    pub(super) nodes: Vec<Node>,
    pub(super) t: u64,
    /// Who is not heard by whom: from, to.
    pub(super) cut: BTreeSet<(usize, usize)>,
    all_up_ms: u64,
}

fn boot_id(name: &str, number: u32) -> String {
    format!("{name}-boot-{number}")
}

impl Rig {
    /// So many nodes, up for long, and all serving.
    pub(super) fn of(count: usize) -> Self {
        let names: Vec<String> =
            ["a", "b", "c", "d"][..count].iter().map(|n| (*n).into()).collect();
        let places: Vec<NodePlace> = (0..)
            .zip(&names)
            .map(|(rank, name)| NodePlace { name: name.clone(), ranks: vec![rank] })
            .collect();
        let node = |name: &String| {
            let setup = Setup { node: name.clone(), nodes: places.clone(), ..Setup::default() };
            let state = State::new(&boot_id(name, 1));
            Node {
                name: name.clone(),
                setup,
                saved: state.clone(),
                state,
                boots: 1,
                booted_ms: 0,
                up_ms: None,
                goes_ms: None,
                unloads_ms: None,
                ranks_run: true,
                unload_ms: UNLOAD_MS,
                fault: None,
                mishap: None,
                cannot_save: false,
                is_attended: false,
                terminations: 0,
                orders: Vec::new(),
                heard: BTreeMap::new(),
                is_stuck: false,
                obeyed: Vec::new(),
                told: Vec::new(),
                course: vec!["steady"],
            }
        };
        // Long past `reboot.uptime_min_ms`, `reboot.latch_ms` and the interval of the budget.
        let t = 10_000_000;
        let nodes = names.iter().map(node).collect();
        let mut rig = Self { nodes, t, cut: BTreeSet::new(), all_up_ms: 0 };
        rig.run(5_000);
        rig
    }

    pub(super) fn run(&mut self, ms: u64) {
        for _ in 0..ms / TICK_MS {
            self.tick();
        }
    }

    /// Until this holds, or for so long; returns whether it does.
    pub(super) fn run_until(&mut self, most_ms: u64, is_so: impl Fn(&Self) -> bool) -> bool {
        for _ in 0..most_ms / TICK_MS {
            if is_so(self) {
                return true;
            }
            self.tick();
        }
        is_so(self)
    }

    /// Node `to` does not hear node `from`, or does again.
    pub(super) fn set_link(&mut self, from: usize, to: usize, is_up: bool) {
        if is_up {
            self.cut.remove(&(from, to));
        } else {
            self.cut.insert((from, to));
        }
    }

    /// Nobody hears this node, nor does it hear anybody.
    pub(super) fn set_isolated(&mut self, node: usize, is_isolated: bool) {
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.set_link(node, other, !is_isolated);
            self.set_link(other, node, !is_isolated);
        }
    }

    pub(super) fn order(&mut self, node: usize, what: OrderKind) {
        let node = &mut self.nodes[node];
        let number = node.state.last_order + 1;
        node.orders = vec![Order { number, what }];
    }

    pub(super) fn hold(&mut self, node: usize, is_held: bool) {
        self.nodes[node].state.operator.hold = is_held.then_some(Hold { until_wall_ms: None });
    }

    pub(super) fn fault(&mut self, node: usize, kind: &str) {
        self.nodes[node].fault = Some(Cause { kind: kind.into(), evidence: "found".into() });
    }

    /// The ranks of this node never unload by themselves.
    pub(super) fn hang(&mut self, node: usize) {
        self.nodes[node].unload_ms = u64::MAX;
    }

    /// All others take longer to unload than this one.
    pub(super) fn outpace(&mut self, node: usize) {
        let others = self.nodes.iter_mut().enumerate().filter(|(index, _)| *index != node);
        others.for_each(|(_, node)| node.unload_ms = 2 * UNLOAD_MS);
    }

    pub(super) fn cut_power(&mut self, node: usize) {
        let up_ms = self.t + DOWN_MS;
        self.nodes[node].go_down(up_ms);
    }

    pub(super) fn phases(&self) -> Vec<&'static str> {
        self.nodes.iter().map(|node| node.state.reboot.name()).collect()
    }

    pub(super) fn boots(&self) -> Vec<u32> {
        self.nodes.iter().map(|node| node.boots).collect()
    }

    pub(super) fn all_steady(&self) -> bool {
        self.nodes.iter().all(|n| n.is_up() && n.state.reboot == Phase::Steady)
    }

    pub(super) fn outcomes(&self, node: usize) -> Vec<&'static str> {
        let closed = &self.nodes[node].saved.reboot_memory.closed;
        closed.iter().map(|closed| closed.outcome.name()).collect()
    }

    /// What this node tells now.
    pub(super) fn report(&self, node: usize) -> NodeReport {
        let Node { setup, saved, .. } = &self.nodes[node];
        let now = self.now(node);
        let seen = self.observe(node);
        let mut report = NodeReport::of(setup, saved, &seen, now);
        report.boot.clone_from(&saved.boot);
        report.uptime_ms = now.boot_ms;
        report.reboot = reboot::told(saved);
        report.would_veto = reboot::would_veto(setup, saved, &seen, now);
        report
    }

    /// A report arrives, whenever it was told.
    pub(super) fn deliver(&mut self, to: usize, report: NodeReport) {
        let at_ms = self.now(to).boot_ms;
        self.nodes[to].heard.insert(report.node.clone(), (report, at_ms));
    }

    pub(super) fn now(&self, node: usize) -> Moment {
        Moment { boot_ms: self.t - self.nodes[node].booted_ms, wall_ms: self.t }
    }

    fn tick(&mut self) {
        self.t += TICK_MS;
        let t = self.t;
        if self.nodes.iter().any(|node| !node.is_up() || node.fault.is_some()) {
            self.all_up_ms = t;
        }
        for index in 0..self.nodes.len() {
            self.nodes[index].go_on(t);
            if self.nodes[index].is_up() {
                self.turn(index);
            }
        }
        for from in 0..self.nodes.len() {
            if !self.nodes[from].is_up() || self.nodes[from].saved.version == 0 {
                continue;
            }
            let report = self.report(from);
            for to in 0..self.nodes.len() {
                if to != from && !self.cut.contains(&(from, to)) && self.nodes[to].is_up() {
                    self.deliver(to, report.clone());
                }
            }
        }
    }

    pub(super) fn observe(&self, node: usize) -> Observation {
        let node = &self.nodes[node];
        let process = if node.ranks_run {
            Process::Running { pid: 1, epoch: 0 }
        } else {
            Process::Ended { epoch: 0, how: Ended::Code(0) }
        };
        let rank = RankSeen { process: process.clone(), phase: None, vitals: None };
        let unattended = Sighting::Known {
            found: Found::Flag(!node.is_attended),
            source: "test".into(),
            at_ms: self.t - node.booted_ms,
        };
        let others = node.setup.nodes.iter().filter(|place| place.name != node.name);
        let peer = |place: &NodePlace| PeerSeen {
            node: place.name.clone(),
            is_paired: true,
            paths: Vec::new(),
            report: node.heard.get(&place.name).cloned(),
            differences: Vec::new(),
        };
        Observation {
            ranks: vec![rank],
            gateway: GatewaySeen { process, ready: Reading::Unknown },
            terminations: node.terminations,
            invariants: [(Invariant::UnattendedBoot, unattended)].into(),
            thunderbolt: None,
            memory: None,
            artifacts: Artifacts::Unread,
            fallback_artifacts: Artifacts::Unread,
            manifest: None,
            peers: others.map(peer).collect(),
            evidence: Vec::new(),
            canary: None,
            requests: Default::default(),
            orders: node.orders.clone(),
            config_refused: None,
            ledger_trouble: node.cannot_save.then(|| "no space".into()),
        }
    }

    fn turn(&mut self, index: usize) {
        let (now, seen) = (self.now(index), self.observe(index));
        let serves = self.t - self.all_up_ms >= LOAD_MS && self.cut.is_empty();
        let (t, node) = (self.t, &mut self.nodes[index]);
        node.see_gang(serves, now);
        let mut actions = Vec::new();
        let before = node.state.clone();
        operator::step(&mut node.state, &seen, now);
        pair::watch::step(&node.setup, &mut node.state, &seen, now);
        reboot::step(&node.setup, &mut node.state, &seen, now, &mut actions);
        let phase = node.state.reboot.name();
        let mishap = node.mishap.take_if(|(_, at)| *at == phase).map(|(mishap, _)| mishap);
        if mishap == Some(Mishap::CutBefore) {
            return node.go_down(t + DOWN_MS);
        }
        if !node.cannot_save {
            node.saved = node.state.clone();
            let events = event::between(&before, &node.state, &actions, now);
            node.told.extend(events.into_iter().map(|event| event.what));
            if node.course.last() != Some(&phase) {
                node.course.push(phase);
            }
        }
        match mishap {
            Some(Mishap::CutAfter) => return node.go_down(t + DOWN_MS),
            Some(Mishap::Crash) => {
                node.state = node.saved.clone().resumed(&boot_id(&node.name, node.boots));
                return;
            }
            _ => {}
        }
        let asks = actions.iter().any(|action| matches!(action, Action::Reboot { .. }));
        if asks && !node.cannot_save && node.goes_ms.is_none() && !node.is_stuck {
            let intent = node.saved.reboot.intent().expect("saved before it is done");
            node.obeyed.push((intent.id.clone(), node.saved.boot.clone()));
            node.goes_ms = Some(t + 1_000);
        }
    }
}

impl Node {
    pub(super) fn is_up(&self) -> bool {
        self.up_ms.is_none()
    }

    pub(super) fn told_ids(&self) -> BTreeSet<&str> {
        self.obeyed.iter().map(|(id, _)| id.as_str()).collect()
    }

    fn go_down(&mut self, up_ms: u64) {
        self.up_ms = Some(up_ms);
        self.goes_ms = None;
        self.heard.clear();
        self.ranks_run = false;
        // What a reboot mends.
        self.fault = None;
        self.is_stuck = false;
        self.unload_ms = UNLOAD_MS;
        self.terminations = 0;
    }

    /// What the machine does by itself: it goes down, comes up, and its ranks end.
    fn go_on(&mut self, t: u64) {
        if self.goes_ms.is_some_and(|at| t >= at) {
            self.go_down(t + DOWN_MS);
        }
        if self.up_ms.is_some_and(|at| t >= at) {
            self.up_ms = None;
            self.boots += 1;
            self.booted_ms = t;
            self.state = self.saved.clone().resumed(&boot_id(&self.name, self.boots));
        }
        if self.state.draining_since_ms.is_some() && self.is_up() {
            let since = *self.unloads_ms.get_or_insert(t);
            self.ranks_run &= t - since < self.unload_ms;
        } else {
            self.unloads_ms = None;
            self.ranks_run = self.is_up();
        }
    }

    /// As the rest of the policy would have it.
    fn see_gang(&mut self, serves: bool, now: Moment) {
        let state = &mut self.state;
        state.gang = match &self.fault {
            Some(cause) => gang::Phase::Held { reason: "r".into(), reboot: Some(cause.clone()) },
            None if serves && state.draining_since_ms.is_none() => gang::Phase::Serving,
            None => gang::Phase::Idle,
        };
        state.scratch.canary = canary::Proof {
            passed: true,
            proven_ms: Some(now.boot_ms),
            ..canary::Proof::default()
        };
    }
}
