//! Lives of several nodes that serve one model together: their machines, the ways between them, and
//! what they promise of each other.
//!
//! Each node is a whole [`crate::node::Node`] with dice of its own. There is one true time; the node
//! that is behind all others goes next.

pub(crate) mod around;
pub(crate) mod carriers;
pub(crate) mod fabric;
mod healing;
mod network;
mod notes;
pub(crate) mod promises;
mod setups;
mod strokes;
pub(crate) mod truth;

use std::{cell::RefCell, rc::Rc};

use tandem_policy::{Setup, invariant::Invariant};

use crate::{
    dice::Dice,
    life::{Life, Outcome},
    node::Node,
    trouble::{Kind, PairTrouble, Troubles},
};
use around::{Around, LeaderBoots, Other, OtherRank};
use fabric::{Cables, Felt};
use network::{Listener, Network, PATHS};
use truth::{NodeTruth, Truth};

/// Turns of each node with troubles.
const TROUBLED_TURNS: u32 = 400;

/// How far a node may be ahead of another when it has its turn, in milliseconds: more than any pause
/// between two turns.
const AHEAD_MS_MAX: u64 = 5_000;

/// Marks the dice of a life of several nodes, so that the same number is another life.
const SALT: u64 = 0x7061_6972;

/// Several nodes that are being lived.
pub(crate) struct Pair {
    pub(crate) lives: Vec<Life>,
    network: Network,
    cables: Cables,
    dice: Dice,
    troubles: Troubles<PairTrouble>,
    faulty: bool,
    truth: Rc<RefCell<Truth>>,
    log: Option<Vec<String>>,
    /// Nodes whose time has gone on by much, asleep or booting: their turn comes when the others are
    /// as far.
    is_away: Vec<bool>,
    /// Number of the newest plan, and when each node takes it.
    plan: u32,
    plan_at: Vec<Option<u64>>,
    /// Until when a node's version is another, its files are, or it does not know its peers.
    odd_version_until: Vec<u64>,
    odd_files_until: Vec<u64>,
    unpaired_until: Vec<u64>,
    /// Since when an intent has been carried out by some of its nodes and not by another that hears
    /// them, by id and place.
    pub(crate) owed: std::collections::BTreeMap<(String, usize), u64>,
    /// Since when two nodes have proposed a reboot to each other, by their places.
    pub(crate) rivals: std::collections::BTreeMap<(usize, usize), u64>,
}

/// Lives one life of several nodes.
pub fn live(seed: u64, tells: bool) -> Outcome {
    let mut pair = Pair::new(seed, tells);
    let result = pair.whole();
    pair.lives[0].node.check(result);
    pair.outcome()
}

impl Pair {
    pub(crate) fn new(seed: u64, tells: bool) -> Self {
        let mut dice = Dice::new(seed ^ SALT.rotate_left(32));
        let mut of_cables = Cables::dice(seed);
        let setups = setups::roll(&mut dice, &mut of_cables);
        let count = setups.len();
        let cables = Cables::new(of_cables, &setups);
        let truth = Rc::new(RefCell::new(Truth::default()));
        let named = |setup: &Setup| NodeTruth { name: setup.node.clone(), ..NodeTruth::default() };
        truth.borrow_mut().nodes = setups.iter().map(named).collect();
        let troubles: Troubles<PairTrouble> = Troubles::roll(&mut dice, 1);
        let mut lives = Vec::new();
        for (place, setup) in setups.into_iter().enumerate() {
            let around = Around {
                place,
                others: Vec::new(),
                is_ring_whole: true,
                peers: Vec::new(),
                is_stale: false,
                leader_boots: LeaderBoots::default(),
                truth: Rc::clone(&truth),
                troubles: troubles.clone(),
                instance: 0,
                told: None,
                is_to_be_cut: false,
                manifest: "manifest".into(),
                slept: None,
                fabric: Felt::default(),
            };
            let own = Dice::new(dice.roll());
            let node = Node::of(setup, own, Some(around), tells);
            lives.push(Life { node, turns: None, status: None });
        }
        let mut pair = Self {
            lives,
            network: Network::new(count),
            cables,
            dice,
            troubles,
            faulty: true,
            truth,
            log: tells.then(Vec::new),
            is_away: vec![false; count],
            plan: 0,
            plan_at: vec![None; count],
            odd_version_until: vec![0; count],
            odd_files_until: vec![0; count],
            unpaired_until: vec![0; count],
            owed: std::collections::BTreeMap::new(),
            rivals: std::collections::BTreeMap::new(),
        };
        if tells {
            let on = |t: &&PairTrouble| pair.troubles.every(**t) > 0;
            let on: Vec<_> = PairTrouble::ALL.iter().filter(on).map(|t| t.name()).collect();
            let line = format!("{count} nodes; troubles between them: {}", on.join(" "));
            pair.tell(line);
            (0..count).for_each(|place| pair.gather_log(place));
        }
        pair
    }

    fn outcome(self) -> Outcome {
        let mut met = crate::coverage::Met::default();
        let mut broken = None;
        for life in &self.lives {
            met.add(&life.node.met);
            if broken.is_none() {
                broken.clone_from(&life.node.broken);
            }
        }
        met.mark(&format!("{} nodes", self.lives.len()));
        Outcome { met, broken, log: self.log.unwrap_or_default() }
    }

    fn whole(&mut self) -> Result<(), String> {
        let turns = TROUBLED_TURNS as usize * self.lives.len();
        for _ in 0..turns {
            self.step();
            if self.is_broken() {
                return Ok(());
            }
        }
        self.heal()?;
        self.end()
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.lives.iter().any(|life| life.node.broken.is_some())
    }

    /// Tells a line about all.
    pub(crate) fn tell(&mut self, line: String) {
        let t = self.lives.iter().map(|life| life.node.t).min().unwrap_or(0);
        if let Some(log) = &mut self.log {
            log.push(format!("{t:>9}   {line}"));
        }
    }

    /// Takes over what a node's log has become longer by.
    fn gather_log(&mut self, place: usize) {
        let node = &mut self.lives[place].node;
        let (Some(log), Some(of_node)) = (&mut self.log, &mut node.log) else { return };
        let name = &node.setup.node;
        log.extend(of_node.drain(..).map(|line| match line.split_at_checked(9) {
            Some((time, rest)) => format!("{time} {name}{rest}"),
            None => line,
        }));
    }

    /// The next turn of the node that is behind all others; returns which, and whether its
    /// supervisor ended by itself.
    pub(crate) fn step(&mut self) -> (usize, bool) {
        let is_first = |place: &usize| self.lives[*place].node.t;
        let place = (0..self.lives.len()).min_by_key(is_first).unwrap_or(0);
        (place, self.step_of(place))
    }

    /// The next turn of one node.
    pub(crate) fn step_of(&mut self, place: usize) -> bool {
        if std::mem::take(&mut self.is_away[place]) {
            // The others have gone on meanwhile.
            self.surround(place);
        } else {
            self.strike(place);
            self.strike_cables(place);
            self.surround(place);
            self.lives[place].node.pass();
            self.note_voice(place);
            let least = self.lives.iter().map(|life| life.node.t).min().unwrap_or(0);
            if self.lives[place].node.t > least + AHEAD_MS_MAX {
                self.is_away[place] = true;
                self.gather_log(place);
                return false;
            }
        }
        self.lives[place].wake();
        self.note_voice(place);
        self.take_plan(place);
        self.surround_by_cables(place);
        self.hear(place);
        let ends = self.lives[place].take();
        self.note_voice(place);
        self.cut_if_wanted(place);
        promises::of_all(self, place);
        self.gather_log(place);
        ends
    }

    /// What the node's processes feel of the others now.
    fn surround(&mut self, place: usize) {
        let t = self.lives[place].node.t;
        let others: Vec<Other> = (0..self.lives.len())
            .filter(|other| *other != place)
            .map(|other| self.other(place, other))
            .collect();
        let is_ring_whole = self.network.is_ring_whole(t);
        if let Some(around) = &mut self.lives[place].node.around {
            around.others = others;
            around.is_ring_whole = is_ring_whole;
        }
    }

    fn other(&self, place: usize, other: usize) -> Other {
        let t = self.lives[place].node.t;
        let node = &self.lives[other].node;
        Other {
            ranks: node.ranks.iter().map(|rank| self.as_felt(other, rank)).collect(),
            leads: node.setup.leads(),
            leaks: node.memory.stranded_bytes > 0,
            gateway_passes: node.gateway.passes(node.t),
            is_reached: (0..PATHS).any(|path| self.network.is_up(place, other, path, t)),
        }
    }

    /// A rank of a node that sleeps says nothing.
    fn as_felt(&self, place: usize, rank: &crate::node::ranks::Rank) -> OtherRank {
        let felt = rank.outwards(self.lives[place].node.t);
        let is_away = self.is_away[place];
        OtherRank { is_mute: felt.is_mute || is_away, works: felt.works && !is_away, ..felt }
    }

    /// What the node's supervisor sees of the others now.
    fn hear(&mut self, place: usize) {
        let node = &self.lives[place].node;
        if !node.is_supervised() {
            return;
        }
        let listener = Listener {
            place,
            t: node.t,
            booted_at: node.machine.booted_at,
            instance: node.around.as_ref().map_or(0, |around| around.instance),
            since: node.machine.supervisor_since,
            setup: &node.setup,
        };
        let heard = self.network.heard(&listener, &mut self.dice);
        let unpaired = listener.t < self.unpaired_until[place];
        let mut peers = match heard {
            Ok(peers) => peers,
            Err(why) => return self.lives[place].node.check(Err(why)),
        };
        let own = self.lives[place].node.around.as_ref().map(|a| a.manifest.clone());
        for peer in &mut peers {
            if unpaired {
                peer.is_paired = false;
                peer.report = None;
            }
            let theirs = peer.report.as_ref().and_then(|(report, _)| report.manifest.clone());
            if own.is_some() && theirs.is_some() && theirs != own {
                peer.differences = vec!["model-2.safetensors: another size".into()];
            }
        }
        let is_stale = self.show_an_old_report(place, &mut peers);
        let node = &mut self.lives[place].node;
        let (setup, now) = (Rc::clone(&node.setup), node.moment());
        if let Some(around) = &mut node.around {
            let of_leader = peers.iter().find(|peer| peer.node == setup.leader());
            let heard = of_leader.and_then(|peer| peer.fresh(&setup, now));
            if let Some(report) = heard {
                let mut truth = self.truth.borrow_mut();
                let boot = truth.nodes.first().filter(|leader| leader.boot == report.boot);
                if let Some(since) = boot.map(|leader| leader.boot_since) {
                    truth.hears_leader(place, since + report.uptime_ms, node.t);
                }
            }
            around.leader_boots.hear(heard.map(|report| report.boot.as_str()), is_stale);
            around.peers = peers;
            around.is_stale = is_stale;
        }
    }

    /// What the others can hear of this node from now on.
    fn note_voice(&mut self, place: usize) {
        let node = &mut self.lives[place].node;
        let (t, boot, is_supervised) = (node.t, node.boot_id(), node.is_supervised());
        let Some(around) = &mut node.around else { return };
        let instance = around.instance;
        let slept = around.slept.take();
        let told = around.told.take();
        if let Some((from, until)) = slept {
            self.network.slept(place, from, until);
            // What is owed between it and another is counted in the time in which both were awake.
            let truth = self.truth.borrow();
            let is_proposer = |id: &String| {
                let deed = truth.deeds.get(id);
                deed.and_then(|deed| truth.place(&deed.intent.proposer)) == Some(place)
            };
            self.owed.retain(|(id, other), _| *other != place && !is_proposer(id));
        }
        if !is_supervised {
            return self.network.says(place, t, instance, None);
        }
        let Some(report) = told else { return };
        let text = match network::write(&report) {
            Ok(text) => text,
            Err(why) => return self.lives[place].node.check(Err(why)),
        };
        if report.reboot.is_some() || report.start.is_some() {
            self.network.keep(place, &boot, &report, &text);
        }
        self.network.says(place, t, instance, Some(text));
        let listens = report.ranks.first().is_some_and(|rank| rank.phase.is_some());
        if let Some(start) = report.start.filter(|_| listens && place == 0) {
            self.strike_start(start.epoch);
        }
    }

    /// An invariant of a node, for the conditions of a reboot.
    pub(crate) fn boots_unattended(&self, place: usize) -> bool {
        self.lives[place].node.holds_now(Invariant::UnattendedBoot)
    }
}
