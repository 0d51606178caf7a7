//! How a reboot goes on: the transitions, all in one place.

mod end;

use super::{
    ATTEMPTS_MAX, HISTORY_MAX, Intent, Outcome, Past, Phase, RETRY_MS, Stage,
    heard::{self, Part},
    limits::{self, Asked},
    propose,
};
use crate::{Moment, Observation, Setup, State, canary};

/// Longest time until all others have answered a proposal, in milliseconds. A report comes twice a
/// second; this also covers a supervisor that is just started again.
const AGREE_MS: u64 = 10_000;

/// What a node may need longer to be ready than the proposer, in milliseconds: it hears of it later.
const READY_MARGIN_MS: u64 = 10_000;

/// Longest time until all others have heard of a commit, in milliseconds. What does not arrive is
/// made up for by the changed boot.
const COMMIT_MS: u64 = 5_000;

/// Reports of a participant after its commit and before it goes, so that one is heard.
const COMMIT_REPORTS: u64 = 2;

/// Pause after a proposal that another node refused, in milliseconds: whoever asks again at once
/// finds the same.
const REFUSED_MS: u64 = 600_000;

/// Most transitions in one turn: ready, committed and rebooting.
const STEPS_MAX: usize = 3;

/// All that a transition looks at.
struct Look<'a> {
    setup: &'a Setup,
    seen: &'a Observation,
    now: Moment,
}

/// One turn.
pub(super) fn step(setup: &Setup, state: &mut State, seen: &Observation, now: Moment) {
    let look = Look { setup, seen, now };
    for _ in 0..STEPS_MAX {
        let next = look.next(state);
        if next == state.reboot {
            break;
        }
        // What runs is looked at anew once it is known that it is to be stopped.
        let is_last = matches!(next, Phase::Steady | Phase::Draining { .. });
        state.reboot = next;
        if is_last {
            break;
        }
    }
}

impl Look<'_> {
    fn next(&self, state: &mut State) -> Phase {
        match state.reboot.clone() {
            Phase::Steady => self.begin(state),
            // First of all: its proposer may count on this node's promise.
            Phase::Ready { intent, .. }
                if !state.scratch.is_unsaved && self.must_go(state, &intent) =>
            {
                self.commit(state, intent)
            }
            Phase::Draining { intent, .. } | Phase::Ready { intent, .. }
                if self.is_outdone(state, &intent) =>
            {
                let why = "another node's proposal counts";
                let steady = self.close(state, &intent, Outcome::Withdrawn, why);
                match self.invitation(state) {
                    Some(other) => self.take_over(state, other),
                    None => steady,
                }
            }
            Phase::Draining { intent, is_agreed, deadline_ms } => {
                self.drain(state, intent, is_agreed, deadline_ms)
            }
            Phase::Ready { intent, since_ms } => self.wait(state, intent, since_ms),
            Phase::Committed { intent, since_ms } if self.is_known(state, &intent, since_ms) => {
                Phase::Rebooting { intent, since_ms: self.now.boot_ms }
            }
            Phase::Rebooting { intent, since_ms }
                if self.since_ms(since_ms) >= RETRY_MS * u64::from(ATTEMPTS_MAX) =>
            {
                self.not_done(state, &intent)
            }
            Phase::Verifying { intent } => self.verify(state, intent),
            phase @ (Phase::Committed { .. } | Phase::Rebooting { .. }) => phase,
        }
    }

    const fn since_ms(&self, at_ms: u64) -> u64 {
        self.now.boot_ms.saturating_sub(at_ms)
    }

    /// Longest time that gateway and ranks get to end.
    const fn patience_ms(&self) -> u64 {
        let supervise = &self.setup.supervise;
        supervise.drain_timeout_ms.saturating_add(supervise.unload_timeout_ms)
    }

    fn others(&self, state: &State, intent: &Intent) -> Vec<(String, Part)> {
        let part = |other: (&str, &str)| {
            (other.0.to_owned(), heard::part(self.setup, state, self.seen, self.now, intent, other))
        };
        intent.others(self.setup).map(part).collect()
    }

    fn proposer(&self, state: &State, intent: &Intent) -> Part {
        heard::proposer(self.setup, state, self.seen, self.now, intent)
    }

    /// Whether all others are at least there.
    fn have_reached(&self, state: &State, intent: &Intent, stage: Stage) -> bool {
        self.others(state, intent).into_iter().all(|(_, part)| part.has_reached(stage))
    }

    /// Others' proposals first: of two, one is enough.
    fn begin(&self, state: &mut State) -> Phase {
        if let Some(intent) = self.invitation(state) {
            return self.take_over(state, intent);
        }
        let Some(intent) = propose::propose(self.setup, state, self.seen, self.now) else {
            return Phase::Steady;
        };
        state.reboot_memory.began_wall_ms = self.now.wall_ms;
        let is_agreed = intent.boots.len() < 2;
        let patience_ms = if is_agreed { self.patience_ms() } else { AGREE_MS };
        let deadline_ms = self.now.boot_ms.saturating_add(patience_ms);
        Phase::Draining { intent, is_agreed, deadline_ms }
    }

    /// Another node's proposal that this one takes part in.
    fn invitation(&self, state: &State) -> Option<Intent> {
        let Self { setup, seen, now } = *self;
        let intent = heard::proposal(setup, state, seen, now)?;
        let veto = limits::veto(setup, state, seen, now, Asked::of(intent));
        veto.is_none().then(|| intent.clone())
    }

    fn take_over(&self, state: &mut State, intent: Intent) -> Phase {
        state.reboot_memory.began_wall_ms = self.now.wall_ms;
        let deadline_ms = self.now.boot_ms.saturating_add(self.patience_ms());
        Phase::Draining { intent, is_agreed: true, deadline_ms }
    }

    /// Whether a proposal of a node before this intent's is there.
    fn is_outdone(&self, state: &State, intent: &Intent) -> bool {
        let place = |intent: &Intent| heard::place(self.setup, &intent.proposer);
        heard::proposal(self.setup, state, self.seen, self.now)
            .is_some_and(|other| place(other) < place(intent))
    }

    /// Why it goes no further, before there is no way back.
    fn obstacle(
        &self,
        state: &State,
        intent: &Intent,
        is_ready: bool,
    ) -> Option<(Outcome, String)> {
        if let Some(refusal) = limits::stopped_by_a_person(state, self.seen) {
            return Some((Outcome::Withdrawn, refusal.text));
        }
        if intent.is_own(self.setup) {
            if !propose::is_wanted(state, intent) {
                return Some((Outcome::Withdrawn, "it is not wanted any more".into()));
            }
            if let Some(node) = self.heard_again(intent) {
                let why = format!("node {node} is heard again, and can take part");
                return Some((Outcome::Withdrawn, why));
            }
            return self.others(state, intent).into_iter().find_map(|(node, part)| match part {
                Part::Refuses(kind) => {
                    Some((Outcome::Vetoed, format!("node {node} refused: {}", kind.text())))
                }
                _ => None,
            });
        }
        let proposer = &intent.proposer;
        match heard::proposer(self.setup, state, self.seen, self.now, intent) {
            Part::Out => Some((Outcome::Withdrawn, format!("node {proposer} withdrew it"))),
            Part::Back if !is_ready => Some((
                Outcome::Withdrawn,
                format!("node {proposer} went before this node was ready"),
            )),
            _ => None,
        }
    }

    /// A node that a fault's intent leaves behind because it was silent for long, and that was heard
    /// since: it may have spoken between two turns that are far apart, and be silent again.
    fn heard_again(&self, intent: &Intent) -> Option<&str> {
        let Self { setup, seen, now } = *self;
        let is_left = |node: &str| !intent.is_ordered && !intent.boots.contains_key(node);
        let was_heard = |node: &str| {
            heard::last_ms(seen, node)
                .is_some_and(|at_ms| self.since_ms(at_ms) < setup.reboot.alone_after_ms)
        };
        heard::nodes(setup, seen, now)
            .find(|(node, report)| is_left(node) && (report.is_some() || was_heard(node)))
            .map(|(node, _)| node)
    }

    /// Whether a node that is left behind could still be heard: it was not silent for long enough to
    /// count as lost.
    fn is_listening(&self, state: &State, intent: &Intent) -> bool {
        let limit_ms = self.setup.pair.silence_timeout_ms;
        let is_left = |node: &str| !intent.is_ordered && !intent.boots.contains_key(node);
        heard::nodes(self.setup, self.seen, self.now)
            .any(|(node, _)| is_left(node) && heard::silent_ms(state, node, self.now) < limit_ms)
    }

    fn drain(&self, state: &mut State, intent: Intent, is_agreed: bool, deadline_ms: u64) -> Phase {
        if let Some((outcome, why)) = self.obstacle(state, &intent, false) {
            return self.close(state, &intent, outcome, &why);
        }
        let is_late = self.now.boot_ms >= deadline_ms;
        if !is_agreed {
            if self.have_reached(state, &intent, Stage::Draining) {
                let deadline_ms = self.now.boot_ms.saturating_add(self.patience_ms());
                return Phase::Draining { intent, is_agreed: true, deadline_ms };
            } else if is_late {
                return self.give_up(state, &intent, Stage::Draining, "did not answer");
            }
            return Phase::Draining { intent, is_agreed, deadline_ms };
        }
        let any_running = self.seen.gateway.process.is_running()
            || self.seen.ranks.iter().any(|rank| rank.process.is_running());
        if any_running && !is_late {
            return Phase::Draining { intent, is_agreed, deadline_ms };
        }
        let Self { setup, seen, now } = *self;
        if let Some(refusal) = limits::refuse(setup, state, seen, now, Asked::of(&intent)) {
            return self.close(state, &intent, Outcome::Withdrawn, &refusal.text);
        }
        // Who is ready waits for the proposer's word, so it must be there to give it.
        let is_silent = !intent.is_own(setup)
            && heard::proposer(setup, state, seen, now, &intent) == Part::Silent;
        match (is_silent, is_late) {
            (false, _) => Phase::Ready { intent, since_ms: now.boot_ms },
            (true, false) => Phase::Draining { intent, is_agreed, deadline_ms },
            (true, true) => self.abandon(state, &intent),
        }
    }

    fn wait(&self, state: &mut State, intent: Intent, since_ms: u64) -> Phase {
        let Self { setup, seen, now } = *self;
        let is_own = intent.is_own(setup);
        let waited_ms = self.since_ms(since_ms);
        if let Some((outcome, why)) = self.obstacle(state, &intent, true) {
            return self.close(state, &intent, outcome, &why);
        }
        // A supervisor that has just started has heard nobody yet.
        if is_own && self.is_listening(state, &intent) {
            return Phase::Ready { intent, since_ms };
        }
        if is_own && self.have_reached(state, &intent, Stage::Ready) {
            return match limits::refuse(setup, state, seen, now, Asked::of(&intent)) {
                Some(refusal) => self.close(state, &intent, Outcome::Withdrawn, &refusal.text),
                // What the others can't be told waits until it can be saved, and is judged anew then.
                None if state.scratch.is_unsaved => Phase::Ready { intent, since_ms },
                None => self.commit(state, intent),
            };
        }
        let limit_ms = if is_own {
            self.patience_ms().saturating_add(READY_MARGIN_MS)
        } else {
            setup.reboot.return_timeout_ms
        };
        match (waited_ms >= limit_ms, is_own) {
            (false, _) => Phase::Ready { intent, since_ms },
            (true, true) => self.give_up(state, &intent, Stage::Ready, "did not get ready"),
            // It says that it goes on, and may commit at any time.
            (true, false) if matches!(self.proposer(state, &intent), Part::At(_)) => {
                Phase::Ready { intent, since_ms }
            }
            // A node that slept through it all hears first now that the proposer went, and follows.
            // Nor is a promise given up that the others still hear, since nothing can be saved.
            (true, false) if heard::may_be_back(state, &intent) || state.scratch.is_unsaved => {
                Phase::Ready { intent, since_ms }
            }
            (true, false) => self.abandon(state, &intent),
        }
    }

    /// Whether the proposer of another's intent has committed, and no person stops this node: it says
    /// so, or another that it told does, or the boot that it was to end did. It may have rebooted for
    /// another reason; then this one goes too, since nobody can tell.
    fn must_go(&self, state: &State, intent: &Intent) -> bool {
        if intent.is_own(self.setup) || limits::stopped_by_a_person(state, self.seen).is_some() {
            return false;
        }
        let proposer = self.proposer(state, intent);
        let is_past = |part| matches!(part, Part::At(Stage::Committed | Stage::Rebooting));
        proposer == Part::Back
            || is_past(proposer)
            || self.others(state, intent).into_iter().any(|(_, part)| is_past(part))
            || heard::was_committed(state, intent)
    }

    fn commit(&self, state: &mut State, intent: Intent) -> Phase {
        let now = self.now;
        // What people order is no automatic reboot.
        if !intent.is_ordered {
            state.reboots.push(Past {
                wall_ms: now.wall_ms,
                running_ms: state.running.now_ms(now),
                boot: state.boot.clone(),
                kind: intent.cause.kind.clone(),
            });
            let surplus = state.reboots.len().saturating_sub(HISTORY_MAX);
            state.reboots.drain(..surplus);
        }
        state.running.this_boot_ms = now.boot_ms;
        state.reboot_memory.order = None;
        Phase::Committed { intent, since_ms: now.boot_ms }
    }

    /// Whether the others know that there is no way back, or had the time to.
    fn is_known(&self, state: &State, intent: &Intent, since_ms: u64) -> bool {
        let waited_ms = self.since_ms(since_ms);
        if intent.is_own(self.setup) {
            waited_ms >= COMMIT_MS || self.have_reached(state, intent, Stage::Committed)
        } else {
            let reports_ms = self.setup.pair.report_ms.saturating_mul(COMMIT_REPORTS);
            waited_ms >= reports_ms.min(COMMIT_MS)
        }
    }

    fn verify(&self, state: &mut State, intent: Intent) -> Phase {
        let is_over =
            |(_, part): (String, Part)| matches!(part, Part::Back | Part::Out | Part::Refuses(_));
        if canary::is_proven(self.setup, state, self.now)
            && self.others(state, &intent).into_iter().all(is_over)
        {
            return self.close(state, &intent, Outcome::Proven, "");
        }
        if let Some(cause) = propose::faults(state).into_iter().next() {
            let why = format!("another is needed: {}", cause.evidence);
            return self.fail(state, &intent, &why);
        }
        if state.reboot_memory.order.is_some() {
            return self.close(state, &intent, Outcome::Withdrawn, "another was ordered");
        }
        if let Some(other) = self.invitation(state) {
            self.close(state, &intent, Outcome::Withdrawn, "another node needs another");
            return self.take_over(state, other);
        }
        if self.now.boot_ms < self.setup.reboot.return_timeout_ms {
            return Phase::Verifying { intent };
        }
        let is_ours = |past: &Past| intent.boots.values().any(|boot| *boot == past.boot);
        // It can't be proven under the hands of an operator. Only who wanted it has learnt something
        // of its cause: a leak over there says nothing about one here.
        if intent.is_own(self.setup)
            && limits::stopped_by_a_person(state, self.seen).is_none()
            && state.reboots.last().is_some_and(is_ours)
        {
            state.latch.kinds.insert(intent.cause.kind.clone());
        }
        let is_missing = |(node, part): (String, Part)| (part == Part::Silent).then_some(node);
        let missing = self.others(state, &intent).into_iter().find_map(is_missing);
        let what =
            missing.map_or("no tokens came".into(), |node| format!("node {node} was not heard"));
        self.fail(state, &intent, &format!("{what} again within reboot.return_timeout_ms"))
    }
}
