//! What a node of several writes down of itself into the truth about all.

use tandem_policy::{
    OrderKind, State, gang,
    pair::{NodeReport, PeerSeen},
    reboot,
};

use super::truth::{Commanded, NodeTruth, Truth};
use crate::{
    node::Node,
    trouble::{Kind, PairTrouble},
};

impl Node {
    /// Whether this trouble between nodes strikes now.
    pub(crate) fn strikes_between(&mut self, trouble: PairTrouble) -> bool {
        let Some(around) = &self.around else { return false };
        let every = around.troubles.every(trouble);
        let struck = self.faulty && self.dice.once_in(every);
        if struck {
            self.met.mark(&format!("trouble {}", trouble.name()));
        }
        struck
    }

    /// Writes into the truth about this node, if it is one of several.
    pub(crate) fn note(&self, write: impl FnOnce(&mut NodeTruth)) {
        if let Some(around) = &self.around
            && let Some(node) = around.truth.borrow_mut().nodes.get_mut(around.place)
        {
            write(node);
        }
    }

    /// Writes into the truth about all, if this node is one of several.
    pub(crate) fn note_of_all(&self, write: impl FnOnce(&mut Truth, usize)) {
        if let Some(around) = &self.around {
            write(&mut around.truth.borrow_mut(), around.place);
        }
    }

    /// A state was decided on: it is about to be on disk, or is what a turn that could not save it ends
    /// with. What was decided in between and taken back, because it could not be saved, was never so.
    pub(crate) fn note_decided(&mut self, state: &State) {
        if self.around.is_none() {
            return;
        }
        if let Some(told) = reboot::told(state).filter(|told| told.veto.is_none()) {
            let t = self.t;
            self.note_of_all(|truth, place| truth.decided(place, &told, t));
        }
        let left = super::promises::reboots::decided(self, state);
        let turned = super::promises::turned_to_fallback(self, state);
        self.record.mode = Some(state.mode.clone());
        self.check(left.and(turned));
    }

    /// A state is on disk: what it says of epochs and of a reboot is true from now on.
    pub(crate) fn note_saved(&mut self, state: &State) {
        let Some((seen, now)) = self.shown.clone() else { return };
        if self.around.is_none() {
            return;
        }
        if matches!(state.gang, gang::Phase::Starting { .. } | gang::Phase::Serving) {
            self.note(|node| {
                node.led.insert(state.epoch, state.boot.clone());
            });
        }
        if state.operator.hold.is_some() || state.operator.drained {
            self.note_of_all(|truth, place| truth.excuse(place, "an operator held or drained it"));
        }
        // What it is ready for and not bound to it withdraws from, and the next supervisor knows no more of it.
        if seen.terminations > 0 {
            self.note_of_all(|truth, place| truth.excuse(place, "its supervisor was asked to end"));
        }
        let intent = state.reboot.intent().map(|intent| intent.id.as_str());
        let long_ago = self.t.saturating_sub(self.setup.reboot.return_timeout_ms);
        // By what was shown.
        let silence_ms = self.setup.pair.silence_timeout_ms;
        let is_unheard = |peer: &&PeerSeen| {
            let age_ms = |(_, at_ms): &(NodeReport, u64)| now.boot_ms.saturating_sub(*at_ms);
            peer.report.as_ref().is_none_or(|heard| age_ms(heard) > silence_ms)
        };
        let unheard: Vec<_> =
            seen.peers.iter().filter(is_unheard).map(|peer| peer.node.clone()).collect();
        self.note_of_all(|truth, place| truth.turns_to(place, intent, long_ago, &unheard));
        let Some(told) = NodeReport::of(&self.setup, state, &seen, now).reboot else { return };
        let t = self.t;
        let mut is_news = false;
        self.note_of_all(|truth, place| is_news = truth.saved(place, &told, t));
        if !is_news {
            return;
        }
        match told.veto {
            Some(veto) => self.met.mark(&format!("veto {veto:?}")),
            None => self.met.mark(&format!("reboot {:?}", told.stage)),
        }
        self.tell(|_| format!("    reboot {told:?}"));
        self.meet_trouble_in_reboot();
    }

    /// What goes wrong right after it was saved how far a reboot is.
    fn meet_trouble_in_reboot(&mut self) {
        if self.strikes_between(PairTrouble::DiesInReboot) {
            self.die_soon();
        }
        if self.strikes_between(PairTrouble::CutInReboot)
            && let Some(around) = &mut self.around
        {
            around.is_to_be_cut = true;
        }
        if self.strikes_between(PairTrouble::HeldInReboot) {
            let what = self.dice.once_in(2);
            self.give_order(if what {
                OrderKind::Hold { until_wall_ms: None }
            } else {
                OrderKind::Drain
            });
        }
        if self.strikes_between(PairTrouble::FullInReboot) {
            self.fill_disk();
        }
    }

    /// It is in another boot.
    pub(crate) fn note_boot(&self) {
        let (boot, t) = (self.boot_id(), self.t);
        self.note(|node| {
            node.boot = boot;
            node.boot_since = t;
            node.down_at = None;
            if let Some(commanded) = &mut node.commanded {
                commanded.back_at.get_or_insert(t);
            }
        });
    }

    /// It went down, for whatever reason.
    pub(crate) fn note_down(&self) {
        let t = self.t;
        self.note(|node| node.down_at = Some(t));
    }

    /// It goes down because it was told to.
    pub(crate) fn note_commanded(&self) {
        let (t, boot) = (self.t, self.boot_id());
        self.note_of_all(|truth, place| {
            // The last one that it was asked for in this boot; one before may have had no effect.
            let asked_at = |deed: &super::truth::Deed| {
                let asked = deed.parts.get(&place)?.asked.as_ref();
                asked.filter(|(_, asked)| *asked == boot).map(|(at, _)| *at)
            };
            let asked = |(id, deed)| Some((asked_at(deed)?, id));
            let last = truth.deeds.iter().filter_map(asked).max();
            let id: Option<String> = last.map(|(_, id): (u64, &String)| id.clone());
            if let Some(id) = id {
                if let Some(part) =
                    truth.deeds.get_mut(&id).and_then(|deed| deed.parts.get_mut(&place))
                {
                    part.down_at = Some(t);
                }
                if let Some(node) = truth.nodes.get_mut(place) {
                    node.commanded = Some(Commanded { back_at: None, id });
                }
            }
        });
    }

    /// Its supervisor forgot all.
    pub(crate) fn note_lost_memory(&self) {
        let t = self.t;
        self.note(|node| {
            node.epoch_floor = 0;
            node.led.clear();
            node.lost_memory_at = Some(t);
        });
        self.note_of_all(|truth, place| {
            truth.excuse(place, "its memory was lost");
            truth.forget(place);
        });
    }

    /// Whether this is the boot after one that was ended because the machine was told to.
    pub(crate) fn is_back_by_command(&self) -> bool {
        let Some(around) = &self.around else { return false };
        let truth = around.truth.borrow();
        let commanded = truth.nodes.get(around.place).and_then(|node| node.commanded.as_ref());
        commanded.is_some_and(|commanded| {
            commanded.back_at.is_some_and(|at| at >= self.machine.booted_at)
        })
    }

    /// The last epoch that its disk knows.
    pub(crate) fn epoch_on_disk(&self) -> u64 {
        self.disk.saved.as_ref().map_or(0, |state| state.epoch)
    }

    /// Tokens came through this node's gateway.
    pub(crate) fn note_tokens(&self, epoch: u64) {
        let t = self.t;
        self.note_of_all(|truth, place| truth.saw_tokens(place, epoch, t));
    }

    /// Ranks of this epoch were started here.
    pub(crate) fn note_start(&self, epoch: u64) {
        self.note(|node| node.epoch_floor = node.epoch_floor.max(epoch));
    }
}
