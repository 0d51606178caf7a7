//! One turn of the supervisor: observe, decide, save, act. The shell around [`decide`], and the one
//! seam to everything outside.

use std::{collections::VecDeque, path::PathBuf, time::Duration};

use tracing::{error, warn};

use crate::{
    Action, Decision, Event, Moment, Observation, Setup, State, Status, decide, pair::NodeReport,
};

/// A turn is taken at least this often, whatever happens: deadlines are met by it.
const TURN_PERIOD: Duration = Duration::from_secs(1);

/// Most events that wait for a ledger that can't be written; the oldest go first.
const EVENTS_MAX: usize = 1_024;

/// What a turn needs of the outside. All five are quick: none waits for another process.
pub trait World {
    /// The time.
    fn now(&mut self) -> Moment;
    /// What is.
    fn observe(&mut self) -> Observation;
    /// Writes the state and what happened, together, so that they survive a power cut.
    fn save(&mut self, state: &State, events: &[Event]) -> Result<(), SaveError>;
    /// Tells the other nodes this, from now on and until the next report; never called where there are
    /// none.
    fn tell(&mut self, report: &NodeReport);
    /// Begins an action. Whether it worked shows in the next observations.
    fn perform(&mut self, action: &Action);
}

/// The state could not be written.
#[derive(Debug, thiserror::Error)]
#[error("can't write {}", path.display())]
pub struct SaveError {
    path: PathBuf,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl SaveError {
    /// An error for this file.
    pub fn new(
        path: impl Into<PathBuf>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { path: path.into(), source: source.into() }
    }
}

/// The loop's own memory, and one turn of it.
pub struct Turns {
    state: State,
    /// What is known to be on disk; `None` before the first save.
    saved: Option<State>,
    /// What is not in the ledger yet.
    unsaved: VecDeque<Event>,
    /// Whether the last save failed, so that the log tells it once.
    failing: bool,
}

/// What came of one turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// To be published.
    pub status: Status,
    /// What happened.
    pub events: Vec<Event>,
    /// Whether all is done and the supervisor ends.
    pub ends: bool,
}

impl Turns {
    /// Goes on from this state.
    pub const fn new(state: State) -> Self {
        Self { state, saved: None, unsaved: VecDeque::new(), failing: false }
    }

    /// The state as it is.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The state that is known to be on disk.
    pub const fn saved(&self) -> Option<&State> {
        self.saved.as_ref()
    }

    /// Tells the ledger something that no turn decided, such as a start.
    pub fn tell(&mut self, event: Event) {
        if self.unsaved.len() >= EVENTS_MAX {
            self.unsaved.pop_front();
        }
        self.unsaved.push_back(event);
    }

    /// How long the next turn may wait if nothing changes: until the next deadline, at most a
    /// second.
    pub fn idle(&self, now: Moment) -> Duration {
        let until = |at_ms: u64| Duration::from_millis(at_ms.saturating_sub(now.boot_ms));
        self.state.next_deadline_ms().map_or(TURN_PERIOD, |at_ms| until(at_ms).min(TURN_PERIOD))
    }

    /// Observe, decide, save, act. While the state can't be saved, no risky action is done; policy
    /// asks for it again on the next turn.
    pub fn take(&mut self, setup: &Setup, world: &mut impl World) -> Turn {
        let now = world.now();
        let mut seen = world.observe();
        let mut decision = decide(setup, &self.state, &seen, now);
        // Whoever gave an order is told that it was obeyed once that is on disk, and after a while that
        // it was not. So one that can't be saved has not been given: it waits, or is withdrawn. Nor is an
        // epoch begun or a reboot committed to that can't be saved: by the time that it can, all may be
        // otherwise, and what was not done would count against a budget. Nor is a promise given up that
        // the others still hear.
        let (old, new) = (&self.state, &decision.state);
        let obeys = old.last_order < new.last_order;
        let commits = new.reboot.is_committed() && !old.reboot.is_committed();
        let leaves = old.reboot.is_promised() && old.reboot.intent() != new.reboot.intent();
        let binds = obeys || commits || leaves || old.epoch != new.epoch;
        let before = binds.then(|| (self.state.clone(), self.unsaved.clone()));
        self.adopt(&decision);
        let mut is_saved = self.save(world);
        if let Some((state, unsaved)) = before.filter(|_| !is_saved) {
            (self.state, self.unsaved) = (state, unsaved);
            self.state.scratch.is_unsaved = true;
            seen.orders.clear();
            decision = decide(setup, &self.state, &seen, now);
            self.adopt(&decision);
            is_saved = self.is_on_disk();
        }
        self.state.scratch.is_unsaved = !is_saved;
        // What the others hear is what would be remembered, so that no promise to them is lost.
        // What need not be remembered, such as a proof of serving, is told as it is.
        if let Some(saved) = self.saved.as_mut().filter(|_| !setup.is_alone()) {
            saved.scratch.clone_from(&self.state.scratch);
            world.tell(&NodeReport::of(setup, saved, &seen, now));
        }
        let mut ends = false;
        for action in &decision.actions {
            if action.is_risky() && !is_saved {
                warn!("not done because the state could not be saved: {action:?}");
                continue;
            }
            ends |= *action == Action::Exit;
            world.perform(action);
        }
        Turn { status: decision.status, events: decision.events, ends }
    }

    fn adopt(&mut self, decision: &Decision) {
        self.state = decision.state.clone();
        for event in &decision.events {
            self.tell(event.clone());
        }
    }

    /// Whether what is on disk says the same as the state as it is now. An unsaved event alone stops
    /// nothing.
    fn is_on_disk(&self) -> bool {
        self.saved.as_ref().is_some_and(|saved| saved.is_same_on_disk(&self.state))
    }

    /// Saves what is new; returns whether the state as it is now is on disk.
    fn save(&mut self, world: &mut impl World) -> bool {
        if self.is_on_disk() && self.unsaved.is_empty() {
            return true;
        }
        match world.save(&self.state, self.unsaved.make_contiguous()) {
            Ok(()) => {
                self.saved = Some(self.state.clone());
                self.unsaved.clear();
                self.failing = false;
                true
            }
            Err(problem) => {
                if !self.failing {
                    error!("{problem}: {}", problem.source);
                }
                self.failing = true;
                // What was on disk before still is.
                self.is_on_disk()
            }
        }
    }
}
