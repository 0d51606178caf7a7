//! Which nodes are trusted now: those of the config that are pinned on disk.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, watch};

use crate::identity::{Fingerprint, Pins};

/// How often the pins are read again, if nobody says that they changed.
const REREAD: Duration = Duration::from_secs(1);

/// The pins, as they are on disk.
#[derive(Debug)]
pub(super) struct Trust {
    folder: PathBuf,
    /// The peers of the config.
    nodes: Vec<String>,
    pins: watch::Sender<Pins>,
    problem: Mutex<Option<String>>,
    reread: Notify,
}

impl Trust {
    /// Of these nodes; nobody is trusted before the first [`Self::read`].
    pub(super) fn new(folder: &Path, nodes: Vec<String>) -> Self {
        Self {
            folder: folder.to_owned(),
            nodes,
            pins: watch::Sender::new(Pins::default()),
            problem: Mutex::new(None),
            reread: Notify::new(),
        }
    }

    /// The certificate of a peer of the config.
    pub(super) fn pin(&self, node: &str) -> Option<Fingerprint> {
        let is_peer = self.nodes.iter().any(|peer| peer == node);
        is_peer.then(|| self.pins.borrow().get(node)).flatten()
    }

    /// The peer of the config that has a certificate.
    pub(super) fn node(&self, fingerprint: Fingerprint) -> Option<String> {
        let pins = self.pins.borrow();
        let node = pins.node(fingerprint)?;
        self.nodes.iter().find(|peer| *peer == node).cloned()
    }

    /// Wakes when the pins changed.
    pub(super) fn changes(&self) -> watch::Receiver<Pins> {
        self.pins.subscribe()
    }

    /// Why the pins can't be read.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the pins read at once.
    pub(super) fn repin(&self) {
        self.reread.notify_one();
    }

    /// Reads the pins. Where that fails, those that were read last go on: a file that turns
    /// unreadable says nothing about who is who, and must not stop what serves.
    pub(super) async fn read(&self) {
        let folder = self.folder.clone();
        let read = tokio::task::spawn_blocking(move || Pins::load(&folder)).await;
        let problem = match read {
            Ok(Ok(pins)) => {
                self.pins.send_if_modified(|known| {
                    let is_new = *known != pins;
                    *known = pins;
                    is_new
                });
                None
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        let mut known = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != problem {
            if let Some(problem) = &problem {
                tracing::warn!(problem, "the peers' pins can't be read; the last ones stay");
            }
            *known = problem;
        }
    }

    /// Waits until it is time, and reads the pins again.
    pub(super) async fn reread(&self) {
        tokio::select! {
            () = self.reread.notified() => {}
            () = tokio::time::sleep(REREAD) => {}
        }
        self.read().await;
    }
}
