//! The way into the log file: a bounded queue and a thread, so that a disk that is full, slow or gone stops
//! nobody but the thread.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tracing_subscriber::fmt::MakeWriter;

use super::rotated::Rotated;
use crate::config::{LOG_FILES_MAX, Node};

/// Most lines that wait. A busy second has some hundred; of the longest lines these are 64 MiB, of real ones
/// some hundred KiB.
const LINES_MAX: usize = 1_024;

/// Longest line that is written, in bytes: far more than a child's longest with what is added to it. The rest
/// is dropped.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Longest time that the end waits for lines to be written: a disk that takes longer takes none.
const END_MS: u64 = 1_000;

/// Least time between two complaints, so that a disk that fills and empties all the time tells it rarely.
const TELL_PAUSE: Duration = Duration::from_secs(60);

enum Message {
    Line(Vec<u8>),
    /// All before it are written: to be answered.
    End(SyncSender<()>),
}

/// The supervisor's log file. Dropped, it waits a moment for the last lines.
pub struct LogFile {
    writer: Writer,
}

/// Puts lines into the queue; never waits.
#[derive(Clone)]
pub(super) struct Writer {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

impl LogFile {
    /// The file that the config asks for, if it does. `tell` is told, in the thread, what is wrong with it,
    /// and must not wait for anything; it may write to this file.
    pub(super) fn of(
        node: &Node,
        tell: impl Fn(&str) + Send + 'static,
    ) -> io::Result<Option<Self>> {
        if node.log_dir.as_os_str().is_empty() {
            return Ok(None);
        }
        let bytes_max = u64::from(node.log_file_max_mib) << 20;
        let rotated = Rotated::new(&node.log_dir, bytes_max, node.log_files_max);
        rotated.trim(LOG_FILES_MAX);
        Self::start(rotated, tell).map(Some)
    }

    pub(super) fn start(
        rotated: Rotated,
        tell: impl Fn(&str) + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, inbox) = sync_channel(LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let work = Work {
            rotated,
            tell,
            lost: Arc::clone(&lost),
            missing: 0,
            has_complained: false,
            told: None,
        };
        thread::Builder::new().name("log-file".into()).spawn(move || work.run(&inbox))?;
        Ok(Self { writer: Writer { queue, lost } })
    }

    pub(super) fn writer(&self) -> Writer {
        self.writer.clone()
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_millis(END_MS);
        let (done, is_done) = sync_channel(1);
        let mut message = Message::End(done);
        while let Err(TrySendError::Full(back)) = self.writer.queue.try_send(message) {
            if Instant::now() >= deadline {
                return;
            }
            message = back;
            thread::sleep(Duration::from_millis(5));
        }
        let _ = is_done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Writer {
    /// Takes one whole line, with its end.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Message::Line(cut(line))).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn cut(line: &[u8]) -> Vec<u8> {
    match line.get(..LINE_BYTES_MAX) {
        Some(kept) if line.len() > LINE_BYTES_MAX => [kept, b"\n"].concat(),
        _ => line.to_vec(),
    }
}

struct Work<T> {
    rotated: Rotated,
    tell: T,
    /// Lines that did not fit into the queue.
    lost: Arc<AtomicU64>,
    /// Lines that could not be written and were not told of yet.
    missing: u64,
    /// Whether it is told that lines can't be written, and not yet that they can again.
    has_complained: bool,
    /// When something was last told.
    told: Option<Instant>,
}

impl<T: Fn(&str)> Work<T> {
    fn run(mut self, inbox: &Receiver<Message>) {
        loop {
            let message = match inbox.try_recv() {
                Err(TryRecvError::Empty) => {
                    self.tell_lost();
                    inbox.recv().ok()
                }
                other => other.ok(),
            };
            match message {
                Some(Message::Line(line)) => self.write(&line),
                Some(Message::End(done)) => {
                    let _ = done.try_send(());
                }
                None => return,
            }
        }
    }

    fn write(&mut self, line: &[u8]) {
        match self.rotated.write(line) {
            Ok(()) if self.has_complained => {
                let missing = std::mem::take(&mut self.missing);
                self.has_complained = false;
                let path = self.rotated.path().display();
                let text = format!("{path} is written again; {missing} lines are missing there");
                self.tell(&text);
            }
            Ok(()) => {}
            Err(error) => {
                let path = self.rotated.path().display();
                self.missing += 1;
                if !self.has_complained && self.may_tell() {
                    let what = "lines are missing there until it can";
                    let text = format!("{path} can't be written: {error}; {what}");
                    self.has_complained = true;
                    self.tell(&text);
                }
            }
        }
    }

    fn tell_lost(&mut self) {
        if self.lost.load(Ordering::Relaxed) > 0 && self.may_tell() {
            let lost = self.lost.swap(0, Ordering::Relaxed);
            let path = self.rotated.path().display();
            let text =
                format!("{lost} lines are not in {path}: they came faster than it takes them");
            self.tell(&text);
        }
    }

    fn may_tell(&self) -> bool {
        self.told.is_none_or(|at| at.elapsed() >= TELL_PAUSE)
    }

    fn tell(&mut self, text: &str) {
        self.told = Some(Instant::now());
        (self.tell)(text);
    }
}
