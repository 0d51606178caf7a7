//! Where records of requests go: standard output, on a thread of its own. The supervisor reads it;
//! while it does not, records wait, then they are lost and counted. No request ever waits for it.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

/// Most records that wait: seconds of the busiest gateway, a megabyte at most.
const WAITING_MAX: usize = 4_096;

/// How long the end of the process waits for those that still wait.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Writes records. Cheap to copy.
#[derive(Clone)]
pub(crate) struct Records(Option<Arc<Open>>);

struct Open {
    lines: SyncSender<Line>,
    /// Lost since the last one that was written.
    lost: Arc<AtomicU64>,
}

enum Line {
    Record(Vec<u8>),
    /// Everything before it is written.
    Flush(SyncSender<()>),
}

impl Records {
    /// To standard output, or nowhere.
    pub(crate) fn new(enabled: bool) -> Self {
        if enabled { Self::to(std::io::stdout()) } else { Self(None) }
    }

    /// Nowhere.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    fn to(out: impl Write + Send + 'static) -> Self {
        let (lines, queue) = sync_channel(WAITING_MAX);
        let lost = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&lost);
        let spawned = std::thread::Builder::new()
            .name("records".into())
            .spawn(move || write(out, &queue, &counter));
        if let Err(error) = spawned {
            tracing::warn!(%error, "requests are not recorded");
            return Self(None);
        }
        Self(Some(Arc::new(Open { lines, lost })))
    }

    /// Whether anything is kept.
    pub(crate) fn are_kept(&self) -> bool {
        self.0.is_some()
    }

    /// Writes a record, with its line break, some time later. Never waits.
    pub(crate) fn write(&self, record: Vec<u8>) {
        if let Some(open) = &self.0
            && open.lines.try_send(Line::Record(record)).is_err()
        {
            open.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all is written, for a while.
    pub(crate) async fn flush(&self) {
        let Some(open) = self.0.clone() else {
            return;
        };
        let flushed = tokio::task::spawn_blocking(move || {
            let (done, written) = sync_channel(1);
            // Full: then nobody reads, and there is nothing to wait for.
            open.lines.try_send(Line::Flush(done)).is_ok()
                && written.recv_timeout(FLUSH_TIMEOUT).is_ok()
        });
        if !matches!(flushed.await, Ok(true)) {
            tracing::warn!("the last records of requests were not read");
        }
    }
}

fn write(mut out: impl Write, queue: &Receiver<Line>, lost: &AtomicU64) {
    while let Ok(line) = queue.recv() {
        match line {
            // A history that can't be written is no reason to fail a request.
            Line::Record(record) => drop(out.write_all(&record).and_then(|()| out.flush())),
            Line::Flush(done) => drop(done.try_send(())),
        }
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            tracing::warn!(count, "records of requests were lost: nobody read them");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    /// Takes nothing before it is let to.
    struct Stuck {
        gate: Receiver<()>,
        text: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            // Open for ever once the other end is gone.
            let _ = self.gate.recv();
            self.text.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_a_reader_that_is_stuck_and_what_waits_is_bounded() {
        let (open, gate) = mpsc::channel();
        let text = Arc::<Mutex<Vec<u8>>>::default();
        let records = Records::to(Stuck { gate, text: Arc::clone(&text) });
        for _ in 0..2 * WAITING_MAX {
            records.write(b"a\n".to_vec());
        }
        let lost = records.0.as_ref().unwrap().lost.load(Ordering::Relaxed) as usize;
        assert!((WAITING_MAX - 1..=WAITING_MAX).contains(&lost), "{lost}");
        drop(open);
        // The queue is full, so this may find no room; then the next one does.
        while text.lock().unwrap().len() < 2 * (2 * WAITING_MAX - lost) {
            records.flush().await;
        }
        records.write(b"b\n".to_vec());
        records.flush().await;
        assert!(text.lock().unwrap().ends_with(b"a\nb\n"));
    }
}
