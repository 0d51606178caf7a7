//! The messages themselves. Field order and names are the protocol; see [`crate::PROTOCOL_VERSION`].

use serde::{Deserialize, Serialize};

/// What the supervisor hands a rank as one JSON line on its standard input. It holds the epoch's
/// secret, which therefore is in no argument, environment variable, file or log.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Number of this run of the gang; grows by one with every start of it.
    pub epoch: u64,
    /// 32 random bytes in hex, the same for all ranks of the epoch: authenticates their control
    /// channel.
    pub control_key: String,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// To a rank.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToRank {
    /// Generate for a request. Only rank 0 takes it; answered by [`FromRank::Token`]s and one
    /// [`FromRank::Done`] or [`FromRank::Failed`].
    Submit(Box<Submit>),
    /// Stop generating for a request of this connection. Takes effect within one step and is answered
    /// by [`FromRank::Failed`] with [`FailureCode::Cancelled`], unless the request ended before it
    /// (then its end was its answer). Unknown ids are ignored.
    Cancel {
        /// The id given in [`Submit::id`].
        id: u64,
    },
    /// Ask for [`FromRank::Vitals`].
    Vitals,
    /// Orderly unload: stop stepping, drop all arrays, leave the group, exit 0. Running requests
    /// are not finished first: their gateway re-submits them to the next epoch.
    Unload,
}

/// From a rank.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromRank {
    /// Always the first message of a connection.
    Hello(Hello),
    /// The rank's phase: sent after `Hello` and on every change.
    Phase {
        /// The phase from now on.
        phase: Phase,
        /// What the model is; present from [`Phase::Ready`] on.
        model: Option<ModelCard>,
    },
    /// One more token of a request, in order and without gaps.
    Token(Token),
    /// The request ended as it should; no more messages for it follow.
    Done {
        /// The request.
        id: u64,
        /// Why generation stopped.
        reason: FinishReason,
    },
    /// The request was refused or could not be finished; no more messages for it follow.
    Failed {
        /// The request.
        id: u64,
        /// What the gateway should make of it.
        code: FailureCode,
        /// For the client and the log; one sentence.
        message: String,
    },
    /// Answer to [`ToRank::Vitals`].
    Vitals(Vitals),
}

/// What a rank measured of the ranks' group when it was formed, before any weight was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transport {
    /// MLX's name of what carries it: `ring` or `jaccl`.
    pub backend: String,
    /// How many ranks the group has.
    pub world: u32,
    /// One size of message each, smallest first.
    pub rows: Vec<TransportRow>,
}

/// Sums over all ranks of one size; every sum was checked to be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportRow {
    /// Bytes that each rank contributed.
    pub bytes: u64,
    /// How many sums were timed.
    pub rounds: u32,
    /// The median time of one, in nanoseconds.
    pub median_ns: u64,
    /// The shortest time of one, in nanoseconds.
    pub best_ns: u64,
}

/// Who is speaking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::PROTOCOL_VERSION`] of the rank.
    pub protocol: u32,
    /// Run of the gang this rank belongs to.
    pub epoch: u64,
    /// This rank's number, from 0.
    pub rank: u32,
    /// How many ranks the gang has.
    pub world: u32,
    /// Process id.
    pub pid: u32,
}

/// Where a rank is between start and exit. It only ever moves down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waiting for the other ranks on the control channel and in MLX's group.
    Forming,
    /// Reading this rank's shard from disk.
    Loading,
    /// Running the first tokens through all ranks.
    Warming,
    /// A token came back through all ranks; requests are taken.
    Ready,
    /// Asked to unload; requests are refused.
    Unloading,
}

/// What a rank serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// `model_type` of config.json.
    pub architecture: String,
    /// Ids run from 0 to this, exclusive.
    pub vocab_size: u32,
    /// Most tokens of prompt and completion together.
    pub context_tokens: u32,
}

/// One request for tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submit {
    /// Chosen by the sender, unique on its connection.
    pub id: u64,
    /// Token ids of the prompt; not empty.
    pub prompt: Vec<u32>,
    /// Tokens that an earlier epoch already generated for this request. Generation goes on after
    /// them as if never interrupted; they are not sent again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub generated: Vec<u32>,
    /// Most tokens to generate in all, those in `generated` included; at least 1.
    pub max_tokens: u32,
    /// Ids that end the generation; the ending id is sent as the last [`Token`].
    pub stop_tokens: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// `None`: no log-probabilities. `Some(n)`: that of each chosen token and of the `n` (0 to 20)
    /// most likely ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<u8>,
    /// Goes before all that wait. For the supervisor's own proof that tokens come, which is short.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub urgent: bool,
}

/// How a token is chosen from the logits. Applied in this order: `logit_bias`, repetition penalty,
/// frequency and presence penalties, then (unless `temperature` is 0, which takes the most likely
/// token) temperature, `top_k`, `top_p`, `min_p`, and a draw by the Gumbel-max trick whose noise
/// depends on nothing but `seed`, the token's absolute position and the token id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 is greedy; at most 2 by the API.
    pub temperature: f32,
    /// Keep the most likely tokens whose probabilities add up to this; 1 keeps all. In (0, 1].
    pub top_p: f32,
    /// Keep this many of the most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep tokens at least this fraction as likely as the likeliest; 0 keeps all. In [0, 1].
    pub min_p: f32,
    /// Divide (multiply, if negative) the logits of tokens seen in prompt or completion; 1 is off.
    pub repetition_penalty: f32,
    /// Subtract from the logits of tokens seen in the completion; 0 is off.
    pub presence_penalty: f32,
    /// Subtract per occurrence in the completion; 0 is off.
    pub frequency_penalty: f32,
    /// Add to the logits of these ids; at most 300 entries.
    pub logit_bias: Vec<(u32, f32)>,
    /// Seed of the draw. The gateway picks one where the client gives none, so that a resumed
    /// stream goes on with the same text.
    pub seed: u64,
}

impl Sampling {
    /// The most likely token every time, nothing biased.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

/// One generated token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Token {
    /// The request.
    pub id: u64,
    /// Its place in the completion, from 0; a resumed request goes on at `generated.len()`.
    pub index: u32,
    /// Token id.
    pub token: u32,
    /// Natural log of its probability at temperature 1, after bias and penalties; present if asked
    /// for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprob: Option<f32>,
    /// The most likely tokens, likeliest first; as many as asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<Candidate>,
}

/// A token that could have been chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Token id.
    pub token: u32,
    /// Natural log of its probability, as in [`Token::logprob`].
    pub logprob: f32,
}

/// Why a generation ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// One of [`Submit::stop_tokens`] was generated.
    Stop,
    /// [`Submit::max_tokens`] or the context was reached.
    Length,
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The request can't be served as it is (too long, a token id out of range); the same request
    /// will fail again.
    Invalid,
    /// The rank has as many requests as it takes (`max_queued`); later it may go.
    Full,
    /// The rank is not ready or is unloading: submit it to the next epoch.
    NotReady,
    /// [`ToRank::Cancel`] was obeyed: the rank holds nothing of the request any more.
    Cancelled,
}

/// A rank's own account of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vitals {
    /// Run of the gang.
    pub epoch: u64,
    /// This rank.
    pub rank: u32,
    /// Phase now.
    pub phase: Phase,
    /// Steps finished since start; grows while work waits, or the rank is stalled.
    pub steps: u64,
    /// Milliseconds since the last step finished; `None` before the first.
    pub last_step_age_ms: Option<u64>,
    /// Requests being generated.
    pub active: u32,
    /// Requests waiting for a place.
    pub queued: u32,
    /// Tokens generated since start.
    pub tokens: u64,
    /// Bytes of weights read from disk.
    pub bytes_read: u64,
    /// Bytes of this rank's weights in memory.
    pub weights_bytes: u64,
    /// Bytes MLX holds now.
    pub memory_bytes: u64,
    /// Most bytes MLX held at once.
    pub memory_peak_bytes: u64,
    /// What was measured of the ranks' group when it was formed; absent before, and of a rank alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
}
