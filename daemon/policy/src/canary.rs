//! The canary: a small request through the gateway. Serving is proven by tokens, never by a port.
//!
//! Every epoch must pass one before anything else counts. From then on the tokens of real requests
//! prove it too, so that a busy appliance sends no canaries; but not while client after client gives
//! its request up. What a canary itself may have made rank 0 count is never taken for the tokens of
//! real requests.
//!
//! What a canary lacks is told, and ends readiness. It starts ranks again in one case only:
//!
//! | what came | is | leads to |
//! |---|---|---|
//! | garbage | the engine lies | a restart, [`crate::gang`] says how often; never a reboot |
//! | no answer, while steps are finished or tokens come | busy | nothing |
//! | no answer, and nothing moves | a fault, `canary` | nothing: ranks that have work and finish no step are [`crate::stall`]'s |
//! | a refusal | a fault, `canary_refused` | nothing: the next epoch would be asked the same |
//! | 429, 503, 504 | busy | nothing, and the fault `canary` if nothing moves for `canary.timeout_ms` |
//!
//! One that failed while the gateway or a rank was not ready is not counted: that has its own rules.
//! Ranks that work while nobody is answered for as long as a proof lasts are a state of its own, the
//! fault `unanswered`: not ready, and nothing is started again.

mod judge;
mod proof;
#[cfg(test)]
mod tests;

use tandem_wire::Vitals;

use crate::{
    Action, Moment, Observation, Rung, Setup, State,
    fault::{Condition, Kind},
    gang, stall,
};

pub use judge::judge;
pub use proof::{Lack, Proof};

/// How old the gateway's health may be and still count, in milliseconds: it is read once a second.
const READY_AGE_MS_MAX: u64 = 3_000;

/// What a canary may take beyond its own timeout before it is taken as lost, in milliseconds.
const OVERDUE_MS: u64 = 5_000;

/// One turn.
pub fn step(
    setup: &Setup,
    state: &mut State,
    seen: &Observation,
    now: Moment,
    actions: &mut Vec<Action>,
) {
    let epoch = state.epoch;
    let is_open = is_open(state, seen);
    let watched = state.scratch.watched;
    let canary = seen.canary.as_ref().filter(|canary| canary.epoch == epoch);
    let proof = &mut state.scratch.canary;
    if proof.epoch != epoch {
        // A number is used once in an epoch, also by a supervisor that forgot the proofs.
        let number = canary.map_or(0, |canary| canary.number);
        let since_ms = now.boot_ms;
        *proof = Proof { epoch, since_ms, number, counted: number, ..Proof::default() };
    }
    stall::watch(epoch, &mut state.scratch.work, seen, watched);
    proof.see_requests(seen.requests);
    if !is_open {
        // What is not there is not busy.
        proof.busy_since_ms = None;
    }
    proof.see_steps(seen, now);
    // Rank 0 counts all tokens, and all of them went through the gateway beside it.
    let first = seen.ranks.first().filter(|_| setup.leads());
    let vitals = first.and_then(|rank| rank.vitals.as_ref());
    let tokens = vitals.filter(|vitals: &&Vitals| vitals.epoch == epoch).map(|v| v.tokens);
    proof.see_tokens(tokens, &state.gang, now);
    if !setup.leads()
        && let Some(known) = state.scratch.peers.get(setup.leader())
    {
        proof.see_leader(known.proof.filter(|(e, _)| *e == epoch).map(|(_, at_ms)| at_ms));
    }
    proof.count(setup, canary, is_open, now);
    if is_open && let Some(number) = proof.due(setup, canary, now) {
        if number != proof.number {
            proof.number = number;
            proof.asked_ms = now.boot_ms;
            let own = u64::from(setup.canary.max_tokens);
            proof.tokens = tokens.map(|tokens| tokens.saturating_add(own));
        }
        actions.push(Action::Canary { epoch, number });
    }
}

/// Whether a canary can pass, so that its failure means something.
fn is_open(state: &State, seen: &Observation) -> bool {
    let is_ready = |rank: &crate::RankSeen| rank.phase == Some(tandem_wire::Phase::Ready);
    state.gang == gang::Phase::Serving
        && state.draining_since_ms.is_none()
        && seen.ranks.iter().all(is_ready)
        && seen.gateway.ready.fresh(READY_AGE_MS_MAX) == Some(true)
}

/// What canaries say is wrong: `canary.failures_max` failed in a row. Only of garbage the rung is
/// [`Rung::Restart`]. It needs as many: one bad answer can be the model's own bad luck, and what is
/// always so in one model would start it again for ever.
pub fn verdict(setup: &Setup, state: &State) -> Option<Condition> {
    let proof = &state.scratch.canary;
    let failures_max = setup.canary.failures_max.max(1);
    if proof.epoch != state.epoch || proof.failures < failures_max {
        return None;
    }
    let reason = proof.reason.as_deref().unwrap_or("the reason is not known");
    let (kind, rung, remedy) = match proof.lack {
        Lack::Sense => (
            Kind::Garbage,
            Rung::Restart,
            "if it comes back after a restart, the model's files may be damaged: import the model \
             again, or try another one",
        ),
        Lack::Leave => (
            Kind::CanaryRefused,
            Rung::None,
            "ask the same of it (`tandem explain canary_refused`) and mend what the gateway names: \
             the model's chat template, model.id or engine.context_tokens",
        ),
        Lack::Answer => (
            Kind::Canary,
            Rung::None,
            "see the gateway's log; ranks that have work and finish no step are started again by \
             themselves",
        ),
    };
    let evidence =
        format!("requests to prove serving failed {failures_max} times in a row: {reason}");
    Some(Condition { kind, evidence, rung, remedy: remedy.into() })
}

/// The ranks finish steps, and for as long as a proof lasts nobody was answered: a prompt that takes
/// longer than that, or work that nobody waits for. They are left to it.
pub(crate) fn unanswered(setup: &Setup, state: &State, now: Moment) -> Option<Condition> {
    let proof = &state.scratch.canary;
    let last_ms = proof.proven_ms.unwrap_or(0).max(proof.since_ms).max(state.gang_since_ms);
    let is_so = proof.epoch == state.epoch
        && state.gang == gang::Phase::Serving
        && now.boot_ms.saturating_sub(last_ms) >= limit_ms(setup)
        && proof.stepped_ms > Some(last_ms)
        && verdict(setup, state).is_none();
    is_so.then(|| Condition {
        kind: Kind::Unanswered,
        evidence: format!(
            "the ranks finish steps, and no request was answered for {} ms",
            limit_ms(setup)
        ),
        rung: Rung::None,
        remedy:
            "`tandem status` shows what the ranks work on; it is over with the next answer, and \
                 a client that asks for too much is the one to limit"
                .into(),
    })
}

/// Whether tokens came lately in an epoch that passed a canary: what readiness means. Lately is
/// within three periods and one timeout, so that one canary that fails and its retry do not end it.
///
/// With other nodes, tokens must have come through each one's gateway, by what it last told: a
/// supervisor that is away for a moment takes no proof with it.
pub fn is_proven(setup: &Setup, state: &State, now: Moment) -> bool {
    let proof = &state.scratch.canary;
    let is_recent = |at_ms: u64| now.boot_ms.saturating_sub(at_ms) < limit_ms(setup);
    has_passed(setup, state)
        && proof.proven_ms.is_some_and(is_recent)
        && unproven(setup, state, now).is_empty()
}

/// The other nodes through whose gateways no tokens are known to have come lately.
pub(crate) fn unproven(setup: &Setup, state: &State, now: Moment) -> Vec<String> {
    let others = setup.nodes.iter().filter(|place| place.name != setup.node);
    let is_unproven = |name: &&String| {
        let known = state.scratch.peers.get(*name).and_then(|known| known.proof);
        let is_recent = |at_ms: u64| now.boot_ms.saturating_sub(at_ms) < limit_ms(setup);
        !known.is_some_and(|(epoch, at_ms)| epoch == state.epoch && is_recent(at_ms))
    };
    others.map(|place| &place.name).filter(is_unproven).cloned().collect()
}

/// Whether a canary of this epoch passed, and nothing speaks against it since.
pub(crate) fn has_passed(setup: &Setup, state: &State) -> bool {
    let proof = &state.scratch.canary;
    proof.epoch == state.epoch
        && state.gang == gang::Phase::Serving
        && proof.passed
        && verdict(setup, state).is_none()
}

/// When tokens last came through this node's own gateway, since boot, if nothing speaks against it.
pub(crate) fn own_proof_ms(setup: &Setup, state: &State) -> Option<u64> {
    state.scratch.canary.proven_ms.filter(|_| has_passed(setup, state))
}

/// How old a proof may be, in milliseconds.
fn limit_ms(setup: &Setup) -> u64 {
    setup.canary.period_ms.saturating_mul(3).saturating_add(setup.canary.timeout_ms)
}
