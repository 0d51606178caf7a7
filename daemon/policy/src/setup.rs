//! All of the config that policy may know, and what was derived from it.

use crate::settings::{Canary, Host, Invariants, Leak, Reboot, Supervise};

/// What policy is told by the config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Name of this machine.
    pub node: String,
    /// The served model's name.
    pub model: String,
    /// How many ranks there are.
    pub ranks: u32,
    /// Where the gateway listens, for people.
    pub gateway_listen: String,
    /// Digest of all that a running rank can't change: model, ranks, engine settings. Ranks of
    /// another plan are replaced.
    pub rank_plan: String,
    /// The same for the gateway.
    pub gateway_plan: String,
    /// Whether a start of the ranks initialises an RDMA fabric, which burns driver resources.
    pub uses_fabric: bool,
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
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            node: "local".into(),
            model: "default".into(),
            ranks: 2,
            gateway_listen: "127.0.0.1:8080".into(),
            rank_plan: "plan".into(),
            gateway_plan: "plan".into(),
            uses_fabric: false,
            prefill_step_tokens: 512,
            can_reboot: true,
            supervise: Supervise::default(),
            host: Host::default(),
            invariants: Invariants::default(),
            leak: Leak::default(),
            canary: Canary::default(),
            reboot: Reboot::default(),
        }
    }
}
