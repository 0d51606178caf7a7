//! The gateway's side of rank 0's socket. One task owns the connection and every request in
//! flight; routes talk to it through [`EngineLink`]. It decides in [`state`] (pure) and acts in
//! [`connection`].
//!
//! A request in flight keeps its prompt, its sampling (with a fixed seed) and the tokens it has.
//! When the connection drops, it waits for the next engine and is submitted again with those
//! tokens: its reader only sees a pause.

mod connection;
mod flight;
mod places;
mod silence;
mod state;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tandem_wire::{FinishReason, ModelCard, Phase, Sampling, Token};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

pub(crate) use state::LOSSES_MAX;

/// One generation to be done.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// Not empty.
    pub(crate) prompt: Arc<[u32]>,
    /// At least 1.
    pub(crate) max_tokens: u32,
    pub(crate) stop_tokens: Arc<[u32]>,
    pub(crate) sampling: Sampling,
    pub(crate) logprobs: Option<u8>,
    /// How long the engine may get nothing done at all before this is given up.
    pub(crate) silence_max: Duration,
    /// Goes before all that wait, and beside them: it must be short.
    pub(crate) urgent: bool,
    /// The request's place in the gateway, held as long as anything of it is held here.
    pub(crate) _place: Option<Arc<OwnedSemaphorePermit>>,
}

/// What happens to a generation. After `Done` or `Failed` nothing more does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Progress {
    /// One more token, in order, without gaps or repetitions, at most `max_tokens` of them.
    Token(Token),
    /// The engine lost it, for the so-many-th time since its last token (at most [`LOSSES_MAX`]); it
    /// is submitted again, to go on where it was.
    Lost {
        losses: u32,
    },
    Done(FinishReason),
    Failed(Failure),
}

/// Why a generation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The engine refuses the request itself.
    Invalid(String),
    /// The engine got nothing done for too long.
    TimedOut,
    /// The engine dies of it, or answers nonsense, again and again.
    EngineFault(String),
    /// The gateway is going down.
    ShuttingDown,
}

/// What is known of the engine now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct EngineStatus {
    /// Phase of rank 0 on a live connection; `None`: no such connection.
    pub(crate) phase: Option<Phase>,
    /// Run of the gang, with `phase`.
    pub(crate) epoch: Option<u64>,
    /// The model, while requests are taken.
    pub(crate) card: Option<ModelCard>,
    /// Why the last connection was given up, until there is a new one.
    pub(crate) fault: Option<String>,
}

impl EngineStatus {
    /// The model, if requests are taken; else why not.
    pub(crate) fn ready(&self) -> Result<&ModelCard, String> {
        match (self.phase, &self.card, &self.fault) {
            (Some(Phase::Ready), Some(card), _) => Ok(card),
            (Some(Phase::Forming), ..) => Err("the ranks are waiting for each other".into()),
            (Some(Phase::Loading), ..) => Err("the model is being loaded".into()),
            (Some(Phase::Warming), ..) => Err("the engine is warming up".into()),
            (Some(Phase::Unloading), ..) => Err("the engine is unloading".into()),
            (Some(Phase::Ready), None, _) => Err("the engine did not say what it serves".into()),
            (None, _, Some(fault)) => Err(format!("the engine is not connected: {fault}")),
            (None, _, None) => Err("the engine is not running".into()),
        }
    }
}

/// Who waits for the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Generations that wait for a place with the rank.
    pub(crate) waiting: usize,
    /// Generations with the rank.
    pub(crate) running: usize,
    /// Cancelled ones that the rank has not let go yet.
    pub(crate) ending: usize,
    /// Since when somebody waits and the engine shows no progress; `None`: nobody waits.
    pub(crate) silent_since: Option<Instant>,
}

enum Command {
    Submit { id: u64, slot: u32, job: Box<Job>, outlet: Outlet },
    Cancel { id: u64 },
    FailAll,
}

/// Where a generation's progress goes: its place in the request, and what happened. It needs no
/// bound of its own: at most `max_tokens` and one are ever sent to it, and [`LOSSES_MAX`] between two.
type Outlet = mpsc::UnboundedSender<(u32, Progress)>;

/// Handle to the task that owns the connection; the task ends when all handles are gone.
#[derive(Clone)]
pub(crate) struct EngineLink {
    // Unbounded, since `Drop` must not wait; bounded in fact by the gateway's `max_queued`, for
    // each generation sends one `Submit`, which holds its place, and at most one `Cancel`.
    commands: mpsc::UnboundedSender<Command>,
    status: watch::Receiver<EngineStatus>,
    load: watch::Receiver<Load>,
    next_id: Arc<AtomicU64>,
}

impl EngineLink {
    /// Starts the task. At most `max_submitted` generations are with the rank at once, the rest
    /// wait here.
    pub(crate) fn start(socket: PathBuf, max_submitted: usize) -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (publisher, status) = watch::channel(EngineStatus::default());
        let (weigher, load) = watch::channel(Load::default());
        tokio::spawn(connection::own(socket, max_submitted, inbox, publisher, weigher));
        Self { commands, status, load, next_id: Arc::new(AtomicU64::new(1)) }
    }

    /// The engine's status now.
    pub(crate) fn status(&self) -> EngineStatus {
        self.status.borrow().clone()
    }

    /// Who waits for the engine now.
    pub(crate) fn load(&self) -> Load {
        *self.load.borrow()
    }

    /// Hands over the generations of one request. The caller has made sure that there is room.
    pub(crate) fn submit(&self, jobs: Vec<Job>) -> Run {
        let (outlet, events) = mpsc::unbounded_channel();
        let commands = self.commands.clone();
        let mut ids = Vec::with_capacity(jobs.len());
        for (slot, job) in (0..).zip(jobs) {
            let id = self.next_id.fetch_add(1, Ordering::Relaxed);
            ids.push(Some(id));
            let submit = Command::Submit { id, slot, job: Box::new(job), outlet: outlet.clone() };
            // The task lives as long as this handle does.
            let _ = commands.send(submit);
        }
        Run { events, ids, commands }
    }

    /// Ends everything in flight with [`Failure::ShuttingDown`].
    pub(crate) fn fail_all(&self) {
        let _ = self.commands.send(Command::FailAll);
    }
}

/// The generations of one request. Dropping it cancels those still running.
pub(crate) struct Run {
    events: mpsc::UnboundedReceiver<(u32, Progress)>,
    /// By place in the request; `None` once ended.
    ids: Vec<Option<u64>>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Run {
    /// What happens next to which generation; `None` when nothing more will. Can be dropped and
    /// called again without loss.
    pub(crate) async fn next(&mut self) -> Option<(u32, Progress)> {
        while self.ids.iter().any(Option::is_some) {
            let (slot, progress) = self.events.recv().await?;
            // A token that was under way when its generation was cancelled is dropped here.
            let Some(id) = self.ids.get_mut(slot as usize).filter(|id| id.is_some()) else {
                continue;
            };
            if !matches!(progress, Progress::Token(_) | Progress::Lost { .. }) {
                *id = None;
            }
            return Some((slot, progress));
        }
        None
    }

    /// Ends one generation; nothing more is heard of it.
    pub(crate) fn cancel(&mut self, slot: u32) {
        if let Some(id) = self.ids.get_mut(slot as usize).and_then(Option::take) {
            let _ = self.commands.send(Command::Cancel { id });
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        for slot in 0..self.ids.len() as u32 {
            self.cancel(slot);
        }
    }
}
