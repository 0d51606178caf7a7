//! Reading what a child writes to its file, while it writes and at its end.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{task::spawn_blocking, time::sleep};
use tracing::{debug, warn};

use super::allowance::Allowance;
use crate::world::{
    child::{Shared, Who},
    own_file::open_own,
};

/// Longest line that is passed on; the rest of it is dropped. Long enough for any stack frame.
const LINE_BYTES_MAX: usize = 8 << 10;

/// Most bytes of a file; then what was read is cut away. Days of a child that logs what changes.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Most bytes that may wait to be read. Where there are more, the reader goes on near their end, so that a child that
/// writes without end can't keep its reader busy, or behind.
const UNREAD_BYTES_MAX: u64 = 1 << 20;

/// How many of them are still read then.
const KEPT_BYTES: u64 = 256 << 10;

/// How many of the last bytes of a child that has ended are passed on whatever it said before.
const LAST_BYTES: u64 = 16 << 10;

/// Most bytes of an adopted child's output that are read again: what it wrote while no supervisor
/// looked may be among them.
const REREAD_BYTES_MAX: u64 = 16 << 10;

/// How often a running child's file is looked at, and how often one that is written to faster than it is read. Its end
/// is also looked at when it exits.
const PERIOD: Duration = Duration::from_millis(500);
const PERIOD_BEHIND: Duration = Duration::from_millis(100);

/// What is done with a whole line, and whether it may be passed on to the supervisor's own log.
pub(in crate::world) type OnLine = Box<dyn FnMut(&str, bool) + Send>;

/// A reader of one child's output, shared by the task that follows it and the thread that learns of
/// the child's end.
#[derive(Clone)]
pub(in crate::world) struct Output(Arc<Mutex<Tail>>);

struct Tail {
    /// Whose output it is.
    who: Who,
    file: Option<File>,
    path: PathBuf,
    offset: u64,
    line: Vec<u8>,
    dropped: usize,
    allowance: Allowance,
    on_line: OnLine,
}

impl Output {
    /// A reader from the beginning of a file that may not be there yet.
    pub(in crate::world) fn new(who: Who, path: PathBuf, on_line: OnLine) -> Self {
        Self(Arc::new(Mutex::new(Tail {
            who,
            file: None,
            path,
            offset: 0,
            line: Vec::new(),
            dropped: 0,
            allowance: Allowance::new(Instant::now()),
            on_line,
        })))
    }

    /// The same, but only for what stands at the end: the last supervisor has read the rest.
    pub(in crate::world) fn at_end(self) -> Self {
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let size = fs::symlink_metadata(&tail.path).map_or(0, |metadata| metadata.len());
        tail.offset = size.saturating_sub(REREAD_BYTES_MAX);
        drop(tail);
        self
    }

    /// Reads what is new, and cuts a large file. Whether the child writes faster than this reads.
    pub(in crate::world) fn drain(&self) -> bool {
        self.with(|tail| {
            let is_behind = tail.read(None)?;
            tail.cut()?;
            tail.tell(false);
            Ok(is_behind)
        })
    }

    /// Reads what is left when the child has ended: its last lines in any case, an unfinished one too.
    pub(in crate::world) fn finish(&self) {
        self.with(|tail| {
            let size = tail.size()?;
            tail.read(Some(size.saturating_sub(LAST_BYTES)))?;
            if !tail.line.is_empty() {
                tail.end_line(true);
            }
            tail.tell(true);
            tail.shorten()?;
            Ok(false)
        });
    }

    fn with(&self, act: impl FnOnce(&mut Tail) -> io::Result<bool>) -> bool {
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut tail).unwrap_or_else(|error| {
            debug!("{}: {error}", tail.path.display());
            false
        })
    }

    /// Follows the file for as long as the process runs.
    pub(in crate::world) async fn follow(self, shared: Shared, who: Who, pid: u32) {
        while shared.is_running(who, pid) {
            let output = self.clone();
            // A disk may let a reader wait for long, and other nodes wait for what the runtime's few workers do.
            let is_behind = spawn_blocking(move || output.drain()).await.unwrap_or(false);
            sleep(if is_behind { PERIOD_BEHIND } else { PERIOD }).await;
        }
    }
}

impl Tail {
    /// The file, opened once: for writing too, but only to cut what was read.
    fn file(&mut self) -> io::Result<&File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => open_own(&self.path, fs::OpenOptions::new().read(true).write(true))?,
        };
        Ok(self.file.insert(file))
    }

    fn size(&mut self) -> io::Result<u64> {
        Ok(self.file()?.metadata()?.len())
    }

    /// Reads to the end as it now is, or, where that is far, the last part before it. Lines that end at
    /// `last_from` or later are passed on in any case. Whether it was far.
    fn read(&mut self, last_from: Option<u64>) -> io::Result<bool> {
        let end = self.size()?;
        // The child may have cut its file itself.
        self.offset = self.offset.min(end);
        let unread = end - self.offset;
        let is_behind = unread > UNREAD_BYTES_MAX;
        if is_behind {
            let begin = end - KEPT_BYTES;
            self.allowance.skip(begin - self.offset);
            self.offset = begin;
            self.line.clear();
            self.dropped = 0;
        }
        let mut buffer = vec![0; 16 << 10];
        while self.offset < end {
            let room =
                usize::try_from(end - self.offset).map_or(buffer.len(), |n| n.min(buffer.len()));
            let offset = self.offset;
            let count = self.file()?.read_at(buffer.get_mut(..room).unwrap_or_default(), offset)?;
            if count == 0 {
                break;
            }
            self.offset += count as u64;
            let is_last = last_from.is_some_and(|from| self.offset > from);
            self.take(buffer.get(..count).unwrap_or_default(), is_last);
        }
        Ok(is_behind)
    }

    /// Cuts a large file, all of which was read but for what the child writes just now: that is lost, for it would
    /// be read for ever, or fill the disk.
    fn cut(&mut self) -> io::Result<()> {
        if self.offset < FILE_BYTES_MAX {
            return Ok(());
        }
        // Nearly always nothing, and the last words of a child that ends in this moment.
        self.read(None)?;
        let late = self.size()?.saturating_sub(self.offset);
        self.file()?.set_len(0)?;
        self.allowance.skip(late);
        self.offset = 0;
        Ok(())
    }

    /// Leaves of a large file of a child that has ended only the end, for whoever looks for the reason.
    fn shorten(&mut self) -> io::Result<()> {
        let size = self.size()?;
        if size <= FILE_BYTES_MAX {
            return Ok(());
        }
        let mut end = vec![0; usize::try_from(KEPT_BYTES).unwrap_or_default()];
        self.file()?.read_exact_at(&mut end, size - KEPT_BYTES)?;
        self.file()?.set_len(0)?;
        self.file()?.write_all_at(&end, 0)?;
        self.offset = KEPT_BYTES;
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], is_last: bool) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            let room = LINE_BYTES_MAX - self.line.len();
            let (kept, cut) = text.split_at(text.len().min(room));
            self.line.extend_from_slice(kept);
            self.dropped += cut.len();
            if ends {
                self.end_line(is_last);
            }
        }
    }

    fn end_line(&mut self, is_last: bool) {
        let mut line = String::from_utf8_lossy(&self.line).trim_end().to_owned();
        if self.dropped > 0 {
            line.push_str(&format!(" … ({} more bytes)", self.dropped));
        }
        self.line.clear();
        self.dropped = 0;
        if !line.is_empty() {
            let is_passed_on = is_last || self.allowance.take(line.len(), Instant::now());
            (self.on_line)(&line, is_passed_on);
        }
    }

    fn tell(&mut self, is_last: bool) {
        if let Some(left_out) = self.allowance.left_out(Instant::now(), is_last) {
            warn!("{}: {left_out}; {}", self.who, name(&self.path));
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tandem_policy::Process;

    use super::*;
    use crate::world::child::Child;

    type Lines = Arc<Mutex<Vec<(String, bool)>>>;

    fn collecting(path: &Path) -> (Output, Lines) {
        let lines = Lines::default();
        let sink = Arc::clone(&lines);
        let on_line = Box::new(move |line: &str, is_passed_on: bool| {
            sink.lock().unwrap().push((line.to_owned(), is_passed_on));
        });
        (Output::new(Who::Rank(0), path.into(), on_line), lines)
    }

    fn writer(path: &Path) -> File {
        fs::OpenOptions::new().append(true).create(true).open(path).unwrap()
    }

    fn last(lines: &Lines) -> (String, bool) {
        lines.lock().unwrap().last().unwrap().clone()
    }

    #[test]
    fn lines_are_split_cut_and_never_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let (output, lines) = collecting(&path);
        output.drain();
        assert!(lines.lock().unwrap().is_empty(), "there is no file yet");

        let mut file = writer(&path);
        let long = "x".repeat(LINE_BYTES_MAX + 5);
        write!(file, "one\r\n\n{long}\nha").unwrap();
        output.drain();
        write!(file, "lf\nlast without end").unwrap();
        output.finish();
        let lines: Vec<String> =
            lines.lock().unwrap().iter().map(|(line, _)| line.clone()).collect();
        assert_eq!(lines.len(), 4);
        assert_eq!((lines[0].as_str(), lines[2].as_str()), ("one", "half"));
        assert!(lines[1].ends_with("x … (5 more bytes)") && lines[1].len() < LINE_BYTES_MAX + 40);
        assert_eq!(lines[3], "last without end");
    }

    #[test]
    fn a_file_is_cut_once_it_was_read_and_the_child_writes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let (output, lines) = collecting(&path);
        let mut file = writer(&path);
        let line = format!("{}\n", "y".repeat(1 << 19));
        let count = usize::try_from(FILE_BYTES_MAX >> 19).unwrap();
        for _ in 0..count {
            file.write_all(line.as_bytes()).unwrap();
            assert!(!output.drain());
        }
        assert_eq!(lines.lock().unwrap().len(), count, "at this pace all is read");
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        writeln!(file, "after").unwrap();
        output.drain();
        assert_eq!(last(&lines).0, "after");
    }

    #[test]
    fn however_fast_a_child_writes_the_file_and_what_is_read_and_passed_on_stay_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let (output, lines) = collecting(&path);
        let mut file = writer(&path);
        let filler =
            "INFO all is well, for the time being and as far as one can see\n".repeat(1 << 19);
        for _ in 0..6 {
            file.write_all(filler.as_bytes()).unwrap();
            assert!(output.drain(), "it is behind");
            assert_eq!(fs::metadata(&path).unwrap().len(), 0, "and the file is cut all the same");
        }
        writeln!(file, "at last").unwrap();
        output.drain();
        assert_eq!(last(&lines), ("at last".into(), false), "it is read, and not passed on");
        let lines = lines.lock().unwrap();
        let bytes = |lines: &[(String, bool)]| lines.iter().map(|(l, _)| l.len()).sum::<usize>();
        assert!(bytes(&lines) as u64 <= 7 * KEPT_BYTES);
        let passed: Vec<_> =
            lines.iter().filter(|(_, is_passed_on)| *is_passed_on).cloned().collect();
        assert!(bytes(&passed) <= 1 << 20 && !passed.is_empty());
    }

    #[test]
    fn a_childs_last_lines_are_read_and_passed_on_whatever_it_wrote_before() {
        // Far more than is read at once, more than a file is cut at, and in pieces that were never read.
        for megabytes in [0, 1, 3, 20, 70] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.log");
            let (output, lines) = collecting(&path);
            let mut file = writer(&path);
            let filler = format!("{}\n", "z".repeat(1023)).repeat(1 << 10);
            for _ in 0..megabytes {
                file.write_all(filler.as_bytes()).unwrap();
            }
            // What it said may be hushed, but not this.
            output.drain();
            for _ in 0..megabytes {
                file.write_all(filler.as_bytes()).unwrap();
            }
            writeln!(file, "ERROR the reason why").unwrap();
            write!(file, "and a backtrace that was cu").unwrap();
            output.finish();
            assert_eq!(last(&lines), ("and a backtrace that was cu".into(), true));
            let lines = lines.lock().unwrap();
            let reason = ("ERROR the reason why".to_owned(), true);
            assert_eq!(lines[lines.len() - 2], reason, "after {megabytes} MB");
            let left = fs::read(&path).unwrap();
            assert!(
                left.len() as u64 <= FILE_BYTES_MAX && left.ends_with(b"was cu"),
                "{megabytes}"
            );
        }
    }

    #[test]
    fn a_child_that_cuts_or_stretches_its_own_file_is_still_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let (output, lines) = collecting(&path);
        let mut file = writer(&path);
        writeln!(file, "first").unwrap();
        output.drain();
        file.set_len(0).unwrap();
        output.drain();
        writeln!(file, "second").unwrap();
        output.drain();
        assert_eq!(last(&lines).0, "second");
        // A hole of a petabyte costs nothing to make, and must not cost more to read.
        file.set_len(1 << 50).or_else(|_| file.set_len(1 << 40)).unwrap();
        output.drain();
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        writeln!(file, "\nthird").unwrap();
        output.finish();
        assert_eq!(last(&lines).0, "third");
    }

    #[tokio::test]
    async fn a_reader_that_waits_for_a_disk_keeps_nobody_else_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        writeln!(writer(&path), "a line").unwrap();
        let (go_on, waits) = std::sync::mpsc::channel();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let on_line = move |_: &str, _| {
            let _ = tell.send(waits.recv_timeout(Duration::from_secs(60)).is_ok());
        };
        let output = Output::new(Who::Rank(0), path, Box::new(on_line));
        let shared = Shared::new([0]);
        let process = Process::Running { pid: 1, epoch: 1 };
        shared.facts().ranks = vec![(0, Child::of(process))];
        let following = tokio::spawn(output.follow(shared, Who::Rank(0), 1));
        // This task and the reader share one worker.
        sleep(Duration::from_millis(50)).await;
        go_on.send(()).unwrap();
        assert_eq!(told.recv().await, Some(true), "it held the only worker until it gave up");
        following.abort();
    }
}
