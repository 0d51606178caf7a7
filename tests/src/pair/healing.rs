//! Once troubles stop, all nodes serve together again within a bound, or one holds for a reason that
//! the troubles justify and says what an operator has to do; then that is done, and they serve.

use tandem_policy::OrderKind;

use super::Pair;
use crate::life::names_an_action;

/// Most turns of each node without troubles until all serve, or one holds: some 20 minutes.
const HEALING_TURNS: usize = 1_500;

/// Turns of each node in which a hold must stay to count: another node may still mend it.
const SETTLED_TURNS: usize = 60;

/// Most times that operators come: each node may hold for a reason of its own.
const VISITS_MAX: usize = 8;

/// Most turns of each node until an orderly end.
const ENDING_TURNS: usize = 120;

impl Pair {
    pub(crate) fn heal(&mut self) -> Result<(), String> {
        self.heal_ways();
        self.heal_cables();
        for life in &mut self.lives {
            life.node.heal();
            if life.node.a_probe_hangs() && life.node.is_supervised() {
                life.node.kill_supervisor();
                life.turns = None;
            }
        }
        self.tell("HEALING: no trouble strikes any more".into());
        self.operators_let_go();
        let mut returns = 0;
        for visit in 0..=VISITS_MAX {
            self.turns_until_settled();
            if self.is_broken() {
                return Ok(());
            }
            if self.serves_by_ring() {
                self.operators_return_to_fabric(returns);
                returns += 1;
                continue;
            }
            if self.is_healthy() {
                let how = if visit == 0 { "healed without help" } else { "released from held" };
                self.lives[0].node.met.mark(how);
                return super::promises::reboots::nothing_is_owed(self);
            }
            self.operators_help()?;
        }
        Err(format!("not serving after {VISITS_MAX} releases: {}", self.describe()))
    }

    /// All serve together.
    pub(crate) fn is_healthy(&self) -> bool {
        self.lives.iter().all(crate::life::Life::is_healthy)
    }

    /// All serve together by the ring, because they can't by the fabric, and nothing else is wrong.
    fn serves_by_ring(&self) -> bool {
        let faults = |life: &crate::life::Life| {
            let open = life.status.as_ref().map(|status| status.faults.iter())?;
            let unhealthy = open.filter(|fault| fault.kind.is_unhealthy());
            Some(unhealthy.map(|fault| fault.kind.name()).collect::<Vec<_>>())
        };
        let serves = |life: &crate::life::Life| {
            life.turns.is_some()
                && life.node.serves_the_plan()
                && life.status.as_ref().is_some_and(|s| s.proven && s.phase == "serving")
                && faults(life).is_some_and(|faults| faults.iter().all(|name| *name == "fabric"))
        };
        self.lives.iter().all(serves)
            && self.lives.iter().any(|life| faults(life).is_some_and(|faults| !faults.is_empty()))
    }

    /// The cable is put in, and the node with rank 0 drained and resumed, as the fault says; where that
    /// is not enough, because starts are spent, the machines boot anew.
    fn operators_return_to_fabric(&mut self, returns: u32) {
        self.lives[0].node.met.mark("served by the ring in the fabric's place");
        self.tell("operators mend the fabric".into());
        self.mend_cables();
        if returns > 0 {
            for life in &mut self.lives {
                life.node.replace_and_reboot();
                life.turns = None;
            }
            return self.operators_let_go();
        }
        self.lives[0].node.give_order(OrderKind::Drain);
        for _ in 0..SETTLED_TURNS * self.lives.len() {
            self.step();
            let is_drained = self.lives[0].status.as_ref().is_some_and(|s| s.phase == "drained");
            if is_drained || self.is_broken() {
                break;
            }
        }
        self.lives[0].node.give_order(OrderKind::Resume);
    }

    fn asks_for_operator(&self) -> bool {
        let is_busy = |life: &crate::life::Life| {
            life.status.as_ref().is_none_or(|status| status.reboot.phase != "steady")
        };
        !self.lives.iter().any(is_busy)
            && self.lives.iter().any(|life| !life.node.excuses().is_empty())
            && self.lives.iter().any(|life| life.held_reason().is_some())
    }

    /// Turns until all are healthy, or one holds for an operator and goes on so.
    fn turns_until_settled(&mut self) {
        let count = self.lives.len();
        let mut held_for = 0;
        for _ in 0..HEALING_TURNS * count {
            self.step();
            held_for = if self.asks_for_operator() { held_for + 1 } else { 0 };
            let serves = self.is_healthy() || self.serves_by_ring();
            if serves || held_for > SETTLED_TURNS * count || self.is_broken() {
                return;
            }
        }
    }

    /// Why nodes hold is justified and told; then the operator does what they ask for.
    fn operators_help(&mut self) -> Result<(), String> {
        let reasons: Vec<(usize, String)> = (0..self.lives.len())
            .filter_map(|place| self.lives[place].held_reason().map(|reason| (place, reason)))
            .collect();
        if reasons.is_empty() {
            return Err(format!("not serving again: {}", self.describe()));
        }
        let excuses: Vec<_> = self.lives.iter().flat_map(|life| life.node.excuses()).collect();
        for (place, reason) in &reasons {
            if excuses.is_empty() {
                return Err(format!("held without a justification: {reason}"));
            }
            if !names_an_action(reason) {
                return Err(format!("held without a word of what to do: {reason}"));
            }
            self.lives[*place].node.met.mark("held");
            self.tell(format!("HELD: {reason}; because of {excuses:?}"));
        }
        for (place, _) in reasons {
            self.lives[place].node.replace_and_reboot();
            self.lives[place].turns = None;
        }
        self.operators_let_go();
        Ok(())
    }

    /// Operators end holds and drains, once a supervisor listens on each node.
    fn operators_let_go(&mut self) {
        for _ in 0..HEALING_TURNS * self.lives.len() {
            if self.lives.iter().all(|life| life.turns.is_some() && life.node.is_supervised()) {
                break;
            }
            self.step();
        }
        for life in &mut self.lives {
            life.node.give_order(OrderKind::Resume);
            life.node.give_order(OrderKind::Release);
        }
    }

    /// SIGTERM ends every node, with all that it started.
    pub(crate) fn end(&mut self) -> Result<(), String> {
        if self.is_broken() {
            return Ok(());
        }
        let mut left: Vec<usize> = (0..self.lives.len()).collect();
        for life in &mut self.lives {
            life.node.terminate();
        }
        for _ in 0..ENDING_TURNS * self.lives.len() {
            let Some(place) = left.iter().copied().min_by_key(|p| self.lives[*p].node.t) else {
                return Ok(());
            };
            if self.step_of(place) {
                left.retain(|other| *other != place);
            }
            if self.is_broken() {
                return Ok(());
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        Err(format!("nodes {left:?} did not end when asked: {}", self.describe()))
    }

    fn describe(&self) -> String {
        let of =
            |life: &crate::life::Life| format!("{}: {}", life.node.setup.node, life.describe());
        self.lives.iter().map(of).collect::<Vec<_>>().join("; ")
    }
}
