//! Announcements of the system that something in a folder changed. They are hints: one may be lost or
//! come for nothing, so whoever waits for them also looks from time to time.

use std::{fmt::Display, path::Path, time::Duration};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{sync::mpsc, time::timeout};
use tracing::warn;

/// Hints about the folders that are watched.
pub(super) struct Hints {
    /// `None` where the system gives no watcher: then only the waiting's own bound ends it.
    watcher: Option<RecommendedWatcher>,
    hints: mpsc::Receiver<()>,
    /// Keeps the channel open without a watcher, since a closed one would end each waiting at once.
    _open: mpsc::Sender<()>,
}

impl Hints {
    /// Watches nothing yet. `what` is named where the system can't watch.
    pub(super) fn new(what: impl Display) -> Self {
        let (hint, hints) = mpsc::channel(1);
        let open = hint.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Our own reading is announced too: as a hint it would have us read for ever.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                // A full channel holds a hint already.
                let _ = hint.try_send(());
            }
        });
        Self::of(watcher.inspect_err(|error| warn!("{what}: {error}")).ok(), hints, open)
    }

    const fn of(
        watcher: Option<RecommendedWatcher>,
        hints: mpsc::Receiver<()>,
        open: mpsc::Sender<()>,
    ) -> Self {
        Self { watcher, hints, _open: open }
    }

    /// Watches a folder, but not the folders in it. Fails where the system refuses to; without any
    /// watcher that was said already.
    pub(super) fn watch(&mut self, folder: &Path) -> Result<(), notify::Error> {
        match &mut self.watcher {
            Some(watcher) => watcher.watch(folder, RecursiveMode::NonRecursive),
            None => Ok(()),
        }
    }

    /// Resolves at the next hint, or after this time.
    pub(super) async fn next(&mut self, within: Duration) {
        let _ = timeout(within, self.hints.recv()).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn what_changes_in_a_folder_ends_the_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let mut hints = Hints::new("a test");
        hints.watch(folder.path()).unwrap();
        std::fs::write(folder.path().join("file"), "text").unwrap();
        let waiting = hints.next(Duration::from_secs(3_600));
        timeout(Duration::from_secs(60), waiting).await.expect("no hint came");
    }

    #[tokio::test]
    async fn without_a_watcher_the_waiting_lasts_its_whole_time() {
        let (open, hints) = mpsc::channel(1);
        let mut hints = Hints::of(None, hints, open);
        let began = Instant::now();
        hints.next(Duration::from_millis(200)).await;
        assert!(began.elapsed() >= Duration::from_millis(200), "it ended before");
    }
}
