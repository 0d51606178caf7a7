//! The canary: a small request through the gateway. Serving is proven by tokens, never by a port.
//!
//! Every epoch must pass one before anything else counts. From then on the tokens of real requests
//! prove it too, so that a busy appliance sends no canaries. What a canary itself may have made
//! rank 0 count is never taken for the tokens of real requests.
//!
//! A canary that failed, or that the gateway was too busy for, while tokens of real requests came is
//! no failure: what serves others is not to be started again. Nor is one that failed while the
//! gateway or a rank was not ready, which has its own rules. Garbage is never excused by tokens.

mod judge;
#[cfg(test)]
mod tests;

use tandem_wire::Vitals;

use crate::{
    Action, CanaryOutcome, CanarySeen, Moment, Observation, Rung, Setup, State,
    fault::{Condition, Kind},
    gang, stall,
};

pub use judge::judge;

/// How old the gateway's health may be and still count, in milliseconds: it is read once a second.
const READY_AGE_MS_MAX: u64 = 3_000;

/// What a canary may take beyond its own timeout before it is taken as lost, in milliseconds.
const OVERDUE_MS: u64 = 5_000;

/// First pause after a failure, in milliseconds; it doubles up to the canary's period.
const RETRY_MS: u64 = 1_000;

/// Pause after a gateway was too busy, in milliseconds: every canary is told to the ledger, and a
/// full queue does not empty within a second.
const BUSY_MS: u64 = 5_000;

/// Proofs of serving, of one epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// The epoch they are of.
    pub epoch: u64,
    /// Number of the last canary asked for.
    pub number: u32,
    /// Whether a canary of this epoch passed.
    pub passed: bool,
    /// When tokens last came, of a canary or of any request, since boot.
    pub proven_ms: Option<u64>,
    /// Tokens that rank 0 had generated, and those that the last canary could add: beyond them
    /// they are of real requests. `None` until rank 0 told.
    pub tokens: Option<u64>,
    /// When tokens of real requests last came, since boot.
    pub grown_ms: Option<u64>,
    /// Canaries that failed in a row.
    pub failures: u32,
    /// Why the last one failed.
    pub reason: Option<String>,
    /// Whether it failed by garbage.
    pub is_garbage: bool,
    /// Number of the last canary whose outcome was counted.
    pub counted: u32,
    /// When the last canary was first asked for, since boot.
    pub asked_ms: u64,
    /// No canary before, since boot.
    pub next_ms: u64,
    /// Since when the gateway has been too busy for canaries and no token came, since boot.
    pub busy_since_ms: Option<u64>,
    /// What the ranks do.
    pub work: Vec<stall::Work>,
}

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
    let is_serving = state.gang == gang::Phase::Serving;
    let canary = seen.canary.as_ref().filter(|canary| canary.epoch == epoch);
    let proof = &mut state.scratch.canary;
    if proof.epoch != epoch {
        // A number is used once in an epoch, also by a supervisor that forgot the proofs.
        let number = canary.map_or(0, |canary| canary.number);
        *proof = Proof { epoch, number, counted: number, ..Proof::default() };
    }
    stall::watch(epoch, &mut proof.work, seen, now);
    // Rank 0 counts all tokens, and all of them went through the gateway beside it.
    let first = seen.ranks.first().filter(|_| setup.leads());
    let vitals = first.and_then(|rank| rank.vitals.as_ref());
    let tokens = vitals.filter(|vitals: &&Vitals| vitals.epoch == epoch).map(|v| v.tokens);
    proof.see_tokens(tokens, is_serving, now);
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

impl Proof {
    /// Tokens of real requests prove serving in an epoch that passed a canary.
    fn see_tokens(&mut self, tokens: Option<u64>, is_serving: bool, now: Moment) {
        let Some(tokens) = tokens else { return };
        let has_grown = self.tokens.is_some_and(|known| tokens > known);
        if has_grown || self.tokens.is_none() {
            self.tokens = Some(tokens);
        }
        if !has_grown || !is_serving {
            return;
        }
        self.grown_ms = Some(now.boot_ms);
        self.busy_since_ms = None;
        if self.passed && !(self.is_garbage && self.failures > 0) {
            self.proven_ms = Some(now.boot_ms);
            self.failures = 0;
            self.reason = None;
        }
    }

    /// Tokens that came through the leader's gateway prove nothing of this one's, which passes requests
    /// on to it; but while they come, one that is only busy does not fail, and goes on to be proven
    /// if it was before.
    fn see_leader(&mut self, proven_ms: Option<u64>) {
        if proven_ms <= self.grown_ms {
            return;
        }
        self.grown_ms = proven_ms;
        if self.busy_since_ms.take().is_some() && self.passed && self.failures == 0 {
            self.proven_ms = self.proven_ms.max(proven_ms);
        }
    }

    /// Counts the outcome of the canary that was asked for, once.
    fn count(&mut self, setup: &Setup, seen: Option<&CanarySeen>, is_open: bool, now: Moment) {
        if self.number == self.counted {
            return;
        }
        let outcome = seen.filter(|c| c.number == self.number).and_then(|c| c.outcome.as_ref());
        let limit_ms = setup.canary.timeout_ms.saturating_add(OVERDUE_MS);
        let is_overdue = now.boot_ms.saturating_sub(self.asked_ms) >= limit_ms;
        let outcome = match outcome {
            Some(outcome) => outcome.clone(),
            None if is_overdue => CanaryOutcome::Failed("nothing came of it in time".into()),
            None => return,
        };
        self.counted = self.number;
        self.pause(setup, RETRY_MS, now);
        match outcome {
            CanaryOutcome::Answered { text, tokens } => match judge(&text, tokens) {
                Ok(()) => self.pass(now),
                Err(why) => self.fail(setup, why, true, now),
            },
            CanaryOutcome::Busy => self.meet_busy(setup, is_open, now),
            // What serves others, or was not ready to serve, did not fail.
            CanaryOutcome::Failed(_) if !is_open || self.grown_ms >= Some(self.asked_ms) => {}
            CanaryOutcome::Failed(why) => self.fail(setup, why, false, now),
        }
    }

    fn pause(&mut self, setup: &Setup, pause_ms: u64, now: Moment) {
        self.next_ms = now.boot_ms.saturating_add(pause_ms.min(setup.canary.period_ms));
    }

    fn pass(&mut self, now: Moment) {
        self.passed = true;
        self.proven_ms = Some(now.boot_ms);
        self.failures = 0;
        self.reason = None;
        self.is_garbage = false;
        self.busy_since_ms = None;
    }

    fn fail(&mut self, setup: &Setup, why: String, is_garbage: bool, now: Moment) {
        // 32 doublings of a second are more than any period.
        self.pause(setup, RETRY_MS.saturating_mul(1 << self.failures.min(32)), now);
        self.failures = self.failures.saturating_add(1);
        self.reason = Some(why);
        self.is_garbage = is_garbage;
        self.busy_since_ms = None;
    }

    /// A gateway can be too busy for a canary, but not without a token for `canary.timeout_ms`.
    fn meet_busy(&mut self, setup: &Setup, is_open: bool, now: Moment) {
        if !is_open {
            self.busy_since_ms = None;
            return;
        }
        self.pause(setup, BUSY_MS, now);
        let last_ms = self.asked_ms.max(self.grown_ms.unwrap_or(0));
        let since_ms = *self.busy_since_ms.get_or_insert(last_ms);
        if now.boot_ms.saturating_sub(since_ms) >= setup.canary.timeout_ms {
            let limit_ms = setup.canary.timeout_ms;
            let why =
                format!("the gateway was too busy for it, and no token came for {limit_ms} ms");
            self.fail(setup, why, false, now);
        }
    }

    /// The number of the canary to ask for now, if one is due: the last one again while nothing is
    /// seen of it, else the next.
    fn due(&self, setup: &Setup, seen: Option<&CanarySeen>, now: Moment) -> Option<u32> {
        if self.number != self.counted {
            let is_seen = seen.is_some_and(|canary| canary.number == self.number);
            return (!is_seen).then_some(self.number);
        }
        let limit_ms = setup.canary.timeout_ms.saturating_add(OVERDUE_MS);
        let is_running =
            |c: &CanarySeen| c.outcome.is_none() && now.boot_ms.saturating_sub(c.at_ms) < limit_ms;
        let since_ms = self.proven_ms.map(|at_ms| now.boot_ms.saturating_sub(at_ms));
        let is_wanted =
            !self.passed || self.failures > 0 || since_ms >= Some(setup.canary.period_ms);
        (is_wanted && now.boot_ms >= self.next_ms && !seen.is_some_and(is_running))
            .then(|| self.number.saturating_add(1))
    }
}

/// Why the ranks should be started again, if canaries say so: `canary.failures_max` failed in a row.
/// Garbage needs as many: one bad answer can be the model's own bad luck, and what is always so in
/// one model would start it again for ever.
pub fn verdict(setup: &Setup, state: &State) -> Option<Condition> {
    let proof = &state.scratch.canary;
    let failures_max = setup.canary.failures_max.max(1);
    if proof.epoch != state.epoch || proof.failures < failures_max {
        return None;
    }
    let reason = proof.reason.as_deref().unwrap_or("the reason is not known");
    let kind = if proof.is_garbage { Kind::Garbage } else { Kind::Canary };
    Some(Condition {
        kind,
        evidence: format!(
            "requests to prove serving failed {failures_max} times in a row: {reason}"
        ),
        rung: Rung::Restart,
        remedy: "see the logs of the gateway and of rank 0; if it stays after a restart, try \
                 another model or an older engine"
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
    proof.epoch == state.epoch
        && state.gang == gang::Phase::Serving
        && proof.passed
        && proof.proven_ms.is_some_and(is_recent)
        && verdict(setup, state).is_none()
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

/// When tokens last came through this node's own gateway, since boot, if nothing speaks against it.
pub(crate) fn own_proof_ms(setup: &Setup, state: &State) -> Option<u64> {
    let proof = &state.scratch.canary;
    let counts = proof.epoch == state.epoch
        && state.gang == gang::Phase::Serving
        && proof.passed
        && verdict(setup, state).is_none();
    proof.proven_ms.filter(|_| counts)
}

/// How old a proof may be, in milliseconds.
fn limit_ms(setup: &Setup) -> u64 {
    setup.canary.period_ms.saturating_mul(3).saturating_add(setup.canary.timeout_ms)
}
