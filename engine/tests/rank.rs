//! Ranks as real processes on loopback, with an executor of arithmetic instead of MLX: what a
//! gateway sees, and how each rank ends when another dies, hangs, lies or is told to go.

use std::collections::VecDeque;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tandem_engine::settings::{RankPlace, RankSetup};
use tandem_engine::step::{Execute, Loaded, Sampled, Step};
use tandem_engine::{EngineError, Settings, rank};
use tandem_wire::{
    FailureCode, FinishReason, FromRank, ModelCard, Phase, Sampling, Session, Submit, ToRank, exit,
};

const VOCAB: u32 = 1000;
/// Longer than anything here takes on a busy machine, shorter than a test runner's patience.
const PATIENCE: Duration = Duration::from_secs(20);
/// The promise: gone within 2 s of another's death, whatever the silence allowed; and some time
/// for a busy machine to notice.
const GONE: Duration = Duration::from_secs(2);

/// What a child is told on its standard input.
#[derive(Clone, Serialize, Deserialize)]
struct Play {
    rank: u32,
    world: u32,
    port: u16,
    run_dir: PathBuf,
    session: Session,
    parity: String,
    step_ms: u64,
    /// Answers this step with wrong tokens.
    lie_at: Option<u64>,
    /// Never comes back from collecting this step.
    hang_at: Option<u64>,
    /// Fails, as MLX would, at this step.
    fail_at: Option<u64>,
    /// Never comes back from forming the group.
    group_hangs: bool,
    silence_timeout_ms: u64,
    step_timeout_ms: u64,
    form_timeout_ms: u64,
}

/// Remembers each slot's tokens; the next is a hash of all before it.
struct Fake {
    play: Play,
    loaded: Loaded,
    slots: Vec<Option<(Vec<u32>, u32)>>,
    pending: VecDeque<u64>,
}

fn next_token(tokens: &[u32]) -> u32 {
    let fold = |hash: u64, token: &u32| (hash ^ u64::from(*token)).wrapping_mul(0x0100_0000_01b3);
    ((tokens.iter().fold(0xcbf2_9ce4_8422_2325, fold) >> 32) % u64::from(VOCAB)) as u32
}

impl Fake {
    fn new(play: Play) -> Self {
        let card = ModelCard {
            architecture: "fake".into(),
            vocab_size: VOCAB,
            context_tokens: 4096,
        };
        let loaded = Loaded {
            card,
            bytes_read: 11,
            weights_bytes: 22,
        };
        Self {
            play,
            loaded,
            slots: vec![None; 16],
            pending: VecDeque::new(),
        }
    }

    fn sample(&mut self, slot: u32) -> Sampled {
        let (tokens, _) = self.slots[slot as usize].as_mut().unwrap();
        let token = next_token(tokens);
        tokens.push(token);
        Sampled {
            slot,
            token,
            logprob: None,
            top: Vec::new(),
        }
    }
}

impl Execute for Fake {
    type Pending = (u64, Vec<Sampled>);

    fn dispatch(&mut self, step: &Step) -> Result<Self::Pending, EngineError> {
        for slot in &step.release {
            self.slots[*slot as usize] = None;
        }
        for admit in &step.admit {
            let given = admit.tokens.len() as u32;
            self.slots[admit.slot as usize] = Some((admit.tokens.clone(), given));
        }
        let mut sampled: Vec<_> = step.decode.iter().map(|slot| self.sample(*slot)).collect();
        if let Some(prefill) = step.prefill {
            let given = self.slots[prefill.slot as usize].as_ref().unwrap().1;
            if prefill.start + prefill.len == given {
                sampled.push(self.sample(prefill.slot));
            }
        }
        if self.play.lie_at == Some(step.seq) {
            sampled
                .iter_mut()
                .for_each(|s| s.token = (s.token + 1) % VOCAB);
        }
        self.pending.push_back(step.seq);
        Ok((step.seq, sampled))
    }

    fn collect(&mut self, (seq, sampled): Self::Pending) -> Result<Vec<Sampled>, EngineError> {
        assert_eq!(
            self.pending.pop_front(),
            Some(seq),
            "collected in the order of dispatch"
        );
        if self.play.hang_at == Some(seq) {
            loop {
                std::thread::park();
            }
        }
        if self.play.fail_at == Some(seq) {
            return Err(EngineError::Mlx {
                what: "a step",
                message: "out of memory".into(),
            });
        }
        std::thread::sleep(Duration::from_millis(self.play.step_ms));
        Ok(sampled)
    }

    fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    fn memory_bytes(&self) -> (u64, u64) {
        (33, 44)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // For the tests of orderly unload: only a dropped executor leaves this behind.
        let path = self
            .play
            .run_dir
            .join(format!("dropped-{}", self.play.rank));
        std::fs::write(path, b"").unwrap();
    }
}

/// Not a test of its own: the others run this in child processes, as ranks.
#[test]
#[ignore = "a rank for the other tests, which run it as a child process"]
fn child() {
    let Ok(play) = serde_json::from_reader::<_, Play>(std::io::stdin()) else {
        return;
    };
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let place = RankPlace {
        address: local,
        weight: 1,
    };
    let setup = RankSetup {
        rank: play.rank,
        ranks: vec![place; play.world as usize],
        model_dir: PathBuf::new(),
        run_dir: play.run_dir.clone(),
        settings: Settings {
            control_port: play.port,
            silence_timeout_ms: play.silence_timeout_ms,
            step_timeout_ms: play.step_timeout_ms,
            form_timeout_ms: play.form_timeout_ms,
            ..Settings::default()
        },
    };
    let session = play.session.clone();
    let parity = vec![("config.json".to_owned(), play.parity.clone().into_bytes())];
    let start = move |_: &RankSetup, on_phase: &dyn Fn(Phase)| {
        while play.group_hangs {
            std::thread::park();
        }
        on_phase(Phase::Loading);
        Ok(Fake::new(play.clone()))
    };
    let result = rank::run(setup, session, parity, start);
    if let Err(error) = &result {
        eprintln!("{error}");
    }
    std::process::exit(result.map_or_else(|error| error.exit_code(), |()| exit::OK));
}

/// A gang of child processes; whatever of it still runs at a test's end is killed.
struct Troupe {
    dir: tempfile::TempDir,
    ranks: Vec<Child>,
}

impl Troupe {
    /// Starts `world` ranks, each after `direct` changed its part.
    fn start(world: u32, direct: impl Fn(&mut Play)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let ranks = (0..world).map(|rank| {
            let mut play = Play {
                rank,
                world,
                port,
                run_dir: dir.path().to_owned(),
                session: Session {
                    epoch: 3,
                    control_key: "5a".repeat(32),
                },
                parity: "{}".to_owned(),
                step_ms: 1,
                lie_at: None,
                hang_at: None,
                fail_at: None,
                group_hangs: false,
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

    fn ready(world: u32, direct: impl Fn(&mut Play)) -> (Self, Wire) {
        let troupe = Self::start(world, direct);
        for rank in 1..world {
            Wire::connect(&troupe.socket(rank)).wait_phase(Phase::Ready);
        }
        let mut wire = Wire::connect(&troupe.socket(0));
        wire.wait_phase(Phase::Ready);
        (troupe, wire)
    }

    fn socket(&self, rank: u32) -> PathBuf {
        self.dir.path().join(format!("rank-{rank}.sock"))
    }

    fn signal(&self, rank: usize, signal: Signal) {
        kill(Pid::from_raw(self.ranks[rank].id() as i32), signal).unwrap();
    }

    /// The exit code of a rank that ends within `limit`.
    fn code_within(&mut self, rank: usize, limit: Duration) -> i32 {
        let started = Instant::now();
        loop {
            if let Some(status) = self.ranks[rank].try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(
                started.elapsed() < limit,
                "rank {rank} still runs after {limit:?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn code(&mut self, rank: usize) -> i32 {
        self.code_within(rank, PATIENCE)
    }

    fn assert_unloaded(&mut self) {
        for rank in 0..self.ranks.len() {
            assert_eq!(self.code(rank), exit::OK, "rank {rank}");
            assert!(
                !self.socket(rank as u32).exists(),
                "rank {rank} left its socket"
            );
            assert!(
                self.dir.path().join(format!("dropped-{rank}")).exists(),
                "rank {rank}"
            );
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

fn spawn(play: &Play) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take().unwrap();
    serde_json::to_writer(stdin, play).unwrap();
    child
}

/// A connection to a rank's socket.
struct Wire {
    stream: UnixStream,
}

impl Wire {
    fn connect(path: &Path) -> Self {
        let started = Instant::now();
        loop {
            if let Ok(stream) = UnixStream::connect(path) {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut wire = Self { stream };
                assert!(matches!(wire.read(), FromRank::Hello(hello) if hello.epoch == 3));
                return wire;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "nobody answers at {}",
                path.display()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn read(&mut self) -> FromRank {
        tandem_wire::read_frame(&mut self.stream).unwrap()
    }

    fn send(&mut self, message: &ToRank) {
        tandem_wire::write_frame(&mut self.stream, message).unwrap();
    }

    fn wait_phase(&mut self, awaited: Phase) -> Option<ModelCard> {
        loop {
            match self.read() {
                FromRank::Phase { phase, model } if phase == awaited => return model,
                FromRank::Phase { phase, .. } => assert!(phase < awaited, "{phase:?}"),
                other => panic!("{other:?} before {awaited:?}"),
            }
        }
    }

    fn submit(&mut self, id: u64, prompt: &[u32], max_tokens: u32) {
        self.send(&ToRank::Submit(Box::new(Submit {
            id,
            prompt: prompt.to_vec(),
            generated: Vec::new(),
            max_tokens,
            stop_tokens: Vec::new(),
            sampling: Sampling::greedy(),
            logprobs: None,
        })));
    }

    /// Tokens of a request until it ends, and how it does.
    fn finish(&mut self, request: u64) -> (Vec<u32>, FromRank) {
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
    fn run_long(&mut self) {
        self.submit(77, &[1, 2, 3], 4000);
        while !matches!(self.read(), FromRank::Token(_)) {}
    }
}

fn expected(prompt: &[u32], count: usize) -> Vec<u32> {
    let mut tokens = prompt.to_vec();
    for _ in 0..count {
        tokens.push(next_token(&tokens));
    }
    tokens.split_off(prompt.len())
}

fn long_prompt() -> Vec<u32> {
    (0..1500).map(|i| i % VOCAB).collect()
}

#[test]
fn two_ranks_stream_requests_and_idle_without_spinning() {
    let (troupe, mut wire) = Troupe::ready(2, |_| {});
    wire.submit(1, &long_prompt(), 40);
    let (tokens, end) = wire.finish(1);
    assert_eq!(tokens, expected(&long_prompt(), 40));
    assert!(
        matches!(
            end,
            FromRank::Done {
                id: 1,
                reason: FinishReason::Length
            }
        ),
        "{end:?}"
    );

    let mut other = Wire::connect(&troupe.socket(1));
    assert_eq!(other.wait_phase(Phase::Ready).unwrap().vocab_size, VOCAB);
    other.submit(1, &[1], 1);
    let (_, end) = other.finish(1);
    assert!(
        matches!(
            end,
            FromRank::Failed {
                code: FailureCode::NotReady,
                ..
            }
        ),
        "{end:?}"
    );
    other.send(&ToRank::Vitals);
    let FromRank::Vitals(vitals) = other.read() else {
        panic!("no vitals")
    };
    assert_eq!(
        (vitals.rank, vitals.epoch, vitals.phase),
        (1, 3, Phase::Ready)
    );
    // Three chunks of the prompt, the last of which gives the first of 40 tokens.
    assert!(vitals.steps >= 42, "{vitals:?}");
    assert_eq!((vitals.weights_bytes, vitals.memory_peak_bytes), (22, 44));

    let ids: Vec<u32> = troupe.ranks.iter().map(Child::id).collect();
    let before: Vec<u64> = ids.iter().map(|id| cpu_ticks(*id)).collect();
    std::thread::sleep(Duration::from_secs(2));
    for (id, before) in ids.into_iter().zip(before) {
        // A tick is 10 ms. One spinning thread would take 200; heartbeats take one or two.
        let ticks = cpu_ticks(id) - before;
        assert!(
            ticks <= 20,
            "process {id} used {ticks} ticks of CPU time in 2 s of idling"
        );
    }
}

/// User and system time of a process, in ticks.
fn cpu_ticks(id: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_rank_alone_serves_many_connections_and_forgets_those_that_leave() {
    let (mut troupe, mut wire) = Troupe::ready(1, |_| {});
    let mut leaver = Wire::connect(&troupe.socket(0));
    leaver.run_long();
    drop(leaver);
    wire.submit(1, &[4], 10);
    wire.submit(2, &[5], 4000);
    wire.send(&ToRank::Cancel { id: 2 });
    wire.submit(3, &[VOCAB], 1);
    let (tokens, _) = wire.finish(1);
    assert_eq!(tokens, expected(&[4], 10));
    let mut asker = Wire::connect(&troupe.socket(0));
    asker.wait_phase(Phase::Ready);
    let started = Instant::now();
    loop {
        asker.send(&ToRank::Vitals);
        let FromRank::Vitals(vitals) = asker.read() else {
            panic!("no vitals")
        };
        if vitals.active == 0 {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "still running: {vitals:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    wire.send(&ToRank::Unload);
    troupe.assert_unloaded();
}

#[test]
fn a_killed_follower_ends_rank_0_with_peer_lost() {
    let (mut troupe, mut wire) = Troupe::ready(2, |_| {});
    wire.run_long();
    troupe.signal(1, Signal::SIGKILL);
    assert_eq!(troupe.code_within(0, GONE), exit::PEER_LOST);
}

#[test]
fn a_killed_rank_0_ends_both_followers_with_peer_lost() {
    let (mut troupe, mut wire) = Troupe::ready(3, |_| {});
    wire.run_long();
    troupe.signal(0, Signal::SIGKILL);
    assert_eq!(troupe.code_within(1, GONE), exit::PEER_LOST);
    assert_eq!(troupe.code_within(2, GONE), exit::PEER_LOST);
}

#[test]
fn a_stopped_follower_ends_rank_0_with_peer_silent() {
    let (mut troupe, mut wire) = Troupe::ready(2, |_| {});
    wire.run_long();
    troupe.signal(1, Signal::SIGSTOP);
    assert_eq!(troupe.code_within(0, GONE), exit::PEER_SILENT);
}

#[test]
fn a_rank_that_computes_another_token_ends_all_with_integrity() {
    let (mut troupe, mut wire) = Troupe::ready(3, |play| {
        play.lie_at = (play.rank == 1).then_some(20);
    });
    wire.submit(1, &[1, 2, 3], 4000);
    for rank in 0..3 {
        assert_eq!(troupe.code(rank), exit::INTEGRITY, "rank {rank}");
    }
}

#[test]
fn a_failed_step_has_its_own_code_and_is_a_lost_peer_to_the_others() {
    let (mut troupe, mut wire) = Troupe::ready(2, |play| {
        play.fail_at = (play.rank == 1).then_some(20);
    });
    wire.submit(1, &[1, 2, 3], 4000);
    assert_eq!(troupe.code(1), exit::ENGINE);
    assert_eq!(troupe.code(0), exit::PEER_LOST);
    assert!(
        troupe.dir.path().join("dropped-0").exists(),
        "its arrays were dropped first"
    );
}

#[test]
fn a_hung_step_ends_the_rank_as_stalled_although_its_thread_is_stuck() {
    let (mut troupe, mut wire) = Troupe::ready(2, |play| {
        play.hang_at = (play.rank == 0).then_some(20);
        play.step_timeout_ms = if play.rank == 0 { 300 } else { 10_000 };
    });
    wire.submit(1, &[1, 2, 3], 4000);
    assert_eq!(troupe.code(0), exit::STALLED);
    assert_eq!(troupe.code(1), exit::PEER_LOST);
    assert!(!troupe.dir.path().join("dropped-0").exists());
}

#[test]
fn unload_asked_of_any_rank_unloads_all_in_mid_request() {
    for asked in [0, 1] {
        let (mut troupe, mut wire) = Troupe::ready(2, |_| {});
        wire.run_long();
        Wire::connect(&troupe.socket(asked)).send(&ToRank::Unload);
        let (_, end) = wire.finish(77);
        assert!(
            matches!(
                end,
                FromRank::Failed {
                    code: FailureCode::NotReady,
                    ..
                }
            ),
            "{end:?}"
        );
        troupe.assert_unloaded();
    }
}

#[test]
fn sigterm_to_all_at_once_is_an_orderly_unload() {
    let (mut troupe, _wire) = Troupe::ready(2, |_| {});
    troupe.signal(1, Signal::SIGTERM);
    troupe.signal(0, Signal::SIGTERM);
    troupe.assert_unloaded();
}

#[test]
fn a_group_that_never_forms_ends_in_time_and_sigterm_ends_it_sooner() {
    let mut troupe = Troupe::start(2, |play| {
        play.group_hangs = true;
        play.form_timeout_ms = 1500;
    });
    // Whichever is first tells the other.
    let codes = [troupe.code(0), troupe.code(1)];
    assert!(codes.contains(&exit::GROUP), "{codes:?}");
    assert!(
        codes
            .iter()
            .all(|c| matches!(*c, exit::GROUP | exit::PEER_LOST)),
        "{codes:?}"
    );

    let mut troupe = Troupe::start(1, |play| play.group_hangs = true);
    Wire::connect(&troupe.socket(0));
    troupe.signal(0, Signal::SIGTERM);
    assert_eq!(troupe.code_within(0, GONE), exit::OK);
    assert!(!troupe.socket(0).exists());
}

#[test]
fn ranks_with_different_models_refuse_each_other() {
    let mut troupe = Troupe::start(2, |play| {
        play.parity = format!("{{\"hidden_size\": {}}}", play.rank);
    });
    assert_eq!(troupe.code(0), exit::MODEL);
    assert_eq!(troupe.code(1), exit::MODEL);
}

#[test]
fn a_missing_rank_is_given_up_and_a_living_rank_keeps_its_socket() {
    let mut alone = Troupe::start(1, |play| {
        play.world = 2;
        play.form_timeout_ms = 1500;
    });
    let mut twin = Wire::connect(&alone.socket(0));
    assert!(matches!(
        twin.read(),
        FromRank::Phase {
            phase: Phase::Forming,
            model: None
        }
    ));
    let play = Play {
        rank: 0,
        world: 1,
        port: 1,
        run_dir: alone.dir.path().to_owned(),
        session: Session {
            epoch: 3,
            control_key: String::new(),
        },
        parity: String::new(),
        step_ms: 0,
        lie_at: None,
        hang_at: None,
        fail_at: None,
        group_hangs: false,
        silence_timeout_ms: 500,
        step_timeout_ms: 1000,
        form_timeout_ms: 1000,
    };
    let status = spawn(&play).wait().unwrap();
    assert_eq!(status.code(), Some(exit::OS));
    assert_eq!(alone.code(0), exit::GROUP);
}

#[test]
fn a_reader_that_stops_reading_is_cut_off_and_nobody_else_suffers() {
    let (mut troupe, mut wire) = Troupe::ready(1, |play| play.step_ms = 0);
    let mut deaf = Wire::connect(&troupe.socket(0));
    deaf.stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // Each refusal is an answer that nobody reads: in the end the rank hangs up.
    let empty = tandem_wire::encode(&ToRank::Vitals).unwrap();
    let cut = (0..1_000_000).find_map(|_| deaf.stream.write_all(&empty).err());
    assert!(cut.is_some(), "a connection may fill the rank's memory");
    wire.submit(1, &[9], 20);
    assert_eq!(wire.finish(1).0, expected(&[9], 20));
    wire.send(&ToRank::Unload);
    troupe.assert_unloaded();
}
