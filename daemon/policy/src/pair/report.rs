//! What a node tells the others about itself, at least every `pair.report_ms`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tandem_wire::Phase as RankPhase;

use crate::{
    Moment, Observation, Process, Rung, Setup, State,
    fault::Kind,
    reboot::{Told, VetoKind},
};

/// Most components of a plan; a longer list is not from us.
pub const COMPONENTS_MAX: usize = 64;

/// Most ranks of one node.
pub const RANKS_MAX: usize = 8;

/// Most faults that are told.
pub const FAULTS_TOLD_MAX: usize = 16;

/// One node's account of itself. It is made from what is on disk: a decision that is not saved is
/// not told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeReport {
    /// Its name.
    pub node: String,
    /// Tandem's version.
    pub version: String,
    /// The system's version and build, in words.
    pub os: String,
    /// The boot it runs in.
    pub boot: String,
    /// Milliseconds since that boot.
    pub uptime_ms: u64,
    /// What must be equal on all nodes, as digests with names.
    pub plan: Vec<Component>,
    /// Digest of the manifest of the model's files; absent until they are read.
    pub manifest: Option<String>,
    /// Why its ranks can't be started now; absent if they can.
    pub refusal: Option<String>,
    /// Number of its last epoch.
    pub epoch: u64,
    /// [`crate::gang::Phase::name`].
    pub phase: String,
    /// Set by the node with rank 0 while an epoch starts or serves: what the others do too.
    pub start: Option<Start>,
    /// Its own ranks.
    pub ranks: Vec<RankReport>,
    /// Whether it serves the fallback model alone.
    pub is_alone: bool,
    /// The epoch in which tokens last came through its own gateway, and for how long none did, in
    /// milliseconds.
    pub proof: Option<(u64, u64)>,
    /// Whether an operator drained it, it was asked to end, or it drains for a reboot.
    pub is_draining: bool,
    /// Whether an operator holds it.
    pub is_held: bool,
    /// Its part in a coordinated reboot.
    pub reboot: Option<Told>,
    /// Why it would refuse a coordinated reboot now; absent if it would not.
    pub would_veto: Option<VetoKind>,
    /// Its faults, the worst first; at most [`FAULTS_TOLD_MAX`].
    pub faults: Vec<FaultTold>,
}

/// An epoch that all ranks are to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Its number.
    pub epoch: u64,
    /// Tokens of a prefill step.
    pub prefill_step_tokens: u32,
}

/// One thing that must be equal on all nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Its name: a key of the config, or what people call it.
    pub name: String,
    /// The value itself where it is short, else a digest of it.
    pub value: String,
}

/// One rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RankReport {
    /// Its number in the gang.
    pub rank: u32,
    /// Its process.
    pub process: Process,
    /// Its phase; absent while it says nothing.
    pub phase: Option<RankPhase>,
    /// Why it ended, where that is known better than by its exit.
    pub ending: Option<Ending>,
}

/// What a node found about the end of a rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ending {
    /// The signature of the catalogue.
    pub signature: String,
    /// The smallest action that mends it.
    pub rung: Rung,
    /// What was found, cut.
    pub text: String,
    /// What an operator can do.
    pub remedy: String,
}

/// A fault of another node, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FaultTold {
    /// What.
    pub kind: Kind,
    /// What it is known by, cut.
    pub evidence: String,
}

impl NodeReport {
    /// This node's account, by what is on disk and what is seen.
    pub fn of(setup: &Setup, _saved: &State, _seen: &Observation, _now: Moment) -> Self {
        Self {
            node: setup.node.clone(),
            version: String::new(),
            os: String::new(),
            boot: String::new(),
            uptime_ms: 0,
            plan: Vec::new(),
            manifest: None,
            refusal: None,
            epoch: 0,
            phase: String::new(),
            start: None,
            ranks: Vec::new(),
            is_alone: false,
            proof: None,
            is_draining: false,
            is_held: false,
            reboot: None,
            would_veto: None,
            faults: Vec::new(),
        }
    }
}
