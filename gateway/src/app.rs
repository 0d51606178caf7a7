//! What all routes share, and the way from a checked request to a running generation.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tandem_wire::ModelCard;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    GatewaySetup, SamplingDefaults, Settings,
    choice::Choice,
    engine_link::{EngineLink, Job},
    error::ApiError,
    generation::Generation,
    model::{Model, Recommended},
    reasoning::ReasoningSplitter,
    record::Recorder,
    request::{Defaults, Params},
};

/// Prompts tokenised or rendered at once: each takes a core for milliseconds to seconds, and the
/// engine on the same machine needs the others.
const TOKENIZING_MAX: usize = 2;

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
    /// Whether requests are recorded.
    records: bool,
    slots: Arc<Semaphore>,
    tokenizing: Semaphore,
    draining: AtomicBool,
    /// Whether the drain's time is up, so that what still runs is cut off.
    cut_off: Arc<AtomicBool>,
}

/// A request that has a place in the gateway but is not with the engine yet.
pub(crate) struct Admission {
    card: ModelCard,
    permit: OwnedSemaphorePermit,
    deadline: Instant,
    recorder: Recorder,
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
            records: setup.records,
            model: Arc::new(model),
            model_id: setup.model_id,
            aliases: setup.aliases,
            stands_in_for: setup.stands_in_for,
            engine: EngineLink::start(setup.rank_socket, settings.max_submitted as usize),
            created: unix_time_s(),
            slots: Arc::new(Semaphore::new(settings.max_queued as usize)),
            tokenizing: Semaphore::new(TOKENIZING_MAX),
            draining: AtomicBool::new(false),
            cut_off: Arc::default(),
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
        let permit = Arc::clone(&self.slots)
            .try_acquire_many_owned(choices)
            .map_err(|_| ApiError::queue_full(self.settings.max_queued))?;
        let timeout = Duration::from_millis(self.settings.request_timeout_ms);
        let cut_off = Arc::clone(&self.cut_off);
        let recorder = Recorder::new(self.records, &self.model_id, is_canary, cut_off);
        Ok(Admission { card, permit, deadline: Instant::now() + timeout, recorder })
    }

    /// Runs work on text off the async threads, a few at a time, within the request's time.
    pub(crate) async fn with_model<T: Send + 'static>(
        &self,
        admission: &Admission,
        work: impl FnOnce(&Model) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let timed_out = |_| ApiError::timeout(self.settings.request_timeout_ms);
        let place = tokio::time::timeout_at(admission.deadline.into(), self.tokenizing.acquire());
        let _place = place.await.map_err(timed_out)?;
        let model = Arc::clone(&self.model);
        tokio::task::spawn_blocking(move || work(&model))
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
        let Admission { card, permit, deadline, mut recorder } = admission;
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
                    deadline,
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
        Ok(Generation::new(run, choices, prompt_tokens, model, timeout_ms, recorder, permit))
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
