//! What is measured and how prompts of a wanted length are made.

use super::{
    Options,
    client::{Client, Stream},
};

/// Common words that most tokenisers hold as one token each.
const WORDS: [&str; 32] = [
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world",
    "school", "state", "family", "student", "group", "country", "problem", "hand", "part", "place",
    "case", "week", "company", "system", "program", "question", "work", "number", "night", "point",
    "home",
];

/// Words of the prompt that is sent to learn how many tokens a word takes.
const CALIBRATION_WORDS: u32 = 64;

/// Tokens of the prompt where its length does not matter.
const SHORT_TOKENS: u32 = 16;

/// One kind of measurement.
pub(super) struct Section {
    pub(super) name: String,
    pub(super) unit: &'static str,
    pub(super) words: u32,
    pub(super) max_tokens: u32,
    pub(super) concurrency: u32,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    FirstToken,
    Decode,
    Prefill,
    Together,
}

/// How many words make a token, template left out, and how many tokens the template adds.
pub(super) struct Scale {
    tokens_per_word: f64,
    template_tokens: f64,
}

/// Asks the server twice how many tokens a prompt of known words has.
pub(super) fn calibrate(client: &Client, model: &str) -> anyhow::Result<Scale> {
    let count = |words| -> anyhow::Result<f64> {
        let stream = client.stream(model, &prompt(words), 1)?;
        Ok(stream.prompt_tokens.into())
    };
    let (few, many) = (count(CALIBRATION_WORDS)?, count(2 * CALIBRATION_WORDS)?);
    anyhow::ensure!(
        many > few,
        "the server counts {few} and {many} prompt tokens for {CALIBRATION_WORDS} and {} words; \
         without usage (stream_options.include_usage) nothing can be measured",
        2 * CALIBRATION_WORDS
    );
    let tokens_per_word = (many - few) / f64::from(CALIBRATION_WORDS);
    let template_tokens = few - tokens_per_word * f64::from(CALIBRATION_WORDS);
    Ok(Scale { tokens_per_word, template_tokens })
}

impl Scale {
    fn words_for(&self, tokens: u32) -> u32 {
        let words = (f64::from(tokens) - self.template_tokens) / self.tokens_per_word;
        words.round().clamp(1.0, 1e7) as u32
    }
}

/// All sections, in the order they are run.
pub(super) fn sections(options: &Options, scale: Scale) -> Vec<Section> {
    let short = scale.words_for(SHORT_TOKENS);
    let section = |name: String, unit, words, max_tokens, kind| Section {
        name,
        unit,
        words,
        max_tokens,
        concurrency: 1,
        kind,
    };
    let mut all = vec![
        section("ttft_short".into(), "ms", short, 1, Kind::FirstToken),
        section("decode".into(), "tok/s", short, options.decode_tokens, Kind::Decode),
    ];
    for &tokens in &options.prompt_tokens {
        let words = scale.words_for(tokens);
        all.push(section(format!("prefill_{tokens}"), "tok/s", words, 1, Kind::Prefill));
    }
    if options.concurrency > 1 {
        let name = format!("concurrent_{}", options.concurrency);
        let together = section(name, "tok/s", short, options.decode_tokens, Kind::Together);
        all.push(Section { concurrency: options.concurrency, ..together });
    }
    all
}

impl Section {
    /// The measured value; `None` if the answers are too short to say.
    pub(super) fn value(&self, streams: &[Stream]) -> Option<f64> {
        let first = streams.first()?;
        match self.kind {
            Kind::FirstToken => Some(first.first_s? * 1_000.0),
            // From the first token to the last, the first one's own time left out.
            Kind::Decode => {
                let tokens = first.completion_tokens.checked_sub(1).filter(|n| *n > 0)?;
                let time_s = first.last_s? - first.first_s?;
                (time_s > 0.0).then(|| f64::from(tokens) / time_s)
            }
            Kind::Prefill => {
                let computed = first.prompt_tokens.saturating_sub(first.cached_tokens);
                Some(f64::from(computed) / first.first_s?)
            }
            // All tokens of all streams over the time from the common start to the last token.
            Kind::Together => {
                let tokens: u32 = streams.iter().map(|s| s.completion_tokens).sum();
                let last_s = streams.iter().filter_map(|s| s.last_s).fold(0.0, f64::max);
                (last_s > 0.0).then(|| f64::from(tokens) / last_s)
            }
        }
    }
}

/// A prompt of so many words, never the same twice.
pub(super) fn prompt(words: u32) -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    // A new hasher has new random keys: as good a nonce as any.
    let mut seed = RandomState::new().build_hasher().finish();
    let mut text = String::new();
    for _ in 0..words.max(1) {
        // Xorshift: the order of the words is noise, nothing more.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(WORDS[(seed >> 32) as usize % WORDS.len()]);
    }
    text
}

/// The median; `None` of nothing.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values {
        [] => None,
        _ if values.len() % 2 == 1 => values.get(middle).copied(),
        _ => Some((values.get(middle - 1)? + values.get(middle)?) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(first_s: f64, last_s: f64, prompt_tokens: u32, completion_tokens: u32) -> Stream {
        let (first_s, last_s) = (Some(first_s), Some(last_s));
        Stream { first_s, last_s, prompt_tokens, cached_tokens: 0, completion_tokens }
    }

    fn section(kind: Kind) -> Section {
        Section { name: String::new(), unit: "", words: 1, max_tokens: 1, concurrency: 1, kind }
    }

    #[test]
    fn values_are_rates_over_the_right_times() {
        let one = [stream(0.5, 2.5, 100, 21)];
        let near = |value: Option<f64>, expected: f64| {
            let value = value.unwrap();
            assert!((value - expected).abs() < 1e-9, "{value}, not {expected}");
        };
        near(section(Kind::FirstToken).value(&one), 500.0);
        near(section(Kind::Decode).value(&one), 10.0);
        near(section(Kind::Prefill).value(&one), 200.0);
        let cached = [Stream { cached_tokens: 40, ..stream(0.5, 2.5, 100, 21) }];
        near(section(Kind::Prefill).value(&cached), 120.0);
        let two = [stream(0.5, 2.0, 9, 10), stream(1.0, 4.0, 9, 30)];
        near(section(Kind::Together).value(&two), 10.0);
        assert_eq!(section(Kind::Decode).value(&[stream(0.5, 0.5, 9, 1)]), None);
    }

    #[test]
    fn prompts_differ_and_scale() {
        assert_ne!(prompt(20), prompt(20));
        assert_eq!(prompt(20).split(' ').count(), 20);
        let scale = Scale { tokens_per_word: 2.0, template_tokens: 12.0 };
        assert_eq!(scale.words_for(512), 250);
        assert_eq!(scale.words_for(1), 1);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0]), Some(2.5));
        assert_eq!(median(&mut []), None);
    }
}
