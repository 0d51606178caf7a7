//! The executor of arithmetic, and the rank that a child process runs with it.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tandem_engine::control::ring::Neighbours;
use tandem_engine::settings::{RankPlace, RankSetup};
use tandem_engine::start::Progress;
use tandem_engine::step::{Execute, Loaded, Sampled, Step};
use tandem_engine::{EngineError, Settings, rank};
use tandem_wire::{ModelCard, Session, Transport, TransportRow, exit};

pub(crate) const VOCAB: u32 = 1000;

/// What a child is told on its standard input.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Play {
    pub(crate) rank: u32,
    pub(crate) world: u32,
    pub(crate) port: u16,
    pub(crate) run_dir: PathBuf,
    pub(crate) session: Session,
    pub(crate) parity: String,
    pub(crate) step_ms: u64,
    /// Answers this step with wrong tokens.
    pub(crate) lie_at: Option<u64>,
    /// Never comes back from collecting this step.
    pub(crate) hang_at: Option<u64>,
    /// Fails, as MLX would, at this step.
    pub(crate) fail_at: Option<u64>,
    /// Never comes back from forming the group.
    pub(crate) group_hangs: bool,
    /// Finds, after so long, that the group adds wrongly.
    pub(crate) wrong_sum_after_ms: Option<u64>,
    pub(crate) silence_timeout_ms: u64,
    pub(crate) step_timeout_ms: u64,
    pub(crate) form_timeout_ms: u64,
}

/// Remembers each slot's tokens; the next is a hash of all before it.
struct Fake {
    play: Play,
    loaded: Loaded,
    slots: Vec<Option<(Vec<u32>, u32)>>,
    pending: VecDeque<u64>,
}

pub(crate) fn next_token(tokens: &[u32]) -> u32 {
    let fold = |hash: u64, token: &u32| (hash ^ u64::from(*token)).wrapping_mul(0x0100_0000_01b3);
    ((tokens.iter().fold(0xcbf2_9ce4_8422_2325, fold) >> 32) % u64::from(VOCAB)) as u32
}

/// What a group of so many ranks is said to have been measured as.
pub(crate) fn measured(world: u32) -> Transport {
    let row = TransportRow { bytes: 4096, rounds: 20, median_ns: 50_000, best_ns: 40_000 };
    Transport { backend: "ring".into(), world, rows: vec![row] }
}

/// As MLX waits for a peer that is gone.
fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

impl Fake {
    fn new(play: Play) -> Self {
        let card =
            ModelCard { architecture: "fake".into(), vocab_size: VOCAB, context_tokens: 4096 };
        let loaded = Loaded { card, bytes_read: 11, weights_bytes: 22, kv_tokens: u64::MAX };
        Self { play, loaded, slots: vec![None; 16], pending: VecDeque::new() }
    }

    fn sample(&mut self, slot: u32) -> Sampled {
        let (tokens, _) = self.slots[slot as usize].as_mut().unwrap();
        let token = next_token(tokens);
        tokens.push(token);
        Sampled { slot, token, logprob: None, top: Vec::new() }
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
            sampled.iter_mut().for_each(|s| s.token = (s.token + 1) % VOCAB);
        }
        self.pending.push_back(step.seq);
        Ok((step.seq, sampled))
    }

    fn collect(&mut self, (seq, sampled): Self::Pending) -> Result<Vec<Sampled>, EngineError> {
        assert_eq!(self.pending.pop_front(), Some(seq), "collected in the order of dispatch");
        if self.play.hang_at == Some(seq) {
            hang();
        }
        if self.play.fail_at == Some(seq) {
            return Err(EngineError::Mlx { what: "a step", message: "out of memory".into() });
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
        let path = self.play.run_dir.join(format!("dropped-{}", self.play.rank));
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
    let place = RankPlace { address: local, weight: 1 };
    let setup = RankSetup {
        rank: play.rank,
        ranks: vec![place; play.world as usize],
        model_dir: PathBuf::new(),
        run_dir: play.run_dir.clone(),
        ceiling: None,
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
    let start = move |_: &RankSetup, ring: Option<Neighbours>, tell: &dyn Fn(Progress)| {
        assert_eq!(ring.is_some(), play.world > 1, "connected to its neighbours");
        if play.group_hangs {
            hang();
        }
        if let Some(ms) = play.wrong_sum_after_ms {
            std::thread::sleep(Duration::from_millis(ms));
            return Err(EngineError::Integrity("a sum is wrong".into()));
        }
        if play.world > 1 {
            tell(Progress::Measured(measured(play.world)));
        }
        tell(Progress::Loading);
        Ok(Fake::new(play.clone()))
    };
    let result = rank::run(setup, session, parity, start);
    if let Err(error) = &result {
        eprintln!("{error}");
    }
    std::process::exit(result.map_or_else(|error| error.exit_code(), |()| exit::OK));
}
