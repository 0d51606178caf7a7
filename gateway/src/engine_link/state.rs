//! What to do when something happens on the link: pure, with the time as an input.
//!
//! ```text
//!   connection   Down ──Connected──▶ Greeting ──Hello──▶ Greeted ──Phase(Ready)──▶ takes requests
//!                 ▲───────────────── Disconnected, or Close by us ─────────────────┘
//!
//!   flight       waiting ──submit──▶ on the rank ──Done/Failed(Invalid)──▶ gone
//!                   ▲── lost, refused (Full, NotReady), out of step ──┘
//!                any ──cancel, deadline, shutdown──▶ gone
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use tandem_wire::{
    FailureCode, FromRank, Hello, ModelCard, PROTOCOL_VERSION, Phase, Submit, ToRank, Token,
};

use super::{EngineStatus, Failure, Job, Progress, flight::Flight};

/// How often in a row a flight may be lost without one new token. A request that kills the engine
/// each time must not do so for ever; five gives an engine that is only slow to settle its chance.
const LOSSES_MAX: u32 = 5;

/// Pauses after the rank refused for want of room; the first, and what doubling stops at.
const HOLD: Duration = Duration::from_millis(50);
const HOLD_MAX: Duration = Duration::from_millis(1_000);

/// Something that happened.
#[derive(Debug)]
pub(super) enum Event {
    Connected,
    /// The connection ended or could not be had, and why.
    Disconnected(String),
    Message(FromRank),
    Submit {
        id: u64,
        job: Job,
    },
    Cancel {
        id: u64,
    },
    /// Time went by; see [`LinkState::next_wake`].
    Tick,
    /// The gateway is going down.
    FailAll,
}

/// Something to do, in order.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    Send(Outgoing),
    Deliver {
        id: u64,
        progress: Progress,
    },
    /// The other side breaks the protocol: close the connection (which is an event again).
    Close(String),
}

/// [`ToRank`], comparable.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outgoing {
    Submit(Box<Submit>),
    Cancel(u64),
}

impl From<Outgoing> for ToRank {
    fn from(message: Outgoing) -> Self {
        match message {
            Outgoing::Submit(submit) => Self::Submit(submit),
            Outgoing::Cancel(id) => Self::Cancel { id },
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Connection {
    Down,
    Greeting,
    Greeted { epoch: u64, phase: Option<Phase>, card: Option<ModelCard> },
}

/// All that the link's task knows.
pub(super) struct LinkState {
    connection: Connection,
    fault: Option<String>,
    /// By id; ids grow, so the order is that of arrival.
    flights: BTreeMap<u64, Flight>,
    waiting: BTreeSet<u64>,
    /// Flights by wire id.
    on_rank: HashMap<u64, u64>,
    next_wire_id: u64,
    max_submitted: usize,
    /// Submit nothing before this, after a refusal.
    hold_until: Option<Instant>,
    hold: Duration,
}

impl LinkState {
    pub(super) fn new(max_submitted: usize) -> Self {
        Self {
            connection: Connection::Down,
            fault: None,
            flights: BTreeMap::new(),
            waiting: BTreeSet::new(),
            on_rank: HashMap::new(),
            next_wire_id: 1,
            max_submitted,
            hold_until: None,
            hold: HOLD,
        }
    }

    /// What to publish.
    pub(super) fn status(&self) -> EngineStatus {
        match &self.connection {
            Connection::Greeted { epoch, phase, card } => EngineStatus {
                phase: *phase,
                epoch: Some(*epoch),
                card: card.clone().filter(|_| *phase == Some(Phase::Ready)),
                fault: None,
            },
            _ => EngineStatus { fault: self.fault.clone(), ..EngineStatus::default() },
        }
    }

    /// When a [`Event::Tick`] is due.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let deadlines = self.flights.values().map(|flight| flight.job.deadline);
        deadlines.chain(self.hold_until).min()
    }

    /// Takes one event; gives what to do about it.
    pub(super) fn handle(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Connected => self.connection = Connection::Greeting,
            Event::Disconnected(why) => self.disconnected(why, &mut actions),
            Event::Message(message) => self.message(now, message, &mut actions),
            Event::Submit { id, job } => {
                self.flights.insert(id, Flight::new(job));
                self.waiting.insert(id);
            }
            Event::Cancel { id } => self.end(id, None, &mut actions),
            Event::Tick => self.expire(now, &mut actions),
            Event::FailAll => {
                for id in self.flights.keys().copied().collect::<Vec<_>>() {
                    let failed = Progress::Failed(Failure::ShuttingDown);
                    self.end(id, Some(failed), &mut actions);
                }
            }
        }
        self.dispatch(now, &mut actions);
        actions
    }

    fn message(&mut self, now: Instant, message: FromRank, actions: &mut Vec<Action>) {
        match (&mut self.connection, message) {
            (Connection::Down, _) => {}
            (Connection::Greeting, FromRank::Hello(hello)) => match refusal(&hello) {
                None => {
                    self.connection =
                        Connection::Greeted { epoch: hello.epoch, phase: None, card: None };
                }
                Some(why) => actions.push(Action::Close(why)),
            },
            (Connection::Greeting, _) | (Connection::Greeted { .. }, FromRank::Hello(_)) => {
                actions.push(Action::Close("the rank did not say Hello first, and once".into()));
            }
            (Connection::Greeted { phase, card, .. }, FromRank::Phase { phase: new, model }) => {
                if new == Phase::Ready && model.is_none() {
                    actions.push(Action::Close("the rank is ready but names no model".into()));
                    return;
                }
                *phase = Some(new);
                *card = model;
                self.hold_until = None;
                self.hold = HOLD;
            }
            (Connection::Greeted { .. }, FromRank::Token(token)) => self.token(token, actions),
            (Connection::Greeted { .. }, FromRank::Done { id, reason }) => {
                if let Some(flight) = self.leave_rank(id) {
                    self.end(flight, Some(Progress::Done(reason)), actions);
                }
            }
            (Connection::Greeted { .. }, FromRank::Failed { id, code, message }) => {
                let Some(flight) = self.leave_rank(id) else {
                    return;
                };
                match code {
                    FailureCode::Invalid => {
                        let failed = Progress::Failed(Failure::Invalid(message));
                        self.end(flight, Some(failed), actions);
                    }
                    FailureCode::Full | FailureCode::NotReady => {
                        self.waiting.insert(flight);
                        if self.hold_until.is_none() {
                            self.hold_until = Some(now + self.hold);
                            self.hold = (self.hold * 2).min(HOLD_MAX);
                        }
                    }
                }
            }
            (Connection::Greeted { .. }, FromRank::Vitals(_)) => {}
        }
    }

    fn token(&mut self, token: Token, actions: &mut Vec<Action>) {
        // Unknown: cancelled while the token was under way.
        let Some(&id) = self.on_rank.get(&token.id) else {
            return;
        };
        let vocab_size = match &self.connection {
            Connection::Greeted { card: Some(card), .. } => card.vocab_size,
            _ => u32::MAX,
        };
        let Some(flight) = self.flights.get_mut(&id) else {
            return;
        };
        let expected = flight.generated.len();
        if token.index as usize != expected || token.token >= vocab_size || flight.is_complete() {
            let why = format!(
                "the engine sent token {} at place {} where {expected} of {} were known",
                token.token, token.index, flight.job.max_tokens
            );
            tracing::error!(request = id, "{why}; submitting it again");
            actions.push(Action::Send(Outgoing::Cancel(token.id)));
            self.leave_rank(token.id);
            self.lost(id, &why, actions);
            return;
        }
        flight.generated.push(token.token);
        flight.losses = 0;
        self.hold = HOLD;
        actions.push(Action::Deliver { id, progress: Progress::Token(token) });
    }

    /// Takes a flight off the rank's list, by its wire id.
    fn leave_rank(&mut self, wire_id: u64) -> Option<u64> {
        let id = self.on_rank.remove(&wire_id)?;
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.wire_id = None;
        }
        Some(id)
    }

    /// A flight fell off the rank: it waits again, unless that happens too often.
    fn lost(&mut self, id: u64, why: &str, actions: &mut Vec<Action>) {
        let Some(flight) = self.flights.get_mut(&id) else {
            return;
        };
        flight.losses += 1;
        if flight.losses > LOSSES_MAX {
            let message = format!("the engine failed {LOSSES_MAX} times at this request ({why})");
            self.end(id, Some(Progress::Failed(Failure::EngineFault(message))), actions);
        } else {
            self.waiting.insert(id);
        }
    }

    fn disconnected(&mut self, why: String, actions: &mut Vec<Action>) {
        self.connection = Connection::Down;
        let mut lost: Vec<u64> = self.on_rank.drain().map(|(_, id)| id).collect();
        lost.sort_unstable();
        for id in lost {
            if let Some(flight) = self.flights.get_mut(&id) {
                flight.wire_id = None;
            }
            self.lost(id, &why, actions);
        }
        self.fault = Some(why);
        self.hold_until = None;
        self.hold = HOLD;
    }

    fn expire(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let late = |flight: &&Flight| flight.job.deadline <= now;
        let over = self.flights.iter().filter(|(_, flight)| late(flight)).map(|(id, _)| *id);
        for id in over.collect::<Vec<_>>() {
            self.end(id, Some(Progress::Failed(Failure::TimedOut)), actions);
        }
        self.hold_until = self.hold_until.filter(|until| *until > now);
    }

    /// Forgets a flight, tells the rank if it has it, and its reader if there is something to say.
    fn end(&mut self, id: u64, last: Option<Progress>, actions: &mut Vec<Action>) {
        let Some(flight) = self.flights.remove(&id) else {
            return;
        };
        self.waiting.remove(&id);
        if let Some(wire_id) = flight.wire_id {
            self.on_rank.remove(&wire_id);
            actions.push(Action::Send(Outgoing::Cancel(wire_id)));
        }
        if let Some(progress) = last {
            actions.push(Action::Deliver { id, progress });
        }
    }

    /// Hands waiting flights, oldest first, to a rank that takes them.
    fn dispatch(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let ready =
            matches!(self.connection, Connection::Greeted { phase: Some(Phase::Ready), .. });
        if !ready || self.hold_until.is_some_and(|until| until > now) {
            return;
        }
        while self.on_rank.len() < self.max_submitted {
            let Some(id) = self.waiting.pop_first() else {
                return;
            };
            let Some(flight) = self.flights.get_mut(&id) else {
                continue;
            };
            if let Some(reason) = flight.ended() {
                // Only its `Done` was lost.
                self.end(id, Some(Progress::Done(reason)), actions);
                continue;
            }
            let wire_id = self.next_wire_id;
            self.next_wire_id += 1;
            flight.wire_id = Some(wire_id);
            self.on_rank.insert(wire_id, id);
            actions.push(Action::Send(Outgoing::Submit(Box::new(flight.submit(wire_id)))));
        }
    }
}

/// Why a rank that greets so can't be spoken with.
fn refusal(hello: &Hello) -> Option<String> {
    if hello.protocol != PROTOCOL_VERSION {
        let (theirs, ours) = (hello.protocol, PROTOCOL_VERSION);
        return Some(format!(
            "the rank speaks protocol {theirs}, the gateway {ours}; \
                             start both from the same executable"
        ));
    }
    (hello.rank != 0).then(|| format!("rank {} answers where rank 0 should", hello.rank))
}

#[cfg(test)]
mod tests;
