mod answers;

use super::*;
use crate::{CanaryOutcome, CanarySeen, Reading, RequestsSeen, leak::scene};

const EPOCH: u64 = 4;

fn answered(text: &str) -> CanaryOutcome {
    CanaryOutcome::Answered { text: text.into(), tokens: 8 }
}

fn failed() -> CanaryOutcome {
    CanaryOutcome::Failed("no answer in 120000 ms".into())
}

/// A serving appliance whose canaries all get the same outcome, some seconds after they are asked.
struct Life {
    setup: Setup,
    state: State,
    seen: Observation,
    now_ms: u64,
    outcome: Option<CanaryOutcome>,
    takes_ms: u64,
    /// Tokens that real requests add in a second.
    tokens_per_s: u64,
    /// Steps that rank 0 finishes in a second.
    steps_per_s: u64,
    /// Requests that clients give up in a second.
    abandoned_per_s: u64,
    /// Tokens that a canary adds before its outcome, whatever that is.
    own_tokens: u64,
    /// When each canary was asked for, in seconds from the beginning.
    asked_s: Vec<u64>,
}

impl Life {
    fn new(outcome: CanaryOutcome) -> Self {
        let gang = gang::Phase::Serving;
        let mut life = Self {
            setup: Setup::default(),
            state: State { epoch: EPOCH, gang, ..State::new("boot") },
            seen: scene::quiet(0),
            now_ms: 0,
            outcome: Some(outcome),
            takes_ms: 1_000,
            tokens_per_s: 0,
            steps_per_s: 0,
            abandoned_per_s: 0,
            own_tokens: 8,
            asked_s: Vec::new(),
        };
        life.serve(EPOCH);
        life
    }

    fn serve(&mut self, epoch: u64) {
        self.state.epoch = epoch;
        self.state.gang = gang::Phase::Serving;
        let vitals = |rank| Vitals {
            epoch,
            rank,
            phase: tandem_wire::Phase::Ready,
            steps: 0,
            last_step_age_ms: None,
            active: 0,
            queued: 0,
            tokens: 0,
            bytes_read: 0,
            weights_bytes: 0,
            memory_bytes: 0,
            memory_peak_bytes: 0,
            transport: None,
        };
        let rank = |n| crate::RankSeen { vitals: Some(vitals(n)), ..scene::running(epoch) };
        self.seen.ranks = vec![rank(0), rank(1)];
    }

    fn add_tokens(&mut self, tokens: u64) {
        self.seen.ranks[0].vitals.as_mut().unwrap().tokens += tokens;
    }

    fn pass(&mut self, seconds: u64) -> &mut Self {
        for _ in 0..seconds {
            self.turn();
        }
        self
    }

    fn turn(&mut self) {
        let now = scene::at(self.now_ms);
        self.add_tokens(self.tokens_per_s);
        self.seen.ranks[0].vitals.as_mut().unwrap().steps += self.steps_per_s;
        self.seen.requests.abandoned += self.abandoned_per_s;
        let is_over =
            |c: &CanarySeen| c.outcome.is_none() && self.now_ms >= c.at_ms + self.takes_ms;
        if self.outcome.is_some() && self.seen.canary.as_ref().is_some_and(is_over) {
            self.add_tokens(self.own_tokens);
            let (outcome, at_ms) = (self.outcome.clone(), self.now_ms);
            self.seen.canary = self.seen.canary.take().map(|c| CanarySeen { outcome, at_ms, ..c });
        }
        let mut actions = Vec::new();
        step(&self.setup, &mut self.state, &self.seen, now, &mut actions);
        for action in actions {
            let Action::Canary { epoch, number } = action else { panic!("{action:?}") };
            let is_known = |c: &CanarySeen| c.epoch == epoch && c.number >= number;
            assert!(!self.seen.canary.as_ref().is_some_and(is_known), "asked for twice");
            self.asked_s.push(self.now_ms / 1_000);
            self.seen.canary =
                Some(CanarySeen { epoch, number, outcome: None, at_ms: self.now_ms });
        }
        self.now_ms += 1_000;
    }

    fn is_proven(&self) -> bool {
        is_proven(&self.setup, &self.state, scene::at(self.now_ms))
    }

    fn verdict(&self) -> Option<Kind> {
        verdict(&self.setup, &self.state).map(|condition| {
            let restarts = condition.kind == Kind::Garbage;
            assert_eq!(condition.rung == Rung::Restart, restarts, "{condition:?}");
            condition.kind
        })
    }

    fn unanswered(&self) -> bool {
        unanswered(&self.setup, &self.state, scene::at(self.now_ms)).is_some()
    }

    fn failures(&self) -> u32 {
        self.state.scratch.canary.failures
    }
}

#[test]
fn an_idle_appliance_is_proven_by_one_canary_a_period() {
    let mut life = Life::new(answered("Paris"));
    assert!(!life.is_proven(), "before the first");
    life.pass(200);
    assert_eq!(life.asked_s, [0, 61, 122, 183]);
    assert!(life.is_proven());
    assert_eq!(life.verdict(), None);
}

#[test]
fn a_busy_appliance_sends_none_after_the_first() {
    let mut life = Life::new(answered("Paris"));
    life.tokens_per_s = 20;
    life.pass(1_000);
    assert_eq!(life.asked_s, [0]);
    assert!(life.is_proven());
}

#[test]
fn tokens_alone_prove_nothing_before_a_canary_passed() {
    let mut life = Life::new(failed());
    life.outcome = None;
    life.tokens_per_s = 20;
    life.pass(100);
    assert!(!life.is_proven());
}

#[test]
fn failures_in_a_row_are_a_fault_and_pauses_double_up_to_the_period() {
    let mut life = Life::new(failed());
    life.pass(2);
    assert_eq!((life.failures(), life.verdict()), (1, None));
    life.pass(3);
    assert_eq!((life.failures(), life.verdict()), (2, Some(Kind::Canary)));
    life.pass(300);
    assert_eq!(life.asked_s, [0, 2, 5, 10, 19, 36, 69, 130, 191, 252]);
    assert!(!life.is_proven());

    life.outcome = Some(answered("Paris"));
    life.pass(70);
    assert_eq!((life.failures(), life.verdict(), life.is_proven()), (0, None, true));
}

#[test]
fn a_failing_canarys_own_tokens_are_no_proof() {
    let mut life = Life::new(answered("Paris"));
    life.pass(10);
    life.outcome = Some(failed());
    life.own_tokens = 3;
    life.pass(70);
    assert_eq!(life.verdict(), Some(Kind::Canary));
}

#[test]
fn a_failure_while_real_requests_get_tokens_starts_nothing_again() {
    for outcome in [failed(), CanaryOutcome::Busy] {
        let mut life = Life::new(outcome.clone());
        life.tokens_per_s = 20;
        life.takes_ms = 30_000;
        life.pass(1_000);
        assert_eq!((life.failures(), life.verdict()), (0, None), "{outcome:?}");
        assert!(!life.is_proven(), "nor does it prove anything");
    }
}

#[test]
fn garbage_is_a_fault_whatever_real_requests_get() {
    let mut life = Life::new(answered("!!!!!!!!"));
    life.tokens_per_s = 20;
    life.pass(2);
    assert_eq!((life.failures(), life.verdict()), (1, None), "once is bad luck");
    life.pass(3);
    assert_eq!(life.verdict(), Some(Kind::Garbage));
    assert!(!life.is_proven());
}

#[test]
fn garbage_after_good_answers_ends_readiness() {
    let mut life = Life::new(answered("Paris"));
    life.pass(10);
    life.outcome = Some(answered("!!!!!!!!"));
    life.pass(70);
    assert_eq!((life.verdict(), life.is_proven()), (Some(Kind::Garbage), false));
}

#[test]
fn tokens_after_one_garbage_answer_do_not_excuse_it() {
    let mut life = Life::new(answered("Paris"));
    life.pass(10);
    life.outcome = Some(answered("!!!!!!!!"));
    while life.failures() == 0 {
        life.pass(1);
    }
    life.tokens_per_s = 20;
    life.pass(5);
    assert_eq!(life.verdict(), Some(Kind::Garbage));
}

#[test]
fn steps_that_are_finished_excuse_every_canary_but_prove_nothing() {
    for outcome in [failed(), CanaryOutcome::Busy] {
        for takes_ms in [1_000, 120_000] {
            let mut life = Life::new(answered("Paris"));
            life.pass(10);
            life.outcome = Some(outcome.clone());
            life.own_tokens = 0;
            life.takes_ms = takes_ms;
            life.steps_per_s = 1;
            life.pass(280);
            assert!(life.is_proven() && !life.unanswered(), "{outcome:?} {takes_ms}: not yet");
            life.pass(30);
            assert_eq!((life.failures(), life.verdict()), (0, None), "{outcome:?} {takes_ms}");
            assert!(!life.is_proven() && life.unanswered(), "{outcome:?} {takes_ms}");
            life.pass(10_000);
            assert_eq!((life.failures(), life.verdict()), (0, None), "{outcome:?} {takes_ms}");
            life.outcome = Some(answered("Paris"));
            life.pass(130);
            assert!(life.is_proven() && !life.unanswered(), "{outcome:?} {takes_ms}: over");
        }
    }
}

#[test]
fn steps_before_a_canary_was_asked_excuse_nothing() {
    let mut life = Life::new(failed());
    life.steps_per_s = 5;
    life.takes_ms = 30_000;
    life.pass(1);
    life.steps_per_s = 0;
    life.pass(40);
    assert_eq!(life.failures(), 1);
}

#[test]
fn a_refusal_is_a_fault_of_its_own_that_steps_do_not_excuse() {
    let mut life = Life::new(CanaryOutcome::Refused("400: there is no chat".into()));
    life.own_tokens = 0;
    life.steps_per_s = 3;
    life.pass(1_000);
    assert_eq!((life.verdict(), life.is_proven()), (Some(Kind::CanaryRefused), false));
    let evidence = verdict(&life.setup, &life.state).unwrap().evidence;
    assert!(evidence.ends_with("400: there is no chat"), "{evidence}");
}

#[test]
fn tokens_of_requests_that_everybody_gives_up_prove_nothing() {
    let mut life = Life::new(answered("Paris"));
    life.pass(10);
    life.outcome = Some(failed());
    life.takes_ms = 120_000;
    (life.tokens_per_s, life.steps_per_s, life.abandoned_per_s) = (200, 20, 2);
    life.pass(320);
    assert_eq!((life.verdict(), life.is_proven()), (None, false));
    assert!(life.unanswered());
    // One client that stays is enough.
    life.seen.requests.answered += 1;
    life.pass(1);
    assert!(life.is_proven() && !life.unanswered());
}

#[test]
fn some_who_press_stop_take_no_proof_away() {
    let mut life = Life::new(answered("Paris"));
    life.tokens_per_s = 20;
    life.pass(100);
    life.seen.requests = RequestsSeen { answered: 0, abandoned: 7 };
    life.pass(1_000);
    assert!(life.is_proven());
    assert_eq!(life.asked_s, [0]);
}

#[test]
fn a_busy_gateway_without_a_token_is_a_failure_after_the_timeout() {
    let mut life = Life::new(CanaryOutcome::Busy);
    life.own_tokens = 0;
    life.pass(120);
    assert_eq!(life.failures(), 0);
    life.pass(10);
    assert_eq!(life.failures(), 1);
    life.pass(130);
    assert_eq!(life.verdict(), Some(Kind::Canary));
}

#[test]
fn a_canary_that_never_ends_or_is_never_seen_is_a_failure() {
    let mut hung = Life::new(failed());
    hung.outcome = None;
    hung.pass(125);
    assert_eq!((hung.failures(), hung.asked_s.len()), (0, 1));
    hung.pass(1);
    assert_eq!(hung.failures(), 1);

    let mut deaf = Life::new(failed());
    let mut asked = 0;
    for second in 0..=125 {
        let mut actions = Vec::new();
        step(&deaf.setup, &mut deaf.state, &deaf.seen, scene::at(second * 1_000), &mut actions);
        asked += usize::from(actions == [Action::Canary { epoch: EPOCH, number: 1 }]);
    }
    assert_eq!((asked, deaf.failures()), (125, 1), "the same one, until it counts as failed");
}

#[test]
fn nothing_is_asked_or_blamed_while_something_is_not_ready() {
    type Change = fn(&mut Life);
    let rows: [(&str, Change); 5] = [
        ("gateway not ready", |l| l.gateway(Reading::Known { value: false, age_ms: 10 })),
        ("its health is old", |l| l.gateway(Reading::Known { value: true, age_ms: 3_001 })),
        ("a rank is silent", |l| l.seen.ranks[1].phase = None),
        ("not serving", |l| l.state.gang = gang::Phase::Idle),
        ("draining", |l| l.state.draining_since_ms = Some(0)),
    ];
    for (story, change) in rows {
        let mut life = Life::new(failed());
        change(&mut life);
        life.pass(300);
        assert!(life.asked_s.is_empty(), "{story}");

        let mut life = Life::new(failed());
        life.pass(1);
        change(&mut life);
        life.pass(300);
        assert_eq!((life.asked_s.len(), life.failures()), (1, 0), "{story}, while one ran");
    }
}

impl Life {
    fn gateway(&mut self, ready: Reading<bool>) {
        self.seen.gateway.ready = ready;
    }
}

#[test]
fn another_epoch_is_proven_anew() {
    let mut life = Life::new(answered("Paris"));
    life.pass(10);
    assert!(life.is_proven());
    life.serve(EPOCH + 1);
    assert!(!life.is_proven());
    life.pass(3);
    assert_eq!((life.asked_s.len(), life.is_proven()), (2, true));
}

#[test]
fn a_forgotten_proof_takes_no_old_outcome_for_its_own() {
    let mut life = Life::new(failed());
    life.pass(30);
    let last = life.seen.canary.as_ref().unwrap().number;
    life.state.scratch.canary = Proof::default();
    life.outcome = Some(answered("Paris"));
    life.pass(1);
    assert_eq!((life.failures(), life.is_proven()), (0, false));
    life.pass(3);
    assert_eq!(life.seen.canary.as_ref().unwrap().number, last + 1);
    assert!(life.is_proven());
}

#[test]
fn a_proof_lasts_three_periods_and_a_timeout() {
    let mut life = Life::new(answered("Paris"));
    life.pass(2);
    let proven_ms = life.state.scratch.canary.proven_ms.unwrap();
    let at = |after_ms| is_proven(&life.setup, &life.state, scene::at(proven_ms + after_ms));
    assert_eq!((at(299_999), at(300_000)), (true, false));
}
