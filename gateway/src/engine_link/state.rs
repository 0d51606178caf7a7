//! What to do when something happens on the link: pure, with the time as an input.
//!
//! ```text
//!   connection   Down ──Connected──▶ Greeting ──Hello──▶ Greeted ──Phase(Ready)──▶ takes requests
//!                 ▲───────────────── Disconnected, or Close by us ─────────────────┘
//!
//!   flight       waiting ──submit──▶ on the rank ──Done/Failed(Invalid)──▶ gone
//!                   ▲── lost, refused (Full, NotReady), out of step ──┘
//!                any ──cancel, silence, shutdown──▶ gone
//! ```
//!
//! Nothing is queued on the way to the rank: one frame is written at a time, and what comes next is
//! chosen when it is through, cancels first. So what is cancelled while it waits never gets there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use tandem_wire::{FromRank, ModelCard, Phase, Submit, ToRank};

use super::{
    EngineStatus, Failure, Job, Load, Progress, flight::Flight, places::Places, silence::Silence,
};
use crate::settle::Settling;

/// How often in a row a flight may be lost without one new token. A request that kills the engine
/// each time must not do so for ever; five gives an engine that is only slow to settle its chance.
pub(crate) const LOSSES_MAX: u32 = 5;

/// Pauses after the rank refused for want of room; the first, and what doubling stops at.
const HOLD: Duration = Duration::from_millis(50);
const HOLD_MAX: Duration = Duration::from_millis(1_000);

/// How often the rank is asked how it gets on, while anybody waits for it.
const ASK_EVERY: Duration = Duration::from_millis(250);

mod message;

/// Something that happened.
#[derive(Debug)]
pub(super) enum Event {
    Connected,
    /// The connection ended or could not be had, and why.
    Disconnected(String),
    Message(FromRank),
    /// The last frame that was to be sent is written.
    Written,
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
    /// Never before the last one was [`Event::Written`].
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
    Vitals,
}

impl From<Outgoing> for ToRank {
    fn from(message: Outgoing) -> Self {
        match message {
            Outgoing::Submit(submit) => Self::Submit(submit),
            Outgoing::Cancel(id) => Self::Cancel { id },
            Outgoing::Vitals => Self::Vitals,
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
    /// Whether it can wait, and the id: urgent ones first, else by age.
    waiting: BTreeSet<(bool, u64)>,
    places: Places,
    is_writing: bool,
    next_wire_id: u64,
    max_submitted: usize,
    /// Submit nothing before this, after a refusal.
    hold_until: Option<Instant>,
    hold: Duration,
    settling: Settling,
    /// When the first one that waits is old enough.
    settled_at: Option<Instant>,
    silence: Silence,
    /// When the rank is to be asked for its vitals; `None`: it has not answered yet.
    ask_at: Option<Instant>,
}

impl LinkState {
    pub(super) fn new(max_submitted: usize, now: Instant) -> Self {
        Self {
            connection: Connection::Down,
            fault: None,
            flights: BTreeMap::new(),
            waiting: BTreeSet::new(),
            places: Places::default(),
            is_writing: false,
            next_wire_id: 1,
            max_submitted,
            hold_until: None,
            hold: HOLD,
            settling: Settling::default(),
            settled_at: None,
            silence: Silence::new(now),
            ask_at: Some(now),
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

    /// Who waits for the engine, and since when in vain.
    pub(super) fn load(&self) -> Load {
        let (running, ending) = self.places.counts();
        let first = self.flights.first_key_value().map(|(_, flight)| flight.arrived);
        let silent_since = first.map(|arrived| self.silence.since(arrived));
        Load { waiting: self.waiting.len(), running, ending, silent_since }
    }

    /// When a [`Event::Tick`] is due.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let deadlines = self.flights.values().map(|flight| self.deadline(flight));
        let ask_at = self.ask_at.filter(|_| self.can_ask());
        deadlines.chain(self.hold_until).chain(self.settled_at).chain(ask_at).min()
    }

    fn deadline(&self, flight: &Flight) -> Instant {
        self.silence.deadline(flight.arrived, flight.job.silence_max)
    }

    fn can_ask(&self) -> bool {
        let is_greeted = matches!(self.connection, Connection::Greeted { .. });
        is_greeted && !self.is_writing && !self.flights.is_empty()
    }

    /// Takes one event; gives what to do about it.
    pub(super) fn handle(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Connected => self.connection = Connection::Greeting,
            Event::Disconnected(why) => self.disconnected(now, why, &mut actions),
            Event::Message(message) => self.message(now, message, &mut actions),
            Event::Written => self.is_writing = false,
            Event::Submit { id, job } => {
                if self.flights.is_empty() {
                    self.ask_at = self.ask_at.map(|at| at.max(now + ASK_EVERY));
                }
                self.waiting.insert((!job.urgent, id));
                self.flights.insert(id, Flight::new(job, now));
            }
            Event::Cancel { id } => {
                if let Some(flight) = self.flights.get(&id).filter(|f| f.generated.is_empty()) {
                    self.settling.given_up(now, now.duration_since(flight.arrived));
                }
                self.end(id, None, &mut actions);
            }
            Event::Tick => self.expire(now, &mut actions),
            Event::FailAll => {
                for id in self.flights.keys().copied().collect::<Vec<_>>() {
                    let failed = Progress::Failed(Failure::ShuttingDown);
                    self.end(id, Some(failed), &mut actions);
                }
            }
        }
        let (epoch, phase) = match self.connection {
            Connection::Greeted { epoch, phase, .. } => (Some(epoch), phase),
            _ => (None, None),
        };
        self.silence.phase(now, epoch, phase);
        self.dispatch(now, &mut actions);
        actions
    }

    /// The rank ended a request: gives its flight, if it is not gone.
    fn leave_rank(&mut self, wire_id: u64) -> Option<u64> {
        let id = self.places.free(wire_id)?;
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.wire_id = None;
        }
        Some(id)
    }

    fn wait_again(&mut self, id: u64) {
        if let Some(flight) = self.flights.get(&id) {
            self.waiting.insert((!flight.job.urgent, id));
        }
    }

    /// A flight fell off the rank: it waits again, and its reader is told, unless that happens too
    /// often.
    fn lost(&mut self, id: u64, why: &str, actions: &mut Vec<Action>) {
        let Some(flight) = self.flights.get_mut(&id) else {
            return;
        };
        flight.losses += 1;
        let losses = flight.losses;
        if losses > LOSSES_MAX {
            let message = format!("the engine failed {LOSSES_MAX} times at this request ({why})");
            self.end(id, Some(Progress::Failed(Failure::EngineFault(message))), actions);
        } else {
            self.wait_again(id);
            actions.push(Action::Deliver { id, progress: Progress::Lost { losses } });
        }
    }

    fn disconnected(&mut self, now: Instant, why: String, actions: &mut Vec<Action>) {
        self.connection = Connection::Down;
        for id in self.places.lose_all() {
            if let Some(flight) = self.flights.get_mut(&id) {
                flight.wire_id = None;
            }
            self.lost(id, &why, actions);
        }
        self.fault = Some(why);
        self.hold_until = None;
        self.hold = HOLD;
        self.is_writing = false;
        self.ask_at.get_or_insert(now);
    }

    fn expire(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let is_late = |flight: &Flight| self.deadline(flight) <= now;
        let late = self.flights.iter().filter(|(_, flight)| is_late(flight)).map(|(id, _)| *id);
        for id in late.collect::<Vec<_>>() {
            self.end(id, Some(Progress::Failed(Failure::TimedOut)), actions);
        }
        self.hold_until = self.hold_until.filter(|until| *until > now);
    }

    /// Forgets a flight, has the rank told if it has it, and its reader if there is something to say.
    fn end(&mut self, id: u64, last: Option<Progress>, actions: &mut Vec<Action>) {
        let Some(flight) = self.flights.remove(&id) else {
            return;
        };
        self.waiting.remove(&(!flight.job.urgent, id));
        if let Some(wire_id) = flight.wire_id {
            self.places.cancel(wire_id);
        }
        if let Some(progress) = last {
            actions.push(Action::Deliver { id, progress });
        }
    }

    /// Chooses the next frame, if the last one is written: a cancel, a question, or the waiting
    /// flight whose turn it is.
    fn dispatch(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.settled_at = None;
        let Connection::Greeted { phase, .. } = self.connection else {
            return;
        };
        if self.is_writing {
            return;
        }
        let message = if let Some(wire_id) = self.places.next_cancel() {
            Outgoing::Cancel(wire_id)
        } else if self.can_ask() && self.ask_at.is_some_and(|at| at <= now) {
            self.ask_at = None;
            Outgoing::Vitals
        } else if phase == Some(Phase::Ready) && self.hold_until.is_none_or(|until| until <= now) {
            let Some(submit) = self.next_submit(now, actions) else {
                return;
            };
            Outgoing::Submit(Box::new(submit))
        } else {
            return;
        };
        self.is_writing = true;
        actions.push(Action::Send(message));
    }

    /// Gives a place to the waiting flight whose turn it is.
    fn next_submit(&mut self, now: Instant, actions: &mut Vec<Action>) -> Option<Submit> {
        loop {
            let &(can_wait, id) = self.waiting.first()?;
            if !self.places.has_room(self.max_submitted, !can_wait) {
                return None;
            }
            let Some(flight) = self.flights.get_mut(&id) else {
                self.waiting.pop_first();
                continue;
            };
            if can_wait && !flight.was_submitted {
                let settled_at = flight.arrived + self.settling.pause(now);
                if settled_at > now {
                    self.settled_at = Some(settled_at);
                    return None;
                }
            }
            self.waiting.pop_first();
            if let Some(reason) = flight.ended() {
                // Only its `Done` was lost.
                self.end(id, Some(Progress::Done(reason)), actions);
                continue;
            }
            let wire_id = self.next_wire_id;
            self.next_wire_id += 1;
            flight.wire_id = Some(wire_id);
            flight.was_submitted = true;
            self.places.take(wire_id, id);
            return Some(flight.submit(wire_id));
        }
    }
}

#[cfg(test)]
mod tests;
