//! Faults: what is wrong, since when, by what evidence, and what is done about it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    EvidenceSource, Moment, Observation, Setup, State, admission, canary, files, gang, gateway,
    invariant::{Invariant, drift},
    leak,
    pair::{self, alone::View},
    reboot,
};

/// The smallest action that may mend a fault; smallest first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// Nothing: it is only told.
    None,
    /// Set again what drifted.
    Reassert,
    /// Lower the prefill step and start the ranks again.
    Retune,
    /// Stop all ranks in order and start the next epoch.
    Restart,
    /// Reboot.
    Reboot,
    /// Nothing more by itself: an operator is asked.
    Hold,
}

impl Rung {
    /// All, smallest first.
    pub const ALL: [Self; 6] =
        [Self::None, Self::Reassert, Self::Retune, Self::Restart, Self::Reboot, Self::Hold];

    /// Its name, in the catalogue of signatures and elsewhere.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Reassert => "reassert",
            Self::Retune => "retune",
            Self::Restart => "restart",
            Self::Reboot => "reboot",
            Self::Hold => "hold",
        }
    }

    /// The rung of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rung| rung.name() == name)
    }
}

/// What is wrong.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(tag = "fault", content = "of", rename_all = "snake_case")]
pub enum Kind {
    /// An invariant does not hold and could not be mended.
    Broken(Invariant),
    /// An invariant is broken again and again, so it is left alone for a while.
    Flapping(Invariant),
    /// The ranks failed.
    Engine,
    /// A rank works but finishes no step.
    Stall,
    /// A request through the gateway brought no tokens, while the ranks had nothing to do.
    Canary,
    /// The gateway refuses the request that is to prove serving.
    CanaryRefused,
    /// The ranks work, and nobody was answered for long.
    Unanswered,
    /// A request through the gateway brought garbage.
    Garbage,
    /// The model's files are others than those with which serving was last proven.
    ModelChanged,
    /// The gateway failed or does not answer.
    Gateway,
    /// Wired memory has no owner, so far without evidence of a crash.
    LeakSuspected,
    /// Wired memory has leaked.
    LeakConfirmed,
    /// There is not enough memory to start the engine.
    Memory,
    /// A signature of the catalogue was found; its id.
    Signature(String),
    /// The kernel panicked in a boot of ours.
    Panic,
    /// A reboot is needed and not allowed.
    RebootRefused,
    /// A reboot did not happen, or did not bring serving back.
    RebootFailed,
    /// The ranks are held until an operator releases them.
    Held,
    /// Another node is not heard.
    PeerLost(String),
    /// A way to another node is down, by the node's name and the address, while another is up.
    PathLost(String),
    /// Another node differs from this one in what must be equal.
    Parity(String),
    /// Another node's key is not known here.
    Unpaired(String),
    /// The fallback model is served, by this node alone.
    Fallback,
    /// The RDMA fabric that the config asks for can't be used; the ranks do without, or wait for it.
    Fabric,
    /// A changed config was refused; the old one is in force.
    Config,
    /// The supervisor's memory was lost or can't be written.
    Ledger,
}

impl Kind {
    /// One word, for labels and `tandem explain`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Broken(_) => "broken",
            Self::Flapping(_) => "flapping",
            Self::Engine => "engine",
            Self::Stall => "stall",
            Self::Canary => "canary",
            Self::CanaryRefused => "canary_refused",
            Self::Unanswered => "unanswered",
            Self::Garbage => "garbage",
            Self::ModelChanged => "model_changed",
            Self::Gateway => "gateway",
            Self::LeakSuspected => "leak_suspected",
            Self::LeakConfirmed => "leak_confirmed",
            Self::Memory => "memory",
            Self::Signature(_) => "signature",
            Self::Panic => "panic",
            Self::RebootRefused => "reboot_refused",
            Self::RebootFailed => "reboot_failed",
            Self::Held => "held",
            Self::PeerLost(_) => "peer_lost",
            Self::PathLost(_) => "path_lost",
            Self::Parity(_) => "parity",
            Self::Unpaired(_) => "unpaired",
            Self::Fallback => "fallback",
            Self::Fabric => "fabric",
            Self::Config => "config",
            Self::Ledger => "ledger",
        }
    }
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// What.
    #[serde(flatten)]
    pub kind: Kind,
    /// Since when, since 1970.
    pub since_wall_ms: u64,
    /// How often it was met since then.
    pub count: u32,
    /// What it is known by.
    pub evidence: String,
    /// The smallest action that may mend it, taken or being taken.
    pub rung: Rung,
    /// What an operator can do.
    pub remedy: String,
}

/// Something that is wrong now: the level from which faults are raised and cleared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What.
    pub kind: Kind,
    /// What it is known by.
    pub evidence: String,
    /// The smallest action that may mend it.
    pub rung: Rung,
    /// What an operator can do.
    pub remedy: String,
}

/// Most faults that are open at once; more than there are kinds, so only signatures could exceed it.
const FAULTS_MAX: usize = 64;

/// One turn: raises what is wrong now and clears what is not any more.
pub(crate) fn step(
    setup: &Setup,
    state: &mut State,
    seen: &Observation,
    view: &View<'_>,
    now: Moment,
) {
    let mut conditions = conditions(setup, state, seen, view, now);
    // The worst first; of two with the same kind the first counts.
    conditions.sort_by(|a, b| b.rung.cmp(&a.rung).then_with(|| a.kind.cmp(&b.kind)));
    let before = std::mem::take(&mut state.faults);
    for condition in conditions {
        let is_known = state.faults.iter().any(|fault| fault.kind == condition.kind);
        if is_known || state.faults.len() >= FAULTS_MAX {
            continue;
        }
        let old = before.iter().find(|fault| fault.kind == condition.kind);
        state.faults.push(Fault {
            since_wall_ms: old.map_or(now.wall_ms, |fault| fault.since_wall_ms),
            // Met again when it is the same fault by other evidence.
            count: old.map_or(1, |fault| {
                fault.count.saturating_add(u32::from(fault.evidence != condition.evidence))
            }),
            kind: condition.kind,
            evidence: condition.evidence,
            rung: condition.rung,
            remedy: condition.remedy,
        });
    }
}

/// All that is wrong now. The evidence has no figure that changes by itself: a changed fault is
/// saved and told.
fn conditions(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    view: &View<'_>,
    now: Moment,
) -> Vec<Condition> {
    let mut found = drift::conditions(setup, state, seen, now);
    found.extend(leak::conditions(setup, state, seen));
    found.extend(admission::conditions(&view.setup, state, &view.seen, now));
    found.extend(canary::verdict(&view.setup, state));
    found.extend(canary::unanswered(&view.setup, state, now));
    found.extend(files::changed(seen));
    found.extend(pair::faults::conditions(setup, state, seen, now));
    found.extend(of_ranks(state));
    found.extend(of_gateway(state));
    found.extend(reboot::conditions(setup, state, seen, now));
    found.extend(of_panics(state, seen));
    if let Some(why) = &seen.config_refused {
        found.push(Condition {
            kind: Kind::Config,
            evidence: why.clone(),
            rung: Rung::None,
            remedy: "mend the file; `tandem config check` tells when it is right".into(),
        });
    }
    if let Some(why) = &seen.ledger_trouble {
        found.push(Condition {
            kind: Kind::Ledger,
            evidence: why.clone(),
            rung: Rung::None,
            remedy: "make room on the disk of the ledger and see that root can write there".into(),
        });
    }
    found
}

fn of_ranks(state: &State) -> Vec<Condition> {
    let mut found = Vec::new();
    if let Some(failure) = &state.last_failure {
        found.push(Condition {
            kind: failure.kind.clone(),
            evidence: failure.text.clone(),
            rung: failure.rung,
            remedy: failure.remedy.clone(),
        });
    }
    if let gang::Phase::Held { reason, .. } = &state.gang {
        let remedy = "mend the cause, then `tandem release`".into();
        let evidence = reason.clone();
        found.push(Condition { kind: Kind::Held, evidence, rung: Rung::Hold, remedy });
    }
    found
}

fn of_gateway(state: &State) -> Option<Condition> {
    let (evidence, rung) = match &state.gateway {
        gateway::Phase::Held { reason } => (reason.clone(), Rung::Hold),
        gateway::Phase::Backoff { .. } => ("it ended and is started again".into(), Rung::Restart),
        _ => return None,
    };
    let remedy = "see the gateway's log and `tandem config check`; then `tandem release`".into();
    Some(Condition { kind: Kind::Gateway, evidence, rung, remedy })
}

/// Panics that ended one of our own boots, by the boot's id; others are another system's history.
fn of_panics(state: &State, seen: &Observation) -> Option<Condition> {
    let last = state.boots.iter().rev().nth(1)?;
    let panic = seen.evidence.iter().rev().find(|evidence| match &evidence.source {
        EvidenceSource::Panic { boot: Some(boot), .. } => boot.eq_ignore_ascii_case(last),
        _ => false,
    })?;
    Some(Condition {
        kind: Kind::Panic,
        evidence: panic.text.clone(),
        rung: Rung::None,
        remedy: panic.remedy.clone(),
    })
}

impl Kind {
    /// Whether serving can't be called healthy with it. A panic of the last boot is history.
    pub const fn is_unhealthy(&self) -> bool {
        !matches!(self, Self::Panic)
    }
}
