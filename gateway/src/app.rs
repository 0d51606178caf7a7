//! What all routes share, and the way from a checked request to a running generation.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tandem_wire::ModelCard;
use tokio::sync::Semaphore;

use crate::{
    GatewaySetup, SamplingDefaults, Settings,
    choice::Choice,
    engine_link::{EngineLink, Job},
    error::ApiError,
    generation::Generation,
    model::{Model, Recommended},
    reading::{self, Reading},
    reasoning::ReasoningSplitter,
    record::Recorder,
    records::Records,
    request::{Defaults, Params},
    settle::{Visit, Visitors},
};

/// Prompts tokenised or rendered at once: each takes a core for milliseconds to seconds, and the
/// engine on the same machine needs the others.
const TOKENIZING_MAX: usize = 2;

/// Places for the supervisors' own requests beside those of the clients, so that no load of theirs
/// keeps it from seeing that tokens come: each node has one such request at a time.
pub(crate) const CANARIES_MAX: usize = 8;

/// State of the whole gateway.
pub(crate) struct App {
    pub(crate) settings: Settings,
    pub(crate) model: Arc<Model>,
    pub(crate) model_id: String,
    pub(crate) aliases: Vec<String>,
    /// Names of another model that this one answers to.
    stands_in_for: Vec<String>,
    pub(crate) engine: EngineLink,
    /// Unix time of the start, in seconds: the model's `created`.
    pub(crate) created: u64,
    records: Records,
    slots: Arc<Semaphore>,
    canary_slots: Arc<Semaphore>,
    tokenizing: Arc<Semaphore>,
    canary_tokenizing: Arc<Semaphore>,
    visitors: Visitors,
    /// Most bytes of text that one token can stand for, where that is bounded.
    token_bytes_max: Option<usize>,
    draining: AtomicBool,
    /// Whether the drain's time is up, so that what still runs is cut off.
    cut_off: Arc<AtomicBool>,
}

/// A request that has a place in the gateway but is not with the engine yet.
pub(crate) struct Admission {
    card: ModelCard,
    is_canary: bool,
    recorder: Recorder,
    visit: Visit,
}

/// What is to be generated for one request.
pub(crate) struct Plan {
    /// Ids of each prompt.
    pub(crate) prompts: Vec<Vec<u32>>,
    pub(crate) params: Params,
    /// Name of the field that the prompts are from.
    pub(crate) param: &'static str,
    /// For each choice: how its reasoning is told from its answer.
    pub(crate) splitter: ReasoningSplitter,
}

impl App {
    pub(crate) fn new(setup: GatewaySetup, model: Model) -> Self {
        let settings = setup.settings;
        Self {
            records: Records::new(setup.records),
            model_id: setup.model_id,
            aliases: setup.aliases,
            stands_in_for: setup.stands_in_for,
            engine: EngineLink::start(setup.rank_socket, settings.max_submitted as usize),
            created: unix_time_s(),
            slots: Arc::new(Semaphore::new(settings.max_queued as usize)),
            canary_slots: Arc::new(Semaphore::new(CANARIES_MAX)),
            tokenizing: Arc::new(Semaphore::new(TOKENIZING_MAX)),
            canary_tokenizing: Arc::new(Semaphore::new(1)),
            visitors: Visitors::default(),
            token_bytes_max: model.tokenizer.token_bytes_max(),
            draining: AtomicBool::new(false),
            cut_off: Arc::default(),
            model: Arc::new(model),
            settings,
        }
    }

    /// What absent fields of a request become.
    pub(crate) fn defaults(&self) -> Result<Defaults, ApiError> {
        let sampling = match self.settings.sampling_defaults {
            SamplingDefaults::Model => self.model.recommended,
            SamplingDefaults::Openai => Recommended::default(),
        };
        Ok(Defaults {
            // More than there are places would be told to try again for ever.
            max_choices: self.settings.max_choices.min(self.settings.max_queued),
            max_tokens: self.settings.max_tokens_default,
            sampling,
            seed: random_u64()?,
        })
    }

    /// Refuses every name that the served model does not answer to. Gives the name that it is
    /// served as: an alias is one, the name of a model that it stands in for is not.
    pub(crate) fn served_name<'a>(&'a self, name: &'a str) -> Result<&'a str, ApiError> {
        let is_one = |names: &[String]| names.iter().any(|one| one == name);
        if name == self.model_id || name == "default_model" || is_one(&self.aliases) {
            return Ok(name);
        }
        if is_one(&self.stands_in_for) {
            return Ok(&self.model_id);
        }
        Err(ApiError::model_not_found(name, &self.model_id))
    }

    /// The model, if new requests are taken; else the refusal that says why not.
    pub(crate) fn ready(&self) -> Result<ModelCard, ApiError> {
        if self.draining.load(Ordering::Relaxed) {
            let reason = "The gateway is shutting down.";
            return Err(ApiError::unavailable("draining", reason));
        }
        self.engine.status().ready().cloned().map_err(|reason| {
            ApiError::unavailable("not_ready", format!("Not ready: {reason}; try again soon."))
        })
    }

    /// Gives a request of `choices` generations its place, if the engine is ready and there is
    /// room.
    pub(crate) fn admit(&self, choices: u32, is_canary: bool) -> Result<Admission, ApiError> {
        let card = self.ready()?;
        let slots = if is_canary { &self.canary_slots } else { &self.slots };
        let place = Arc::clone(slots)
            .try_acquire_many_owned(choices)
            .map_err(|_| ApiError::queue_full(self.settings.max_queued))?;
        let cut_off = Arc::clone(&self.cut_off);
        let recorder = Recorder::new(self.records.clone(), &self.model_id, is_canary, cut_off);
        let visit = self.visitors.enter(place);
        Ok(Admission { card, is_canary, recorder, visit })
    }

    /// Runs work on text off the async threads, a few at a time. A thread can't be stopped: so what
    /// the work holds, the request's place included, is held until it ends, whoever went away
    /// meanwhile; and it is told of that.
    pub(crate) async fn with_model<T: Send + 'static>(
        &self,
        admission: Admission,
        work: impl FnOnce(&Model, &Reading) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<(Admission, T), ApiError> {
        if !admission.is_canary {
            self.visitors.settle().await;
        }
        let readers = if admission.is_canary { &self.canary_tokenizing } else { &self.tokenizing };
        let limit = Duration::from_millis(self.settings.request_timeout_ms);
        let turn = tokio::time::timeout(limit, Arc::clone(readers).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            let reason = "Too many prompts are being read; try again soon.";
            return Err(ApiError::unavailable("busy", reason));
        };
        let model = Arc::clone(&self.model);
        let (reading, _reader) =
            reading::begin(admission.card.context_tokens, self.token_bytes_max);
        tokio::task::spawn_blocking(move || {
            let done = work(&model, &reading);
            drop(turn);
            done.map(|done| (admission, done))
        })
        .await
        .map_err(|e| ApiError::internal(format!("Reading the prompt failed: {e}.")))?
    }

    /// Checks a plan against the model and hands it to the engine.
    pub(crate) fn start(
        &self,
        id: &str,
        admission: Admission,
        plan: Plan,
    ) -> Result<Generation, ApiError> {
        let Admission { card, is_canary, mut recorder, visit } = admission;
        let Plan { prompts, params, param, splitter } = plan;
        if params.sampling.logit_bias.iter().any(|(token, _)| *token >= card.vocab_size) {
            let problem = format_args!("names a token that is not under {}", card.vocab_size);
            return Err(ApiError::field("logit_bias", problem));
        }
        let stop_tokens: Arc<[u32]> = self.model.stop_tokens.as_slice().into();
        let mut jobs = Vec::new();
        let mut choices = Vec::new();
        let mut prompt_tokens = 0;
        for prompt in prompts {
            // One token at least must fit behind the prompt.
            let room = (card.context_tokens as usize).saturating_sub(prompt.len());
            if room == 0 {
                return Err(ApiError::context_length(param, prompt.len(), card.context_tokens));
            }
            if prompt.iter().any(|token| *token >= card.vocab_size) {
                let problem = format_args!("holds a token that is not under {}", card.vocab_size);
                return Err(ApiError::field(param, problem));
            }
            prompt_tokens += prompt.len();
            let prompt: Arc<[u32]> = prompt.into();
            for _ in 0..params.n {
                let sampling = params.sampling_of(jobs.len() as u32);
                jobs.push(Job {
                    prompt: Arc::clone(&prompt),
                    max_tokens: params.max_tokens.min(room as u32),
                    stop_tokens: Arc::clone(&stop_tokens),
                    sampling,
                    logprobs: params.logprobs,
                    silence_max: Duration::from_millis(self.settings.request_timeout_ms),
                    urgent: is_canary,
                    _place: Some(visit.place()),
                });
                choices.push(Choice::new(params.stop.clone(), splitter.clone()));
            }
        }
        let run = self.engine.submit(jobs);
        if self.cut_off.load(Ordering::SeqCst) {
            // It was still being read when all others were cut off.
            self.engine.fail_all();
        }
        let model = Arc::clone(&self.model);
        let timeout_ms = self.settings.request_timeout_ms;
        recorder.begin(id, prompt_tokens);
        Ok(Generation::new(run, choices, prompt_tokens, model, timeout_ms, recorder, visit))
    }

    /// The end: nothing runs any more.
    pub(crate) async fn close(&self) {
        self.records.flush().await;
    }

    /// Takes no more requests; waits for the running ones, then ends those that are left.
    pub(crate) async fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        let all = self.slots.acquire_many(self.settings.max_queued);
        let limit = self.settings.drain_timeout();
        if tokio::time::timeout(limit, all).await.is_err() {
            let left =
                (self.settings.max_queued as usize).saturating_sub(self.slots.available_permits());
            tracing::warn!(generations = left, "still running after drain_timeout_ms; ending them");
            self.cut_off.store(true, Ordering::SeqCst);
            self.engine.fail_all();
        }
    }
}

/// Seconds since 1970.
pub(crate) fn unix_time_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// For seeds and ids.
pub(crate) fn random_u64() -> Result<u64, ApiError> {
    getrandom::u64().map_err(|e| ApiError::internal(format!("No random numbers: {e}.")))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::model_folder;

    #[tokio::test]
    async fn places_are_held_as_long_as_the_work_and_canaries_have_their_own() {
        let dir = tempfile::tempdir().unwrap();
        model_folder::write(dir.path());
        let setup = GatewaySetup {
            settings: Settings { max_queued: 4, ..Settings::default() },
            model_dir: dir.path().to_owned(),
            model_id: "m".into(),
            aliases: Vec::new(),
            stands_in_for: Vec::new(),
            rank_socket: dir.path().join("none.sock"),
            canary_key_hash: None,
            peer_listen: None,
            peer_key_hash: None,
            records: false,
        };
        let app = App::new(setup, Model::load(dir.path()).unwrap());
        let admission = |is_canary: bool| Admission {
            card: ModelCard { architecture: "a".into(), vocab_size: 9, context_tokens: 9 },
            is_canary,
            recorder: Recorder::new(Records::none(), "m", is_canary, Arc::default()),
            visit: app.visitors.enter(Arc::clone(&app.slots).try_acquire_owned().unwrap()),
        };
        let (release, gate) = mpsc::channel::<()>();
        let gate = Arc::new(std::sync::Mutex::new(gate));
        for _ in 0..TOKENIZING_MAX {
            let (began, begun) = tokio::sync::oneshot::channel();
            let gate = Arc::clone(&gate);
            let work = move |_: &Model, _: &Reading| {
                let _ = began.send(());
                // Open once the other end is gone.
                let _ = gate.lock().unwrap().recv();
                Ok(())
            };
            // The client goes away in the middle of the work.
            tokio::select! {
                _ = app.with_model(admission(false), work) => panic!("it can't be done"),
                begun = begun => begun.unwrap(),
            }
        }
        assert_eq!(app.slots.available_permits(), 4 - TOKENIZING_MAX);
        assert_eq!(app.tokenizing.available_permits(), 0);
        let (_, answer) = app.with_model(admission(true), |_, _| Ok(5)).await.unwrap();
        assert_eq!(answer, 5, "a canary waits for no client");
        drop(release);
        let all = app.tokenizing.acquire_many(TOKENIZING_MAX as u32).await;
        drop(all.unwrap());
        app.slots.acquire_many(4).await.unwrap().forget();
    }
}
