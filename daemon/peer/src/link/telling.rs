//! What this node tells the others.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use tandem_policy::pair::NodeReport;
use tokio::sync::watch;

use super::{
    Secrets,
    heard::says_the_same,
    message::{Account, Message},
};
use crate::manifest::Manifest;

/// The newest account, and who waits for the next. Nothing is queued: a path that was slow tells
/// what is newest when its turn comes.
pub(super) struct Telling {
    instance: String,
    state: Mutex<State>,
    change: watch::Sender<()>,
}

struct State {
    /// Of the account told last.
    number: u64,
    told: Instant,
    report: Option<NodeReport>,
    secrets: Secrets,
    manifest: Option<Manifest>,
}

impl Telling {
    /// Nothing yet. `instance` must not be that of an earlier process.
    pub(super) fn new(instance: String) -> Self {
        let state = State {
            number: 0,
            told: Instant::now(),
            report: None,
            secrets: Secrets::default(),
            manifest: None,
        };
        Self { instance, state: Mutex::new(state), change: watch::Sender::new(()) }
    }

    /// From now on tells this; at once if it says something new.
    pub(super) fn tell(&self, report: NodeReport, secrets: Secrets) {
        let is_new = {
            let mut state = self.lock();
            let is_same = state.secrets == secrets
                && state.report.as_ref().is_some_and(|known| says_the_same(known, &report));
            state.told = Instant::now();
            state.report = Some(report);
            state.secrets = secrets;
            !is_same
        };
        if is_new {
            self.change.send_replace(());
        }
    }

    /// The account to tell now. Numbered under the lock, so that a higher number is never of an
    /// older report.
    pub(super) fn account(&self) -> Account {
        let mut state = self.lock();
        state.number += 1;
        Account {
            instance: self.instance.clone(),
            number: state.number,
            age_ms: u64::try_from(state.told.elapsed().as_millis()).unwrap_or(u64::MAX),
            report: state.report.clone(),
            secrets: state.secrets.clone(),
        }
    }

    /// Wakes when there is something new to tell.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.change.subscribe()
    }

    /// Whether ranks start or serve by what this node says.
    pub(super) fn is_serving(&self) -> bool {
        self.lock().report.as_ref().is_some_and(|report| report.start.is_some())
    }

    /// The model's files here.
    pub(super) fn set_manifest(&self, manifest: Manifest) {
        self.lock().manifest = Some(manifest);
    }

    /// Does something with the model's files here.
    pub(super) fn with_manifest<T>(&self, what: impl FnOnce(Option<&Manifest>) -> T) -> T {
        what(self.lock().manifest.as_ref())
    }

    /// The list of files as it is told.
    pub(super) fn manifest_message(&self) -> Message {
        self.with_manifest(|own| own.map_or(Message::Manifest { files: None }, Manifest::message))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
