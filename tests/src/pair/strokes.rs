//! What goes wrong between nodes.

use std::rc::Rc;

use tandem_policy::{OrderKind, pair::PeerSeen};

use super::{
    Pair,
    network::{self, PATHS},
    setups,
};
use crate::{
    node::Node,
    trouble::{PairTrouble, Troubles},
};

/// How long after a boot old reports are shown more often, in milliseconds.
const BACK_MS: u64 = 60_000;

impl Pair {
    fn strikes(&mut self, trouble: PairTrouble) -> bool {
        self.strikes_every(trouble, Troubles::every(&self.troubles, trouble))
    }

    fn strikes_every(&mut self, trouble: PairTrouble, every: u64) -> bool {
        let struck = self.faulty && self.dice.once_in(every);
        if struck {
            self.mark(trouble);
        }
        struck
    }

    fn mark(&mut self, trouble: PairTrouble) {
        let name = crate::trouble::Kind::name(trouble);
        self.lives[0].node.met.mark(&format!("trouble {name}"));
        self.tell(format!("trouble {name}"));
    }

    fn any_other(&mut self, place: usize) -> usize {
        let count = self.lives.len() as u64;
        let step = 1 + usize::try_from(self.dice.below(count - 1)).unwrap_or(0);
        (place + step) % self.lives.len()
    }

    /// What strikes before a node's next turn.
    pub(super) fn strike(&mut self, place: usize) {
        let t = self.lives[place].node.t;
        self.strike_ways(place, t);
        self.strike_config(place, t);
        if self.strikes(PairTrouble::PowerCutAll) {
            for life in &mut self.lives {
                if !life.node.machine.is_off() {
                    life.node.go_down();
                    life.turns = None;
                }
            }
        }
        if self.strikes(PairTrouble::OrderReboot) && self.lives[place].node.is_supervised() {
            let all = !self.dice.once_in(4);
            let reason = "new cables".into();
            self.lives[place].node.give_order(OrderKind::Reboot { all, reason });
        }
        if self.strikes(PairTrouble::OrderTwo) {
            for at in [place, self.any_other(place)] {
                if self.lives[at].node.is_supervised() {
                    let reason = "new cables".into();
                    self.lives[at].node.give_order(OrderKind::Reboot { all: true, reason });
                }
            }
        }
        if self.strikes(PairTrouble::Leak) {
            self.lives[place].node.leak();
        }
    }

    /// The machine that leads dies while it tells an epoch that no other node has begun.
    pub(super) fn strike_start(&mut self, epoch: u64) {
        let is_new = |life: &crate::life::Life| life.node.epoch_on_disk() < epoch;
        if self.lives.iter().skip(1).all(is_new)
            && self.lives[0].node.is_supervised()
            && self.strikes(PairTrouble::LeaderDiesStarting)
        {
            self.lives[0].node.go_down();
            self.lives[0].turns = None;
        }
    }

    fn strike_ways(&mut self, place: usize, t: u64) {
        let other = self.any_other(place);
        let path = usize::try_from(self.dice.below(PATHS as u64)).unwrap_or(0);
        let until = t + self.dice.pick(&[2_000, 5_000, 15_000, 60_000, 120_000]);
        if self.strikes(PairTrouble::PathCut) {
            self.network.way(place, other, path).cut_until = until;
            self.network.way(other, place, path).cut_until = until;
        }
        if self.strikes(PairTrouble::Partition) {
            self.cut_off(place, until);
        }
        if self.strikes(PairTrouble::OneWay) {
            for path in 0..PATHS {
                self.network.way(place, other, path).cut_until = until;
            }
        }
        if self.strikes(PairTrouble::Loss) {
            self.network.way(place, other, path).lossy_until = until;
            self.network.way(place, other, 1 - path).lossy_until = until;
        }
        if self.strikes(PairTrouble::Delay) {
            self.network.way(place, other, path).slow_until = until;
            self.network.way(place, other, 1 - path).slow_until = until;
        }
        if self.strikes(PairTrouble::Repeat) {
            self.network.way(place, other, path).repeats_until = until;
        }
    }

    /// No way leads to it or from it.
    fn cut_off(&mut self, place: usize, until: u64) {
        for other in (0..self.lives.len()).filter(|other| *other != place) {
            for path in 0..PATHS {
                self.network.way(place, other, path).cut_until = until;
                self.network.way(other, place, path).cut_until = until;
            }
        }
    }

    /// A node that was to be cut off in this turn is.
    pub(super) fn cut_if_wanted(&mut self, place: usize) {
        let Some(around) = &mut self.lives[place].node.around else { return };
        if std::mem::take(&mut around.is_to_be_cut) {
            let until = self.lives[place].node.t + self.dice.pick(&[2_000, 10_000, 30_000, 90_000]);
            self.cut_off(place, until);
        }
    }

    fn strike_config(&mut self, place: usize, t: u64) {
        if self.strikes(PairTrouble::PlanUnequal) {
            self.plan += 1;
            for at in &mut self.plan_at {
                *at = Some(t + self.dice.between(0, 90_000));
            }
        }
        let until = t + self.dice.between(5_000, 90_000);
        if self.strikes(PairTrouble::VersionsDiffer) {
            self.odd_version_until[place] = until;
        }
        if self.strikes(PairTrouble::FilesDiffer) {
            self.odd_files_until[place] = until;
        }
        if self.strikes(PairTrouble::Unpaired) {
            self.unpaired_until[place] = until;
            // The link takes nothing of a node whose key it does not know.
            self.cut_off(place, until);
            self.network.drop_under_way(place);
        }
    }

    /// A node reads its config and its files again.
    pub(super) fn take_plan(&mut self, place: usize) {
        let (plan, at) = (self.plan, self.plan_at[place]);
        let (odd_version, odd_files) = (self.odd_version_until[place], self.odd_files_until[place]);
        let node = &mut self.lives[place].node;
        let t = node.t;
        let setup = Rc::make_mut(&mut node.setup);
        let version = if t < odd_version { "0.2" } else { "0.1" };
        if setup.version != version {
            version.clone_into(&mut setup.version);
        }
        if at.is_some_and(|at| t >= at) {
            self.plan_at[place] = None;
            setups::set_plan(setup, plan);
            node.record.replanned(t);
        }
        if let Some(around) = &mut node.around {
            let manifest = if t < odd_files { "other files" } else { "manifest" };
            manifest.clone_into(&mut around.manifest);
        }
    }

    /// Shows one old report in place of the newest, as if the link had failed to drop it.
    pub(super) fn show_an_old_report(&mut self, place: usize, peers: &mut [PeerSeen]) -> bool {
        let Some(peer) = peers.first_mut() else { return false };
        let other = usize::from(place == 0);
        let boot = self.lives[other].node.boot_id();
        let (t, known) = (self.lives[place].node.t, self.lives[place].node.epoch_on_disk());
        let is_back = |place: usize| {
            let machine = &self.lives[place].node.machine;
            t.saturating_sub(machine.booted_at) < BACK_MS
        };
        let is_soon_after_boot = is_back(place) || is_back(other);
        // Only those of an earlier boot, or of a reboot that is over: what else is old was true in
        // this boot, and the link alone can know that it is not the newest.
        let is_over = |text: &str| {
            network::read(text)
                .is_ok_and(|report| report.start.is_none() && report.reboot.is_some())
        };
        let of = &self.network.old[other];
        let around = self.lives[place].node.around.as_ref();
        // An epoch is asked for and answered: of a boot in which this supervisor never asked there is
        // no answer.
        let could_come = |old: &network::Old| {
            old.epoch == 0 || around.is_some_and(|a| a.leader_boots.has_heard(&old.boot))
        };
        let mut old: Vec<_> = of
            .iter()
            .filter(|old| could_come(old) && (old.boot != boot || is_over(&old.text)))
            .collect();
        // One late report is followed by newer ones at once.
        let was_stale = self.lives[place].node.around.as_ref().is_some_and(|a| a.is_stale);
        if old.is_empty() || peer.report.is_none() || was_stale {
            return false;
        }
        // What could be obeyed at once, half of the time.
        if old.iter().any(|old| old.epoch > known) && self.dice.once_in(2) {
            old.retain(|old| old.epoch > known);
        }
        let text = &old[usize::try_from(self.dice.below(old.len() as u64)).unwrap_or(0)].text;
        let text = Rc::clone(text);
        let every = Troubles::every(&self.troubles, PairTrouble::StaleReport);
        let every = if is_soon_after_boot { every.div_ceil(8) } else { every };
        if !self.strikes_every(PairTrouble::StaleReport, every) {
            return false;
        }
        let Ok(report) = network::read(&text) else { return false };
        let node = &self.lives[place].node;
        peer.report = Some((report, node.t - node.machine.booted_at));
        true
    }

    /// Nothing goes wrong between nodes any more; what differs becomes equal.
    pub(super) fn heal_ways(&mut self) {
        self.faulty = false;
        self.network.heal();
        let t = self.lives.iter().map(|life| life.node.t).max().unwrap_or(0);
        for at in self.plan_at.iter_mut().flatten() {
            *at = (*at).min(t);
        }
        self.odd_version_until.fill(0);
        self.odd_files_until.fill(0);
        self.unpaired_until.fill(0);
    }
}

impl Node {
    /// Wired memory is left to nobody, with nothing that crashed: seen once the ranks are gone.
    pub(crate) fn leak(&mut self) {
        let bytes = self.dice.between(40, 120) << 30;
        self.tell(|_| format!("{} GiB leak", bytes >> 30));
        self.memory.strand(bytes);
    }
}
