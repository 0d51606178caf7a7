use std::sync::Arc;

use tandem_wire::{FailureCode, FinishReason, Hello, PROTOCOL_VERSION, Sampling, Token};

use super::*;

mod storm;

/// A link at a clock of its own; events go in, actions come out.
struct Link {
    state: LinkState,
    now: Instant,
}

impl Link {
    fn new(max_submitted: usize) -> Self {
        let now = Instant::now();
        Self { state: LinkState::new(max_submitted, now), now }
    }

    /// Connected to a ready rank.
    fn ready(max_submitted: usize) -> Self {
        let mut link = Self::new(max_submitted);
        link.up(1);
        link
    }

    /// The socket takes each frame at once.
    fn event(&mut self, event: Event) -> Vec<Action> {
        let mut actions = self.state.handle(self.now, event);
        while matches!(actions.last(), Some(Action::Send(_))) {
            let more = self.state.handle(self.now, Event::Written);
            if more.is_empty() {
                break;
            }
            actions.extend(more);
        }
        actions
    }

    fn message(&mut self, message: FromRank) -> Vec<Action> {
        self.event(Event::Message(message))
    }

    fn up(&mut self, epoch: u64) -> Vec<Action> {
        assert_eq!(self.event(Event::Connected), []);
        assert_eq!(self.message(hello(epoch)), []);
        self.message(phase(Phase::Ready))
    }

    fn submit(&mut self, id: u64) -> Vec<Action> {
        let job = job();
        self.event(Event::Submit { id, job })
    }

    fn token(&mut self, wire_id: u64, index: u32, token: u32) -> Vec<Action> {
        let top = Vec::new();
        self.message(FromRank::Token(Token { id: wire_id, index, token, logprob: None, top }))
    }

    fn down(&mut self) -> Vec<Action> {
        self.event(Event::Disconnected("gone".into()))
    }

    fn wait(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.event(Event::Tick)
    }
}

fn hello(epoch: u64) -> FromRank {
    FromRank::Hello(Hello { protocol: PROTOCOL_VERSION, epoch, rank: 0, world: 2, pid: 1 })
}

fn phase(phase: Phase) -> FromRank {
    let card = ModelCard { architecture: "a".into(), vocab_size: 100, context_tokens: 50 };
    FromRank::Phase { phase, model: (phase == Phase::Ready).then_some(card) }
}

fn job() -> Job {
    Job {
        prompt: Arc::from([1, 2]),
        max_tokens: 3,
        stop_tokens: Arc::from([99]),
        sampling: Sampling { seed: 5, ..Sampling::greedy() },
        logprobs: None,
        silence_max: Duration::from_secs(100),
        urgent: false,
        _place: None,
    }
}

/// Wire id and tokens so far of each submission among the actions, in order.
fn submissions(actions: &[Action]) -> Vec<(u64, Vec<u32>)> {
    let one = |action: &Action| match action {
        Action::Send(Outgoing::Submit(submit)) => Some((submit.id, submit.generated.clone())),
        _ => None,
    };
    actions.iter().filter_map(one).collect()
}

/// What each reader among the actions is told, tokens by their ids.
fn told(actions: &[Action]) -> Vec<(u64, String)> {
    let one = |action: &Action| match action {
        Action::Deliver { progress: Progress::Lost { .. }, .. } => None,
        Action::Deliver { id, progress: Progress::Token(t) } => Some((*id, t.token.to_string())),
        Action::Deliver { id, progress } => Some((*id, format!("{progress:?}"))),
        _ => None,
    };
    actions.iter().filter_map(one).collect()
}

/// The losses that readers among the actions are told of.
fn lost(actions: &[Action]) -> Vec<u32> {
    let one = |action: &Action| match action {
        Action::Deliver { progress: Progress::Lost { losses }, .. } => Some(*losses),
        _ => None,
    };
    actions.iter().filter_map(one).collect()
}

fn vitals(steps: u64, active: u32) -> FromRank {
    FromRank::Vitals(tandem_wire::Vitals {
        epoch: 1,
        rank: 0,
        phase: Phase::Ready,
        steps,
        last_step_age_ms: None,
        active,
        queued: 0,
        tokens: 0,
        bytes_read: 0,
        weights_bytes: 0,
        memory_bytes: 0,
        memory_peak_bytes: 0,
        transport: None,
    })
}

fn failed(code: FailureCode) -> impl Fn(u64) -> FromRank {
    move |id| FromRank::Failed { id, code, message: "why".into() }
}

#[test]
fn nothing_is_submitted_before_the_rank_is_ready() {
    let mut link = Link::new(8);
    assert_eq!(link.submit(1), []);
    assert_eq!(link.event(Event::Connected), []);
    assert_eq!(link.message(hello(1)), []);
    for early in [Phase::Forming, Phase::Loading, Phase::Warming] {
        assert_eq!(link.message(phase(early)), []);
        assert!(link.state.status().ready().is_err());
    }
    assert_eq!(submissions(&link.message(phase(Phase::Ready))), [(1, vec![])]);
    assert_eq!(link.state.status().ready().unwrap().context_tokens, 50);
    link.message(phase(Phase::Unloading));
    assert_eq!(link.submit(2), []);
    assert!(link.state.status().ready().unwrap_err().contains("unloading"));
}

#[test]
fn a_flight_ends_as_the_rank_says_and_is_forgotten() {
    let mut link = Link::ready(8);
    link.submit(7);
    assert_eq!(told(&link.token(1, 0, 10)), [(7, "10".into())]);
    let done = link.message(FromRank::Done { id: 1, reason: FinishReason::Stop });
    assert_eq!(told(&done), [(7, "Done(Stop)".into())]);
    assert_eq!(link.token(1, 1, 10), []);
    assert_eq!(link.event(Event::Cancel { id: 7 }), []);
    assert_eq!(link.state.next_wake(), None);
}

#[test]
fn lost_flights_go_on_with_their_tokens_oldest_first() {
    let mut link = Link::ready(2);
    for id in [1, 2, 3] {
        link.submit(id);
    }
    link.token(1, 0, 10);
    link.token(2, 0, 20);
    link.token(1, 1, 11);
    assert_eq!(told(&link.down()), []);
    let again = link.up(2);
    assert_eq!(submissions(&again), [(3, vec![10, 11]), (4, vec![20])]);
    assert_eq!(link.token(1, 2, 12), [], "what the dead epoch's id says is nothing");
    assert_eq!(told(&link.token(3, 2, 12)), [(1, "12".into())]);
    let done = link.message(FromRank::Done { id: 3, reason: FinishReason::Length });
    assert_eq!(submissions(&done), [(5, vec![])], "a free place goes to the one that waited");
}

#[test]
fn what_lacks_only_its_done_is_not_submitted_again() {
    for (tokens, reason) in [(&[10, 11, 12][..], "Length"), (&[10, 99], "Stop")] {
        let mut link = Link::ready(8);
        link.submit(1);
        for (index, token) in (0..).zip(tokens) {
            link.token(1, index, *token);
        }
        link.down();
        let actions = link.up(2);
        assert_eq!(submissions(&actions), []);
        assert_eq!(told(&actions), [(1, format!("Done({reason})"))]);
    }
}

#[test]
fn tokens_out_of_step_are_not_passed_on_and_the_flight_starts_again_where_it_was() {
    // A repeated, a skipped place; an id that there is not; one more than asked for.
    for (index, token) in [(0, 10), (2, 11), (1, 100)] {
        let mut link = Link::ready(8);
        link.submit(1);
        link.token(1, 0, 10);
        let actions = link.token(1, index, token);
        assert_eq!(told(&actions), []);
        assert!(actions.contains(&Action::Send(Outgoing::Cancel(1))));
        assert_eq!(submissions(&actions), [(2, vec![10])]);
    }
    let mut link = Link::ready(8);
    link.submit(1);
    for index in 0..3 {
        link.token(1, index, 10);
    }
    assert_eq!(told(&link.token(1, 3, 10)), [(1, "Done(Length)".into())]);
}

#[test]
fn a_flight_lost_too_often_without_progress_fails() {
    let mut link = Link::ready(8);
    link.submit(1);
    for epoch in 2..2 + u64::from(LOSSES_MAX) {
        assert_eq!(lost(&link.down()), [epoch as u32 - 1]);
        assert_eq!(submissions(&link.up(epoch)).len(), 1);
    }
    assert!(told(&link.down())[0].1.contains("EngineFault"));

    let mut link = Link::ready(8);
    link.submit(1);
    for epoch in 2..2 + u64::from(LOSSES_MAX) {
        link.down();
        link.up(epoch);
    }
    link.token(u64::from(LOSSES_MAX) + 1, 0, 10);
    assert_eq!(lost(&link.down()), [1], "a token is progress");
}

#[test]
fn a_rank_without_room_is_asked_again_after_a_growing_pause() {
    for code in [FailureCode::Full, FailureCode::NotReady] {
        let refuse = failed(code);
        let mut link = Link::ready(8);
        link.submit(1);
        assert_eq!(told(&link.message(refuse(1))), []);
        assert_eq!(link.submit(2), [], "the next one would be refused, too");
        assert_eq!(link.state.next_wake(), Some(link.now + HOLD));
        assert_eq!(submissions(&link.wait(HOLD)), [(2, vec![]), (3, vec![])]);
        assert_eq!(told(&link.message(refuse(2))), []);
        assert_eq!(told(&link.message(refuse(3))), []);
        assert_eq!(link.state.next_wake(), Some(link.now + 2 * HOLD), "one pause for both");
        assert_eq!(submissions(&link.wait(2 * HOLD)).len(), 2);
    }
    let mut link = Link::ready(8);
    link.submit(1);
    let invalid = failed(FailureCode::Invalid)(1);
    assert!(told(&link.message(invalid))[0].1.contains("Invalid"));
}

#[test]
fn a_rank_that_unloads_again_and_again_is_not_asked_without_end() {
    let mut link = Link::ready(8);
    link.submit(1);
    for losses in 1..=LOSSES_MAX {
        let refused = link.message(failed(FailureCode::NotReady)(u64::from(losses)));
        assert_eq!(lost(&refused), [losses], "its reader is told");
        link.message(phase(Phase::Unloading));
        link.down();
        assert_eq!(submissions(&link.up(u64::from(losses) + 1)).len(), 1);
    }
    let refused = link.message(failed(FailureCode::NotReady)(u64::from(LOSSES_MAX) + 1));
    assert!(told(&refused)[0].1.contains("EngineFault"), "{refused:?}");
}

#[test]
fn a_cancelled_flight_keeps_its_place_until_the_rank_let_it_go() {
    let mut link = Link::ready(1);
    link.submit(1);
    link.submit(2);
    let actions = link.event(Event::Cancel { id: 1 });
    assert_eq!(actions, [Action::Send(Outgoing::Cancel(1))], "and the next one waits");
    assert_eq!(link.token(1, 0, 10), []);
    let actions = link.message(failed(FailureCode::Cancelled)(1));
    assert_eq!(submissions(&actions), [(2, vec![])]);
    link.event(Event::Cancel { id: 2 });
    link.submit(3);
    let crossing = FromRank::Done { id: 2, reason: FinishReason::Stop };
    assert_eq!(submissions(&link.message(crossing)), [(3, vec![])], "its own end is as good");
    assert_eq!(told(&link.event(Event::FailAll)), [(3, "Failed(ShuttingDown)".into())]);
}

#[test]
fn what_is_cancelled_before_it_was_written_never_gets_to_the_rank() {
    let mut link = Link::ready(8);
    let submit = |link: &mut Link, id| {
        let job = job();
        link.state.handle(link.now, Event::Submit { id, job })
    };
    assert_eq!(submissions(&submit(&mut link, 1)), [(1, vec![])]);
    for id in [2, 3] {
        assert_eq!(submit(&mut link, id), [], "one frame at a time");
    }
    assert_eq!(link.state.handle(link.now, Event::Cancel { id: 2 }), []);
    assert_eq!(link.state.handle(link.now, Event::Cancel { id: 1 }), []);
    let actions = link.event(Event::Written);
    assert_eq!(actions[0], Action::Send(Outgoing::Cancel(1)), "cancels go first");
    assert_eq!(submissions(&actions), [(2, vec![])]);
    assert_eq!(link.state.load().waiting, 0);
}

#[test]
fn an_urgent_flight_waits_for_nobody() {
    let mut link = Link::new(1);
    for id in [1, 2] {
        link.submit(id);
    }
    let job = Job { urgent: true, max_tokens: 1, ..job() };
    link.event(Event::Submit { id: 3, job });
    let sent = link.up(1);
    let urgent = |action: &Action| match action {
        Action::Send(Outgoing::Submit(submit)) => Some(submit.urgent),
        _ => None,
    };
    assert_eq!(sent.iter().filter_map(urgent).collect::<Vec<_>>(), [true]);
    let done = link.message(FromRank::Done { id: 1, reason: FinishReason::Stop });
    assert_eq!(submissions(&done).len(), 1);
}

#[test]
fn only_an_engine_that_gets_nothing_done_ends_a_flight() {
    let limit = job().silence_max;
    let mut link = Link::ready(1);
    link.submit(1);
    link.submit(2);
    // Far more than the limit in all, and no token: a long prompt, and one that waits for it.
    for steps in 1..=30 {
        assert_eq!(told(&link.wait(limit / 2)), []);
        link.message(vitals(steps, 1));
    }
    // The same while the engine loads again.
    link.down();
    for (epoch, now) in (2..).zip([Phase::Forming, Phase::Loading, Phase::Warming]) {
        link.down();
        link.event(Event::Connected);
        link.message(hello(epoch));
        link.message(phase(now));
        assert_eq!(told(&link.wait(limit - Duration::from_millis(1))), []);
    }
    assert_eq!(link.state.load().waiting, 2);
    let silent = link.wait(Duration::from_millis(1));
    assert_eq!(told(&silent), [(1, "Failed(TimedOut)".into()), (2, "Failed(TimedOut)".into())]);
    assert_eq!(link.state.next_wake(), None);

    let mut link = Link::ready(1);
    link.submit(1);
    let asked = link.wait(limit / 2);
    assert_eq!(asked, [Action::Send(Outgoing::Vitals)]);
    link.message(vitals(0, 0));
    let late = link.wait(limit);
    assert_eq!(told(&late), [(1, "Failed(TimedOut)".into())], "the rank has forgotten it");
    assert!(late.contains(&Action::Send(Outgoing::Cancel(1))));
}

#[test]
fn who_breaks_the_protocol_is_cut_off() {
    let strangers = [
        FromRank::Hello(Hello { protocol: 99, epoch: 1, rank: 0, world: 1, pid: 1 }),
        FromRank::Hello(Hello { protocol: PROTOCOL_VERSION, epoch: 1, rank: 1, world: 2, pid: 1 }),
        phase(Phase::Ready),
    ];
    for first in strangers {
        let mut link = Link::new(1);
        link.event(Event::Connected);
        assert!(matches!(link.message(first)[..], [Action::Close(_)]));
    }
    let mut link = Link::ready(1);
    assert!(matches!(link.message(hello(1))[..], [Action::Close(_)]));
    let no_card = FromRank::Phase { phase: Phase::Ready, model: None };
    assert!(matches!(Link::ready(1).message(no_card)[..], [Action::Close(_)]));
}
