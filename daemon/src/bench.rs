//! `tandem bench`: what any server with an OpenAI-compatible API does, measured from outside, so
//! that Tandem and its peers are measured the same way.
//!
//! Every prompt begins with a nonce, so that no cache of prefixes helps; every result is printed as
//! soon as it is there.

mod client;
mod plan;

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde_json::json;

use client::{Client, Stream};
use plan::Section;

/// What to measure, and where.
#[derive(Args, Debug)]
pub struct Options {
    /// The server, without /v1
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// The model; without it the first that the server lists
    #[arg(long)]
    model: Option<String>,
    /// File with the API key
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Lengths of the prompts whose prefill is measured, in tokens
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "512,2048")]
    prompt_tokens: Vec<u32>,
    /// Tokens to decode after a short prompt
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..))]
    decode_tokens: u32,
    /// Measurements of each kind; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    runs: u32,
    /// Streams at once in the last section; 0 or 1 leaves it out
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=1_024))]
    concurrency: u32,
    /// Longest time for one request, in seconds
    #[arg(long, default_value_t = 600)]
    timeout_s: u64,
    /// One JSON object a line instead of text
    #[arg(long)]
    json: bool,
}

/// Measures and prints. Returns the exit code: 0, or 1 if a request failed.
pub fn run(options: &Options) -> anyhow::Result<i32> {
    let key = options.key_file.as_ref().map(|file| {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("can't read the key in {}", file.display()))?;
        anyhow::Ok(text.trim().to_owned())
    });
    let client = Client::new(&options.url, key.transpose()?, options.timeout_s);
    let model = match &options.model {
        Some(model) => model.clone(),
        None => client.first_model()?,
    };
    let print = Printer { json: options.json };
    print.line(
        json!({"section": "server", "url": options.url, "model": model}),
        &format!("{} at {}", model, options.url),
    );
    let words_per_token = plan::calibrate(&client, &model)?;
    for section in plan::sections(options, words_per_token) {
        measure(&client, &model, &section, options, &print)?;
    }
    Ok(0)
}

/// One section: every run and then the median.
fn measure(
    client: &Client,
    model: &str,
    section: &Section,
    options: &Options,
    print: &Printer,
) -> anyhow::Result<()> {
    let mut values = Vec::new();
    for run in 1..=options.runs {
        let streams = client.streams(model, section)?;
        let value = section.value(&streams);
        let tokens = |of: fn(&Stream) -> u32| streams.iter().map(of).sum::<u32>();
        let (prompt, completion) = (tokens(|s| s.prompt_tokens), tokens(|s| s.completion_tokens));
        let Some(value) = value else {
            let reason = format!("the answer had too few tokens to measure ({completion})");
            print.line(
                json!({"section": section.name, "run": run, "skipped": reason}),
                &format!("{:<22} run {run}: {reason}", section.name),
            );
            continue;
        };
        values.push(value);
        print.line(
            json!({"section": section.name, "run": run, "value": value, "unit": section.unit,
                   "prompt_tokens": prompt, "completion_tokens": completion}),
            &format!(
                "{:<22} run {run}: {value:>9.2} {} ({prompt} prompt, {completion} completion tokens)",
                section.name, section.unit
            ),
        );
    }
    if let Some(median) = plan::median(&mut values) {
        print.line(
            json!({"section": section.name, "median": median, "unit": section.unit,
                   "n": values.len()}),
            &format!(
                "{:<22} median: {median:>8.2} {} (n = {})",
                section.name,
                section.unit,
                values.len()
            ),
        );
    }
    Ok(())
}

struct Printer {
    json: bool,
}

impl Printer {
    fn line(&self, object: serde_json::Value, text: &str) {
        if self.json {
            outln!("{object}");
        } else {
            outln!("{text}");
        }
    }
}
