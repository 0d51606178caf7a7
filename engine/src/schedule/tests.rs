//! The scheduler against an executor of arithmetic: stories first, then thousands of random days.

use std::collections::{BTreeMap, HashMap, VecDeque};

use tandem_wire::Sampling;

use super::*;
use crate::budget::cache_tokens;

mod random;

const LIMITS: Limits = Limits {
    max_active: 3,
    max_queued: 4,
    prefill_step_tokens: 4,
    context_tokens: 32,
    kv_tokens: 3 * 256,
    vocab_size: 50,
};

/// The next token of a sequence: FNV-1a over all before it.
fn next_token(tokens: &[u32]) -> u32 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for token in tokens {
        hash = (hash ^ u64::from(*token)).wrapping_mul(0x0100_0000_01b3);
    }
    ((hash >> 32) % u64::from(LIMITS.vocab_size)) as u32
}

/// What an undisturbed run of a request gives: its tokens from `generated` on, and its end.
fn undisturbed(submit: &Submit) -> (Vec<u32>, FinishReason) {
    let mut tokens = [submit.prompt.clone(), submit.generated.clone()].concat();
    let mut fresh = Vec::new();
    loop {
        let completion = tokens.len() - submit.prompt.len();
        let last = tokens.last().filter(|_| completion > 0);
        if last.is_some_and(|last| submit.stop_tokens.contains(last)) {
            return (fresh, FinishReason::Stop);
        }
        if completion >= submit.max_tokens as usize
            || tokens.len() >= LIMITS.context_tokens as usize
        {
            return (fresh, FinishReason::Length);
        }
        let token = next_token(&tokens);
        tokens.push(token);
        fresh.push(token);
    }
}

/// Executes steps by [`next_token`] and checks that each is one that a device could execute.
#[derive(Default)]
struct Fake {
    slots: HashMap<u32, FakeSlot>,
    last_seq: u64,
}

struct FakeSlot {
    tokens: Vec<u32>,
    given: usize,
    computed: usize,
}

impl Fake {
    fn execute(&mut self, step: &Step) -> Vec<Sampled> {
        assert_eq!(step.seq, self.last_seq + 1, "steps are consecutive");
        self.last_seq = step.seq;
        for slot in &step.release {
            assert!(self.slots.remove(slot).is_some(), "slot {slot} was released twice");
        }
        for admit in &step.admit {
            assert!(admit.slot < LIMITS.max_active);
            let given = admit.tokens.len();
            let slot = FakeSlot { tokens: admit.tokens.clone(), given, computed: 0 };
            let taken = self.slots.insert(admit.slot, slot).is_some();
            assert!(!taken, "slot {} was used before its release", admit.slot);
        }
        let mut sampled = Vec::new();
        for slot in &step.decode {
            let s = self.slots.get_mut(slot).expect("decode of a free slot");
            assert!(s.computed >= s.given, "decode before the prompt was computed");
            s.computed += 1;
            assert_eq!(s.computed + 1, s.tokens.len() + 1, "one position at a time");
            sampled.push(*slot);
        }
        if let Some(prefill) = step.prefill {
            assert!(!step.decode.contains(&prefill.slot), "one slot, two uses in a step");
            assert!((1..=LIMITS.prefill_step_tokens).contains(&prefill.len));
            let s = self.slots.get_mut(&prefill.slot).expect("prefill of a free slot");
            assert_eq!(prefill.start as usize, s.computed, "a gap in the prompt");
            s.computed += prefill.len as usize;
            assert!(s.computed <= s.given);
            if s.computed == s.given {
                sampled.push(prefill.slot);
            }
        }
        let mut sample = |slot| {
            let s: &mut FakeSlot = self.slots.get_mut(&slot).unwrap();
            let token = next_token(&s.tokens);
            s.tokens.push(token);
            assert!(s.tokens.len() <= LIMITS.context_tokens as usize, "past the context");
            Sampled { slot, token, logprob: None, top: Vec::new() }
        };
        sampled.into_iter().map(&mut sample).collect()
    }
}

fn request(id: u64, prompt: &[u32], max_tokens: u32) -> Submit {
    Submit {
        id,
        prompt: prompt.to_vec(),
        generated: Vec::new(),
        max_tokens,
        stop_tokens: Vec::new(),
        sampling: Sampling::greedy(),
        logprobs: None,
        urgent: false,
    }
}

/// A scheduler with its executor and a transcript per request.
struct Day {
    scheduler: Scheduler,
    fake: Fake,
    pending: VecDeque<(u64, Vec<Sampled>)>,
    tokens: BTreeMap<RequestKey, Vec<Token>>,
    ends: BTreeMap<RequestKey, FromRank>,
}

impl Day {
    fn new() -> Self {
        Self::of(LIMITS)
    }

    fn of(limits: Limits) -> Self {
        Self {
            scheduler: Scheduler::new(limits),
            fake: Fake::default(),
            pending: VecDeque::new(),
            tokens: BTreeMap::new(),
            ends: BTreeMap::new(),
        }
    }

    fn submit(&mut self, connection: u64, submit: Submit) {
        self.scheduler.submit(connection, submit);
        self.read();
    }

    fn dispatch(&mut self) -> Option<Step> {
        let step = self.scheduler.next_step()?;
        self.pending.push_back((step.seq, self.fake.execute(&step)));
        let held = self.fake.slots.values().map(|s| cache_tokens(s.tokens.len() as u64));
        assert!(held.sum::<u64>() <= self.scheduler.limits.kv_tokens, "caches outgrow memory");
        Some(step)
    }

    fn collect(&mut self) {
        let (seq, sampled) = self.pending.pop_front().expect("a step to collect");
        self.scheduler.collected(seq, sampled).unwrap();
        self.read();
    }

    /// Runs until nothing is to do, one step ahead as a rank does.
    fn finish(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        loop {
            let dispatched = self.dispatch();
            let idle = dispatched.is_none();
            steps.extend(dispatched);
            if self.pending.len() == IN_FLIGHT_MAX || (idle && !self.pending.is_empty()) {
                self.collect();
            } else if idle {
                return steps;
            }
        }
    }

    fn read(&mut self) {
        for (connection, message) in self.scheduler.take_messages() {
            let id = match &message {
                FromRank::Token(token) => token.id,
                FromRank::Done { id, .. } | FromRank::Failed { id, .. } => *id,
                other => panic!("not a scheduler's message: {other:?}"),
            };
            let key = RequestKey { connection, id };
            assert!(!self.ends.contains_key(&key), "{message:?} after the end of {key:?}");
            if let FromRank::Token(token) = message {
                self.tokens.entry(key).or_default().push(token);
            } else {
                self.ends.insert(key, message);
            }
        }
    }

    fn text(&self, connection: u64, id: u64) -> Vec<u32> {
        let tokens = self.tokens.get(&RequestKey { connection, id });
        tokens.into_iter().flatten().map(|t| t.token).collect()
    }

    fn reason(&self, connection: u64, id: u64) -> Option<FinishReason> {
        match self.ends.get(&RequestKey { connection, id })? {
            FromRank::Done { reason, .. } => Some(*reason),
            _ => None,
        }
    }

    fn failure(&self, connection: u64, id: u64) -> Option<(FailureCode, String)> {
        match self.ends.get(&RequestKey { connection, id })? {
            FromRank::Failed { code, message, .. } => Some((*code, message.clone())),
            _ => None,
        }
    }
}

#[test]
fn a_prompt_is_computed_in_chunks_while_another_request_decodes() {
    let mut day = Day::new();
    day.submit(1, request(7, &[1, 2], 12));
    let first = day.dispatch().unwrap();
    assert_eq!(first.prefill, Some(Prefill { slot: 0, start: 0, len: 2 }));
    day.submit(1, request(8, &[3; 10], 2));
    let steps = day.finish();
    let prefills: Vec<_> = steps
        .iter()
        .filter_map(|s| Some((s.prefill?.slot, s.prefill?.len, s.decode.clone())))
        .collect();
    assert_eq!(prefills, [(1, 4, vec![0]), (1, 4, vec![0]), (1, 2, vec![0])]);
    assert!(steps.iter().any(|s| s.decode == [0, 1]), "both decode together");
    assert_eq!(day.text(1, 7), undisturbed(&request(7, &[1, 2], 12)).0);
    assert_eq!(day.text(1, 8), undisturbed(&request(8, &[3; 10], 2)).0);
    assert_eq!(day.reason(1, 8), Some(FinishReason::Length));
    assert!(day.fake.slots.is_empty(), "all caches are dropped at the end");
}

/// The steps' prefills, as slot and length.
fn chunks(steps: &[Step]) -> Vec<(u32, u32)> {
    steps.iter().filter_map(|s| Some((s.prefill?.slot, s.prefill?.len))).collect()
}

#[test]
fn a_short_prompt_does_not_wait_behind_a_long_one() {
    let mut day = Day::new();
    day.submit(1, request(1, &[1; 20], 2));
    day.dispatch().unwrap();
    day.collect();
    day.submit(1, request(2, &[2; 4], 1));
    day.submit(1, request(3, &[3; 5], 1));
    let steps = day.finish();
    // The second is one chunk and passes at once. The third is two: it waits for its turn.
    let expected = [(1, 4), (0, 4), (0, 4), (0, 4), (0, 4), (2, 4), (2, 1)];
    assert_eq!(chunks(&steps), expected);
    for (id, prompt) in [(1, vec![1; 20]), (2, vec![2; 4]), (3, vec![3; 5])] {
        let max = if id == 1 { 2 } else { 1 };
        assert_eq!(day.text(1, id), undisturbed(&request(id, &prompt, max)).0);
    }
}

#[test]
fn a_long_prompt_keeps_every_other_chunk_however_many_short_ones_come() {
    let mut day = Day::new();
    day.submit(1, request(1, &[1; 28], 1));
    let mut steps = Vec::new();
    for id in 2..40 {
        day.submit(1, request(id, &[2; 3], 1));
        steps.extend(day.dispatch());
        day.collect();
    }
    let own: Vec<bool> = chunks(&steps).iter().map(|(slot, _)| *slot == 0).collect();
    let last = day.tokens.get(&RequestKey { connection: 1, id: 1 }).map(Vec::len);
    assert_eq!(last, Some(1), "it ended while they still came");
    let first_14 = &own[..14];
    assert!(first_14.windows(2).all(|pair| pair[0] || pair[1]), "{first_14:?}");
    assert!(day.text(1, 2).len() == 1 && first_14.contains(&false), "and so did they");
}

#[test]
fn a_stop_token_ends_the_request_and_the_token_under_way_is_thrown_away() {
    let mut day = Day::new();
    let long = undisturbed(&request(1, &[5, 6], 20)).0;
    let mut submit = request(1, &[5, 6], 20);
    submit.stop_tokens = vec![long[2]];
    let expected = undisturbed(&submit).0;
    day.submit(1, submit);
    day.submit(1, request(2, &[9], 3));
    day.finish();
    assert_eq!(day.text(1, 1), expected);
    assert_eq!(day.tokens[&RequestKey { connection: 1, id: 1 }].last().unwrap().index, 2);
    assert_eq!(day.reason(1, 1), Some(FinishReason::Stop));
    assert_eq!(day.text(1, 2).len(), 3);
}

#[test]
fn a_resumed_request_goes_on_where_it_stopped() {
    let whole = undisturbed(&request(1, &[4, 4, 4], 9)).0;
    let mut day = Day::new();
    for cut in 1..=9 {
        let mut resumed = request(cut, &[4, 4, 4], 9);
        resumed.generated = whole[..cut as usize].to_vec();
        day.submit(1, resumed);
        day.finish();
        assert_eq!(day.text(1, cut), whole[cut as usize..]);
        assert_eq!(day.reason(1, cut), Some(FinishReason::Length));
        let first = day.tokens.get(&RequestKey { connection: 1, id: cut }).map(|t| t[0].index);
        assert_eq!(first, (cut < 9).then_some(cut as u32));
    }
    let mut stopped = request(20, &[4, 4, 4], 9);
    stopped.generated = whole[..2].to_vec();
    stopped.stop_tokens = vec![whole[1]];
    day.submit(1, stopped);
    assert_eq!(day.reason(1, 20), Some(FinishReason::Stop), "at once, without a step");
}

#[test]
fn the_context_ends_a_completion_and_refuses_a_prompt_that_fills_it() {
    let mut day = Day::new();
    day.submit(1, request(1, &[1; 30], 100));
    day.submit(1, request(2, &[1; 32], 1));
    day.finish();
    assert_eq!(day.text(1, 1).len(), 2);
    assert_eq!(day.reason(1, 1), Some(FinishReason::Length));
    let (code, message) = day.failure(1, 2).unwrap();
    assert_eq!(code, FailureCode::Invalid);
    assert!(message.contains("32 tokens") && message.contains("31 fit"), "{message}");
}

#[test]
fn a_request_that_cannot_be_served_is_refused_with_what_is_wrong() {
    type Spoil = fn(&mut Submit);
    let cases: [(&str, Spoil); 11] = [
        ("prompt is empty", |s| s.prompt.clear()),
        ("max_tokens is 0", |s| s.max_tokens = 0),
        ("token id 50", |s| s.prompt.push(50)),
        ("token id 99", |s| s.generated.push(99)),
        ("logprobs is 21", |s| s.logprobs = Some(21)),
        ("temperature is NaN", |s| s.sampling.temperature = f32::NAN),
        ("top_p is 0", |s| s.sampling.top_p = 0.0),
        ("min_p is 2", |s| s.sampling.min_p = 2.0),
        ("repetition_penalty is 0", |s| s.sampling.repetition_penalty = 0.0),
        ("logit_bias names token id 50", |s| s.sampling.logit_bias.push((50, 1.0))),
        ("logit_bias is inf", |s| s.sampling.logit_bias.push((0, f32::INFINITY))),
    ];
    let mut day = Day::new();
    for (id, (expected, spoil)) in (1..).zip(cases) {
        let mut submit = request(id, &[1, 2, 3], 4);
        spoil(&mut submit);
        day.submit(1, submit);
        let (code, message) = day.failure(1, id).expect(expected);
        assert_eq!(code, FailureCode::Invalid);
        assert!(message.contains(expected), "{message:?} does not say {expected:?}");
    }
    assert!(day.dispatch().is_none(), "nothing was admitted");
}

#[test]
fn the_queue_is_bounded_and_an_id_in_use_ends_both_requests() {
    let mut day = Day::new();
    for id in 1..=7 {
        day.submit(1, request(id, &[1], 2));
        assert_eq!(day.failure(1, id), None, "3 slots and 4 places in the queue");
    }
    day.submit(1, request(8, &[1], 2));
    assert_eq!(day.failure(1, 8).unwrap().0, FailureCode::Full);
    day.dispatch().unwrap();
    assert_eq!((day.scheduler.active(), day.scheduler.queued()), (3, 4));
    day.submit(2, request(1, &[1], 2));
    assert_eq!(day.failure(2, 1).unwrap().0, FailureCode::Full);
    day.submit(1, request(7, &[1], 2));
    let (code, message) = day.failure(1, 7).unwrap();
    assert_eq!(code, FailureCode::Invalid);
    assert!(message.contains("in use"), "{message}");
    day.finish();
    assert_eq!(day.tokens.len(), 6);
}

#[test]
fn a_cancelled_request_frees_its_slot_and_says_nothing_more() {
    let mut day = Day::new();
    day.submit(1, request(1, &[1], 30));
    day.submit(2, request(1, &[1], 5));
    day.dispatch().unwrap();
    day.dispatch().unwrap();
    assert!(day.scheduler.cancel(RequestKey { connection: 1, id: 1 }));
    assert!(!day.scheduler.cancel(RequestKey { connection: 1, id: 99 }));
    day.collect();
    let next = day.dispatch().unwrap();
    assert_eq!(next.release, [0]);
    day.finish();
    assert_eq!(day.text(1, 1).len(), 0);
    assert_eq!(day.text(2, 1).len(), 5);
    day.submit(2, request(2, &[1], 5));
    day.scheduler.fail_all("unloading");
    day.read();
    assert_eq!(day.failure(2, 2).unwrap(), (FailureCode::NotReady, "unloading".to_owned()));
}

#[test]
fn an_urgent_request_waits_for_no_queue_and_for_no_prompt_but_the_running_piece() {
    let urgent = |id| Submit { urgent: true, ..request(id, &[9, 9], 1) };
    let mut day = Day::new();
    let long: Vec<u32> =
        (0..LIMITS.prefill_step_tokens * 3).map(|i| i % LIMITS.vocab_size).collect();
    day.submit(1, request(1, &long, 1));
    assert_eq!(day.dispatch().unwrap().prefill.unwrap().start, 0);
    // As many more as wait at all, and then the urgent ones.
    for id in 2..2 + u64::from(LIMITS.max_active - 1 + LIMITS.max_queued) {
        day.submit(1, request(id, &long, 1));
    }
    day.submit(2, urgent(1));
    day.submit(2, urgent(2));
    let admitted = day.dispatch().unwrap();
    let slot = admitted.admit[0].slot;
    assert_eq!(admitted.admit[0].tokens, [9, 9]);
    assert_eq!(admitted.prefill.unwrap().slot, slot, "before the rest of the older prompt");
    for id in 3..=3 + URGENT_MAX as u64 {
        day.submit(2, urgent(id));
    }
    let others = LIMITS.max_queued + LIMITS.max_active - 1;
    assert_eq!(day.scheduler.queued(), others + URGENT_MAX as u32);
    day.finish();
    assert_eq!(day.failure(2, 1), None);
    assert_eq!(day.failure(2, 3 + URGENT_MAX as u64).unwrap().0, FailureCode::Full);
}

#[test]
fn an_executor_that_answers_for_other_slots_is_found_out() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.submit(1, request(1, &[1], 3));
    let step = scheduler.next_step().unwrap();
    let wrong = Sampled { slot: 2, token: 1, logprob: None, top: Vec::new() };
    let error = scheduler.collected(step.seq, vec![wrong]).unwrap_err();
    assert!(matches!(error, EngineError::Software(_)), "{error}");
}

#[test]
fn a_request_waits_for_memory_and_none_behind_it_passes() {
    let limits = Limits { context_tokens: 2048, kv_tokens: 1024, ..LIMITS };
    let mut scheduler = Scheduler::new(limits);
    let admitted = |step: Option<Step>| -> Vec<u32> {
        step.map_or(Vec::new(), |step| step.admit.iter().map(|admit| admit.slot).collect())
    };
    // May come to hold 512, 768 and 256 positions.
    for (id, max_tokens) in [(1, 500), (2, 700), (3, 10)] {
        scheduler.submit(1, request(id, &[1, 2, 3], max_tokens));
    }
    assert_eq!(admitted(scheduler.next_step()), [0]);
    assert_eq!((scheduler.active(), scheduler.queued()), (1, 2));
    scheduler.cancel(RequestKey { connection: 1, id: 1 });
    let step = scheduler.next_step().unwrap();
    assert_eq!(step.release, [0], "memory is given back in the step that takes it again");
    assert_eq!(admitted(Some(step)), [0, 1]);
    assert_eq!((scheduler.active(), scheduler.queued()), (2, 0));
}

#[test]
fn what_an_earlier_epoch_generated_is_no_further_memory() {
    let limits = Limits { context_tokens: 2048, kv_tokens: 512, ..LIMITS };
    let mut scheduler = Scheduler::new(limits);
    let resumed = Submit { generated: vec![4; 300], ..request(1, &[1; 100], 412) };
    scheduler.submit(1, resumed);
    assert_eq!(scheduler.next_step().unwrap().admit.len(), 1);
}

#[test]
fn a_request_that_memory_is_never_enough_for_is_refused() {
    let mut day = Day::of(Limits { context_tokens: 2048, kv_tokens: 1024, ..LIMITS });
    day.scheduler.lower_kv_tokens(512);
    // A rank with more room does not raise it again.
    day.scheduler.lower_kv_tokens(900);
    day.submit(1, request(1, &[1, 2, 3], 510));
    let (code, message) = day.failure(1, 1).unwrap();
    assert_eq!(code, FailureCode::Invalid);
    assert!(message.contains("768") && message.contains("512"), "{message}");
    assert_eq!(day.scheduler.queued(), 0);
}
