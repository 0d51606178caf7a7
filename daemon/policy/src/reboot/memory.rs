//! What is remembered of reboots beside where the present one is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Intent, Told};
use crate::Moment;

/// Most reboots remembered that are over; their ids are never obeyed again. Only one is on its way at
/// a time, so a message would have to be late by that many.
pub const CLOSED_MAX: usize = 16;

/// How long an operator's order that is refused stays wanted, in milliseconds. Long enough for a
/// node that only restarts to be heard again, short enough that nobody has forgotten it.
pub(crate) const ORDER_MS: u64 = 600_000;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Number of the last intent that this node made.
    pub number: u64,
    /// When the present one was proposed or taken over, since 1970.
    pub began_wall_ms: u64,
    /// Those that are over, oldest first; at most [`CLOSED_MAX`].
    pub closed: Vec<Closed>,
    /// An operator's order that was not carried out yet.
    pub order: Option<Order>,
    /// No proposal before, since boot: another node refused the last one.
    pub not_before_ms: u64,
    /// How the last one that went wrong did; until tokens come again, or a release.
    pub trouble: Option<String>,
    /// What this node refuses to take part in now.
    pub veto: Option<Told>,
}

/// A reboot that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// Its id.
    pub id: String,
    /// The node that wanted it.
    pub proposer: String,
    /// Why: the cause's kind.
    pub kind: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Why, where there is more to say; else empty.
    pub detail: String,
    /// From its beginning to its end by the clock of the wall, in milliseconds; 0 if that jumped back.
    pub took_ms: u64,
}

/// What came of a reboot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All are back, and tokens came.
    Proven,
    /// It was given up before anyone had to go.
    Withdrawn,
    /// A node refused.
    Vetoed,
    /// It was asked for and did not happen, or tokens did not come again in time.
    Failed,
    /// The proposer was not heard again.
    Abandoned,
}

impl Outcome {
    /// One word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Withdrawn => "withdrawn",
            Self::Vetoed => "vetoed",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }
}

/// An operator's order to reboot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Whether all nodes are meant.
    pub all: bool,
    /// The operator's words.
    pub reason: String,
    /// Until when it is wanted, since boot.
    pub until_ms: u64,
    /// Why another node refused; it is not tried again, only shown.
    pub vetoed: Option<String>,
}

impl Memory {
    /// Of a supervisor whose memory was lost: no number is used twice, since milliseconds pass faster
    /// than reboots are proposed.
    pub fn after_loss(now: Moment) -> Self {
        Self { number: now.boot_ms, ..Self::default() }
    }

    /// In another boot: an order was for the last one.
    pub fn after_boot(self) -> Self {
        Self { order: None, not_before_ms: 0, veto: None, ..self }
    }

    /// Whether it is over.
    pub fn is_closed(&self, id: &str) -> bool {
        self.closed.iter().any(|closed| closed.id == id)
    }

    /// Remembers an order.
    pub(crate) fn order(&mut self, all: bool, reason: String, now: Moment) {
        let until_ms = now.boot_ms.saturating_add(ORDER_MS);
        self.order = Some(Order { all, reason, until_ms, vetoed: None });
    }

    /// Whoever releases has seen to it: an order is taken back, and a refusal is asked again.
    pub(crate) fn release(&mut self) {
        self.order = None;
        self.trouble = None;
        self.not_before_ms = 0;
    }

    /// Ends an order that nobody waits for any more.
    pub(super) fn forget_order(&mut self, now: Moment) {
        self.order.take_if(|order| now.boot_ms >= order.until_ms);
    }

    /// Remembers the end of one.
    pub(super) fn close(&mut self, intent: &Intent, outcome: Outcome, detail: &str, now: Moment) {
        if self.closed.len() >= CLOSED_MAX {
            self.closed.remove(0);
        }
        self.closed.push(Closed {
            id: intent.id.clone(),
            proposer: intent.proposer.clone(),
            kind: intent.cause.kind.clone(),
            outcome,
            detail: detail.to_owned(),
            took_ms: now.wall_ms.saturating_sub(self.began_wall_ms),
        });
    }
}
