//! Which inbound connections are kept when there are too many.
//!
//! Strangers can open connections, so one that has proven no key may always be dropped for a newer
//! one, the oldest first: an honest handshake is over in milliseconds, while one that waits is
//! likely to be there to take the place. Connections of paired nodes have places of their own, which
//! only another connection of the same node can take.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::task::AbortHandle;

/// Most connections without a proven key.
pub(super) const STRANGERS_MAX: usize = 16;

/// Most of those from one address.
pub(super) const STRANGERS_PER_ADDRESS_MAX: usize = 4;

/// Most connections of one paired node: twice the ways that a config can name, because a connection
/// that a pulled cable left behind ends only after its time limit.
pub(super) const PER_NODE_MAX: usize = 2 * super::ADDRESSES_MAX;

/// The connections.
#[derive(Default)]
pub(super) struct Admission {
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    next: u64,
    rows: Vec<Row>,
}

struct Row {
    id: u64,
    address: IpAddr,
    /// Who it is, once that is proven.
    node: Option<String>,
    /// When it was accepted, or last said something.
    active: Instant,
    task: AbortHandle,
}

impl Admission {
    /// Makes room for a connection from this address and starts its task, which is given a number
    /// for it.
    pub(super) fn admit(&self, address: IpAddr, spawn: impl FnOnce(u64) -> AbortHandle) {
        let mut rows = self.lock();
        rows.make_room(STRANGERS_PER_ADDRESS_MAX, |row| {
            row.node.is_none() && row.address == address
        });
        rows.make_room(STRANGERS_MAX, |row| row.node.is_none());
        rows.next += 1;
        let id = rows.next;
        // Under the lock, so that the task can't end before it is in the list.
        let task = spawn(id);
        rows.rows.push(Row { id, address, node: None, active: Instant::now(), task });
    }

    /// Notes who a connection turned out to be.
    pub(super) fn prove(&self, id: u64, node: &str) {
        let mut rows = self.lock();
        rows.make_room(PER_NODE_MAX, |row| row.node.as_deref() == Some(node));
        if let Some(row) = rows.rows.iter_mut().find(|row| row.id == id) {
            row.node = Some(node.to_owned());
            row.active = Instant::now();
        }
    }

    /// Notes that a connection said something.
    pub(super) fn touch(&self, id: u64) {
        if let Some(row) = self.lock().rows.iter_mut().find(|row| row.id == id) {
            row.active = Instant::now();
        }
    }

    /// Notes that a connection ended.
    pub(super) fn leave(&self, id: u64) {
        self.lock().rows.retain(|row| row.id != id);
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    /// Ends those that were silent longest, until one more of this kind may be.
    fn make_room(&mut self, max: usize, is_kind: impl Fn(&Row) -> bool) {
        while self.rows.iter().filter(|row| is_kind(row)).count() >= max {
            let oldest = self.rows.iter().filter(|row| is_kind(row)).min_by_key(|row| row.active);
            let Some(id) = oldest.map(|row| row.id) else { return };
            self.rows.retain(|row| {
                if row.id == id {
                    row.task.abort();
                }
                row.id != id
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Admits a connection; the numbers of those that are there then.
    fn admit(admission: &Admission, address: [u8; 4]) -> Vec<u64> {
        admission
            .admit(address.into(), |_| tokio::spawn(std::future::pending::<()>()).abort_handle());
        admission.lock().rows.iter().map(|row| row.id).collect()
    }

    #[tokio::test]
    async fn a_newcomer_takes_the_place_of_the_oldest_stranger() {
        let admission = Admission::default();
        for last in 1..=4 {
            assert_eq!(admit(&admission, [10, 0, 0, 1]).len(), last);
        }
        assert_eq!(admit(&admission, [10, 0, 0, 1]), [2, 3, 4, 5]);
        for address in 2..=13 {
            admit(&admission, [10, 0, 0, address]);
        }
        assert_eq!(admission.lock().rows.len(), STRANGERS_MAX);
        assert!(!admit(&admission, [10, 0, 0, 14]).contains(&2));
        assert_eq!(admission.lock().rows.len(), STRANGERS_MAX);
    }

    #[tokio::test]
    async fn strangers_never_take_the_place_of_a_paired_node() {
        let admission = Admission::default();
        admit(&admission, [10, 0, 0, 1]);
        admission.prove(1, "b");
        for address in 0..100 {
            admit(&admission, [10, 0, 1, address]);
            assert!(admit(&admission, [10, 0, 0, 1]).contains(&1));
        }
    }

    #[tokio::test]
    async fn a_node_takes_only_its_own_places() {
        let admission = Admission::default();
        admit(&admission, [10, 0, 0, 2]);
        admission.prove(1, "c");
        for id in 2..40 {
            admit(&admission, [10, 0, 0, 1]);
            admission.prove(id, "b");
        }
        let rows = admission.lock();
        let count = |node| rows.rows.iter().filter(|row| row.node.as_deref() == Some(node)).count();
        assert_eq!((count("b"), count("c")), (PER_NODE_MAX, 1));
    }
}
