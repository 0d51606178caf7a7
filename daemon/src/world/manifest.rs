//! Keeps the manifest of the model's files true: has a child read them when they changed, and
//! believes what it found as long as they are the files that were read.

use std::{
    ffi::OsStr,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use nix::unistd::User;
use tandem_peer::manifest::{Cache, Listing, Manifest, list};
use tandem_policy::Artifacts;
use tokio::{
    io::AsyncReadExt,
    process::Child,
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use super::{artifacts, launch::give_least_rights};
use crate::{config::LogLevel, log};

/// How often the folder's names, sizes and times are looked at; nothing of it is read then.
const PERIOD: Duration = Duration::from_secs(2);

/// Pause after a child that failed; it doubles up to the most. The most is long, because a child may
/// read hundreds of GB in vain each time.
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// Longest time a child may take: 4 TB from a disk that gives 300 MB/s.
const READ_TIME_MAX: Duration = Duration::from_secs(4 * 3600);

/// Most bytes of a child's messages that are kept; it has one or two to say.
const MESSAGES_BYTES_MAX: u64 = 16 << 10;

/// What lowers a command's priority, on macOS and Linux alike.
const NICE: &str = "/usr/bin/nice";

/// The files that one watch is about.
#[derive(Clone, Debug)]
pub struct Places {
    /// The model's folder.
    pub model_dir: PathBuf,
    /// What the child writes: in a folder that its user may write to.
    pub written: PathBuf,
    /// Where the supervisor keeps what it believed last, so that the start of a machine does not
    /// begin with reading the whole model: in a folder that only it may write to.
    pub kept: PathBuf,
}

/// The command of the child that reads the files: as the children's user where there is one, at a
/// low priority, because it may run while a model is being served.
pub fn command(
    executable: &Path,
    config_path: &Path,
    level: LogLevel,
    user: Option<&User>,
    places: &Places,
) -> Command {
    let mut command = if Path::new(NICE).exists() {
        let mut command = Command::new(NICE);
        command.args(["-n", "10"]).arg(executable);
        command
    } else {
        Command::new(executable)
    };
    let arguments: [&OsStr; 7] = [
        "manifest".as_ref(),
        "--config".as_ref(),
        config_path.as_ref(),
        "--model".as_ref(),
        places.model_dir.as_ref(),
        "--out".as_ref(),
        places.written.as_ref(),
    ];
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin");
    command.env("RUST_LOG", log::filter(level)).env(log::SUPERVISED, "1");
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    give_least_rights(&mut command, user);
    command
}

/// What a look at the folder tells.
enum Seen {
    /// The content of all files is known.
    Known(Manifest),
    /// They have to be read.
    Unread,
    /// A download still runs, or there is no model: nothing to be read yet.
    NotWhole,
    /// The folder can't be listed, or has something in it that no model has.
    Refused(String),
}

/// Watches for ever. `clock` tells milliseconds since boot, `spawn` starts a [`command`] once
/// `may_read` says so of files that lie there since a time. `on_change` is told the manifest and since
/// when the files lie there (at the latest, and if it is the first look, since the watch began), or
/// `None` while it is not known, at the first look and whenever that is another. At most one child
/// runs.
pub async fn watch<T, M, S, C>(places: Places, clock: T, may_read: M, spawn: S, on_change: C)
where
    T: Fn() -> u64,
    M: Fn(u64) -> bool,
    S: Fn() -> io::Result<Child>,
    C: Fn(Option<(Manifest, u64)>),
{
    let mut since_ms = clock();
    let mut cache = load(places.kept.clone()).await;
    let mut listed: Option<Option<Listing>> = None;
    let mut told: Option<Option<(Manifest, u64)>> = None;
    let mut refused = None;
    let mut pause = Pause::default();
    loop {
        let (listing, seen) = look(&places.model_dir, &cache).await;
        if listed.as_ref().is_some_and(|listed| *listed != listing) {
            since_ms = clock();
        }
        listed = Some(listing);
        let (manifest, why) = match &seen {
            Seen::Known(manifest) => (Some(manifest.clone()), None),
            Seen::Refused(why) => (None, Some(why.clone())),
            Seen::Unread | Seen::NotWhole => (None, None),
        };
        if let Some(why) = why.as_ref().filter(|why| refused.as_ref() != Some(*why)) {
            warn!("what is in the model's files can't be told: {why}");
        }
        refused = why;
        let news = manifest.map(|manifest| (manifest, since_ms));
        if told.as_ref() != Some(&news) {
            on_change(news.clone());
            told = Some(news);
        }
        if matches!(seen, Seen::Unread) && pause.is_over() && may_read(since_ms) {
            read(&spawn).await;
            cache = load(places.written.clone()).await;
            if let (_, Seen::Known(_)) = look(&places.model_dir, &cache).await {
                keep(cache.clone(), places.kept.clone()).await;
                pause = Pause::default();
                continue;
            }
            pause.begin();
        }
        sleep(PERIOD).await;
    }
}

/// When the next child may start.
#[derive(Default)]
struct Pause {
    last: Option<Duration>,
    until: Option<Instant>,
}

impl Pause {
    fn is_over(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() >= until)
    }

    fn begin(&mut self) {
        let next = self.last.map_or(PAUSE_MIN, |last| (last * 2).min(PAUSE_MAX));
        self.last = Some(next);
        self.until = Some(Instant::now() + next);
    }
}

/// The files as they are, if they can be listed, and what is known of them.
async fn look(model_dir: &Path, cache: &Cache) -> (Option<Listing>, Seen) {
    let (model_dir, cache) = (model_dir.to_owned(), cache.clone());
    let look = move || {
        if !matches!(artifacts::look(&model_dir), Artifacts::Complete { .. }) {
            return (None, Seen::NotWhole);
        }
        match list(&model_dir) {
            Ok(listing) => {
                let seen = cache.manifest(&listing).map_or(Seen::Unread, Seen::Known);
                (Some(listing), seen)
            }
            Err(error) => (None, Seen::Refused(format!("{:#}", anyhow::Error::new(error)))),
        }
    };
    // A disk may let a reader wait for long.
    let looked = spawn_blocking(look).await;
    looked.unwrap_or_else(|error| (None, Seen::Refused(error.to_string())))
}

async fn load(path: PathBuf) -> Cache {
    let load = move || {
        Cache::load(&path).unwrap_or_else(|error| {
            warn!("{} is of no use: {error}", path.display());
            Cache::default()
        })
    };
    spawn_blocking(load).await.unwrap_or_default()
}

async fn keep(cache: Cache, path: PathBuf) {
    let keep = move || {
        if let Err(error) = cache.save(&path) {
            warn!("{}: {error}; the model's files are read again after a start", path.display());
        }
    };
    // It can't have panicked: a panic ends the process.
    let _ = spawn_blocking(keep).await;
}

/// Has the files read. Whether it helped shows in what was written.
async fn read(spawn: impl Fn() -> io::Result<Child>) {
    info!("the model's files are read, to be compared with those of other nodes and of before");
    let mut child = match spawn() {
        Ok(child) => child,
        Err(error) => return warn!("the child that reads the model's files can't start: {error}"),
    };
    let stderr = child.stderr.take();
    let messages = async {
        let mut text = Vec::new();
        if let Some(stderr) = stderr {
            // Once it is dropped, the child's further messages go nowhere.
            let _ = stderr.take(MESSAGES_BYTES_MAX).read_to_end(&mut text).await;
        }
        String::from_utf8_lossy(&text).trim().to_owned()
    };
    let ended = timeout(READ_TIME_MAX, async { tokio::join!(messages, child.wait()) }).await;
    match ended {
        Ok((messages, Ok(status))) if status.success() => info!("{messages}"),
        Ok((messages, Ok(status))) => warn!("reading the model's files: {status}: {messages}"),
        Ok((_, Err(error))) => warn!("the child that reads the model's files is lost: {error}"),
        Err(_) => {
            warn!("reading the model's files took over {} s", READ_TIME_MAX.as_secs());
            if let Err(error) = child.kill().await {
                warn!("the child that reads the model's files can't be ended: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_after_failures_doubles_up_to_a_bound() {
        let mut pause = Pause::default();
        assert!(pause.is_over());
        let mut last = Vec::new();
        for _ in 0..12 {
            pause.begin();
            assert!(!pause.is_over());
            last.push(pause.last.unwrap().as_secs());
        }
        assert_eq!(last[..4], [2, 4, 8, 16]);
        assert_eq!(last[11], 300);
    }
}
