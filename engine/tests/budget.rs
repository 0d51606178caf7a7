//! A rank's budget against what MLX really allocates for the real model.

#![allow(clippy::unwrap_used)]

use tandem_engine::budget::{self, Budget};
use tandem_engine::execute::MlxExecutor;
use tandem_engine::mlx::forget_peak;
use tandem_engine::settings::{RankPlace, RankSetup, Settings};
use tandem_engine::start::{ModelFiles, start};
use tandem_engine::step::{Admit, Execute, Prefill, Step};
use tandem_wire::Sampling;

/// The most that a bound may be above what is held. What is bounded is how far MLX runs ahead of the
/// device, which depends on their speeds, so a bound is no forecast.
const SLACK: u64 = 6;

fn setup(expand: bool, prefill_step_tokens: u32, max_active: u32) -> Option<RankSetup> {
    Some(RankSetup {
        rank: 0,
        ranks: vec![RankPlace { address: [127, 0, 0, 1].into(), weight: 1 }],
        model_dir: std::env::var_os("TANDEM_MODEL")?.into(),
        run_dir: std::env::temp_dir(),
        settings: Settings {
            cpu_expand: expand,
            prefill_step_tokens,
            max_active,
            context_tokens: 4096,
            ..Settings::default()
        },
        ceiling: None,
    })
}

fn admit(slot: u32, len: u32) -> Admit {
    let tokens: Vec<u32> = (0..len).map(|n| 300 + (n * 37 + slot * 101) % 20_000).collect();
    let sampling = Sampling {
        temperature: 0.8,
        top_p: 0.9,
        repetition_penalty: 1.1,
        logit_bias: vec![(5, 1.0)],
        ..Sampling::greedy()
    };
    Admit { slot, tokens, prompt_len: len, sampling, logprobs: Some(5) }
}

/// Runs prompts of `lens`, one a slot, each beside the decoding of those before it, one step ahead as
/// a rank does; then decodes all.
fn serve(executor: &mut MlxExecutor, lens: &[u32], piece: u32, decodes: usize) {
    let mut steps = Vec::new();
    for (slot, &len) in (0..).zip(lens) {
        for start in (0..len).step_by(piece as usize) {
            let prefill = Some(Prefill { slot, start, len: piece.min(len - start) });
            let admit = if start == 0 { vec![admit(slot, len)] } else { Vec::new() };
            steps.push(Step { admit, prefill, decode: (0..slot).collect(), ..Step::default() });
        }
    }
    let all: Vec<u32> = (0..lens.len() as u32).collect();
    steps.extend(vec![Step { decode: all.clone(), ..Step::default() }; decodes]);
    steps.push(Step { release: all, ..Step::default() });
    let mut before = None;
    for step in steps {
        let pending = executor.dispatch(&step).unwrap();
        if let Some(before) = before.replace(pending) {
            executor.collect(before).unwrap();
        }
    }
    executor.collect(before.unwrap()).unwrap();
}

#[test]
fn the_real_model_holds_what_was_told_and_no_step_more_than_its_bound() {
    // Expanded, tokens of a step, prompts.
    let rows: [(bool, u32, &[u32]); 3] = [
        (true, 512, &[1100]),
        (true, 128, &[400, 200, 40]),
        // Few tokens: MLX's quantised products are slow on a CPU.
        (false, 32, &[40]),
    ];
    for (expand, piece, lens) in rows {
        let Some(setup) = setup(expand, piece, lens.len() as u32) else { return };
        let files = ModelFiles::open(&setup.model_dir).unwrap();
        let demand = budget::demands(&files, &setup).unwrap()[0];
        let mut executor = start(&setup, &files, None, &|_| {}).unwrap();
        let row = format!("expand {expand}, steps of {piece}, prompts {lens:?}");

        let longest = *lens.iter().max().unwrap();
        let decodes = 6;
        // What each cache may come to hold: its prompt, and tokens decoded beside later prompts.
        let later: u32 = lens.iter().map(|len| len.div_ceil(piece)).sum::<u32>() + decodes;
        let tokens: u64 = lens.iter().map(|len| budget::cache_tokens((len + later).into())).sum();
        let told: Budget = demand.budget(tokens, longest + later);
        assert_eq!(executor.loaded().weights_bytes, told.weights_bytes, "{row}");

        let (before, _) = executor.memory_bytes();
        forget_peak();
        serve(&mut executor, lens, piece, decodes as usize);
        let (_, peak) = executor.memory_bytes();
        let held = peak.saturating_sub(before);
        let bound = told.kv_cache_bytes + told.prefill_peak_bytes;
        eprintln!("{row}: held {} MiB, bound {} MiB", held >> 20, bound >> 20);
        assert!(held <= bound, "{row}: {held} bytes held, {bound} told");
        assert!(held > told.kv_cache_bytes / 2, "{row}: nothing was measured");
        assert!(bound <= SLACK * held, "{row}: {held} bytes held, {bound} told");
    }
}
