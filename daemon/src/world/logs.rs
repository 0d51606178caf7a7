//! Children's output. Each child writes to a file of its own, which outlives a supervisor: a pipe
//! would break with it, and with the pipe the child. The supervisor reads what is new, passes it on
//! to its own log, and looks for signatures of crashes in it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::sleep;
use tracing::{debug, error, info, trace, warn};

use super::child::{Shared, Who};
use crate::log;

/// Longest line that is passed on; the rest of it is dropped. Long enough for any stack frame.
const LINE_BYTES_MAX: usize = 8 << 10;

/// Most bytes of a file; then what was read is cut away. Days of a child that logs what changes.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Most bytes read at once, so that a child that writes without end can't keep its reader busy.
const READ_BYTES_MAX: usize = 256 << 10;

/// Most bytes of an adopted child's output that are read again: what it wrote while no supervisor
/// looked may be among them.
const REREAD_BYTES_MAX: u64 = 16 << 10;

/// How often a running child's file is looked at. Its end is also looked at when it exits.
const PERIOD: Duration = Duration::from_millis(500);

/// Where a child's output goes.
pub(super) fn output_path(run_dir: &Path, who: Who) -> PathBuf {
    run_dir.join(format!("{}.log", who.name()))
}

/// Where the gateway's records of requests go.
pub(super) fn requests_path(run_dir: &Path) -> PathBuf {
    run_dir.join("requests.log")
}

/// Makes a child's output file anew, keeping the last one beside it, and returns it twice: as the
/// child's standard output and error.
pub(super) fn create(path: &Path) -> io::Result<(Stdio, Stdio)> {
    match fs::rename(path, path.with_extension("old.log")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Appending, so that cutting the file does not leave a hole before the child's next line.
    let file = fs::OpenOptions::new().append(true).create_new(true).mode(0o640).open(path)?;
    Ok((Stdio::from(file.try_clone()?), Stdio::from(file)))
}

/// What is done with a whole line.
pub(super) type OnLine = Box<dyn FnMut(&str) + Send>;

/// A reader of one child's output, shared by the task that follows it and the thread that learns of
/// the child's end.
#[derive(Clone)]
pub(super) struct Output(Arc<Mutex<Tail>>);

struct Tail {
    file: Option<File>,
    path: PathBuf,
    offset: u64,
    line: Vec<u8>,
    dropped: usize,
    on_line: OnLine,
}

impl Output {
    /// A reader from the beginning of a file that may not be there yet.
    pub(super) fn new(path: PathBuf, on_line: OnLine) -> Self {
        let tail = Tail { file: None, path, offset: 0, line: Vec::new(), dropped: 0, on_line };
        Self(Arc::new(Mutex::new(tail)))
    }

    /// The same, but only for what stands at the end: the last supervisor has read the rest.
    pub(super) fn at_end(self) -> Self {
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let size = fs::metadata(&tail.path).map_or(0, |metadata| metadata.len());
        tail.offset = size.saturating_sub(REREAD_BYTES_MAX);
        drop(tail);
        self
    }

    /// Reads all that is there.
    pub(super) fn drain(&self) {
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = tail.read() {
            debug!("{}: {error}", tail.path.display());
        }
    }

    /// Reads what is left, an unfinished line too.
    pub(super) fn finish(&self) {
        self.drain();
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !tail.line.is_empty() {
            tail.end_line();
        }
    }

    /// Follows the file for as long as the process runs.
    pub(super) async fn follow(self, shared: Shared, who: Who, pid: u32) {
        while shared.is_running(who, pid) {
            self.drain();
            sleep(PERIOD).await;
        }
    }
}

impl Tail {
    fn read(&mut self) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file.try_clone()?,
            None => {
                // Opened for writing too: only to cut what was read.
                let file = fs::OpenOptions::new().read(true).append(true).open(&self.path)?;
                self.file = Some(file.try_clone()?);
                file
            }
        };
        let mut buffer = vec![0; 16 << 10];
        let mut total = 0;
        while total < READ_BYTES_MAX {
            let count = file.read_at(&mut buffer, self.offset)?;
            if count == 0 {
                self.cut(&file)?;
                break;
            }
            self.offset += count as u64;
            total += count;
            self.take(buffer.get(..count).unwrap_or_default());
        }
        Ok(())
    }

    /// Cuts a large file once all of it was read. A line that the child writes just then is lost:
    /// better than a disk that its log fills.
    fn cut(&mut self, file: &File) -> io::Result<()> {
        if self.offset >= FILE_BYTES_MAX {
            file.set_len(0)?;
            self.offset = 0;
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) {
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
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let mut line = String::from_utf8_lossy(&self.line).trim_end().to_owned();
        if self.dropped > 0 {
            line.push_str(&format!(" … ({} more bytes)", self.dropped));
        }
        self.line.clear();
        self.dropped = 0;
        if !line.is_empty() {
            (self.on_line)(&line);
        }
    }
}

/// Logs a line at the level its own writer gave it.
pub(super) fn emit(who: Who, epoch: u64, line: &str) {
    let (level, text) = split_level(line);
    macro_rules! at {
        ($log:ident) => {
            match who {
                Who::Gateway => $log!(target: log::GATEWAY, role = "gateway", "{text}"),
                Who::Rank(rank) => $log!(target: log::RANK, role = "rank", rank, epoch, "{text}"),
            }
        };
    }
    match level {
        "ERROR" => at!(error),
        "WARN" => at!(warn),
        "DEBUG" => at!(debug),
        "TRACE" => at!(trace),
        _ => at!(info),
    }
}

/// Our own processes begin each line with its level; a line of a library or a panic does not.
fn split_level(line: &str) -> (&str, &str) {
    let trimmed = line.trim_start();
    match trimmed.split_once(' ') {
        Some((level @ ("ERROR" | "WARN" | "INFO" | "DEBUG" | "TRACE"), text)) => {
            (level, text.trim_start())
        }
        _ => ("INFO", line),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn collecting(path: &Path) -> (Output, Arc<Mutex<Vec<String>>>) {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let on_line = Box::new(move |line: &str| sink.lock().unwrap().push(line.to_owned()));
        (Output::new(path.into(), on_line), lines)
    }

    #[test]
    fn lines_are_split_cut_and_never_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let (output, lines) = collecting(&path);
        output.drain();
        assert!(lines.lock().unwrap().is_empty(), "there is no file yet");

        let mut file = fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
        let long = "x".repeat(LINE_BYTES_MAX + 5);
        write!(file, "one\r\n\n{long}\nha").unwrap();
        output.drain();
        write!(file, "lf\nlast without end").unwrap();
        output.finish();
        let lines = lines.lock().unwrap();
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
        let mut file = fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
        let line = format!("{}\n", "y".repeat(1 << 20));
        let count = usize::try_from(FILE_BYTES_MAX >> 20).unwrap() + 1;
        for _ in 0..count {
            file.write_all(line.as_bytes()).unwrap();
        }
        // Each reads a bounded part.
        for _ in 0..2 * FILE_BYTES_MAX.div_ceil(READ_BYTES_MAX as u64) {
            output.drain();
        }
        assert_eq!(lines.lock().unwrap().len(), count);
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        writeln!(file, "after").unwrap();
        output.drain();
        assert_eq!(lines.lock().unwrap().last().unwrap(), "after");
    }

    #[test]
    fn a_line_keeps_its_own_level() {
        assert_eq!(split_level(" WARN slow disk"), ("WARN", "slow disk"));
        assert_eq!(split_level("ERROR x: y"), ("ERROR", "x: y"));
        assert_eq!(split_level("thread 'main' panicked"), ("INFO", "thread 'main' panicked"));
    }
}
