//! What the status endpoint shows: `GET /status`, schema 3.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Artifacts, Fault, Leak, Moment, Observation, Process, Setup, State, canary, gang,
    gates::Gate,
    gateway, invariant,
    invariant::{Found, Invariant, Mode, Severity, Unknown},
    pair::{PairStatus, alone::View},
    reboot, retune,
};

/// Version of [`Status`]; raised when a field changes its meaning or goes away.
pub const SCHEMA: u32 = 3;

/// How old the gateway's health may be and still count, in milliseconds: it is read once a second.
const READY_AGE_MS_MAX: u64 = 3_000;

/// The whole status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name of the machine.
    pub node: String,
    /// In one word.
    pub health: Health,
    /// The served model's name: the fallback's while this node serves alone.
    pub model: String,
    /// Number of the last epoch of the ranks; 0 before the first.
    pub epoch: u64,
    /// Where the ranks are: [`gang::Phase::name`].
    pub phase: String,
    /// For how long, in milliseconds.
    pub phase_age_ms: u64,
    /// Why ranks or gateway are held and what to do; absent unless they are.
    pub held: Option<String>,
    /// Why the ranks last failed; absent once serving is proven again.
    pub last_failure: Option<String>,
    /// Restarts of the ranks in the current window.
    pub restarts: u32,
    /// Most that are allowed in one window.
    pub restarts_max: u32,
    /// The nodes of the config.
    pub pair: PairStatus,
    /// Every rank of this node, in order.
    pub ranks: Vec<RankStatus>,
    /// The gateway.
    pub gateway: GatewayStatus,
    /// Ranks that were killed and may have stranded memory.
    pub suspected_leaks: Vec<Leak>,
    /// Whether all is being stopped, or is stopped on purpose.
    pub draining: bool,
    /// Whether tokens came lately, through every node's gateway: what `/readyz` says.
    pub proven: bool,
    /// Milliseconds since tokens last came through this node's gateway, of any request; absent before
    /// the first.
    pub proven_age_ms: Option<u64>,
    /// The boot that the supervisor runs in.
    pub boot: String,
    /// Milliseconds since that boot.
    pub uptime_ms: u64,
    /// Every invariant, in the order of the table.
    pub invariants: Vec<InvariantStatus>,
    /// The gates, in order.
    pub gates: Vec<Gate>,
    /// Open faults, the worst first.
    pub faults: Vec<Fault>,
    /// The host's memory; absent if it can't be read.
    pub memory: Option<MemoryStatus>,
    /// Reboots.
    pub reboot: RebootStatus,
    /// Until when an operator holds all that is done by itself: absent if none does, 0 if until
    /// released, else milliseconds since 1970.
    pub operator_hold_until_ms: Option<u64>,
    /// Whether an operator drained it.
    pub operator_drained: bool,
    /// Tokens of a prefill step, if it is lowered.
    pub lowered_prefill_step_tokens: Option<u32>,
    /// Why the config file as it is now was refused; absent while it is the one in force.
    pub config_refused: Option<String>,
    /// Why the ledger can't be written or was lost; absent while all is well.
    pub ledger_trouble: Option<String>,
}

/// One invariant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InvariantStatus {
    /// Which.
    pub name: Invariant,
    /// What is done about it.
    pub mode: Mode,
    /// What it means for serving.
    pub severity: Severity,
    /// Whether it holds; absent if that is not known.
    pub holds: Option<bool>,
    /// What is wanted, in words.
    pub wanted: String,
    /// What was found; absent if it was not read.
    pub found: Option<Found>,
    /// Where it was read; absent if it was not.
    pub source: Option<String>,
    /// Why it is not known; absent if it is.
    pub unknown: Option<Unknown>,
    /// When it last drifted, since 1970; absent if it did not in this boot.
    pub last_drift_wall_ms: Option<u64>,
    /// How often it drifted in this boot.
    pub drifts: u32,
    /// What an operator does when it can't be mended.
    pub remedy: String,
}

/// The host's memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryStatus {
    /// All, in bytes.
    pub total_bytes: u64,
    /// Wired (on Linux: locked), in bytes.
    pub wired_bytes: u64,
    /// What a new process could have, in bytes.
    pub available_bytes: u64,
    /// Wired without an engine, in bytes; absent until learned.
    pub baseline_bytes: Option<u64>,
    /// Wired and owned by nobody alive, in bytes.
    pub unexplained_bytes: u64,
    /// `clear`, `watching`, `suspect` or `confirmed`.
    pub leak: String,
}

/// Reboots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RebootStatus {
    /// `steady`, `draining`, `ready`, `committed`, `rebooting` or `verifying`.
    pub phase: String,
    /// Which: the same on all nodes that take part; absent while steady.
    pub intent: Option<String>,
    /// The node that wants it; absent while steady.
    pub proposer: Option<String>,
    /// The nodes that take part; empty while steady.
    pub nodes: Vec<String>,
    /// Why; absent while steady.
    pub cause: Option<String>,
    /// Automatic reboots that are left for the last 24 hours.
    pub budget_left: u32,
    /// Why an automatic reboot would not be allowed now; absent if it would.
    pub refused: Option<String>,
    /// The last automatic reboots, since 1970, oldest first.
    pub past_wall_ms: Vec<u64>,
}

/// The status in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All ranks are ready, the gateway says it serves, and tokens came lately through every node's
    /// gateway.
    Healthy,
    /// Not serving now, or not known to, but being mended.
    Degraded,
    /// Not serving, and not without an operator.
    NotServing,
}

/// One rank. Counters are those of its process, and absent while it says nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RankStatus {
    /// Its number.
    pub rank: u32,
    /// Process id while it runs.
    pub pid: Option<u32>,
    /// Its own phase, or `absent`, `ended`, `silent`.
    pub phase: String,
    /// Steps finished.
    pub steps: Option<u64>,
    /// Milliseconds since the last step finished.
    pub last_step_age_ms: Option<u64>,
    /// Tokens generated.
    pub tokens: Option<u64>,
    /// Requests being generated.
    pub active: Option<u32>,
    /// Requests waiting in the rank.
    pub queued: Option<u32>,
    /// Bytes of its weights in memory.
    pub weights_bytes: Option<u64>,
    /// Bytes MLX holds now.
    pub memory_bytes: Option<u64>,
    /// Most bytes MLX held at once.
    pub memory_peak_bytes: Option<u64>,
    /// How its last process ended, unless one runs.
    pub last_exit: Option<String>,
    /// That exit's code, if it had one.
    pub last_exit_code: Option<i32>,
}

/// The gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GatewayStatus {
    /// Process id while it runs.
    pub pid: Option<u32>,
    /// [`gateway::Phase::name`].
    pub phase: String,
    /// Whether it says that it serves; absent if unknown.
    pub ready: Option<bool>,
    /// Where it listens.
    pub listen: String,
    /// How its last process ended, unless one runs.
    pub last_exit: Option<String>,
}

impl Status {
    /// Of what is served, which may be the fallback, and of the nodes.
    pub(crate) fn of(
        setup: &Setup,
        state: &State,
        seen: &Observation,
        view: &View<'_>,
        now: Moment,
    ) -> Self {
        let shown = &view.seen;
        let held = match (&state.gang, &state.gateway) {
            (gang::Phase::Held { reason, .. }, _) | (_, gateway::Phase::Held { reason }) => {
                Some(reason.clone())
            }
            _ => None,
        };
        let ready = seen.gateway.ready.fresh(READY_AGE_MS_MAX);
        let draining = state.draining_since_ms.is_some();
        let all_ready = shown.ranks.iter().all(|r| r.phase == Some(tandem_wire::Phase::Ready));
        let proven = canary::is_proven(&view.setup, state, now);
        let serves = state.gang == gang::Phase::Serving && all_ready && ready == Some(true);
        // Nothing starts on half a model, and only a person completes it.
        let lacks_model =
            state.gang == gang::Phase::Idle && matches!(shown.artifacts, Artifacts::Incomplete(_));
        let health = if held.is_some() || draining || lacks_model {
            Health::NotServing
        } else if serves && proven && !state.faults.iter().any(|fault| fault.kind.is_unhealthy()) {
            Health::Healthy
        } else {
            Health::Degraded
        };
        Self {
            schema: SCHEMA,
            node: setup.node.clone(),
            health,
            model: view.setup.model.clone(),
            epoch: state.epoch,
            phase: state.gang.name().into(),
            phase_age_ms: now.boot_ms.saturating_sub(state.gang_since_ms),
            held,
            last_failure: state.last_failure.as_ref().map(|failure| failure.text.clone()),
            restarts: u32::try_from(state.restarts_ms.len()).unwrap_or(u32::MAX),
            restarts_max: setup.supervise.restarts_max,
            pair: PairStatus::of(setup, state, seen, now),
            ranks: shown
                .ranks
                .iter()
                .enumerate()
                .map(|(index, seen)| RankStatus::of(view.setup.rank_number(index), seen))
                .collect(),
            gateway: GatewayStatus {
                pid: pid(&seen.gateway.process),
                phase: state.gateway.name().into(),
                ready,
                listen: setup.gateway_listen.clone(),
                last_exit: last_exit(&seen.gateway.process),
            },
            suspected_leaks: state.suspected_leaks.clone(),
            draining,
            proven,
            proven_age_ms: state.scratch.canary.proven_ms.map(|at| now.boot_ms.saturating_sub(at)),
            boot: state.boot.clone(),
            uptime_ms: now.boot_ms,
            invariants: invariant::drift::status(setup, state, seen, now),
            gates: state.gates.clone(),
            faults: state.faults.clone(),
            memory: MemoryStatus::of(state, seen),
            reboot: reboot::status(setup, state, seen, now),
            operator_hold_until_ms: state.operator.hold.map(|h| h.until_wall_ms.unwrap_or(0)),
            operator_drained: state.operator.drained,
            lowered_prefill_step_tokens: Some(retune::step_tokens(&view.setup, state))
                .filter(|step| *step < setup.prefill_step_tokens),
            config_refused: seen.config_refused.clone(),
            ledger_trouble: seen.ledger_trouble.clone(),
        }
    }
}

impl MemoryStatus {
    fn of(state: &State, seen: &Observation) -> Option<Self> {
        seen.memory.as_ref().map(|memory| Self {
            total_bytes: memory.total_bytes,
            wired_bytes: memory.wired_bytes,
            available_bytes: memory.available_bytes,
            baseline_bytes: state.baseline.as_ref().map(|b| b.wired_bytes),
            unexplained_bytes: state.leak.unexplained_bytes(),
            leak: state.leak.name().into(),
        })
    }
}

impl RankStatus {
    fn of(rank: u32, seen: &crate::RankSeen) -> Self {
        let vitals = seen.vitals.as_ref();
        Self {
            rank,
            pid: pid(&seen.process),
            phase: rank_phase(&seen.process, seen.phase).into(),
            steps: vitals.map(|v| v.steps),
            last_step_age_ms: vitals.and_then(|v| v.last_step_age_ms),
            tokens: vitals.map(|v| v.tokens),
            active: vitals.map(|v| v.active),
            queued: vitals.map(|v| v.queued),
            weights_bytes: vitals.map(|v| v.weights_bytes),
            memory_bytes: vitals.map(|v| v.memory_bytes),
            memory_peak_bytes: vitals.map(|v| v.memory_peak_bytes),
            last_exit: last_exit(&seen.process),
            last_exit_code: match &seen.process {
                Process::Ended { how, .. } => how.code(),
                _ => None,
            },
        }
    }
}

/// A rank's own phase, or `absent`, `ended`, `silent`.
pub(crate) const fn rank_phase(
    process: &Process,
    phase: Option<tandem_wire::Phase>,
) -> &'static str {
    match (process, phase) {
        (Process::Never, _) => "absent",
        (Process::Ended { .. }, _) => "ended",
        (Process::Running { .. }, None) => "silent",
        (Process::Running { .. }, Some(phase)) => phase_name(phase),
    }
}

const fn phase_name(phase: tandem_wire::Phase) -> &'static str {
    use tandem_wire::Phase;
    match phase {
        Phase::Forming => "forming",
        Phase::Loading => "loading",
        Phase::Warming => "warming",
        Phase::Ready => "ready",
        Phase::Unloading => "unloading",
    }
}

const fn pid(process: &Process) -> Option<u32> {
    match process {
        Process::Running { pid, .. } => Some(*pid),
        _ => None,
    }
}

fn last_exit(process: &Process) -> Option<String> {
    match process {
        Process::Ended { how, .. } => Some(how.to_string()),
        _ => None,
    }
}
