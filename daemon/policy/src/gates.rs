//! The gates from boot to serving: preflight → invariants → artifacts → parity → transport → engine →
//! canary → serving. Each says by what it passed or what keeps it, and what an operator can do.
//!
//! A gate shows what is true now; one that does not pass waits if one before it does not, and fails
//! if it is tried for longer than its time.

mod nodes;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use tandem_wire::Phase as RankPhase;

use crate::{Artifacts, Moment, Observation, Setup, State, canary, gang, invariant::drift};

/// A gate.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum GateName {
    /// The host and the supervisor can do their work.
    Preflight,
    /// The host's invariants hold.
    Invariants,
    /// The model's files are all there, on every node that is heard.
    Artifacts,
    /// All nodes have the same.
    Parity,
    /// The ranks' group is formed, over all nodes.
    Transport,
    /// All ranks of all nodes are ready.
    Engine,
    /// A request through this node's gateway brought tokens.
    Canary,
    /// And tokens came lately, through every node's gateway.
    Serving,
}

/// Where a gate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateState {
    /// An earlier gate has not passed.
    Waiting,
    /// It is being tried.
    Checking,
    /// It passed.
    Passed,
    /// It did not, or not in its time.
    Failed,
}

/// One gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gate {
    /// Which.
    pub gate: GateName,
    /// Where it is.
    pub state: GateState,
    /// By what.
    pub evidence: String,
    /// What an operator can do; empty unless it failed.
    pub remedy: String,
}

impl GateName {
    /// All, in order.
    pub const ALL: [Self; 8] = [
        Self::Preflight,
        Self::Invariants,
        Self::Artifacts,
        Self::Parity,
        Self::Transport,
        Self::Engine,
        Self::Canary,
        Self::Serving,
    ];

    /// One word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Invariants => "invariants",
            Self::Artifacts => "artifacts",
            Self::Parity => "parity",
            Self::Transport => "transport",
            Self::Engine => "engine",
            Self::Canary => "canary",
            Self::Serving => "serving",
        }
    }

    /// How long it may be tried before it counts as failed, in milliseconds.
    fn limit_ms(self, setup: &Setup) -> u64 {
        match self {
            // Read within the first seconds of a supervisor.
            Self::Preflight | Self::Artifacts | Self::Parity => 30_000,
            // Long enough for a few tries to mend, with their pauses.
            Self::Invariants => 60_000,
            Self::Transport | Self::Engine => setup.supervise.start_timeout_ms,
            Self::Canary | Self::Serving => {
                let canary = &setup.canary;
                canary.timeout_ms.saturating_mul(u64::from(canary.failures_max.max(1)))
            }
        }
    }
}

/// What is true of a gate now.
enum Look {
    Passes(String),
    /// Not yet, or not any more.
    Lacks(String, String),
    /// It can't pass by waiting.
    Fails(String, String),
}

/// One turn.
pub fn step(setup: &Setup, state: &mut State, seen: &Observation, now: Moment) {
    let before = std::mem::take(&mut state.gates);
    let mut since_ms = std::mem::take(&mut state.scratch.gate_since_ms);
    since_ms.resize(GateName::ALL.len(), now.boot_ms);
    let mut gates = Vec::with_capacity(GateName::ALL.len());
    let mut all_pass = true;
    for (index, gate) in GateName::ALL.into_iter().enumerate() {
        let was = before.get(index).map(|gate| gate.state);
        let tried_since_ms = since_ms.get_mut(index).map_or(now.boot_ms, |since| {
            if was != Some(GateState::Checking) && was != Some(GateState::Failed) {
                *since = now.boot_ms;
            }
            *since
        });
        let late = now.boot_ms.saturating_sub(tried_since_ms) >= gate.limit_ms(setup);
        let (gate_state, evidence, remedy) = match look(gate, setup, state, seen, now) {
            Look::Passes(evidence) => (GateState::Passed, evidence, String::new()),
            Look::Lacks(..) if !all_pass => (GateState::Waiting, String::new(), String::new()),
            Look::Lacks(evidence, remedy) if late => (GateState::Failed, evidence, remedy),
            Look::Lacks(evidence, _) => (GateState::Checking, evidence, String::new()),
            Look::Fails(evidence, remedy) => (GateState::Failed, evidence, remedy),
        };
        all_pass &= gate_state == GateState::Passed;
        gates.push(Gate { gate, state: gate_state, evidence, remedy });
    }
    state.gates = gates;
    state.scratch.gate_since_ms = since_ms;
}

/// What is true of one gate. The evidence has no figure that changes by itself: a changed gate is
/// saved and told.
fn look(gate: GateName, setup: &Setup, state: &State, seen: &Observation, now: Moment) -> Look {
    match gate {
        GateName::Preflight => preflight(seen),
        GateName::Invariants => invariants(setup, seen, now),
        GateName::Artifacts => match &seen.artifacts {
            Artifacts::Complete { weights_bytes, .. } => match nodes::unread(setup, seen, now) {
                Some(unread) => unread,
                None => Look::Passes(format!("{} MiB of weights", weights_bytes >> 20)),
            },
            Artifacts::Unread => Look::Lacks("not looked at yet".into(), String::new()),
            Artifacts::Incomplete(why) => Look::Fails(
                why.clone(),
                "complete the model's folder (model.path), or import it: `tandem model import`"
                    .into(),
            ),
        },
        GateName::Parity => nodes::parity(setup, state, seen, now),
        GateName::Transport => transport(setup, state, seen, now),
        GateName::Engine => engine(setup, state, seen, now),
        GateName::Canary => canary_gate(state),
        GateName::Serving => serving(setup, state, now),
    }
}

fn preflight(seen: &Observation) -> Look {
    if let Some(trouble) = &seen.ledger_trouble {
        let remedy = "make room on its disk and see that root can write there".into();
        return Look::Lacks(format!("the ledger: {trouble}"), remedy);
    }
    match seen.memory {
        Some(_) => Look::Passes("the ledger is written, the host's memory is read".into()),
        None => Look::Lacks("the host's memory is not known".into(), "see the log".into()),
    }
}

fn invariants(setup: &Setup, seen: &Observation, now: Moment) -> Look {
    let mut blocking = drift::blocking(setup, seen, now);
    // What a ring does without is for the transport's gate.
    blocking.retain(|(invariant, _)| !invariant.is_of_fabric());
    if blocking.is_empty() {
        return Look::Passes("none that the engine needs is broken".into());
    }
    let reasons: Vec<String> = blocking.iter().map(|(_, reason)| reason.clone()).collect();
    let remedies: Vec<&str> =
        blocking.iter().map(|(invariant, _)| invariant.row().remedy).collect();
    Look::Lacks(reasons.join("; "), remedies.join("; "))
}

fn transport(setup: &Setup, state: &State, seen: &Observation, now: Moment) -> Look {
    let joined = |phase: Option<RankPhase>| {
        matches!(phase, Some(RankPhase::Loading | RankPhase::Warming | RankPhase::Ready))
    };
    match &state.gang {
        gang::Phase::Starting { .. } | gang::Phase::Serving
            if seen.ranks.iter().all(|rank| joined(rank.phase)) =>
        {
            let apart = nodes::without(setup, state, seen, now, &joined);
            if let Some(node) = apart.first() {
                return Look::Lacks(format!("the ranks of {node} have not joined"), PAIR.into());
            }
            Look::Passes(nodes::measured(setup, state, seen))
        }
        other => match nodes::fabric(setup, state, seen, now) {
            Some(look) => look,
            None => not_running(other, state),
        },
    }
}

fn engine(setup: &Setup, state: &State, seen: &Observation, now: Moment) -> Look {
    let is_ready = |phase: Option<RankPhase>| phase == Some(RankPhase::Ready);
    match &state.gang {
        gang::Phase::Serving if seen.ranks.iter().all(|rank| is_ready(rank.phase)) => {
            let late = nodes::without(setup, state, seen, now, &is_ready);
            if let Some(node) = late.first() {
                return Look::Lacks(format!("the ranks of {node} are not ready"), PAIR.into());
            }
            Look::Passes(format!("all ranks of epoch {} are ready", state.epoch))
        }
        other => not_running(other, state),
    }
}

fn serving(setup: &Setup, state: &State, now: Moment) -> Look {
    if canary::is_proven(setup, state, now) {
        return Look::Passes("tokens came lately".into());
    }
    if let Some(condition) = canary::unanswered(setup, state, now) {
        return Look::Lacks(condition.evidence, condition.remedy);
    }
    let unproven = canary::unproven(setup, state, now);
    let through = match unproven.as_slice() {
        names if names.is_empty() || canary::own_proof_ms(setup, state).is_none() => String::new(),
        names => format!(" through the gateway of {}", names.join(", ")),
    };
    Look::Lacks(
        format!("no tokens came lately{through}"),
        "see `tandem explain canary` and `tandem events`".into(),
    )
}

/// What helps where another node is behind.
const PAIR: &str = "`tandem pair status` shows every node; see the log of its ranks";

fn not_running(phase: &gang::Phase, state: &State) -> Look {
    let remedy = || {
        let of = |failure: &crate::Failure| failure.remedy.clone();
        state.last_failure.as_ref().map(of).unwrap_or_default()
    };
    match phase {
        gang::Phase::Held { reason, .. } => Look::Fails(reason.clone(), remedy()),
        phase => Look::Lacks(format!("the ranks are {}", phase.name()), remedy()),
    }
}

fn canary_gate(state: &State) -> Look {
    let proof = &state.scratch.canary;
    if proof.epoch == state.epoch && proof.passed {
        return Look::Passes(format!("a request in epoch {} was answered", state.epoch));
    }
    let why = proof.reason.clone().unwrap_or_else(|| "no request was answered yet".into());
    Look::Lacks(why, "see `tandem explain canary` and the gateway's log".into())
}
