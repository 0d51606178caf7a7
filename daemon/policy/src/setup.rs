//! All of the config that policy may know, and what was derived from it.

use crate::{
    pair::{Component, NodePlace},
    settings::{Canary, Host, Invariants, Leak, Pair, Reboot, Supervise},
};

/// What policy is told by the config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Name of this machine.
    pub node: String,
    /// The served model's name.
    pub model: String,
    /// How many ranks there are, on all nodes.
    pub ranks: u32,
    /// The numbers of those that run here.
    pub own_ranks: Vec<u32>,
    /// Every node, this one included, in order of its first rank; the first has rank 0.
    pub nodes: Vec<NodePlace>,
    /// What must be equal on all nodes.
    pub plan: Vec<Component>,
    /// Tandem's version.
    pub version: String,
    /// The system's version and build, in words.
    pub os: String,
    /// The share of the weights that this node's ranks hold, in thousandths.
    pub share_permille: u32,
    /// What is served alone while the others can't take part.
    pub fallback: Option<Fallback>,
    /// Where the gateway listens, for people.
    pub gateway_listen: String,
    /// Digest of all that a running rank can't change: model, ranks, engine settings. Ranks of
    /// another plan are replaced.
    pub rank_plan: String,
    /// The same for the gateway.
    pub gateway_plan: String,
    /// Whether the config asks for an RDMA fabric, a start of which burns driver resources.
    pub uses_fabric: bool,
    /// Whether an epoch that can't have it is carried by a TCP ring, with a fault, or none is begun.
    pub ring_fallback: bool,
    /// The configured prefill step, in tokens: what retuning starts from.
    pub prefill_step_tokens: u32,
    /// Whether this platform can be rebooted by us at all: a command is set, or there is a native
    /// way.
    pub can_reboot: bool,
    /// `[supervise]`.
    pub supervise: Supervise,
    /// `[host]`.
    pub host: Host,
    /// `[invariants]`.
    pub invariants: Invariants,
    /// `[leak]`.
    pub leak: Leak,
    /// `[canary]`.
    pub canary: Canary,
    /// `[reboot]`.
    pub reboot: Reboot,
    /// `[pair]`.
    pub pair: Pair,
}

/// `[fallback]`: a smaller model that one node serves alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// The name it is served as.
    pub model: String,
    /// As [`Setup::rank_plan`], of the one rank that runs it.
    pub rank_plan: String,
    /// As [`Setup::gateway_plan`].
    pub gateway_plan: String,
    /// For how long the others can't take part before it is served, in milliseconds.
    pub after_ms: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            node: "local".into(),
            model: "default".into(),
            ranks: 2,
            own_ranks: vec![0, 1],
            nodes: vec![NodePlace { name: "local".into(), ranks: vec![0, 1] }],
            plan: Vec::new(),
            version: "0".into(),
            os: "os".into(),
            share_permille: 1_000,
            fallback: None,
            gateway_listen: "127.0.0.1:8080".into(),
            rank_plan: "plan".into(),
            gateway_plan: "plan".into(),
            uses_fabric: false,
            ring_fallback: true,
            prefill_step_tokens: 512,
            can_reboot: true,
            supervise: Supervise::default(),
            host: Host::default(),
            invariants: Invariants::default(),
            leak: Leak::default(),
            canary: Canary::default(),
            reboot: Reboot::default(),
            pair: Pair::default(),
        }
    }
}
