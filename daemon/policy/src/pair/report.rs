//! What a node tells the others about itself, at least every `pair.report_ms`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tandem_wire::Phase as RankPhase;

use super::{
    bounded,
    fabric::{self, Carrier},
    parity,
};
use crate::{
    EvidenceSource, Fault, Moment, Observation, PORTS_MAX, Process, RankSeen, Rung, Setup, State,
    ThunderboltPort, admission, canary,
    fault::Kind,
    gang,
    reboot::{self, Told, VetoKind},
    retune,
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
    /// Its Thunderbolt ports, at most [`crate::PORTS_MAX`]; absent while they are not read.
    pub thunderbolt: Option<Vec<ThunderboltPort>>,
    /// Why an epoch by the RDMA fabric can't be started here now; absent if it can, or the config asks
    /// for none.
    pub fabric_refusal: Option<String>,
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
    /// What carries it on all nodes.
    pub carrier: Carrier,
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
    /// Whether the catalogue counts it to the fabric.
    pub is_of_fabric: bool,
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
    /// This node's account, by what is on disk and what is seen. Of `saved`, `scratch` is what the
    /// supervisor remembers now.
    pub fn of(setup: &Setup, saved: &State, seen: &Observation, now: Moment) -> Self {
        let is_served = matches!(saved.gang, gang::Phase::Starting { .. } | gang::Phase::Serving);
        let starts = is_served && setup.leads() && !setup.is_alone() && !saved.mode.is_alone();
        let start = || Start {
            epoch: saved.epoch,
            prefill_step_tokens: retune::step_tokens(setup, saved),
            carrier: saved.carrier.clone(),
        };
        let ports = |ports: &Vec<ThunderboltPort>| ports.iter().take(PORTS_MAX).cloned().collect();
        let fault = |fault: &Fault| FaultTold {
            kind: fault.kind.clone(),
            evidence: bounded(&fault.evidence),
        };
        let rank = |(index, rank): (usize, &RankSeen)| {
            let number = setup.rank_number(index);
            RankReport {
                rank: number,
                process: rank.process.clone(),
                phase: rank.phase,
                ending: Ending::of(seen, number, &rank.process),
            }
        };
        let proof = canary::own_proof_ms(setup, saved)
            .map(|at_ms| (saved.epoch, now.boot_ms.saturating_sub(at_ms)));
        Self {
            node: setup.node.clone(),
            version: setup.version.clone(),
            os: setup.os.clone(),
            boot: saved.boot.clone(),
            uptime_ms: now.boot_ms,
            plan: setup.plan.iter().take(COMPONENTS_MAX).cloned().collect(),
            manifest: seen.manifest_digest().map(str::to_owned),
            refusal: refusal(setup, saved, seen, now).map(|refusal| bounded(&refusal)),
            thunderbolt: seen.thunderbolt.as_ref().filter(|_| setup.uses_fabric).map(ports),
            fabric_refusal: fabric::refusal(setup, saved, seen, now),
            epoch: saved.epoch,
            phase: saved.gang.name().into(),
            start: starts.then(start),
            ranks: seen.ranks.iter().take(RANKS_MAX).enumerate().map(rank).collect(),
            is_alone: saved.mode.is_alone(),
            proof,
            is_draining: is_draining(saved, seen),
            is_held: saved.operator.hold.is_some(),
            reboot: reboot::told(saved),
            would_veto: reboot::would_veto(setup, saved, seen, now),
            faults: saved.faults.iter().take(FAULTS_TOLD_MAX).map(fault).collect(),
        }
    }
}

impl Ending {
    /// The signature that tells most about the end of a rank.
    fn of(seen: &Observation, rank: u32, process: &Process) -> Option<Self> {
        let Process::Ended { epoch, .. } = process else { return None };
        let source = EvidenceSource::Rank { rank, epoch: *epoch };
        let found = seen.evidence.iter().filter(|evidence| evidence.source == source);
        found.max_by_key(|evidence| evidence.rung).map(|evidence| Self {
            signature: evidence.id.clone(),
            rung: evidence.rung,
            is_of_fabric: evidence.is_of_fabric,
            text: bounded(&evidence.text),
            remedy: bounded(&evidence.remedy),
        })
    }
}

fn is_draining(state: &State, seen: &Observation) -> bool {
    state.draining_since_ms.is_some() || seen.terminations > 0
}

/// Why this node's ranks of the pair can't be started now. `None` if they can, if they run, or if
/// this node serves the fallback and could hand back.
pub(super) fn refusal(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
) -> Option<String> {
    if is_draining(state, seen) {
        return Some("it is drained, ends or reboots".into());
    }
    if state.mode.is_alone() {
        // What the fallback holds is free once it is unloaded, so only a leak is judged.
        return check_parity(setup, seen, now)
            .or_else(|| Some(admission::check_host(setup, state, seen, now).err()?.text))
            .or_else(|| Some(admission::check_verdict(state).err()?.text));
    }
    match &state.gang {
        gang::Phase::Starting { .. } | gang::Phase::Serving => return None,
        gang::Phase::Held { reason, .. } => return Some(format!("its ranks are held: {reason}")),
        gang::Phase::Stopping { .. } => return Some("its ranks still unload".into()),
        gang::Phase::Idle | gang::Phase::Backoff { .. } | gang::Phase::Drained => {}
    }
    if seen.ranks.iter().any(|rank| rank.process.is_running()) {
        return Some("ranks of an earlier epoch still run".into());
    }
    check_parity(setup, seen, now)
        .or_else(|| Some(admission::check(setup, state, seen, now).err()?.text))
}

/// Why what this node runs is not what all that are heard run.
fn check_parity(setup: &Setup, seen: &Observation, now: Moment) -> Option<String> {
    if seen.manifest.is_none() {
        return Some("it has not read its model's files yet".into());
    }
    seen.peers.iter().find_map(|peer| {
        let report = peer.fresh(setup, now)?;
        let differences = parity::differences(setup, seen, peer, report);
        let text = || format!("it differs from {}: {}", peer.node, differences.join("; "));
        (!differences.is_empty()).then(text)
    })
}
