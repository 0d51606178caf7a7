//! How a reboot ends without one.

use super::{Look, REFUSED_MS};
use crate::{
    State,
    reboot::{Intent, Outcome, Phase, Stage, heard::Part},
};

impl Look<'_> {
    /// Ends it before it could harm anyone. Who refused once is not asked again soon.
    pub(super) fn close(
        &self,
        state: &mut State,
        intent: &Intent,
        outcome: Outcome,
        why: &str,
    ) -> Phase {
        let memory = &mut state.reboot_memory;
        memory.close(intent, outcome, why, self.now);
        if outcome == Outcome::Vetoed {
            match memory.order.as_mut().filter(|_| intent.is_ordered) {
                Some(order) => order.vetoed = Some(why.to_owned()),
                None => memory.not_before_ms = self.now.boot_ms.saturating_add(REFUSED_MS),
            }
        }
        Phase::Steady
    }

    /// The proposer has waited long enough. A node that fell silent is no refusal: once it was silent
    /// for long it is left behind.
    pub(super) fn give_up(
        &self,
        state: &mut State,
        intent: &Intent,
        stage: Stage,
        what: &str,
    ) -> Phase {
        let laggards =
            self.others(state, intent).into_iter().filter(|(_, part)| !part.has_reached(stage));
        let (silent, slow): (Vec<_>, Vec<_>) =
            laggards.partition(|(_, part)| *part == Part::Silent);
        match (slow.first(), silent.first()) {
            (Some((node, _)), _) => {
                self.close(state, intent, Outcome::Vetoed, &format!("node {node} {what}"))
            }
            (None, silent) => {
                let node = silent.map_or("", |(node, _)| node.as_str());
                self.close(state, intent, Outcome::Withdrawn, &format!("node {node} fell silent"))
            }
        }
    }

    pub(super) fn abandon(&self, state: &mut State, intent: &Intent) -> Phase {
        let why = format!("node {} was not heard again", intent.proposer);
        state.reboot_memory.trouble = Some(format!("{}: {why}", intent.cause.kind));
        self.close(state, intent, Outcome::Abandoned, &why)
    }

    pub(super) fn fail(&self, state: &mut State, intent: &Intent, why: &str) -> Phase {
        state.reboot_memory.trouble = Some(format!("{}: {why}", intent.cause.kind));
        self.close(state, intent, Outcome::Failed, why)
    }

    /// The system is still up, long after it was to be asked to reboot. What a person stopped may yet
    /// help.
    pub(super) fn not_done(&self, state: &mut State, intent: &Intent) -> Phase {
        if state.operator.stops_reboots() {
            return self.fail(state, intent, "an operator held or drained this node meanwhile");
        }
        state.latch.kinds.insert(intent.cause.kind.clone());
        self.fail(state, intent, "the system was asked to reboot and did not")
    }
}
