//! The rank's places: what it was asked for and has not answered to the end. Pure.
//!
//! A place is free again only when the rank said so, cancelled or not: else a storm of cancels would
//! heap up on the way what the rank has no time to look at.

use std::collections::{BTreeMap, VecDeque};

/// Places beyond the others' for urgent requests: one canary of each node.
pub(super) const URGENT_MAX: usize = 8;

/// Who holds the places of one connection.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Flights by wire id; `None`: cancelled, and the rank has not answered yet.
    held: BTreeMap<u64, Option<u64>>,
    /// Cancels to be sent, by wire id. Some may have become needless.
    cancels: VecDeque<u64>,
}

impl Places {
    pub(super) fn has_room(&self, max: usize, urgent: bool) -> bool {
        self.held.len() < max + if urgent { URGENT_MAX } else { 0 }
    }

    pub(super) fn take(&mut self, wire_id: u64, flight: u64) {
        self.held.insert(wire_id, Some(flight));
    }

    /// The flight that a wire id is of; `None` as well if it was cancelled.
    pub(super) fn flight(&self, wire_id: u64) -> Option<u64> {
        self.held.get(&wire_id).copied().flatten()
    }

    /// The rank ended a request: its place is free. The flight, if that was not cancelled.
    pub(super) fn free(&mut self, wire_id: u64) -> Option<u64> {
        self.held.remove(&wire_id).flatten()
    }

    /// Has a request cancelled; nothing that the rank says of it counts any more but its end.
    pub(super) fn cancel(&mut self, wire_id: u64) {
        if let Some(held @ Some(_)) = self.held.get_mut(&wire_id) {
            *held = None;
            self.cancels.push_back(wire_id);
        }
    }

    /// The next cancel to send.
    pub(super) fn next_cancel(&mut self) -> Option<u64> {
        loop {
            let wire_id = self.cancels.pop_front()?;
            // Else the rank ended it by itself meanwhile.
            if self.held.contains_key(&wire_id) {
                return Some(wire_id);
            }
        }
    }

    /// The connection is gone: empties all places, and gives the flights that are lost, oldest first.
    pub(super) fn lose_all(&mut self) -> Vec<u64> {
        self.cancels.clear();
        let mut lost: Vec<u64> = std::mem::take(&mut self.held).into_values().flatten().collect();
        lost.sort_unstable();
        lost
    }

    /// How many are held by flights, and how many by what was cancelled.
    pub(super) fn counts(&self) -> (usize, usize) {
        let running = self.held.values().flatten().count();
        (running, self.held.len() - running)
    }

    #[cfg(test)]
    pub(super) fn unsent_cancels(&self) -> usize {
        self.cancels.len()
    }
}
