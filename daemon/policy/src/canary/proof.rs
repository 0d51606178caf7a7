//! What one epoch's canaries and its other requests prove.

use super::{OVERDUE_MS, judge};
use crate::{CanaryOutcome, CanarySeen, Moment, Observation, RequestsSeen, Setup, gang};

/// First pause after a failure, in milliseconds; it doubles up to the canary's period.
const RETRY_MS: u64 = 1_000;

/// Pause after a gateway was too busy, in milliseconds: every canary is told to the ledger, and a
/// full queue does not empty within a second.
const BUSY_MS: u64 = 5_000;

/// So many requests in a row that their clients gave up, and the tokens that come are taken for those
/// of work that nobody waits for. Fewer are people who pressed stop.
const ABANDONED_MAX: u64 = 8;

/// What canaries met that brought no sane answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lack {
    /// None came in time, or an error did.
    #[default]
    Answer,
    /// The gateway refused what was asked.
    Leave,
    /// One came, and it was garbage.
    Sense,
}

/// Proofs of serving, of one epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// The epoch they are of.
    pub epoch: u64,
    /// When it was first looked at, since boot.
    pub since_ms: u64,
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
    /// Steps that this node's first rank had finished.
    pub steps: Option<u64>,
    /// When it was last seen to have finished more, since boot.
    pub stepped_ms: Option<u64>,
    /// How requests had ended.
    pub requests: Option<RequestsSeen>,
    /// How many in a row were given up by their clients.
    pub abandoned_in_row: u64,
    /// Canaries that failed in a row.
    pub failures: u32,
    /// Why the last one failed.
    pub reason: Option<String>,
    /// What it lacked.
    pub lack: Lack,
    /// Number of the last canary whose outcome was counted.
    pub counted: u32,
    /// When the last canary was first asked for, since boot.
    pub asked_ms: u64,
    /// No canary before, since boot.
    pub next_ms: u64,
    /// Since when the gateway has been too busy for canaries and nothing moved, since boot.
    pub busy_since_ms: Option<u64>,
}

impl Proof {
    /// How the requests of clients ended meanwhile.
    pub(super) fn see_requests(&mut self, seen: RequestsSeen) {
        let Some(known) = self.requests.replace(seen) else { return };
        let abandoned = seen.abandoned.saturating_sub(known.abandoned);
        self.abandoned_in_row = if seen.answered > known.answered {
            0
        } else {
            self.abandoned_in_row.saturating_add(abandoned)
        };
    }

    /// Steps that were finished are progress, whoever they were for.
    pub(super) fn see_steps(&mut self, seen: &Observation, now: Moment) {
        let vitals = seen.ranks.first().and_then(|rank| rank.vitals.as_ref());
        let Some(vitals) = vitals.filter(|vitals| vitals.epoch == self.epoch) else { return };
        let known = self.steps.replace(vitals.steps);
        if known.is_some_and(|known| vitals.steps > known) {
            self.stepped_ms = Some(now.boot_ms);
            self.busy_since_ms = None;
        }
    }

    /// Tokens of real requests prove serving in an epoch that passed a canary.
    pub(super) fn see_tokens(&mut self, tokens: Option<u64>, phase: &gang::Phase, now: Moment) {
        let Some(tokens) = tokens else { return };
        let has_grown = self.tokens.is_some_and(|known| tokens > known);
        if has_grown || self.tokens.is_none() {
            self.tokens = Some(tokens);
        }
        let is_wasted = self.abandoned_in_row >= ABANDONED_MAX;
        if !has_grown || is_wasted || *phase != gang::Phase::Serving {
            return;
        }
        self.grown_ms = Some(now.boot_ms);
        self.busy_since_ms = None;
        if self.passed && !(self.lack == Lack::Sense && self.failures > 0) {
            self.proven_ms = Some(now.boot_ms);
            self.failures = 0;
            self.reason = None;
        }
    }

    /// Tokens that came through the leader's gateway prove nothing of this one's, which passes requests
    /// on to it; but while they come, one that is only busy does not fail, and goes on to be proven
    /// if it was before.
    pub(super) fn see_leader(&mut self, proven_ms: Option<u64>) {
        if proven_ms <= self.grown_ms {
            return;
        }
        self.grown_ms = proven_ms;
        if self.busy_since_ms.take().is_some() && self.passed && self.failures == 0 {
            self.proven_ms = self.proven_ms.max(proven_ms);
        }
    }

    /// Counts the outcome of the canary that was asked for, once.
    pub(super) fn count(
        &mut self,
        setup: &Setup,
        seen: Option<&CanarySeen>,
        is_open: bool,
        now: Moment,
    ) {
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
                Err(why) => self.fail(setup, why, Lack::Sense, now),
            },
            CanaryOutcome::Busy => self.meet_busy(setup, is_open, now),
            // What was not ready to serve did not fail.
            CanaryOutcome::Failed(_) | CanaryOutcome::Refused(_) if !is_open => {}
            CanaryOutcome::Refused(why) => self.fail(setup, why, Lack::Leave, now),
            // Nor did what works for others, even if it has no token for them yet.
            CanaryOutcome::Failed(_) if self.has_moved() => self.pause(setup, BUSY_MS, now),
            CanaryOutcome::Failed(why) => self.fail(setup, why, Lack::Answer, now),
        }
    }

    /// Whether tokens of real requests came, or steps were finished, since the last canary was asked.
    fn has_moved(&self) -> bool {
        self.grown_ms >= Some(self.asked_ms) || self.stepped_ms > Some(self.asked_ms)
    }

    fn pause(&mut self, setup: &Setup, pause_ms: u64, now: Moment) {
        self.next_ms = now.boot_ms.saturating_add(pause_ms.min(setup.canary.period_ms));
    }

    fn pass(&mut self, now: Moment) {
        self.passed = true;
        self.proven_ms = Some(now.boot_ms);
        self.failures = 0;
        self.reason = None;
        self.lack = Lack::Answer;
        self.busy_since_ms = None;
    }

    fn fail(&mut self, setup: &Setup, why: String, lack: Lack, now: Moment) {
        // 32 doublings of a second are more than any period.
        self.pause(setup, RETRY_MS.saturating_mul(1 << self.failures.min(32)), now);
        self.failures = self.failures.saturating_add(1);
        self.reason = Some(why);
        self.lack = lack;
        self.busy_since_ms = None;
    }

    /// A gateway can be too busy for a canary, but not with nothing that moves for
    /// `canary.timeout_ms`.
    fn meet_busy(&mut self, setup: &Setup, is_open: bool, now: Moment) {
        if !is_open {
            self.busy_since_ms = None;
            return;
        }
        self.pause(setup, BUSY_MS, now);
        let last_ms = self.asked_ms.max(self.grown_ms.max(self.stepped_ms).unwrap_or(0));
        let since_ms = *self.busy_since_ms.get_or_insert(last_ms);
        if now.boot_ms.saturating_sub(since_ms) >= setup.canary.timeout_ms {
            let limit_ms = setup.canary.timeout_ms;
            let why = format!(
                "the gateway was too busy for it, and no step was finished for {limit_ms} ms"
            );
            self.fail(setup, why, Lack::Answer, now);
        }
    }

    /// The number of the canary to ask for now, if one is due: the last one again while nothing is
    /// seen of it, else the next.
    pub(super) fn due(&self, setup: &Setup, seen: Option<&CanarySeen>, now: Moment) -> Option<u32> {
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
