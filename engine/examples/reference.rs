//! One rank of a greedy generation, without the rank process around it: what the numeric tests
//! compare with mlx-lm.
//!
//! ```text
//! reference MODEL_DIR --weights 1,1 --rank 0 --prompt 1,2,3 --tokens 128 --expand \
//!     --backend ring --out FILE
//! ```
//! Prints one JSON line: the tokens, bytes read, memory and times. With `--out`, writes this rank's
//! logits (f32, little-endian, a row of its part of the vocabulary for each token) to FILE.

use std::io::Write;
use std::time::Instant;

use mlx_rs::Array;
use tandem_engine::budget;
use tandem_engine::settings::{Backend, RankPlace, RankSetup, Settings};
use tandem_engine::start::{ModelFiles, start};
use tandem_engine::step::{Admit, Execute, Prefill, Step};
use tandem_wire::Sampling;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|a| a == name)?;
        arguments.get(at + 1).cloned()
    };
    let numbers = |name: &str| -> Result<Vec<u32>, Failure> {
        let list = value(name).ok_or(format!("{name} is missing"))?;
        Ok(list.split(',').map(str::parse).collect::<Result<_, _>>()?)
    };
    let address = std::net::Ipv4Addr::LOCALHOST.into();
    let place = |&weight: &u32| RankPlace { address, weight };
    let setup = RankSetup {
        rank: value("--rank").map_or(Ok(0), |r| r.parse())?,
        ranks: numbers("--weights")?.iter().map(place).collect(),
        model_dir: arguments.first().ok_or("MODEL_DIR is missing")?.into(),
        run_dir: std::env::temp_dir(),
        ceiling: None,
        settings: Settings {
            backend: match value("--backend").as_deref() {
                None | Some("ring") => Backend::Ring,
                Some("jaccl") => Backend::Jaccl,
                Some(other) => return Err(format!("--backend {other}: ring or jaccl").into()),
            },
            cpu_expand: arguments.iter().any(|a| a == "--expand"),
            ..Settings::default()
        },
    };
    let prompt = numbers("--prompt")?;
    let count: usize = value("--tokens").map_or(Ok(16), |n| n.parse())?;

    let began = Instant::now();
    let files = ModelFiles::open(&setup.model_dir)?;
    let demands = budget::demands(&files, &setup)?;
    let demand = demands.get(setup.rank as usize).ok_or("there is no such rank")?;
    // Of what is generated below: one request, in the growth of caches.
    let kv_tokens = budget::cache_tokens((prompt.len() + count + 1) as u64);
    let predicted = demand.budget(kv_tokens, files.context_tokens(&setup.settings));
    let mut executor = start(&setup, &files, None, &|_| {})?;
    let load_ms = began.elapsed().as_millis();
    let peak_rss = peak_rss_bytes();
    let (tokens, prefill_ms, decode_ms) = generate(&mut executor, &setup, &prompt, count)?;
    if let Some(path) = value("--out") {
        write_logits(&executor, &prompt, &tokens, &path)?;
    }
    let loaded = executor.loaded();
    println!(
        "{}",
        serde_json::json!({
            "tokens": tokens, "bytes_read": loaded.bytes_read,
            "weights_bytes": loaded.weights_bytes, "memory": executor.memory_bytes(),
            "predicted_weights_bytes": predicted.weights_bytes,
            "predicted_bytes": predicted.total(),
            "peak_rss_after_load": peak_rss, "peak_rss": peak_rss_bytes(),
            "load_ms": load_ms, "prefill_ms": prefill_ms, "decode_ms": decode_ms,
        })
    );
    Ok(())
}

/// Most memory this process ever held, in bytes, where the system tells (Linux).
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Greedy, pipelined as the rank does it: step n + 1 is dispatched before step n is read.
fn generate(
    executor: &mut impl Execute,
    setup: &RankSetup,
    prompt: &[u32],
    count: usize,
) -> Result<(Vec<u32>, u128, u128), Failure> {
    let admit = Admit {
        slot: 0,
        tokens: prompt.to_vec(),
        prompt_len: prompt.len() as u32,
        sampling: Sampling::greedy(),
        logprobs: None,
    };
    let began = Instant::now();
    let mut tokens = Vec::new();
    let mut admit = vec![admit];
    let mut pending = None;
    for start in (0..prompt.len()).step_by(setup.settings.prefill_step_tokens as usize) {
        let len = (prompt.len() - start).min(setup.settings.prefill_step_tokens as usize);
        let prefill = Some(Prefill { slot: 0, start: start as u32, len: len as u32 });
        let step = Step { admit: std::mem::take(&mut admit), prefill, ..Step::default() };
        pending = Some(executor.dispatch(&step)?);
    }
    let mut pending = pending.ok_or("an empty prompt")?;
    let mut prefill_ms = 0;
    for n in 0..count {
        let next = executor.dispatch(&Step { decode: vec![0], ..Step::default() })?;
        tokens.extend(executor.collect(pending)?.iter().map(|s| s.token));
        pending = next;
        if n == 0 {
            prefill_ms = began.elapsed().as_millis();
        }
    }
    executor.collect(pending)?;
    Ok((tokens, prefill_ms, began.elapsed().as_millis() - prefill_ms))
}

/// Logits of every generated token given those before it.
fn write_logits(
    executor: &tandem_engine::execute::MlxExecutor,
    prompt: &[u32],
    tokens: &[u32],
    path: &str,
) -> Result<(), Failure> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    let model = executor.model();
    let mut cache = model.new_cache();
    let mut piece = prompt.to_vec();
    for token in tokens {
        let ids = Array::from_slice(&piece, &[1, piece.len() as i32]);
        let hidden = model.hidden(&ids, &mut [&mut cache])?;
        let logits = model.logits(&hidden)?;
        for value in logits.to_vec_cast::<f32>()? {
            file.write_all(&value.to_le_bytes())?;
        }
        piece = vec![*token];
    }
    Ok(())
}
