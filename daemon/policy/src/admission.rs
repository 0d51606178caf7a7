//! Whether the engine may start: not onto a host that is not right, nor into memory it will not
//! find. A supervisor that starts it regardless turns one leak into hundreds of restarts.
//!
//! What is needed is computed from the model's headers and the config: weights, the KV cache of one
//! request of the full context, the peak of a step; plus a reserve. Where it could not be computed,
//! this machine's share of the weights' files stands in for it, and the rank itself, which computes it
//! again, refuses before it reads a weight.
//!
//! No text has a figure that changes by itself, since what is told is also written to disk.

#[cfg(test)]
mod tests;

use crate::{
    Artifacts, Memory, Moment, Need, Observation, Rung, Setup, State,
    fault::{Condition, Kind},
    gang,
    invariant::drift,
    leak::{self, Verdict},
    pair::fabric,
};

/// Most broken invariants that one refusal names; the status has all of them.
const INVARIANTS_TOLD: usize = 3;

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// In words.
    pub text: String,
    /// What an operator can do.
    pub remedy: String,
}

impl Refusal {
    fn new(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { text: text.into(), remedy: remedy.into() }
    }
}

/// Whether the engine may start now. How often it may is not asked here: that is a matter of
/// budgets, not of the host.
pub fn check(setup: &Setup, state: &State, seen: &Observation, now: Moment) -> Result<(), Refusal> {
    let need_bytes = check_host(setup, state, seen, now)?;
    let memory = check_known(setup, seen, now)?;
    check_verdict(state)?;
    check_unexplained(setup, state, memory)?;
    check_room(setup, memory, need_bytes)
}

/// All but what memory is free, which is only judged while no engine has it: what will be needed of it, in bytes.
pub(crate) fn check_host(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
) -> Result<u64, Refusal> {
    if state.operator.hold.is_some() {
        return Err(Refusal::new("an operator holds it", "`tandem release` ends the hold"));
    }
    check_invariants(setup, seen, now)?;
    check_fabric(setup, seen, now)?;
    let need_bytes = check_artifacts(setup, seen)?;
    Ok(need_bytes)
}

/// That memory keeps the engine from starting, while it would start otherwise. A leak that is
/// suspected or confirmed is a fault of its own.
pub fn conditions(setup: &Setup, state: &State, seen: &Observation, now: Moment) -> Vec<Condition> {
    let waits = matches!(state.gang, gang::Phase::Idle | gang::Phase::Backoff { .. });
    let is_told = matches!(state.leak, Verdict::Suspect { .. } | Verdict::Confirmed { .. });
    if !waits || is_told || is_first_look(setup, state, seen, now) {
        return Vec::new();
    }
    let refusal = check_known(setup, seen, now).and_then(|memory| {
        check_verdict(state)?;
        check_unexplained(setup, state, memory)?;
        match &seen.artifacts {
            Artifacts::Complete { weights_bytes, need } => {
                check_room(setup, memory, need_bytes(setup, *weights_bytes, need)?)
            }
            Artifacts::Unread | Artifacts::Incomplete(_) => Ok(()),
        }
    });
    let condition = |refusal: Refusal| Condition {
        kind: Kind::Memory,
        evidence: refusal.text,
        rung: Rung::None,
        remedy: refusal.remedy,
    };
    refusal.err().map(condition).into_iter().collect()
}

/// Whether memory is not known only because nobody had the time to read it yet.
fn is_first_look(setup: &Setup, state: &State, seen: &Observation, now: Moment) -> bool {
    let since_ms = state.scratch.absent_since_ms.unwrap_or(now.boot_ms);
    seen.memory.is_none() && now.boot_ms.saturating_sub(since_ms) <= leak::age_ms_max(setup)
}

fn check_invariants(setup: &Setup, seen: &Observation, now: Moment) -> Result<(), Refusal> {
    let mut blocking = drift::blocking(setup, seen, now);
    // Whether there is a fabric is asked of the fabric: an epoch may do without.
    blocking.retain(|(invariant, _)| !invariant.is_of_fabric());
    if blocking.is_empty() {
        return Ok(());
    }
    let told: Vec<&str> =
        blocking.iter().take(INVARIANTS_TOLD).map(|(_, reason)| reason.as_str()).collect();
    let more = blocking.len().saturating_sub(INVARIANTS_TOLD);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let text = format!("the host is not as it must be: {}{more}", told.join("; "));
    Err(Refusal::new(text, "`tandem check` shows every invariant and what mends it"))
}

/// That the fabric can be used, where nothing may be used in its place.
fn check_fabric(setup: &Setup, seen: &Observation, now: Moment) -> Result<(), Refusal> {
    if setup.ring_fallback {
        return Ok(());
    }
    match fabric::obstacle(setup, seen, now) {
        Some(why) => {
            Err(Refusal::new(format!("the RDMA fabric can't be used: {why}"), fabric::REMEDY))
        }
        None => Ok(()),
    }
}

/// What the model's files say will be needed, in bytes.
fn check_artifacts(setup: &Setup, seen: &Observation) -> Result<u64, Refusal> {
    match &seen.artifacts {
        Artifacts::Complete { weights_bytes, need } => need_bytes(setup, *weights_bytes, need),
        Artifacts::Unread => Err(Refusal::new(
            "the model's files were not looked at yet",
            "wait; if it stays so, see the supervisor's log",
        )),
        Artifacts::Incomplete(why) => Err(Refusal::new(
            format!("the model's files are not complete: {why}"),
            "complete the model's folder (model.path)",
        )),
    }
}

fn check_known<'a>(
    setup: &Setup,
    seen: &'a Observation,
    now: Moment,
) -> Result<&'a Memory, Refusal> {
    leak::known(setup, seen, now).ok_or_else(|| {
        Refusal::new(
            "the host's memory is not known, so it may not be enough",
            "see the supervisor's log for why it can't be read",
        )
    })
}

pub(crate) fn check_verdict(state: &State) -> Result<(), Refusal> {
    let text = match state.leak {
        Verdict::Clear => return Ok(()),
        Verdict::Watching { .. } => "wired memory that no live process owns is being watched",
        Verdict::Suspect { .. } => "wired memory is suspected to have leaked",
        Verdict::Confirmed { .. } => "wired memory has leaked",
    };
    Err(Refusal::new(text, "`tandem explain leak_suspected` tells how it is judged and what helps"))
}

/// Before the verdict: memory that an engine which just ended has not given back yet, or never will.
fn check_unexplained(setup: &Setup, state: &State, memory: &Memory) -> Result<(), Refusal> {
    let threshold_bytes = leak::threshold_bytes(setup, memory.total_bytes);
    if leak::unexplained_bytes(state, memory) <= threshold_bytes {
        return Ok(());
    }
    let text = format!(
        "more than {} MiB of wired memory are owned by no live process",
        threshold_bytes >> 20
    );
    Err(Refusal::new(text, "wait: it is given back within seconds, or judged as leaked"))
}

/// What of the weights this host's ranks hold, in bytes, rounded up. Tensors that every rank holds
/// whole, such as norms, are small beside the reserve.
fn share_bytes(setup: &Setup, weights_bytes: u64) -> u64 {
    let share = u128::from(weights_bytes) * u128::from(setup.share_permille);
    u64::try_from(share.div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// What this host's ranks need, in bytes; refused if the host can never have it.
fn need_bytes(setup: &Setup, weights_bytes: u64, need: &Need) -> Result<u64, Refusal> {
    match need {
        Need::Estimated => Ok(share_bytes(setup, weights_bytes)),
        Need::Bytes(bytes) => Ok(*bytes),
        Need::TooMuch(why) => Err(Refusal::new(
            format!("the model does not fit into this host's memory: {why}"),
            "change what it names in the config; `tandem model fit` shows the figures",
        )),
    }
}

fn check_room(setup: &Setup, memory: &Memory, own_bytes: u64) -> Result<(), Refusal> {
    let need_bytes = own_bytes.saturating_add(leak::mib(setup.leak.reserve_mib));
    if memory.available_bytes >= need_bytes {
        return Ok(());
    }
    let text = format!(
        "this host's ranks need {} MiB and leak.reserve_mib keeps {} MiB free, which \
         is more than this host has available of its {} MiB",
        own_bytes >> 20,
        setup.leak.reserve_mib,
        memory.total_bytes >> 20
    );
    let remedy = "end what else uses memory (`tandem status` shows what is available), lower \
                  engine.context_tokens (`tandem model fit` shows what needs how much), or serve a \
                  smaller model";
    Err(Refusal::new(text, remedy))
}
