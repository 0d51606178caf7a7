//! What happened, as the ledger, `tandem events` and the log tell it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Action, Fault, Moment, State, gang, gates::Gate, gateway, invariant::Invariant, pair, reboot,
};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Milliseconds since 1970, for people.
    pub wall_ms: u64,
    /// Milliseconds since boot.
    pub boot_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// The kinds of events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// A supervisor took up its work.
    Started {
        /// The boot it runs in.
        boot: String,
        /// Whether an earlier boot's supervisor is the one it goes on from.
        is_new_boot: bool,
        /// Tandem's version.
        version: String,
    },
    /// A gate changed.
    Gate(Gate),
    /// A fault was raised.
    FaultRaised(Fault),
    /// A fault is over.
    FaultCleared(Fault),
    /// An invariant stopped to hold.
    Drift {
        /// Which.
        invariant: Invariant,
        /// What was found.
        found: String,
        /// What was wanted.
        wanted: String,
    },
    /// It holds again.
    Held {
        /// Which.
        invariant: Invariant,
        /// After so many milliseconds.
        after_ms: u64,
    },
    /// Something was done.
    Action {
        /// In the form of [`crate::Action`].
        action: String,
    },
    /// The ranks changed their phase.
    Epoch {
        /// The number.
        epoch: u64,
        /// The phase left.
        from: String,
        /// The phase entered.
        to: String,
        /// Why, where there is a reason.
        cause: Option<String>,
    },
    /// The gateway changed its phase.
    Gateway {
        /// The phase left.
        from: String,
        /// The phase entered.
        to: String,
        /// Why, where there is a reason.
        cause: Option<String>,
    },
    /// Leaked memory was suspected, confirmed or is gone.
    Leak {
        /// The verdict: `clear`, `watching`, `suspect`, `confirmed`.
        verdict: String,
        /// Bytes that nobody alive owns.
        unexplained_bytes: u64,
    },
    /// The canary passed or failed.
    Canary {
        /// Whether it passed.
        passed: bool,
        /// What came back or why nothing did.
        detail: String,
    },
    /// The prefill step was changed.
    Retune {
        /// The model.
        model: String,
        /// Tokens a step from now on.
        prefill_step_tokens: u32,
    },
    /// A reboot moved on.
    Reboot {
        /// The phase entered.
        phase: String,
        /// Why.
        cause: Option<String>,
        /// Which.
        intent: Option<String>,
        /// The node that wants it.
        proposer: Option<String>,
    },
    /// A reboot is over, whatever came of it.
    RebootClosed {
        /// Which.
        intent: String,
        /// The node that wanted it.
        proposer: String,
        /// Why: the cause's kind.
        cause: String,
        /// What came of it.
        outcome: reboot::Outcome,
        /// Why, where there is more to say; else empty.
        detail: String,
        /// From its beginning to its end, in milliseconds.
        took_ms: u64,
    },
    /// Another node, or a way to it, was lost or came back.
    Peer {
        /// Which.
        node: String,
        /// What changed.
        change: PeerChange,
        /// The address of the way, or the boot.
        detail: String,
    },
    /// What this node serves with changed.
    Mode {
        /// `pair`, `alone` or `returning`.
        mode: String,
        /// Why the others can't take part; absent if they can.
        why: Option<String>,
    },
    /// An operator's order was obeyed.
    Order {
        /// In words.
        order: String,
    },
    /// A signature of the catalogue was found.
    Evidence {
        /// Its id.
        signature: String,
        /// Where: `rank 0`, `gateway`, or the id of a report.
        source: String,
        /// What was found, cut.
        text: String,
    },
    /// The config file was taken or refused.
    Config {
        /// Whether it was taken.
        taken: bool,
        /// What was wrong, if not.
        detail: String,
    },
}

/// What changed of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PeerChange {
    /// It is not heard any more.
    Lost,
    /// It is heard again, or for the first time by this supervisor.
    Back,
    /// It is heard in another boot.
    Rebooted,
    /// A way to it stopped to answer.
    PathDown,
    /// A way to it answers.
    PathUp,
}

/// What a turn changed. Repeated actions are told once: when they are asked for the first time.
pub fn between(before: &State, after: &State, actions: &[Action], now: Moment) -> Vec<Event> {
    let mut told = Vec::new();
    phases(before, after, &mut told);
    pair::events::between(before, after, &mut told);
    drifts(before, after, &mut told);
    faults(before, after, &mut told);
    for gate in &after.gates {
        let was = before.gates.iter().find(|old| old.gate == gate.gate);
        if was.map(|old| old.state) != Some(gate.state) {
            told.push(What::Gate(gate.clone()));
        }
    }
    if before.leak.name() != after.leak.name() {
        told.push(What::Leak {
            verdict: after.leak.name().into(),
            unexplained_bytes: after.leak.unexplained_bytes(),
        });
    }
    canaries(before, after, &mut told);
    orders(before, after, &mut told);
    if before.retune != after.retune
        && let Some(retune) = &after.retune
    {
        told.push(What::Retune {
            model: retune.model.clone(),
            prefill_step_tokens: retune.prefill_step_tokens,
        });
    }
    told.extend(
        actions
            .iter()
            .filter(|action| is_first(action, before))
            .map(|action| What::Action { action: format!("{action:?}") }),
    );
    let event = |what| Event { wall_ms: now.wall_ms, boot_ms: now.boot_ms, what };
    told.into_iter().map(event).collect()
}

fn phases(before: &State, after: &State, told: &mut Vec<What>) {
    if before.gang.name() != after.gang.name() || before.epoch != after.epoch {
        let cause = match &after.gang {
            gang::Phase::Held { reason, .. } => Some(reason.clone()),
            gang::Phase::Stopping { cause, .. } => Some(cause.text()),
            _ => None,
        };
        told.push(What::Epoch {
            epoch: after.epoch,
            from: before.gang.name().into(),
            to: after.gang.name().into(),
            cause,
        });
    }
    if before.gateway.name() != after.gateway.name() {
        let cause = match &after.gateway {
            gateway::Phase::Held { reason } => Some(reason.clone()),
            _ => None,
        };
        told.push(What::Gateway {
            from: before.gateway.name().into(),
            to: after.gateway.name().into(),
            cause,
        });
    }
    reboots(before, after, told);
}

fn reboots(before: &State, after: &State, told: &mut Vec<What>) {
    let id = |state: &State| state.reboot.intent().map(|intent| intent.id.clone());
    let is_other = id(after).is_some() && id(before) != id(after);
    if before.reboot.name() != after.reboot.name() || is_other {
        let intent = after.reboot.intent().or(before.reboot.intent());
        told.push(What::Reboot {
            phase: after.reboot.name().into(),
            cause: intent.map(|intent| intent.cause.told()),
            intent: intent.map(|intent| intent.id.clone()),
            proposer: intent.map(|intent| intent.proposer.clone()),
        });
    }
    let is_new = |closed: &&reboot::Closed| !before.reboot_memory.is_closed(&closed.id);
    told.extend(after.reboot_memory.closed.iter().filter(is_new).map(|closed| {
        What::RebootClosed {
            intent: closed.id.clone(),
            proposer: closed.proposer.clone(),
            cause: closed.kind.clone(),
            outcome: closed.outcome,
            detail: closed.detail.clone(),
            took_ms: closed.took_ms,
        }
    }));
}

fn drifts(before: &State, after: &State, told: &mut Vec<What>) {
    for (invariant, drift) in &after.drifts {
        let was = before.drifts.get(invariant);
        if was.is_none_or(|old| old.count != drift.count) {
            told.push(What::Drift {
                invariant: *invariant,
                found: drift.found.clone(),
                wanted: drift.wanted.clone(),
            });
        }
        if let Some(held_ms) = drift.held_ms
            && was.is_none_or(|old| old.held_ms.is_none())
        {
            let after_ms = held_ms.saturating_sub(drift.since_ms);
            told.push(What::Held { invariant: *invariant, after_ms });
        }
    }
}

fn faults(before: &State, after: &State, told: &mut Vec<What>) {
    let has = |state: &State, fault: &Fault| state.faults.iter().any(|f| f.kind == fault.kind);
    told.extend(
        after.faults.iter().filter(|f| !has(before, f)).map(|f| What::FaultRaised(f.clone())),
    );
    told.extend(
        before.faults.iter().filter(|f| !has(after, f)).map(|f| What::FaultCleared(f.clone())),
    );
}

fn canaries(before: &State, after: &State, told: &mut Vec<What>) {
    let (old, new) = (&before.scratch.canary, &after.scratch.canary);
    if new.failures > 0 && new.failures != old.failures {
        let detail = new.reason.clone().unwrap_or_default();
        told.push(What::Canary { passed: false, detail });
    } else if new.passed && (!old.passed || old.epoch != new.epoch) {
        let detail = format!("epoch {} serves", new.epoch);
        told.push(What::Canary { passed: true, detail });
    }
}

fn orders(before: &State, after: &State, told: &mut Vec<What>) {
    if before.last_order == after.last_order {
        return;
    }
    let hold = match after.operator.hold {
        None => "not held",
        Some(_) => "held",
    };
    let drained = if after.operator.drained { "drained" } else { "not drained" };
    told.push(What::Order { order: format!("order {}: {hold}, {drained}", after.last_order) });
}

/// Whether an action is asked for by a change and not again because its effect is not seen yet.
/// Mends are told by the drift that they mend, canaries by what came of them.
fn is_first(action: &Action, before: &State) -> bool {
    match action {
        Action::Mend(_) | Action::Canary { .. } => false,
        Action::StartGang { epoch, .. } => *epoch != before.epoch,
        Action::UnloadRank { .. } => !matches!(before.gang, gang::Phase::Stopping { .. }),
        Action::KillRank { .. } => !before.suspected_leaks.iter().any(|l| l.epoch == before.epoch),
        Action::StartGateway { .. } => !matches!(before.gateway, gateway::Phase::Up { .. }),
        Action::StopGateway => !matches!(before.gateway, gateway::Phase::Stopping { .. }),
        Action::KillGateway | Action::KeepManifest { .. } | Action::Exit => true,
        Action::Reboot { attempt } => {
            *attempt > 0 || !matches!(before.reboot, reboot::Phase::Rebooting { .. })
        }
    }
}
