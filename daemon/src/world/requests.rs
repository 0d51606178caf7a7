//! The history of requests: the gateway writes one line of JSON a finished request to its standard
//! output; prompts and answers are never in it.

use std::sync::{Arc, Mutex, PoisonError};

use tandem_ledger::Request;
use tracing::warn;

/// Most records that wait for the ledger; the oldest go first. Some seconds of the busiest gateway.
const WAITING_MAX: usize = 4_096;

/// Most bytes of one record.
const RECORD_BYTES_MAX: usize = 4 << 10;

/// Records that wait for the ledger.
#[derive(Clone, Default)]
pub(super) struct Requests(Arc<Mutex<Vec<Request>>>);

impl Requests {
    /// Takes a line of the gateway's standard output.
    pub(super) fn take_line(&self, line: &str) {
        let record = (line.len() <= RECORD_BYTES_MAX)
            .then(|| serde_json::from_str::<Request>(line).ok())
            .flatten();
        let Some(record) = record else {
            warn!("a line of the gateway is no record of a request and is not kept");
            return;
        };
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= WAITING_MAX {
            waiting.remove(0);
        }
        waiting.push(record);
    }

    /// All that wait.
    pub(super) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
