//! A tiny random model, alone on its rank: company and interruption must not change an answer.

use super::*;
use crate::model::attention::Attention;
use crate::model::decoder::Block;
use crate::model::linear::{Linear, Matrix, Norm};
use crate::model::mlp::Mlp;
use crate::model::rope::Rope;
use crate::model_config::ModelConfig;
use tandem_wire::{ModelCard, Sampling};

const HIDDEN: i32 = 96;
const VOCAB: i32 = 515;

fn random(shape: &[i32], seed: &mut u64) -> Array {
    *seed += 1;
    let key = mlx_rs::random::key(*seed).unwrap();
    let scale = Array::from_f32((2.0 / shape[shape.len() - 1] as f32).sqrt());
    mlx_rs::random::normal::<f32>(shape, None, None, &key).unwrap() * scale
}

fn executor() -> MlxExecutor {
    let config = serde_json::json!({
        "model_type": "llama", "hidden_size": HIDDEN, "num_hidden_layers": 2,
        "intermediate_size": 160, "num_attention_heads": 6, "num_key_value_heads": 3,
        "head_dim": 16, "vocab_size": VOCAB, "max_position_embeddings": 512,
    });
    let rope = Rc::new(Rope::new(&ModelConfig::parse(&config).unwrap()).unwrap());
    let seed = &mut 0;
    let matrix =
        |rows, columns, seed: &mut u64| Matrix::dense(random(&[rows, columns], seed)).unwrap();
    let linear =
        |rows, columns, seed: &mut u64| Linear { matrix: matrix(rows, columns, seed), bias: None };
    let norm = || Norm { weight: ops::ones::<f32>(&[HIDDEN]).unwrap(), eps: 1e-5 };
    let block = |seed: &mut u64| Block {
        attention_norm: norm(),
        attention: Attention {
            query: linear(96, HIDDEN, seed),
            key: linear(48, HIDDEN, seed),
            value: linear(48, HIDDEN, seed),
            output: linear(HIDDEN, 96, seed),
            query_norm: None,
            key_norm: None,
            rope: rope.clone(),
            query_heads: 6,
            kv_heads: 3,
            head_dim: 16,
        },
        mlp_norm: norm(),
        mlp: Mlp {
            gate: linear(160, HIDDEN, seed),
            up: linear(160, HIDDEN, seed),
            down: linear(HIDDEN, 160, seed),
        },
    };
    let blocks = vec![block(seed), block(seed)];
    let embedding = Rc::new(matrix(VOCAB, HIDDEN, seed));
    let decoder = Decoder {
        group: None,
        embedding: embedding.clone(),
        vocab_start: 0,
        vocab_len: VOCAB,
        blocks,
        norm: norm(),
        head: embedding,
        rope,
    };
    let card = ModelCard { architecture: "llama".into(), vocab_size: 515, context_tokens: 512 };
    let loaded =
        Loaded { card, bytes_read: 0, weights_bytes: decoder.weights_bytes(), kv_tokens: 8192 };
    MlxExecutor::new(decoder, Vocabulary::new(vec![(0, VOCAB)], 0).unwrap(), loaded)
}

fn request(slot: u32) -> Admit {
    let tokens: Vec<u32> = (0..5 + 3 * slot).map(|n| (n * 37 + slot * 101) % 515).collect();
    let prompt_len = tokens.len() as u32;
    let temperature = if slot.is_multiple_of(2) { 0.0 } else { 0.8 };
    let sampling = Sampling { temperature, seed: slot.into(), ..Sampling::greedy() };
    Admit { slot, tokens, prompt_len, sampling, logprobs: Some(2) }
}

/// Runs steps one behind the other, as a rank does; gives each slot's tokens.
fn run(executor: &mut MlxExecutor, steps: Vec<Step>) -> HashMap<u32, Vec<u32>> {
    let mut tokens: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut before = None;
    let mut collect = |executor: &mut MlxExecutor, pending| {
        for sampled in executor.collect(pending).unwrap() {
            assert!(sampled.logprob.unwrap() <= 0.0 && sampled.top.len() == 2);
            tokens.entry(sampled.slot).or_default().push(sampled.token);
        }
    };
    for step in steps {
        let pending = executor.dispatch(&step).unwrap();
        if let Some(before) = before.replace(pending) {
            collect(executor, before);
        }
    }
    collect(executor, before.unwrap());
    tokens
}

fn enter(admit: Admit, piece: u32, decode: &[u32]) -> Vec<Step> {
    let (slot, end) = (admit.slot, admit.tokens.len() as u32);
    let mut admit = vec![admit];
    let piece_at = |start| Prefill { slot, start, len: piece.min(end - start) };
    let pieces = (0..end).step_by(piece as usize).map(piece_at);
    pieces
        .map(|prefill| Step {
            admit: std::mem::take(&mut admit),
            prefill: Some(prefill),
            decode: decode.to_vec(),
            ..Step::default()
        })
        .collect()
}

fn decode(slots: &[u32], times: usize) -> Vec<Step> {
    vec![Step { decode: slots.to_vec(), ..Step::default() }; times]
}

#[test]
fn a_request_in_company_gets_the_tokens_it_gets_alone() {
    let mut executor = executor();
    let alone: Vec<Vec<u32>> = (0..4)
        .map(|slot| {
            let mut steps = enter(request(slot), 64, &[]);
            steps.extend(decode(&[slot], 20));
            steps.push(Step { release: vec![slot], ..Step::default() });
            run(&mut executor, steps).remove(&slot).unwrap()
        })
        .collect();
    assert!(alone.iter().all(|tokens| tokens.len() == 21));
    let mut steps = Vec::new();
    for slot in 0..4 {
        let company: Vec<u32> = (0..slot).collect();
        // Prompts in pieces of 4, decoding the others meanwhile.
        steps.extend(enter(request(slot), 4, &company));
    }
    steps.extend(decode(&[2, 0, 3, 1], 10));
    let together = run(&mut executor, steps);
    for (slot, alone) in alone.iter().enumerate() {
        let together = &together[&(slot as u32)];
        let both = together.len().min(alone.len());
        assert!(both > 10);
        assert_eq!(together[..both], alone[..both], "slot {slot}");
    }
}

#[test]
fn a_request_that_is_resumed_goes_on_with_the_same_tokens() {
    let mut executor = executor();
    for slot in 0..2 {
        let mut steps = enter(request(slot), 64, &[]);
        steps.extend(decode(&[slot], 20));
        steps.push(Step { release: vec![slot], ..Step::default() });
        let whole = run(&mut executor, steps).remove(&slot).unwrap();
        for known in [1, 7, 20] {
            let mut resumed = request(slot);
            resumed.tokens.extend_from_slice(&whole[..known]);
            let mut steps = enter(resumed, 6, &[]);
            steps.extend(decode(&[slot], 20 - known));
            steps.push(Step { release: vec![slot], ..Step::default() });
            let rest = run(&mut executor, steps).remove(&slot).unwrap();
            assert_eq!(rest, whole[known..], "slot {slot} from {known} on");
        }
    }
}

/// What is dropped, or told to be finished, while MLX computes it takes the process with it.
#[test]
fn a_piece_of_a_prompt_is_computed_once_its_step_is_collected() {
    let mut executor = executor();
    let tokens: Vec<u32> = (0..500).map(|n| n % VOCAB as u32).collect();
    let admit = Admit { prompt_len: 500, tokens, ..request(0) };
    for step in &enter(admit, 120, &[])[..4] {
        let pending = executor.dispatch(step).unwrap();
        assert!(executor.collect(pending).unwrap().is_empty());
        for layer in &executor.sequences[&0].cache {
            assert!(layer.arrays().all(crate::mlx::is_computed), "{:?}", step.prefill);
        }
    }
}

#[test]
fn steps_that_contradict_the_state_are_integrity_faults() {
    let mut executor = executor();
    let refused = |executor: &mut MlxExecutor, step: Step| {
        matches!(executor.dispatch(&step).err(), Some(EngineError::Integrity(_)))
    };
    assert!(refused(&mut executor, decode(&[3], 1).remove(0)));
    let admit = Step { admit: vec![request(0)], ..Step::default() };
    executor.dispatch(&admit).unwrap();
    assert!(refused(&mut executor, admit));
    let late = Some(Prefill { slot: 0, start: 2, len: 2 });
    assert!(refused(&mut executor, Step { prefill: late, ..Step::default() }));
}
