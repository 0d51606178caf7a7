//! The fields that chat and completions share.

use serde_json::Value;
use tandem_wire::Sampling;

use crate::{
    error::ApiError,
    model::Recommended,
    request::{
        fields::{Fields, shown, whole},
        unsupported,
    },
};

/// Most stop strings in a request, and most bytes of one. OpenAI takes four; editors that fill in
/// code send a dozen. Each is looked for in every piece of text, and what may begin one is held back.
const STOPS_MAX: usize = 64;
const STOP_BYTES_MAX: usize = 1_024;
const MAX_TOKENS: i128 = u32::MAX as i128;
/// The wire's bound on biased tokens ([`Sampling::logit_bias`]).
const BIASED_TOKENS_MAX: usize = 300;

/// How to generate, checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Params {
    /// Choices for each prompt.
    pub(crate) n: u32,
    pub(crate) stream: bool,
    /// Whether a stream ends with a usage count.
    pub(crate) include_usage: bool,
    /// Tokens to generate at most; the context may leave less.
    pub(crate) max_tokens: u32,
    pub(crate) stop: Vec<String>,
    /// Of the first choice; see [`Params::sampling_of`].
    pub(crate) sampling: Sampling,
    /// `Some(k)`: log-probabilities, with those of the `k` most likely tokens.
    pub(crate) logprobs: Option<u8>,
}

/// What fields may be and what they are if absent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    pub(crate) max_choices: u32,
    pub(crate) max_tokens: u32,
    pub(crate) sampling: Recommended,
    /// Seed of a request that gives none.
    pub(crate) seed: u64,
}

impl Params {
    /// Reads all shared fields but those on log-probabilities, which the two APIs write
    /// differently.
    pub(crate) fn read(fields: &Fields, defaults: &Defaults) -> Result<Self, ApiError> {
        unsupported::refuse(fields)?;
        let stream = fields.boolean("stream")?.unwrap_or(false);
        Ok(Self {
            n: fields.integer("n", 1, defaults.max_choices.into())?.unwrap_or(1) as u32,
            stream,
            include_usage: include_usage(fields, stream)?,
            max_tokens: max_tokens(fields)?.unwrap_or(defaults.max_tokens),
            stop: stop(fields)?,
            sampling: sampling(fields, defaults)?,
            logprobs: None,
        })
    }

    /// How choice number `index` (over all prompts) is sampled: as the first one, with a seed of
    /// its own. The first has the request's seed itself.
    pub(crate) fn sampling_of(&self, index: u32) -> Sampling {
        let step = u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let seed = self.sampling.seed.wrapping_add(step);
        Sampling { seed, ..self.sampling.clone() }
    }
}

fn include_usage(fields: &Fields, stream: bool) -> Result<bool, ApiError> {
    let Some(options) = fields.object("stream_options")? else {
        return Ok(false);
    };
    if !stream {
        return Err(ApiError::field("stream_options", "is only allowed with 'stream': true"));
    }
    match options.get("include_usage") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(include)) => Ok(*include),
        Some(other) => Err(ApiError::field(
            "stream_options.include_usage",
            format_args!("must be true or false, not {}", shown(other)),
        )),
    }
}

/// Both names are in use; if both are given they must agree. -1, as llama.cpp and LM Studio have it,
/// is as many as the context leaves.
fn max_tokens(fields: &Fields) -> Result<Option<u32>, ApiError> {
    let read = |name| match fields.get(name).map(|value| (whole(value), value)) {
        None => Ok(None),
        Some((Some(-1), _)) => Ok(Some(u32::MAX)),
        Some((Some(count @ 1..=MAX_TOKENS), _)) => Ok(Some(count as u32)),
        Some((_, value)) => Err(ApiError::field(
            name,
            format_args!(
                "must be an integer from 1 to {MAX_TOKENS}, or -1 for no limit but the context, \
                 not {}",
                shown(value)
            ),
        )),
    };
    let (old, new) = (read("max_tokens")?, read("max_completion_tokens")?);
    if old.is_some() && new.is_some() && old != new {
        return Err(ApiError::field("max_tokens", "and 'max_completion_tokens' differ; give one"));
    }
    Ok(new.or(old))
}

/// Empty strings and nulls stop nothing; clients send them for "none".
fn stop(fields: &Fields) -> Result<Vec<String>, ApiError> {
    let bad = || {
        let problem = format_args!(
            "must be a string or an array of up to {STOPS_MAX} strings, none over \
             {STOP_BYTES_MAX} bytes"
        );
        ApiError::field("stop", problem)
    };
    let values = match fields.get("stop") {
        None => &[],
        Some(Value::Array(values)) => values.as_slice(),
        Some(value) => std::slice::from_ref(value),
    };
    let mut stops = Vec::new();
    for value in values.iter().filter(|value| !value.is_null()) {
        let text = value.as_str().filter(|text| text.len() <= STOP_BYTES_MAX).ok_or_else(bad)?;
        if !text.is_empty() && !stops.iter().any(|known| known == text) {
            if stops.len() == STOPS_MAX {
                return Err(bad());
            }
            stops.push(text.to_owned());
        }
    }
    Ok(stops)
}

fn sampling(fields: &Fields, defaults: &Defaults) -> Result<Sampling, ApiError> {
    let usual = &defaults.sampling;
    let off = Sampling::greedy();
    // 0 would keep no token; taken as the smallest fraction, it keeps the likeliest one.
    let top_p = fields.number("top_p", 0.0, 1.0)?.or(usual.top_p).unwrap_or(off.top_p);
    let top_k = match fields.get("top_k") {
        // vLLM's way to say "all".
        Some(value) if whole(value) == Some(-1) => Some(0),
        _ => fields.integer("top_k", 0, u32::MAX.into())?.map(|k| k as u32),
    };
    let repetition_penalty = fields.number("repetition_penalty", 0.01, 10.0)?;
    Ok(Sampling {
        temperature: fields.number("temperature", 0.0, 2.0)?.or(usual.temperature).unwrap_or(1.0),
        top_p: top_p.max(f32::MIN_POSITIVE),
        top_k: top_k.or(usual.top_k).unwrap_or(off.top_k),
        min_p: fields.number("min_p", 0.0, 1.0)?.or(usual.min_p).unwrap_or(off.min_p),
        repetition_penalty: repetition_penalty
            .or(usual.repetition_penalty)
            .unwrap_or(off.repetition_penalty),
        presence_penalty: fields.number("presence_penalty", -2.0, 2.0)?.unwrap_or(0.0),
        frequency_penalty: fields.number("frequency_penalty", -2.0, 2.0)?.unwrap_or(0.0),
        logit_bias: logit_bias(fields)?,
        seed: seed(fields)?.unwrap_or(defaults.seed),
    })
}

fn seed(fields: &Fields) -> Result<Option<u64>, ApiError> {
    let Some(value) = fields.get("seed") else {
        return Ok(None);
    };
    // OpenAI's seeds are signed; as bits they are as good as any.
    let bits = |n| u64::try_from(n).ok().or_else(|| i64::try_from(n).ok().map(|n| n as u64));
    let seed = whole(value).and_then(bits);
    seed.map(Some).ok_or_else(|| {
        let problem = format_args!("must be a 64-bit integer, not {}", shown(value));
        ApiError::field("seed", problem)
    })
}

/// A map of token ids to biases, or llama.cpp's form of it, a list of pairs.
fn logit_bias(fields: &Fields) -> Result<Vec<(u32, f32)>, ApiError> {
    let entries: Vec<(Option<u32>, &Value)> = match fields.get("logit_bias") {
        None => return Ok(Vec::new()),
        Some(Value::Object(map)) => {
            map.iter().map(|(key, bias)| (key.parse().ok(), bias)).collect()
        }
        Some(Value::Array(pairs)) => pairs.iter().map(pair).collect(),
        Some(other) => {
            let problem = format_args!("must be an object, not {}", shown(other));
            return Err(ApiError::field("logit_bias", problem));
        }
    };
    if entries.len() > BIASED_TOKENS_MAX {
        let count = entries.len();
        let problem = format_args!("may hold up to {BIASED_TOKENS_MAX} tokens, not {count}");
        return Err(ApiError::field("logit_bias", problem));
    }
    let mut biases: Vec<(u32, f32)> = Vec::with_capacity(entries.len());
    for (token, bias) in entries {
        let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
        let (Some(token), Some(bias)) = (token, bias) else {
            let problem = "must map token ids to numbers from -100 to 100";
            return Err(ApiError::field("logit_bias", problem));
        };
        // A list may name a token twice; the wire may not.
        biases.retain(|(known, _)| *known != token);
        biases.push((token, bias as f32));
    }
    Ok(biases)
}

fn pair(value: &Value) -> (Option<u32>, &Value) {
    match value.as_array().map(Vec::as_slice) {
        Some([token, bias]) => (whole(token).and_then(|id| u32::try_from(id).ok()), bias),
        _ => (None, &Value::Null),
    }
}
