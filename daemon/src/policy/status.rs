//! What the status endpoint shows: `GET /status`, schema 1.

use serde::{Deserialize, Serialize};

use super::{Leak, Moment, Observation, Process, State, gang, gateway};
use crate::config::Config;

/// Version of [`Status`]; raised when a field changes its meaning or goes away.
pub const SCHEMA: u32 = 1;

/// How old the gateway's health may be and still count, in milliseconds: it is read once a second.
const READY_AGE_MS_MAX: u64 = 3_000;

/// The whole status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name of the machine.
    pub node: String,
    /// In one word.
    pub health: Health,
    /// The served model's name.
    pub model: String,
    /// Number of the last epoch of the ranks; 0 before the first.
    pub epoch: u64,
    /// Where the ranks are: [`gang::Phase::name`].
    pub phase: String,
    /// For how long, in milliseconds.
    pub phase_age_ms: u64,
    /// Why ranks or gateway are held and what to do; absent unless they are.
    pub held: Option<String>,
    /// Why the ranks last failed.
    pub last_failure: Option<String>,
    /// Restarts of the ranks in the current window.
    pub restarts: u32,
    /// Most that are allowed in one window.
    pub restarts_max: u32,
    /// Every rank, in order.
    pub ranks: Vec<RankStatus>,
    /// The gateway.
    pub gateway: GatewayStatus,
    /// Ranks that were killed and may have stranded memory.
    pub suspected_leaks: Vec<Leak>,
    /// Whether the supervisor was asked to end.
    pub draining: bool,
}

/// The status in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All ranks are ready and the gateway says it serves.
    Healthy,
    /// Not serving now, or not known to, but being mended.
    Degraded,
    /// Not serving, and not without an operator.
    NotServing,
}

/// One rank. Counters are those of its process, and absent while it says nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    pub(super) fn of(config: &Config, state: &State, seen: &Observation, now: Moment) -> Self {
        let held = match (&state.gang, &state.gateway) {
            (gang::Phase::Held { reason }, _) | (_, gateway::Phase::Held { reason }) => {
                Some(reason.clone())
            }
            _ => None,
        };
        let ready = seen.gateway.ready.fresh(READY_AGE_MS_MAX);
        let draining = state.draining_since_ms.is_some();
        let all_ready = seen.ranks.iter().all(|r| r.phase == Some(tandem_wire::Phase::Ready));
        let health = if held.is_some() || draining {
            Health::NotServing
        } else if state.gang == gang::Phase::Serving && all_ready && ready == Some(true) {
            Health::Healthy
        } else {
            Health::Degraded
        };
        Self {
            schema: SCHEMA,
            node: config.node.name.clone(),
            health,
            model: config.model.served_id(),
            epoch: state.epoch,
            phase: state.gang.name().into(),
            phase_age_ms: now.boot_ms.saturating_sub(state.gang_since_ms),
            held,
            last_failure: state.last_failure.clone(),
            restarts: u32::try_from(state.restarts_ms.len()).unwrap_or(u32::MAX),
            restarts_max: config.supervise.restarts_max,
            ranks: (0..).zip(&seen.ranks).map(|(n, seen)| RankStatus::of(n, seen)).collect(),
            gateway: GatewayStatus {
                pid: pid(&seen.gateway.process),
                phase: state.gateway.name().into(),
                ready,
                listen: config.gateway.listen.to_string(),
                last_exit: last_exit(&seen.gateway.process),
            },
            suspected_leaks: state.suspected_leaks.clone(),
            draining,
        }
    }
}

impl RankStatus {
    fn of(rank: u32, seen: &super::RankSeen) -> Self {
        let vitals = seen.vitals.as_ref();
        let phase = match (&seen.process, seen.phase) {
            (Process::Never, _) => "absent",
            (Process::Ended { .. }, _) => "ended",
            (Process::Running { .. }, None) => "silent",
            (Process::Running { .. }, Some(phase)) => phase_name(phase),
        };
        Self {
            rank,
            pid: pid(&seen.process),
            phase: phase.into(),
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
