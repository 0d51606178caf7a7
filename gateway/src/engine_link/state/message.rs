//! What a message of the rank means.

use std::time::Instant;

use tandem_wire::{FailureCode, FromRank, Hello, PROTOCOL_VERSION, Phase, Token};

use super::{ASK_EVERY, Action, Connection, HOLD, HOLD_MAX, LinkState};
use crate::engine_link::{Failure, Progress};

impl LinkState {
    pub(super) fn message(&mut self, now: Instant, message: FromRank, actions: &mut Vec<Action>) {
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
            (Connection::Greeted { .. }, FromRank::Token(token)) => {
                self.silence.progress(now);
                self.token(token, actions);
            }
            (Connection::Greeted { .. }, FromRank::Done { id, reason }) => {
                self.silence.progress(now);
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
                    FailureCode::Full | FailureCode::NotReady | FailureCode::Cancelled => {
                        if code == FailureCode::Full {
                            self.wait_again(flight);
                        } else {
                            // It unloads, or ended what nobody asked it to end.
                            self.lost(flight, &message, actions);
                        }
                        if self.hold_until.is_none() {
                            self.hold_until = Some(now + self.hold);
                            self.hold = (self.hold * 2).min(HOLD_MAX);
                        }
                    }
                }
            }
            (Connection::Greeted { .. }, FromRank::Vitals(vitals)) => {
                self.silence.vitals(now, &vitals);
                self.ask_at = Some(now + ASK_EVERY);
            }
        }
    }

    fn token(&mut self, token: Token, actions: &mut Vec<Action>) {
        // Unknown: cancelled while the token was under way.
        let Some(id) = self.places.flight(token.id) else {
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
            self.places.cancel(token.id);
            flight.wire_id = None;
            self.lost(id, &why, actions);
            return;
        }
        flight.generated.push(token.token);
        flight.losses = 0;
        self.hold = HOLD;
        actions.push(Action::Deliver { id, progress: Progress::Token(token) });
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
