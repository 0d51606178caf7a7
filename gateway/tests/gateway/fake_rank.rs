//! Rank 0, played by the test: speaks the wire protocol and makes tokens that depend, as the real
//! engine's do, on nothing but the prompt, the seed and the position.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
};

use futures_util::StreamExt;
use tandem_wire::{
    Candidate, FailureCode, FinishReason, FromRank, Hello, ModelCard, PROTOCOL_VERSION, Phase,
    Submit, ToRank, Token, Vitals,
};
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, watch},
    task::{AbortHandle, JoinSet},
};
use tokio_util::codec::LengthDelimitedCodec;

/// What the rank answers with.
#[derive(Clone)]
pub(crate) enum Script {
    /// These tokens for every request.
    Tokens(Vec<u32>),
    /// Tokens drawn by a hash of prompt, seed and position, for ever.
    Drawn,
}

/// How the rank behaves; tests change it while it runs.
#[derive(Clone)]
pub(crate) struct Behaviour {
    pub(crate) script: Script,
    pub(crate) protocol: u32,
    pub(crate) epoch: u64,
    pub(crate) context_tokens: u32,
    /// Refuse with this instead of generating, this often.
    pub(crate) refusals: Vec<FailureCode>,
    /// Give this index to every token of the next submission, whatever its place.
    pub(crate) wrong_index: Option<u32>,
    /// Most requests at once; more are refused as `Full`.
    pub(crate) requests_max: usize,
    /// Whether it says that it works: each time it is asked, one more step is done.
    pub(crate) busy: bool,
}

pub(crate) const VOCAB_SIZE: u32 = 600;

#[derive(Default)]
struct Seen {
    submits: Vec<Submit>,
    cancels: Vec<u64>,
    active_max: usize,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    phase: watch::Sender<Phase>,
    seen: watch::Sender<Seen>,
    /// One permit a token: tests that pause generation give them out.
    gate: Semaphore,
    connections: Mutex<Vec<AbortHandle>>,
}

pub(crate) struct FakeRank {
    shared: Arc<Shared>,
}

impl FakeRank {
    /// Listens. Without a budget it generates as fast as it can.
    pub(crate) fn start(socket: &Path, script: Script, token_budget: Option<usize>) -> Self {
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Behaviour {
                script,
                protocol: PROTOCOL_VERSION,
                epoch: 1,
                context_tokens: 512,
                refusals: Vec::new(),
                wrong_index: None,
                requests_max: usize::MAX,
                busy: false,
            }),
            phase: watch::channel(Phase::Ready).0,
            seen: watch::channel(Seen::default()).0,
            gate: Semaphore::new(token_budget.unwrap_or(1 << 30)),
            connections: Mutex::default(),
        });
        let listener = UnixListener::bind(socket).unwrap();
        tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { shared }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.behaviour.lock().unwrap());
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.shared.phase.send_replace(phase);
    }

    /// Lets this many more tokens out.
    pub(crate) fn allow(&self, tokens: usize) {
        self.shared.gate.add_permits(tokens);
    }

    /// Dies as by `kill -9` and comes back as the next epoch, in this phase.
    pub(crate) fn crash(&self, phase: Phase) {
        self.set_phase(phase);
        self.change(|behaviour| behaviour.epoch += 1);
        for connection in self.shared.connections.lock().unwrap().drain(..) {
            connection.abort();
        }
    }

    pub(crate) fn submits(&self) -> Vec<Submit> {
        self.shared.seen.borrow().submits.clone()
    }

    pub(crate) fn active_max(&self) -> usize {
        self.shared.seen.borrow().active_max
    }

    /// Waits until so many submissions arrived.
    pub(crate) async fn submitted(&self, count: usize) {
        self.wait(|seen| seen.submits.len() >= count).await;
    }

    /// Waits until the request of a submission was cancelled.
    pub(crate) async fn cancelled(&self, submission: usize) {
        self.wait(|seen| {
            seen.submits.get(submission).is_some_and(|submit| seen.cancels.contains(&submit.id))
        })
        .await;
    }

    async fn wait(&self, condition: impl Fn(&Seen) -> bool) {
        let mut seen = self.shared.seen.subscribe();
        let found = seen.wait_for(|seen| condition(seen));
        tokio::time::timeout(super::server::PATIENCE, found).await.expect("never seen").unwrap();
    }
}

async fn accept(listener: UnixListener, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let task = tokio::spawn(connection(stream, Arc::clone(&shared)));
        shared.connections.lock().unwrap().push(task.abort_handle());
    }
}

async fn connection(stream: UnixStream, shared: Arc<Shared>) {
    let (read, mut write) = stream.into_split();
    let (outbox, mut queue) = mpsc::unbounded_channel::<FromRank>();
    let behaviour = shared.behaviour.lock().unwrap().clone();
    let (protocol, epoch) = (behaviour.protocol, behaviour.epoch);
    let hello = Hello { protocol, epoch, rank: 0, world: 1, pid: 1 };
    outbox.send(FromRank::Hello(hello)).unwrap();
    let mut phases = shared.phase.subscribe();
    phases.mark_changed();
    let mut frames = LengthDelimitedCodec::builder().little_endian().new_read(read);
    let mut active: HashMap<u64, AbortHandle> = HashMap::new();
    // Dropped with this task, which ends the generations, too.
    let mut generations = JoinSet::new();
    let mut steps = 0;
    loop {
        tokio::select! {
            Some(message) = queue.recv() => {
                if write.write_all(&tandem_wire::encode(&message).unwrap()).await.is_err() {
                    return;
                }
            }
            Ok(()) = phases.changed() => {
                let phase = *phases.borrow_and_update();
                let model = (phase == Phase::Ready).then(|| ModelCard {
                    architecture: "fake".into(),
                    vocab_size: VOCAB_SIZE,
                    context_tokens: behaviour.context_tokens,
                });
                let _ = outbox.send(FromRank::Phase { phase, model });
            }
            Some(_) = generations.join_next(), if !generations.is_empty() => {}
            frame = frames.next() => {
                let Some(Ok(frame)) = frame else { return };
                match tandem_wire::decode(&frame).unwrap() {
                    ToRank::Submit(submit) => {
                        active.retain(|_, task| !task.is_finished());
                        let task = take(*submit, active.len(), &shared, &outbox);
                        if let Some((id, work)) = task {
                            active.insert(id, generations.spawn(work));
                        }
                    }
                    ToRank::Cancel { id } => {
                        if let Some(task) = active.remove(&id).filter(|task| !task.is_finished()) {
                            task.abort();
                            let code = FailureCode::Cancelled;
                            let _ = outbox.send(FromRank::Failed { id, code, message: "gone".into() });
                        }
                        shared.seen.send_modify(|seen| seen.cancels.push(id));
                    }
                    ToRank::Vitals if shared.behaviour.lock().unwrap().busy => {
                        steps += 1;
                        let _ = outbox.send(FromRank::Vitals(vitals(epoch, steps)));
                    }
                    ToRank::Vitals | ToRank::Unload => {}
                }
            }
        }
    }
}

fn vitals(epoch: u64, steps: u64) -> Vitals {
    Vitals {
        epoch,
        rank: 0,
        phase: Phase::Ready,
        steps,
        last_step_age_ms: None,
        active: 1,
        queued: 0,
        tokens: 0,
        bytes_read: 0,
        weights_bytes: 0,
        memory_bytes: 0,
        memory_peak_bytes: 0,
        transport: None,
    }
}

fn take(
    submit: Submit,
    active: usize,
    shared: &Arc<Shared>,
    outbox: &mpsc::UnboundedSender<FromRank>,
) -> Option<(u64, impl Future<Output = ()> + Send + use<>)> {
    let id = submit.id;
    let mut behaviour = shared.behaviour.lock().unwrap();
    let full = (active >= behaviour.requests_max).then_some(FailureCode::Full);
    let refusal = behaviour.refusals.pop().or(full);
    let (script, wrong_index) = (behaviour.script.clone(), behaviour.wrong_index.take());
    drop(behaviour);
    shared.seen.send_modify(|seen| {
        seen.submits.push(submit.clone());
        seen.active_max = seen.active_max.max(active + 1);
    });
    if let Some(code) = refusal {
        let _ = outbox.send(FromRank::Failed { id, code, message: "as the test says".into() });
        return None;
    }
    let (shared, outbox) = (Arc::clone(shared), outbox.clone());
    Some((id, async move { generate(submit, script, wrong_index, &shared, &outbox).await }))
}

async fn generate(
    submit: Submit,
    script: Script,
    wrong_index: Option<u32>,
    shared: &Shared,
    outbox: &mpsc::UnboundedSender<FromRank>,
) {
    let id = submit.id;
    for index in submit.generated.len() as u32..submit.max_tokens {
        shared.gate.acquire().await.unwrap().forget();
        let token = match &script {
            Script::Tokens(tokens) => tokens[index as usize],
            Script::Drawn => draw(&submit, index),
        };
        let top = |n| (0..n).map(|k| Candidate { token: 300 + u32::from(k), logprob: -1.0 });
        let message = FromRank::Token(Token {
            id,
            index: wrong_index.unwrap_or(index),
            token,
            logprob: submit.logprobs.map(|_| -0.5),
            top: submit.logprobs.map(|n| top(n).collect()).unwrap_or_default(),
        });
        let _ = outbox.send(message);
        if submit.stop_tokens.contains(&token) {
            let _ = outbox.send(FromRank::Done { id, reason: FinishReason::Stop });
            return;
        }
    }
    let _ = outbox.send(FromRank::Done { id, reason: FinishReason::Length });
}

/// Any token but the special ones, by SplitMix64's mixing.
fn draw(submit: &Submit, index: u32) -> u32 {
    let mut x = submit.sampling.seed ^ (submit.prompt.len() as u64) << 32 ^ u64::from(index);
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    3 + ((x ^ (x >> 31)) % 300) as u32
}
