//! Gangs of child processes, and connections to their sockets.

use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tandem_wire::{FromRank, ModelCard, Phase, Sampling, Session, Submit, ToRank, exit};

use crate::fake::Play;

/// Longer than anything here takes on a busy machine, shorter than a test runner's patience.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A gang of child processes; whatever of it still runs at a test's end is killed.
pub(crate) struct Troupe {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) ranks: Vec<Child>,
}

impl Troupe {
    /// Starts `world` ranks, each after `direct` changed its part.
    pub(crate) fn start(world: u32, direct: impl Fn(&mut Play)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let ranks = (0..world).map(|rank| {
            let mut play = Play {
                rank,
                world,
                port,
                run_dir: dir.path().to_owned(),
                session: Session { epoch: 3, control_key: "5a".repeat(32) },
                parity: "{}".to_owned(),
                step_ms: 1,
                lie_at: None,
                hang_at: None,
                fail_at: None,
                group_hangs: false,
                wrong_sum_after_ms: None,
                silence_timeout_ms: 1500,
                step_timeout_ms: 10_000,
                form_timeout_ms: 15_000,
            };
            direct(&mut play);
            spawn(&play)
        });
        let ranks = ranks.collect();
        Self { dir, ranks }
    }

    pub(crate) fn ready(world: u32, direct: impl Fn(&mut Play)) -> (Self, Wire) {
        let troupe = Self::start(world, direct);
        for rank in 1..world {
            Wire::connect(&troupe.socket(rank)).wait_phase(Phase::Ready);
        }
        let mut wire = Wire::connect(&troupe.socket(0));
        wire.wait_phase(Phase::Ready);
        (troupe, wire)
    }

    pub(crate) fn socket(&self, rank: u32) -> PathBuf {
        self.dir.path().join(format!("rank-{rank}.sock"))
    }

    pub(crate) fn signal(&self, rank: usize, signal: Signal) {
        kill(Pid::from_raw(self.ranks[rank].id() as i32), signal).unwrap();
    }

    /// The exit code of a rank that ends within `limit`.
    pub(crate) fn code_within(&mut self, rank: usize, limit: Duration) -> i32 {
        let started = Instant::now();
        loop {
            if let Some(status) = self.ranks[rank].try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(started.elapsed() < limit, "rank {rank} still runs after {limit:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn code(&mut self, rank: usize) -> i32 {
        self.code_within(rank, PATIENCE)
    }

    pub(crate) fn assert_unloaded(&mut self) {
        for rank in 0..self.ranks.len() {
            assert_eq!(self.code(rank), exit::OK, "rank {rank}");
            assert!(!self.socket(rank as u32).exists(), "rank {rank} left its socket");
            assert!(self.dir.path().join(format!("dropped-{rank}")).exists(), "rank {rank}");
        }
    }
}

impl Drop for Troupe {
    fn drop(&mut self) {
        for child in &mut self.ranks {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn spawn(play: &Play) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "fake::child", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take().unwrap();
    serde_json::to_writer(stdin, play).unwrap();
    child
}

/// A connection to a rank's socket.
pub(crate) struct Wire {
    pub(crate) stream: UnixStream,
}

impl Wire {
    pub(crate) fn connect(path: &Path) -> Self {
        let started = Instant::now();
        loop {
            if let Ok(stream) = UnixStream::connect(path) {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut wire = Self { stream };
                assert!(matches!(wire.read(), FromRank::Hello(hello) if hello.epoch == 3));
                return wire;
            }
            assert!(started.elapsed() < PATIENCE, "nobody answers at {}", path.display());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn read(&mut self) -> FromRank {
        tandem_wire::read_frame(&mut self.stream).unwrap()
    }

    pub(crate) fn send(&mut self, message: &ToRank) {
        tandem_wire::write_frame(&mut self.stream, message).unwrap();
    }

    pub(crate) fn wait_phase(&mut self, awaited: Phase) -> Option<ModelCard> {
        loop {
            match self.read() {
                FromRank::Phase { phase, model } if phase == awaited => return model,
                FromRank::Phase { phase, .. } => assert!(phase < awaited, "{phase:?}"),
                other => panic!("{other:?} before {awaited:?}"),
            }
        }
    }

    pub(crate) fn submit(&mut self, id: u64, prompt: &[u32], max_tokens: u32) {
        self.send(&ToRank::Submit(Box::new(Submit {
            id,
            prompt: prompt.to_vec(),
            generated: Vec::new(),
            max_tokens,
            stop_tokens: Vec::new(),
            sampling: Sampling::greedy(),
            logprobs: None,
            urgent: false,
        })));
    }

    /// Tokens of a request until it ends, and how it does.
    pub(crate) fn finish(&mut self, request: u64) -> (Vec<u32>, FromRank) {
        let mut tokens = Vec::new();
        let mut first = None;
        loop {
            match self.read() {
                FromRank::Token(token) if token.id == request => {
                    let first = *first.get_or_insert(token.index) as usize;
                    assert_eq!(token.index as usize, first + tokens.len());
                    tokens.push(token.token);
                }
                FromRank::Done { id, .. } | FromRank::Failed { id, .. } if id != request => {}
                end @ (FromRank::Done { .. } | FromRank::Failed { .. }) => return (tokens, end),
                _ => {}
            }
        }
    }

    /// Submits a request that outlasts the test, and waits until it runs.
    pub(crate) fn run_long(&mut self) {
        self.submit(77, &[1, 2, 3], 4000);
        while !matches!(self.read(), FromRank::Token(_)) {}
    }
}
