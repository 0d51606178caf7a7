//! Canaries: what comes back from a small request.

use tandem_policy::{CanaryOutcome, CanarySeen, Moment};

use super::Node;
use crate::trouble::Trouble;

const GARBAGE: [&str; 3] = ["!!!!!!!!!!!!!!!!", "\u{fffd}\u{fffd}\u{fffd}\u{fffd} a", ""];
const SANE: [&str; 4] = ["Paris", "I'm a chatbot", "1, 2, 3, 4", "\n\nThe capital of France is"];

/// The last canary.
#[derive(Default)]
pub(crate) struct Canary {
    last: Option<Asked>,
    /// One before it, whose answer some world may still show.
    older: Option<Asked>,
}

#[derive(Clone)]
struct Asked {
    epoch: u64,
    number: u32,
    /// When it began, or ended, in milliseconds of true time.
    at: u64,
    ends_at: Option<u64>,
    /// What will come of it if all goes well until then.
    planned: Plan,
    outcome: Option<CanaryOutcome>,
    booted_at: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Plan {
    Answer,
    Fail,
    Busy,
    /// It waits for its place until its time is over.
    TimesOut,
    Refused,
}

impl Canary {
    pub(crate) fn seen(&self, now: Moment) -> Option<CanarySeen> {
        let asked = self.last.as_ref()?;
        let at_ms = (asked.at - asked.booted_at).min(now.boot_ms);
        let (epoch, number) = (asked.epoch, asked.number);
        Some(CanarySeen { epoch, number, outcome: asked.outcome.clone(), at_ms })
    }
}

impl Node {
    pub(crate) fn begin_canary(&mut self, epoch: u64, number: u32) {
        let t = self.t;
        let timeout_ms = self.setup.canary.timeout_ms;
        let long_until = self.traffic.long_until(t);
        let waits =
            self.traffic.is_cancelled(t) || long_until.is_some_and(|at| at >= t + timeout_ms);
        let planned = if self.traffic.refuses {
            Plan::Refused
        } else if self.traffic.is_flooded(t) {
            self.dice.pick(&[Plan::Busy, Plan::TimesOut])
        } else if waits {
            Plan::TimesOut
        } else if self.strikes(Trouble::CanaryFails) {
            Plan::Fail
        } else if self.strikes(Trouble::CanaryBusy) {
            Plan::Busy
        } else {
            Plan::Answer
        };
        let works = self.ranks_work() && self.gateway_reaches();
        let ends_at = if self.strikes(Trouble::CanaryNever) {
            None
        } else if planned == Plan::TimesOut {
            Some(t + timeout_ms)
        } else if works {
            Some(long_until.unwrap_or(t) + self.dice.between(50, 3_000))
        } else {
            Some(t + self.dice.pick(&[100, timeout_ms]))
        };
        let booted_at = self.machine.booted_at;
        let asked = Asked { epoch, number, at: t, ends_at, planned, outcome: None, booted_at };
        self.canary.older = self.canary.last.replace(asked);
    }

    pub(crate) fn pass_canary(&mut self) {
        self.desk.busy ^= self.dice.once_in(15);
        let t = self.t;
        let Some(mut asked) = self.canary.last.clone() else { return };
        if asked.outcome.is_some() || asked.ends_at.is_none_or(|at| t < at) {
            return;
        }
        let works = self.ranks_work() && self.gateway_reaches();
        let is_same = self.ranks.iter().all(|r| r.epoch() == Some(asked.epoch));
        let garbles = self.garbles();
        let outcome = match asked.planned {
            Plan::Busy => CanaryOutcome::Busy,
            Plan::Answer if works && is_same => {
                let text = self.dice.pick(if garbles { &GARBAGE } else { &SANE }).to_owned();
                if garbles {
                    self.record.garbled_epoch = Some(asked.epoch);
                }
                self.note_tokens(asked.epoch);
                CanaryOutcome::Answered { text, tokens: 8 }
            }
            Plan::Refused => CanaryOutcome::Refused("400: no chat template".into()),
            Plan::TimesOut => CanaryOutcome::Failed("timeout: global".into()),
            Plan::Answer | Plan::Fail => CanaryOutcome::Failed("502 from the gateway".into()),
        };
        // Both are clients' load, behind which others' tokens prove as much.
        if matches!(asked.planned, Plan::Busy | Plan::TimesOut) {
            self.note(|node| node.busy = Some((asked.epoch, t)));
        }
        self.tell(|_| format!("canary {}/{}: {outcome:?}", asked.epoch, asked.number));
        asked.at = t;
        asked.outcome = Some(outcome);
        self.canary.last = Some(asked);
    }

    /// Whether one waits for rank 0, as any request that reached it.
    pub(crate) fn canary_waits(&self) -> bool {
        let is_there = |asked: &Asked| asked.outcome.is_none() && asked.planned == Plan::Answer;
        self.gateway_reaches() && self.canary.last.as_ref().is_some_and(is_there)
    }

    /// What a supervisor asked for is lost with it.
    pub(crate) fn canary_is_lost(&mut self) {
        self.canary = Canary::default();
    }
}
