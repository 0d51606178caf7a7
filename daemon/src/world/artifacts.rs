//! Whether the model's folder is whole, and what serving it needs of memory. Here names, sizes and
//! times only, since root parses no model file: a child reads the headers, as the children's user,
//! whenever the files or the config changed.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tandem_policy::{Artifacts, Need};
use tracing::{info, warn};

use super::process_id::OwnProcess;
use crate::fit::Verdict;

/// Most files of a model folder that are looked at; the largest checkpoints have some hundreds.
const FILES_MAX: usize = 10_000;

/// Endings of files that a download has not finished.
const UNFINISHED: [&str; 4] = [".incomplete", ".part", ".partial", ".download"];

/// Longest time that a child may take over headers: some hundred small reads. Well under the age at
/// which a reading of memory counts as old, for the same thread takes those.
const FIT_TIME_MAX: Duration = Duration::from_secs(5);

/// How often a running child is looked at.
const FIT_POLL: Duration = Duration::from_millis(10);

/// Most bytes of a child's answer; it is one sentence or a number.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// Pause before a child that failed is tried again on the same files.
const FIT_PAUSE: Duration = Duration::from_secs(60);

/// What is there; what it needs is not asked.
pub(super) fn look(model_dir: &Path) -> Artifacts {
    match whole(model_dir) {
        Ok(Ok((weights_bytes, _))) => Artifacts::Complete { weights_bytes, need: Need::Estimated },
        Ok(Err(why)) => Artifacts::Incomplete(why),
        Err(error) => Artifacts::Incomplete(format!("{}: {error}", model_dir.display())),
    }
}

/// What one model's folder needs, as long as its files are those that were asked about.
#[derive(Default)]
pub(super) struct Asked {
    known: Option<(u64, Need)>,
    pause_until: Option<Instant>,
}

impl Asked {
    /// As [`look`], with what is needed by the word of `fit`, a command of `tandem model fit --json`.
    /// Blocks for up to [`FIT_TIME_MAX`] where the files changed.
    pub(super) fn look(&mut self, model_dir: &Path, fit: impl FnOnce() -> Command) -> Artifacts {
        let Ok(Ok((weights_bytes, stamp))) = whole(model_dir) else {
            return look(model_dir);
        };
        if let Some((of, need)) = &self.known
            && *of == stamp
        {
            return Artifacts::Complete { weights_bytes, need: need.clone() };
        }
        let mut need = Need::Estimated;
        if self.pause_until.is_none_or(|until| Instant::now() >= until) {
            match ask(fit()) {
                Ok(answer) => {
                    need = told(answer);
                    self.known = Some((stamp, need.clone()));
                }
                Err(error) => {
                    warn!("what the model needs of memory is estimated: {error}");
                    self.pause_until = Some(Instant::now() + FIT_PAUSE);
                }
            }
        }
        Artifacts::Complete { weights_bytes, need }
    }
}

/// A verdict as policy takes it. Where no model that can be served is there, the rank says so itself.
fn told(verdict: Verdict) -> Need {
    match verdict {
        Verdict { too_much: Some(why), .. } => {
            warn!("the model does not fit: {why}");
            Need::TooMuch(why)
        }
        Verdict { need_bytes: Some(bytes), .. } => {
            info!("this machine's ranks need {} MiB", bytes >> 20);
            Need::Bytes(bytes)
        }
        Verdict { error, .. } => {
            let error = error.unwrap_or_default();
            warn!("what the model needs of memory is estimated: {error}");
            Need::Estimated
        }
    }
}

/// Runs a child and reads what it says on its standard output, whatever its exit code. Never waits longer than
/// [`FIT_TIME_MAX`], even where something that the child started outlives it and keeps its output open.
fn ask(mut command: Command) -> io::Result<Verdict> {
    let (mut answers, childs) = UnixStream::pair()?;
    command.stdin(Stdio::null()).stdout(Stdio::from(OwnedFd::from(childs))).stderr(Stdio::null());
    let mut child = command.spawn()?;
    // It has the other end too, and the answer ends only when nobody has it.
    drop(command);
    let deadline = Instant::now() + FIT_TIME_MAX;
    let answer = read_until(&mut answers, deadline).and_then(|answer| {
        while child.try_wait()?.is_none() {
            left_until(deadline)?;
            sleep(FIT_POLL);
        }
        Ok(answer)
    });
    if answer.is_err() {
        // With all that it started, unless it was waited for already.
        if child.try_wait()?.is_none() {
            OwnProcess::child(child.id()).map(|child| child.signal(Signal::SIGKILL));
        }
        child.wait()?;
    }
    Ok(serde_json::from_slice(&answer?)?)
}

/// All that comes up to its end.
fn read_until(answers: &mut UnixStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    let mut part = [0; 4 << 10];
    loop {
        answers.set_read_timeout(Some(left_until(deadline)?))?;
        match answers.read(&mut part) {
            Ok(0) => return Ok(answer),
            Ok(count) => answer.extend_from_slice(part.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it said far too much"));
        }
    }
}

/// What is left of the time, never nothing.
fn left_until(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
    left.ok_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "it took too long to compute"))
}

/// Bytes of the weights' files, and a stamp that changes with what a child would read; or what is
/// missing.
fn whole(model_dir: &Path) -> io::Result<Result<(u64, u64), String>> {
    let mut bytes = 0;
    let mut stamp = 0_u64;
    let mut shards = Shards::default();
    let mut has_config = false;
    for entry in fs::read_dir(model_dir)?.take(FILES_MAX) {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if UNFINISHED.iter().any(|ending| name.ends_with(ending)) {
            return Ok(Err(format!("{name} is not finished: a download still runs, or broke off")));
        }
        if name == "config.json" {
            has_config = true;
            stamp = stamp.wrapping_add(stamp_of(&name, &fs::metadata(entry.path())?));
        }
        if let Some(stem) = name.strip_suffix(".safetensors") {
            // Followed if it is a link: download caches keep the real file elsewhere.
            let metadata = fs::metadata(entry.path())?;
            let size = metadata.len();
            if size == 0 {
                return Ok(Err(format!("{name} is empty")));
            }
            bytes += size;
            stamp = stamp.wrapping_add(stamp_of(&name, &metadata));
            shards.count(stem);
        }
    }
    let dir = model_dir.display();
    if !has_config {
        return Ok(Err(format!("there is no config.json in {dir}")));
    }
    if bytes == 0 {
        return Ok(Err(format!("there is no *.safetensors in {dir}")));
    }
    Ok(match shards.missing() {
        Some((have, of)) => Err(format!("{have} of {of} *.safetensors files are there")),
        None => Ok((bytes, stamp)),
    })
}

/// Of one file; sums of these do not depend on the order in which a folder lists its files.
fn stamp_of(name: &str, metadata: &fs::Metadata) -> u64 {
    let mut hasher = DefaultHasher::new();
    (name, metadata.len(), metadata.modified().ok()).hash(&mut hasher);
    hasher.finish()
}

/// Files named `NAME-00001-of-00003.safetensors`, as checkpoints in several files name them.
#[derive(Default)]
struct Shards {
    have: u32,
    of: u32,
}

impl Shards {
    fn count(&mut self, stem: &str) {
        let Some((rest, of)) = stem.rsplit_once("-of-") else { return };
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let numbered = rest.rsplit_once('-').is_some_and(|(_, index)| is_number(index));
        if let (true, Ok(of)) = (numbered && is_number(of), of.parse()) {
            self.have += 1;
            self.of = self.of.max(of);
        }
    }

    fn missing(&self) -> Option<(u32, u32)> {
        (self.have < self.of).then_some((self.have, self.of))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;

    use super::*;

    #[test]
    fn a_folder_is_whole_or_says_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let why = || match look(folder.path()) {
            Artifacts::Incomplete(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(why().contains("config.json"));
        put("config.json", "{}");
        assert!(why().contains("no *.safetensors"));
        put("model-00001-of-00002.safetensors", "abc");
        assert!(why().contains("1 of 2"));
        put("model-00002-of-00002.safetensors", "");
        assert!(why().contains("empty"));
        put("model-00002-of-00002.safetensors", "de");
        let whole = Artifacts::Complete { weights_bytes: 5, need: Need::Estimated };
        assert_eq!(look(folder.path()), whole);
        put("tokenizer.json.incomplete", "");
        assert!(why().contains("not finished"));
        let gone = folder.path().join("gone");
        assert!(matches!(look(&gone), Artifacts::Incomplete(_)));
    }

    /// A stand-in for `tandem model fit --json`: counts its runs and answers as told.
    fn fit(folder: &Path, answer: &str) -> Command {
        let runs = folder.join("runs");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo run >> \"$1\"; echo \"$2\"; exit 64", "fit"]);
        command.arg(runs).arg(answer);
        command
    }

    #[test]
    fn what_is_needed_is_asked_once_for_the_same_files_and_again_when_they_change() {
        let (model, notes) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(model.path().join("config.json"), "{}").unwrap();
        fs::write(model.path().join("model.safetensors"), "abc").unwrap();
        let runs = || {
            let runs = fs::read_to_string(notes.path().join("runs"));
            runs.map_or(0, |runs| runs.lines().count())
        };
        let mut asked = Asked::default();
        let mut need = |answer: &str| match asked.look(model.path(), || fit(notes.path(), answer)) {
            Artifacts::Complete { weights_bytes: 3 | 4, need } => need,
            other => panic!("{other:?}"),
        };
        for _ in 0..2 {
            assert_eq!(need(r#"{"need_bytes":7}"#), Need::Bytes(7));
        }
        assert_eq!(runs(), 1);
        fs::write(model.path().join("model.safetensors"), "abcd").unwrap();
        assert_eq!(need(r#"{"too_much":"a key"}"#), Need::TooMuch("a key".into()));
        fs::write(model.path().join("config.json"), "{} ").unwrap();
        assert_eq!(need(r#"{"error":"no model"}"#), Need::Estimated);
        assert_eq!(runs(), 3);
        // What is no answer is asked for again, but not at once.
        fs::write(model.path().join("config.json"), "{}  ").unwrap();
        for _ in 0..2 {
            assert_eq!(need("nonsense"), Need::Estimated);
        }
        assert_eq!(runs(), 4);
    }

    #[test]
    fn an_answer_is_bounded_in_size_and_time_and_nothing_of_the_child_is_left() {
        let sh = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]).process_group(0);
            command
        };
        assert_eq!(ask(sh("echo '{\"need_bytes\":7}'; exit 64")).unwrap().need_bytes, Some(7));
        let why = |script: &str| ask(sh(script)).unwrap_err().to_string();
        assert!(why("yes").contains("far too much"));
        // What it started keeps its output open when it has answered and ended.
        assert!(why("sleep 600 & echo '{\"need_bytes\":7}'").contains("too long"));
        assert!(why("exec >&-; sleep 600").contains("too long"));
    }
}
