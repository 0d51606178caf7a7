//! Some nodes, their reports and a simple engine, as far as policy sees them.

mod node;

use tandem_wire::{Phase as RankPhase, exit};

use crate::{Ended, Fallback, Order, OrderKind, Process, pair::NodePlace};

pub(super) use node::{GIB, Node, component};
use node::{never, vitals};

/// Time between two turns of all nodes, in milliseconds.
pub(super) const TICK_MS: u64 = 500;

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
