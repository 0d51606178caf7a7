//! The manifest of a model's files, read by real children.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tandem::config::LogLevel;
use tandem::role::manifest::AGAIN;
use tandem::world::manifest::{Places, command, watch};
use tandem_peer::manifest::{Cache, Manifest, build};
use tandem_wire::exit;
use tokio::process::Child;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Node {
    folder: tempfile::TempDir,
    places: Places,
    config: PathBuf,
    started: Arc<Mutex<u32>>,
}

/// What a watch tells: the manifest, and since when the files lie there.
type Told = Option<(Manifest, u64)>;

/// How a watch's children are started.
type Spawn = fn(u32, Command) -> io::Result<Child>;

fn real(_: u32, command: Command) -> io::Result<Child> {
    tokio::process::Command::from(command).kill_on_drop(true).spawn()
}

fn never(_: u32, _: Command) -> io::Result<Child> {
    Err(io::Error::other("none should be started"))
}

impl Node {
    fn new(weights: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let model_dir = at("model");
        fs::create_dir(&model_dir).unwrap();
        fs::write(model_dir.join("config.json"), "{}").unwrap();
        fs::write(model_dir.join("model.safetensors"), weights).unwrap();
        let config = at("tandem.toml");
        fs::write(&config, "").unwrap();
        let places = Places { model_dir, written: at("written.json"), kept: at("kept.json") };
        Self { folder, places, config, started: Arc::default() }
    }

    fn command(&self) -> Command {
        let executable = Path::new(env!("CARGO_BIN_EXE_tandem"));
        command(executable, &self.config, LogLevel::Info, None, &self.places)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.places.model_dir.join(name)
    }

    fn watch(&self, spawn: Spawn) -> (UnboundedReceiver<Told>, JoinHandle<()>) {
        self.watch_when(|_| true, spawn)
    }

    /// The same, reading only when that is said. The clock counts how often it was asked.
    fn watch_when(
        &self,
        may_read: impl Fn(u64) -> bool + Send + 'static,
        spawn: Spawn,
    ) -> (UnboundedReceiver<Told>, JoinHandle<()>) {
        let (sender, told) = unbounded_channel();
        let (started, make) = (Arc::clone(&self.started), {
            let (config, places) = (self.config.clone(), self.places.clone());
            let executable = Path::new(env!("CARGO_BIN_EXE_tandem"));
            move || command(executable, &config, LogLevel::Info, None, &places)
        });
        let spawn = move || {
            let mut number = started.lock().unwrap();
            *number += 1;
            spawn(*number, make())
        };
        let now = AtomicU64::new(0);
        let clock = move || now.fetch_add(1, Ordering::Relaxed);
        let on_change = move |manifest| drop(sender.send(manifest));
        (told, tokio::spawn(watch(self.places.clone(), clock, may_read, spawn, on_change)))
    }

    fn started(&self) -> u32 {
        *self.started.lock().unwrap()
    }

    /// Read again from nothing.
    fn truth(&self) -> Manifest {
        build(&self.places.model_dir, &mut Cache::default(), |_| {}).unwrap().manifest
    }
}

async fn next(told: &mut UnboundedReceiver<Told>) -> Option<Manifest> {
    next_since(told).await.map(|(manifest, _)| manifest)
}

async fn next_since(told: &mut UnboundedReceiver<Told>) -> Told {
    timeout(PATIENCE, told.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn files_lie_there_since_the_watch_began_until_one_changes() {
    let node = Node::new("weights");
    let (mut told, task) = node.watch(real);
    assert_eq!(next_since(&mut told).await, None);
    let (first, since) = next_since(&mut told).await.unwrap();
    assert_eq!(since, 0, "as the clock was when the watch began");
    let text = fs::read(node.file("model.safetensors")).unwrap();
    fs::write(node.file("model.safetensors"), text).unwrap();
    assert_eq!(next_since(&mut told).await, None);
    assert_eq!(next_since(&mut told).await, Some((first, 1)), "the same content, put there later");
    task.abort();
}

#[tokio::test]
async fn nothing_is_read_before_its_time() {
    let node = Node::new("weights");
    let is_time = Arc::new(AtomicBool::new(false));
    let may_read = {
        let is_time = Arc::clone(&is_time);
        move |_| is_time.load(Ordering::Relaxed)
    };
    let (mut told, task) = node.watch_when(may_read, real);
    assert_eq!(next(&mut told).await, None);
    assert!(timeout(Duration::from_secs(3), told.recv()).await.is_err());
    assert_eq!(node.started(), 0);
    is_time.store(true, Ordering::Relaxed);
    assert_eq!(next(&mut told).await, Some(node.truth()));
    task.abort();
}

#[tokio::test]
async fn a_manifest_is_known_follows_the_files_and_outlives_the_supervisor() {
    let node = Node::new("weights");
    let (mut told, task) = node.watch(real);
    assert_eq!(next(&mut told).await, None, "nothing is known before it is read");
    let first = next(&mut told).await.unwrap();
    assert_eq!(first, node.truth());

    fs::write(node.file("model.safetensors"), "WEIGHTS").unwrap();
    assert_eq!(next(&mut told).await, None, "what was read is not what is there");
    let second = next(&mut told).await.unwrap();
    assert_eq!(second, node.truth());
    assert_ne!(second.digest(), first.digest());
    assert_eq!(node.started(), 2, "nothing was read twice");
    task.abort();

    // As after a boot: the run directory is empty.
    fs::remove_file(&node.places.written).unwrap();
    let (mut told, task) = node.watch(never);
    assert_eq!(next(&mut told).await, Some(second));
    assert_eq!(node.started(), 2);
    task.abort();
}

#[tokio::test]
async fn a_download_that_runs_is_not_read_and_a_child_that_fails_is_tried_again() {
    let node = Node::new("weights");
    fs::write(node.file("tokenizer.json.incomplete"), "").unwrap();
    let fails_first: Spawn = |number, command| {
        if number == 1 { real(number, Command::new("false")) } else { real(number, command) }
    };
    let (mut told, task) = node.watch(fails_first);
    assert_eq!(next(&mut told).await, None);
    assert!(timeout(Duration::from_secs(3), told.recv()).await.is_err());
    assert_eq!(node.started(), 0);

    fs::rename(node.file("tokenizer.json.incomplete"), node.file("tokenizer.json")).unwrap();
    assert_eq!(next(&mut told).await.unwrap().entries().len(), 3);
    assert_eq!(node.started(), 2);
    task.abort();
}

#[test]
fn the_role_says_by_its_exit_code_what_kind_of_failure_it_was() {
    let node = Node::new("weights");
    let code = |node: &Node| node.command().output().unwrap().status.code();
    assert_eq!(code(&node), Some(exit::OK));

    let lock = fs::File::open(node.folder.path().join("written.lock")).unwrap();
    let held = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).unwrap();
    assert_eq!(code(&node), Some(AGAIN), "another process reads");
    drop(held);

    nix::unistd::mkfifo(&node.file("tokenizer.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(code(&node), Some(exit::MODEL));
    fs::remove_dir_all(&node.places.model_dir).unwrap();
    assert_eq!(code(&node), Some(exit::OS));
    // What was learned before is still there for when the folder comes back.
    assert!(Cache::load(&node.places.written).is_ok());
}
