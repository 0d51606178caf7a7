//! What the threads of a rank share: counters for vitals, switches, and the channel to the main
//! thread.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Sender, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tandem_wire::{Transport, Vitals};

use super::intake::Intake;
use super::pace::{Pace, Work};
use crate::EngineError;
use crate::step::{Execute, Step};

/// What the main thread is told.
#[derive(Debug)]
pub(super) enum Incident {
    /// Something other than the engine thread found that this rank must end.
    Fault(EngineError),
    /// Someone asked for an orderly unload, or rank 0 ordered it.
    Unload,
    /// The engine thread is done; its executor is dropped.
    EngineEnded(Result<(), EngineError>),
}

/// What the engine thread is told.
#[derive(Debug)]
pub(super) enum Command {
    /// The next entry of the log (other ranks).
    Step(Box<Step>),
    /// The log's end (other ranks).
    End,
    /// Look at the switches and, on rank 0, at the intake.
    Wake,
}

/// Entries of the engine thread's inbox. Rank 0's log never fills it, for rank 0 waits for a rank that
/// is [`LAG_STEPS_MAX`] behind.
///
/// [`LAG_STEPS_MAX`]: crate::control::ledger::LAG_STEPS_MAX
pub(super) const INBOX_MAX: usize = 64;

/// One per process.
pub(super) struct Shared {
    pub(super) board: Board,
    /// End at the next border of a step, whatever is left to do.
    stop: AtomicBool,
    /// End in order. Shared with the forming of the gang, which it cancels.
    unload: Arc<AtomicBool>,
    /// The log ended: that other ranks go is no fault any more.
    closing: AtomicBool,
    /// MLX's group is formed too, and loading has begun.
    formed: AtomicBool,
    incidents: Sender<Incident>,
    pub(super) inbox: SyncSender<Command>,
    /// What gateways ask of rank 0.
    pub(super) intake: Intake,
}

impl Shared {
    pub(super) fn new(
        incidents: Sender<Incident>,
        inbox: SyncSender<Command>,
        step_timeout_ms: u64,
    ) -> Self {
        Self {
            board: Board::new(step_timeout_ms),
            stop: AtomicBool::new(false),
            unload: Arc::default(),
            closing: AtomicBool::new(false),
            formed: AtomicBool::new(false),
            incidents,
            inbox,
            intake: Intake::default(),
        }
    }

    pub(super) fn tell(&self, incident: Incident) {
        // The main thread listens as long as there is anything to decide.
        let _ = self.incidents.send(incident);
    }

    /// A link ended. After the log's end that is as it should be.
    pub(super) fn link_ended(&self, error: EngineError) {
        if !self.is_closing() {
            self.tell(Incident::Fault(error));
        }
    }

    /// Asks for an orderly unload; asking again changes nothing.
    pub(super) fn ask_unload(&self, who: &str) {
        if !self.unload.swap(true, Relaxed) {
            tracing::info!(who, "asked to unload");
            self.tell(Incident::Unload);
            self.wake();
        }
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Relaxed);
        self.wake();
    }

    pub(super) fn close(&self) {
        self.closing.store(true, Relaxed);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Relaxed)
    }

    pub(super) fn is_unloading(&self) -> bool {
        self.unload.load(Relaxed)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    pub(super) fn set_formed(&self) {
        self.formed.store(true, Relaxed);
    }

    pub(super) fn is_formed(&self) -> bool {
        self.formed.load(Relaxed)
    }

    pub(super) fn unload_switch(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.unload)
    }

    /// Has the engine thread look again.
    pub(super) fn wake(&self) {
        match self.inbox.try_send(Command::Wake) {
            // Full: the engine thread has something to wake for. Gone: nobody sleeps.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

/// A rank's counters; read at any time, also while the engine thread is busy.
pub(super) struct Board {
    started: Instant,
    steps: AtomicU64,
    /// Milliseconds from `started` to the end of the last step.
    last_step_ms: AtomicU64,
    pub(super) active: AtomicU32,
    pub(super) queued: AtomicU32,
    pub(super) tokens: AtomicU64,
    bytes_read: AtomicU64,
    weights_bytes: AtomicU64,
    memory_bytes: AtomicU64,
    memory_peak_bytes: AtomicU64,
    transport: Mutex<Option<Transport>>,
    watch: Mutex<Watch>,
}

/// The steps that are not finished.
struct Watch {
    /// Number and work of each, oldest first.
    steps: VecDeque<(u64, Work)>,
    /// Since when nothing else was in the oldest one's way.
    since: Instant,
    pace: Pace,
}

/// A step that takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overdue {
    pub(super) seq: u64,
    /// How long it may take.
    pub(super) limit_ms: u64,
}

impl Board {
    fn new(step_timeout_ms: u64) -> Self {
        let watch = Watch {
            steps: VecDeque::new(),
            since: Instant::now(),
            pace: Pace::new(step_timeout_ms),
        };
        Self {
            started: Instant::now(),
            steps: AtomicU64::new(0),
            last_step_ms: AtomicU64::new(0),
            active: AtomicU32::new(0),
            queued: AtomicU32::new(0),
            tokens: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            weights_bytes: AtomicU64::new(0),
            memory_bytes: AtomicU64::new(0),
            memory_peak_bytes: AtomicU64::new(0),
            transport: Mutex::new(None),
            watch: Mutex::new(watch),
        }
    }

    /// A step is about to be executed.
    pub(super) fn begin_step(&self, step: &Step) {
        let mut watch = lock(&self.watch);
        if watch.steps.is_empty() {
            watch.since = Instant::now();
        }
        watch.steps.push_back((step.seq, Work::of(step)));
    }

    /// The oldest step was collected.
    pub(super) fn end_step(&self, executor: &impl Execute) {
        let now = Instant::now();
        {
            let mut watch = lock(&self.watch);
            let took_ms = now.duration_since(watch.since).as_millis() as u64;
            if let Some((_, work)) = watch.steps.pop_front() {
                watch.pace.finished(work, took_ms);
            }
            watch.since = now;
        }
        let age_ms = now.duration_since(self.started).as_millis() as u64;
        self.last_step_ms.store(age_ms, Relaxed);
        self.steps.fetch_add(1, Relaxed);
        self.read_memory(executor);
    }

    /// The step that takes longer than it may, if any.
    pub(super) fn overdue(&self) -> Option<Overdue> {
        let watch = lock(&self.watch);
        let (seq, work) = *watch.steps.front()?;
        let limit_ms = watch.pace.limit_ms(work);
        (watch.since.elapsed() > Duration::from_millis(limit_ms))
            .then_some(Overdue { seq, limit_ms })
    }

    /// So long this process was stopped or starved: that was no step's time.
    pub(super) fn excuse(&self, lost: Duration) {
        let mut watch = lock(&self.watch);
        watch.since = (watch.since + lost).min(Instant::now());
    }

    /// The group is formed, and this is what it does.
    pub(super) fn measured(&self, transport: Transport) {
        *lock(&self.transport) = Some(transport);
    }

    pub(super) fn loaded(&self, executor: &impl Execute) {
        let loaded = executor.loaded();
        self.bytes_read.store(loaded.bytes_read, Relaxed);
        self.weights_bytes.store(loaded.weights_bytes, Relaxed);
        self.read_memory(executor);
    }

    fn read_memory(&self, executor: &impl Execute) {
        let (now, peak) = executor.memory_bytes();
        self.memory_bytes.store(now, Relaxed);
        self.memory_peak_bytes.store(peak, Relaxed);
    }

    pub(super) fn vitals(&self, epoch: u64, rank: u32, phase: tandem_wire::Phase) -> Vitals {
        let steps = self.steps.load(Relaxed);
        let age_ms = self.started.elapsed().as_millis() as u64;
        let last_ms = self.last_step_ms.load(Relaxed);
        Vitals {
            epoch,
            rank,
            phase,
            steps,
            last_step_age_ms: (steps > 0).then(|| age_ms.saturating_sub(last_ms)),
            active: self.active.load(Relaxed),
            queued: self.queued.load(Relaxed),
            tokens: self.tokens.load(Relaxed),
            bytes_read: self.bytes_read.load(Relaxed),
            weights_bytes: self.weights_bytes.load(Relaxed),
            memory_bytes: self.memory_bytes.load(Relaxed),
            memory_peak_bytes: self.memory_peak_bytes.load(Relaxed),
            transport: lock(&self.transport).clone(),
        }
    }
}

/// Locks a mutex whose data is whole between any two statements, so that a panic elsewhere while it
/// was held spoils nothing.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
