//! Costly probes: those that start a tool, or ask a driver that may never answer.
//!
//! ```text
//!   ask ──▶ queue ──▶ one at a time, each on a thread of its own ──▶ answers ──▶ answered
//!                     late? the thread is left, the probe is never run again
//! ```
//!
//! A process that is stuck in the kernel can't be killed, and another one like it gets stuck as
//! well, so a probe that hangs is left alone: at most one thread and one process a probe are lost.

mod command;

#[cfg(test)]
mod tests;

pub use command::{CommandOutput, OUTPUT_BYTES_MAX, TOOL_TIMEOUT_MS, Tool, command};

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    thread,
    time::Duration,
};

use tandem_policy::invariant::Unknown;
use tokio::sync::mpsc;

/// Most probes that wait. Each key is in it once at most, and there are some twenty invariants.
const QUEUE_MAX: usize = 64;

/// What a probe found, or why it is not known.
pub type Answer<T> = Result<T, Unknown>;

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It waits for its turn.
    Queued,
    /// The same one still waits or runs: this one was dropped.
    Pending,
    /// Too many wait, or the probes' thread is gone: this one was dropped.
    Refused,
}

struct Question<K, T> {
    key: K,
    what: String,
    probe: Box<dyn FnOnce() -> Answer<T> + Send>,
}

/// Runs probes one at a time, apart from the caller, each in a bounded time.
///
/// `K` names a probe; what hung is known by it. Dropped, it runs no more; one that runs is left.
pub struct Probes<K, T> {
    questions: SyncSender<Question<K, T>>,
    answers: mpsc::Receiver<(K, Answer<T>)>,
    pending: BTreeSet<K>,
}

impl<K: Copy + Ord + Send + 'static, T: Send + 'static> Probes<K, T> {
    /// Starts the thread. Each probe may take this long.
    ///
    /// # Errors
    /// The system's, if it gives no thread.
    pub fn start(probe_timeout_ms: u64) -> io::Result<Self> {
        let (questions, queue) = sync_channel(QUEUE_MAX);
        // All that is pending can be answered without anybody taking the answers.
        let (sender, answers) = mpsc::channel(QUEUE_MAX);
        let timeout = Duration::from_millis(probe_timeout_ms);
        thread::Builder::new()
            .name("probes".into())
            .spawn(move || run_all(&queue, &sender, timeout))?;
        Ok(Self { questions, answers, pending: BTreeSet::new() })
    }

    /// Asks for a probe, described by `what` for people. One that hung before is not run: its answer is
    /// [`Unknown::Hung`] again.
    pub fn ask(
        &mut self,
        key: K,
        what: impl Into<String>,
        probe: impl FnOnce() -> Answer<T> + Send + 'static,
    ) -> Asked {
        if self.pending.contains(&key) {
            return Asked::Pending;
        }
        // Answers that nobody took count too, so that there is room for every answer.
        if self.pending.len() >= QUEUE_MAX {
            return Asked::Refused;
        }
        match self.questions.try_send(Question { key, what: what.into(), probe: Box::new(probe) }) {
            Ok(()) => {
                self.pending.insert(key);
                Asked::Queued
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Asked::Refused,
        }
    }

    /// Waits for the next answer; for ever if nothing was asked. May be dropped and called again
    /// without losing one.
    pub async fn answered(&mut self) -> (K, Answer<T>) {
        match self.answers.recv().await {
            Some((key, answer)) => {
                self.pending.remove(&key);
                (key, answer)
            }
            // The thread lives as long as its queue, which is ours.
            None => std::future::pending().await,
        }
    }
}

fn run_all<K: Copy + Ord, T: Send + 'static>(
    queue: &Receiver<Question<K, T>>,
    answers: &mpsc::Sender<(K, Answer<T>)>,
    timeout: Duration,
) {
    let mut hung: BTreeMap<K, String> = BTreeMap::new();
    while let Ok(Question { key, what, probe }) = queue.recv() {
        let answer = match hung.get(&key) {
            Some(reason) => Err(Unknown::Hung(reason.clone())),
            None => bounded(&what, timeout, probe),
        };
        if let Err(Unknown::Hung(reason)) = &answer {
            hung.entry(key).or_insert_with(|| reason.clone());
        }
        if answers.blocking_send((key, answer)).is_err() {
            return;
        }
    }
}

/// Runs one probe, described by `what` for people, on a thread of its own, which is left behind if it
/// is late: for a process that asks once and ends.
///
/// # Errors
/// The probe's, or [`Unknown::Hung`] after this long.
pub fn bounded<T: Send + 'static>(
    what: &str,
    timeout: Duration,
    probe: impl FnOnce() -> Answer<T> + Send + 'static,
) -> Answer<T> {
    let (sender, receiver) = sync_channel(1);
    // Nobody takes a late answer.
    let spawned = thread::Builder::new().name("probe".into()).spawn(move || {
        let _ = sender.send(probe());
    });
    if let Err(error) = spawned {
        return Err(Unknown::Failed(format!("{what} got no thread: {error}")));
    }
    receiver.recv_timeout(timeout).unwrap_or_else(|error| match error {
        RecvTimeoutError::Timeout => {
            let ms = timeout.as_millis();
            Err(Unknown::Hung(format!(
                "{what} did not end within {ms} ms and is not run again until the supervisor restarts"
            )))
        }
        RecvTimeoutError::Disconnected => Err(Unknown::Failed(format!("{what} panicked"))),
    })
}
