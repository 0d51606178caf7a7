//! Orders on their way to the supervisor.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tandem_policy::{Order, OrderKind};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

/// Most orders that wait: one operator gives one at a time, and all are obeyed within a turn.
const WAITING_MAX: usize = 16;

/// The queue of orders; clones share it.
#[derive(Clone, Debug)]
pub struct Orders(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    obeyed: watch::Sender<u64>,
    arrived: Notify,
}

#[derive(Debug)]
struct Queue {
    last_number: u64,
    waiting: VecDeque<Order>,
}

/// Why an order is not known to be obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotObeyed {
    #[error("{WAITING_MAX} orders wait already; look at tandem status, then try again")]
    Full,
    #[error(
        "the supervisor did not confirm it in time, so it was withdrawn and will not be carried out, \
         unless it was obeyed just then, which tandem status shows; while what it decides can't be saved \
         (fault ledger) it obeys no order"
    )]
    Unconfirmed,
}

impl Orders {
    /// An empty queue that numbers from the last order that was ever obeyed
    /// ([`tandem_policy::State::last_order`]).
    pub fn new(last_order: u64) -> Self {
        Self(Arc::new(Shared {
            queue: Mutex::new(Queue { last_number: last_order, waiting: VecDeque::new() }),
            obeyed: watch::Sender::new(last_order),
            arrived: Notify::new(),
        }))
    }

    /// What waits, oldest first. It stays until [`Orders::obeyed`] says so.
    pub fn pending(&self) -> Vec<Order> {
        self.queue().waiting.iter().cloned().collect()
    }

    /// All orders up to this number are obeyed and that is on disk: their clients are told.
    pub fn obeyed(&self, up_to: u64) {
        self.queue().waiting.retain(|order| order.number > up_to);
        self.0.obeyed.send_if_modified(|obeyed| {
            let is_news = up_to > *obeyed;
            *obeyed = up_to.max(*obeyed);
            is_news
        });
    }

    /// Returns when an order has come since the last call: time for a turn.
    pub async fn arrived(&self) {
        self.0.arrived.notified().await;
    }

    /// Gives an order and waits until it is obeyed; returns its number. One that is not obeyed in
    /// time is withdrawn: a drain that comes hours late would be worse than none.
    pub(crate) async fn give(&self, what: OrderKind, patience: Duration) -> Result<u64, NotObeyed> {
        let mut obeyed = self.0.obeyed.subscribe();
        let mine = Withdrawn { orders: self, number: self.enqueue(what)? };
        self.0.arrived.notify_one();
        let number = mine.number;
        // The sender lives in `self`, so only time can end the wait otherwise.
        match timeout(patience, obeyed.wait_for(|done| *done >= number)).await {
            Ok(Ok(_)) => Ok(number),
            _ => Err(NotObeyed::Unconfirmed),
        }
    }

    fn enqueue(&self, what: OrderKind) -> Result<u64, NotObeyed> {
        let mut queue = self.queue();
        if queue.waiting.len() >= WAITING_MAX {
            return Err(NotObeyed::Full);
        }
        queue.last_number = queue.last_number.saturating_add(1);
        let number = queue.last_number;
        queue.waiting.push_back(Order { number, what });
        Ok(number)
    }

    /// Pushes and retains are whole or not at all, so what a panicked thread held is sound.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes an order back when its client stops waiting, however that comes about.
struct Withdrawn<'a> {
    orders: &'a Orders,
    number: u64,
}

impl Drop for Withdrawn<'_> {
    fn drop(&mut self) {
        self.orders.queue().waiting.retain(|order| order.number != self.number);
    }
}
