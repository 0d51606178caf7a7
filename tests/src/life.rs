//! One life: troubles and safety, then healing and liveness, then an orderly end.

use tandem_policy::{Health, OrderKind, Status, Turns};

use crate::{coverage::Met, node::Node, promises};

/// Turns with troubles.
const TROUBLED_TURNS: u32 = 400;

/// Most turns without, until it must serve or hold with a reason: some 20 minutes of its time, more
/// than all of its timeouts, pauses, and waits between reboots.
const HEALING_TURNS: u32 = 1_500;

/// Most turns until an orderly end.
const ENDING_TURNS: u32 = 120;

/// How a life went.
pub struct Outcome {
    /// What was met.
    pub met: Met,
    /// Which promise was broken.
    pub broken: Option<String>,
    /// The log, if it was asked for.
    pub log: Vec<String>,
}

/// A life that is being lived.
pub(crate) struct Life {
    pub(crate) node: Node,
    pub(crate) turns: Option<Turns>,
    pub(crate) status: Option<Status>,
}

/// Lives one life.
pub fn live(seed: u64, tells: bool) -> Outcome {
    let mut life = Life::new(seed, tells);
    let result = life.whole();
    life.node.check(result);
    let Node { met, broken, log, .. } = life.node;
    Outcome { met, broken, log: log.unwrap_or_default() }
}

impl Life {
    pub(crate) fn new(seed: u64, tells: bool) -> Self {
        Self { node: Node::new(seed, tells), turns: None, status: None }
    }

    fn whole(&mut self) -> Result<(), String> {
        for _ in 0..TROUBLED_TURNS {
            self.turn();
            if self.node.broken.is_some() {
                return Ok(());
            }
        }
        self.heal()?;
        self.end()
    }

    /// One turn, if a supervisor runs; returns whether it ended by itself.
    pub(crate) fn turn(&mut self) -> bool {
        self.node.pass();
        self.wake();
        self.take()
    }

    /// A supervisor starts if none runs, and it is time for it.
    pub(crate) fn wake(&mut self) {
        if !self.node.is_supervised() {
            self.turns = self.node.next_supervisor();
        }
    }

    /// A turn of the supervisor that runs; returns whether it ended by itself.
    pub(crate) fn take(&mut self) -> bool {
        let Some(turns) = &mut self.turns else { return false };
        let setup = std::rc::Rc::clone(&self.node.setup);
        let before = self.node.record.saves;
        let turn = turns.take(&setup, &mut self.node);
        if self.node.is_supervised() {
            self.node.note_decided(turns.state());
            promises::of_turn(&mut self.node, &turn, turns.state());
            self.node.tell_status(&turn.status, before);
            self.status = Some(turn.status);
        }
        self.node.end_turn(turn.ends);
        if !self.node.is_supervised() {
            self.turns = None;
        }
        turn.ends
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.turns.is_some()
            && self.node.serves_the_plan()
            && self.status.as_ref().is_some_and(|status| status.health == Health::Healthy)
    }

    /// Turns until it is healthy, or holds for an operator; at most so many.
    fn turns_until_settled(&mut self) {
        for _ in 0..HEALING_TURNS {
            self.turn();
            if self.is_healthy() || self.asks_for_operator() || self.node.broken.is_some() {
                return;
            }
        }
    }

    /// Why it holds for an operator, or wants a reboot that it may not do; in its own words.
    pub(crate) fn held_reason(&self) -> Option<String> {
        let status = self.status.as_ref()?;
        status.held.clone().or_else(|| {
            let refused = |fault: &&tandem_policy::Fault| fault.kind.name() == "reboot_refused";
            status
                .faults
                .iter()
                .find(refused)
                .map(|fault| format!("{}: {}", fault.evidence, fault.remedy))
        })
    }

    /// Whether it holds, and no reboot is on its way that may still mend it.
    fn asks_for_operator(&self) -> bool {
        let is_steady =
            |status: &Status| ["steady", "verifying"].contains(&status.reboot.phase.as_str());
        self.turns.is_some()
            && self.held_reason().is_some()
            && self.status.as_ref().is_some_and(is_steady)
            && !self.node.excuses().is_empty()
    }

    /// Once troubles stop it serves again within a bound, or says what an operator has to do; once
    /// that is done it serves.
    fn heal(&mut self) -> Result<(), String> {
        self.node.heal();
        if self.node.a_probe_hangs() && self.node.is_supervised() {
            self.node.kill_supervisor();
        }
        self.operators_let_go();
        self.turns_until_settled();
        if self.node.broken.is_some() {
            return Ok(());
        }
        if self.is_healthy() {
            self.node.met.mark("healed without help");
            return Ok(());
        }
        let Some(reason) = self.held_reason() else {
            return Err(format!("not serving again: {}", self.describe()));
        };
        let excuses = self.node.excuses();
        if excuses.is_empty() {
            return Err(format!("held without a justification: {reason}"));
        }
        if !names_an_action(&reason) {
            return Err(format!("held without a word of what to do: {reason}"));
        }
        self.node.met.mark("held");
        self.node.tell_line(format!("HELD: {reason}; because of {excuses:?}"));
        // The operator does what it asks for, and what leaked goes only with a boot.
        self.node.replace_and_reboot();
        self.turns = None;
        self.operators_let_go();
        self.turns_until_settled();
        if self.node.broken.is_some() {
            return Ok(());
        }
        if !self.is_healthy() {
            return Err(format!("not serving after a release: {}", self.describe()));
        }
        self.node.met.mark("released from held");
        Ok(())
    }

    /// Operators end holds and drains, once a supervisor listens.
    fn operators_let_go(&mut self) {
        for _ in 0..HEALING_TURNS {
            if self.turns.is_some() && self.node.is_supervised() {
                break;
            }
            self.turn();
        }
        self.node.give_order(OrderKind::Resume);
        self.node.give_order(OrderKind::Release);
    }

    /// SIGTERM ends it, with all that it started.
    fn end(&mut self) -> Result<(), String> {
        if self.node.broken.is_some() {
            return Ok(());
        }
        self.node.terminate();
        for _ in 0..ENDING_TURNS {
            if self.turn() {
                return Ok(());
            }
        }
        Err(format!("it did not end when asked: {}", self.describe()))
    }

    pub(crate) fn describe(&self) -> String {
        let Some(status) = &self.status else { return "it never took a turn".into() };
        let faults: Vec<_> = status.faults.iter().map(|f| f.evidence.as_str()).collect();
        format!(
            "{:?}, ranks {}, gateway {}, reboot {}, faults {faults:?}",
            status.health, status.phase, status.gateway.phase, status.reboot.phase
        )
    }
}

/// A reason says what a person can do.
pub(crate) fn names_an_action(reason: &str) -> bool {
    ["tandem release", "tandem resume", "shutdown -r"].iter().any(|what| reason.contains(what))
}
