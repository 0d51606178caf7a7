//! What is looked at on disks: their free space, and whether the models' folders are whole. A disk may
//! let a reader wait for minutes, so nobody else waits for this.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tandem_policy::{Artifacts, invariant::Invariant};
use tokio::{sync::watch, task::spawn_blocking};
use tracing::warn;

use super::{super::artifacts::Asked, Answer, Served, Shared, Watched, keep};

/// What is known of the models' folders from look to look.
#[derive(Default)]
struct Known {
    model: Asked,
    fallback: Asked,
}

/// What one look tells.
struct Seen {
    free: Answer,
    model: Artifacts,
    fallback: Artifacts,
}

/// Looks every `host.poll_ms`, and at once when another config is in force. For ever.
pub(super) async fn watch(shared: Shared, mut watched: watch::Receiver<Watched>) {
    let mut known = Known::default();
    loop {
        let now = watched.borrow_and_update().clone();
        let pause = Duration::from_millis(now.host.poll_ms);
        let looked = spawn_blocking(move || {
            let seen = look(&now, &mut known);
            (seen, known)
        });
        match looked.await {
            Ok((seen, same)) => {
                tell(&shared, seen);
                known = same;
            }
            Err(error) => {
                warn!("the disks can't be looked at: {error}");
                known = Known::default();
            }
        }
        tokio::select! {
            changed = watched.changed() => {
                if changed.is_err() {
                    return;
                }
                // The children's config changed, and with it what a model needs of memory.
                known = Known::default();
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn look(watched: &Watched, known: &mut Known) -> Seen {
    let disks: [PathBuf; 2] = [watched.state_dir.clone(), watched.model_dir.clone()];
    let fit = Arc::clone(&watched.fit);
    let fallback = watched.fallback_dir.as_deref();
    Seen {
        free: tandem_host::read(Invariant::DiskSpace, &watched.host, &disks),
        model: known.model.look(&watched.model_dir, || fit(Served::Together)),
        fallback: fallback
            .map_or(Artifacts::Unread, |dir| known.fallback.look(dir, || fit(Served::Alone))),
    }
}

fn tell(shared: &Shared, seen: Seen) {
    keep(shared, Invariant::DiskSpace, seen.free);
    let is_new = {
        let facts = shared.facts();
        facts.artifacts != seen.model || facts.fallback_artifacts != seen.fallback
    };
    if is_new {
        shared.change(|facts| {
            facts.artifacts = seen.model;
            facts.fallback_artifacts = seen.fallback;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{process::Command, sync::mpsc};

    use tandem_policy::settings::{Host, Leak};

    use super::{super::HostThread, *};

    /// While the look at the model's disk does not come back, the host is read and the turn waits for
    /// nothing, whatever it asks for.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_disk_that_hangs_holds_up_nothing_else() {
        let model = tempfile::tempdir().unwrap();
        std::fs::write(model.path().join("config.json"), "{}").unwrap();
        std::fs::write(model.path().join("model.safetensors"), "weights").unwrap();
        let (release, hangs) = mpsc::channel::<()>();
        let hangs = std::sync::Mutex::new(hangs);
        let fit = move |_| {
            // Until the test is over, as a disk that does not answer.
            let _ = hangs.lock().unwrap().recv();
            Command::new("false")
        };
        let watched = Watched {
            host: Host { poll_ms: 100, ..Host::default() },
            leak: Leak::default(),
            model_dir: model.path().into(),
            fallback_dir: None,
            state_dir: model.path().into(),
            fit: Arc::new(fit),
            uses_fabric: false,
        };
        let shared = Shared::new([]);
        let host = HostThread::start(shared.clone(), watched.clone());
        for _ in 0..1_000 {
            host.watch(watched.clone());
        }
        let is_read = || shared.facts().invariants.contains_key(&Invariant::OpenFiles);
        while !(is_read() && shared.facts().memory.is_some()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(shared.facts().artifacts, Artifacts::Unread);
        drop(release);
        while shared.facts().artifacts == Artifacts::Unread {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
