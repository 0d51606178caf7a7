//! Choices made from messages must not depend on how the vocabulary is split.

use super::*;

const SIZE: i32 = 3000;

fn logits(seed: u64) -> Array {
    let key = mlx_rs::random::key(seed).unwrap();
    let plain = mlx_rs::random::normal::<f32>(&[SIZE], None, None, &key).unwrap();
    plain.multiply(Array::from_f32(3.0)).unwrap()
}

/// What `layout` ranks choose together, without a group: every rank's message, then one choice.
fn choose(layout: &[i32], sampling: &Sampling, logprobs: Option<u8>, position: u32) -> Sample {
    let mut start = 0;
    let parts: Vec<(i32, i32)> = layout
        .iter()
        .map(|&len| {
            start += len;
            (start - len, len)
        })
        .collect();
    let tokens = [5, 7, 7, 2999, 11, 11];
    let all = logits(7);
    let mut messages = Vec::new();
    for (rank, &(start, len)) in parts.iter().enumerate() {
        let vocabulary = Vocabulary::new(parts.clone(), rank).unwrap();
        let sampler = Sampler::new(sampling.clone(), logprobs, &tokens, 3, &vocabulary);
        let own = slice(&all, &[start], &[start + len]).unwrap();
        let adjusted = sampler.adjusted(&own).unwrap();
        let message = sampler.message(&adjusted, position, &vocabulary).unwrap();
        assert_eq!(message.dim(0), sampler.message_len(len), "{sampling:?} {logprobs:?}");
        messages.push(message);
    }
    let vocabulary = Vocabulary::new(parts, 0).unwrap();
    let sampler = Sampler::new(sampling.clone(), logprobs, &tokens, 3, &vocabulary);
    let choice = sampler.choose(&messages, position, &vocabulary).unwrap();
    let floats = |a: &Array| a.contiguous().unwrap().to_vec_cast::<f32>().unwrap();
    Sample {
        token: choice.token.item_exact::<u32>(),
        logprob: choice.logprob.as_ref().map(|a| floats(a)[0]),
        top: choice.top.as_ref().map(|(ids, logprobs)| (floats(ids), floats(logprobs))),
    }
}

#[derive(Debug)]
struct Sample {
    token: u32,
    logprob: Option<f32>,
    top: Option<(Vec<f32>, Vec<f32>)>,
}

fn warm(seed: u64) -> Sampling {
    Sampling { temperature: 0.9, seed, ..Sampling::greedy() }
}

#[test]
fn the_layout_of_ranks_changes_no_choice() {
    let kinds = [
        Sampling::greedy(),
        warm(1),
        Sampling { top_k: 40, ..warm(2) },
        Sampling { top_p: 0.8, ..warm(3) },
        Sampling { min_p: 0.05, ..warm(4) },
        Sampling { top_k: 500, top_p: 0.9, min_p: 0.01, ..warm(5) },
        Sampling { repetition_penalty: 1.3, presence_penalty: 0.5, ..warm(6) },
        Sampling { frequency_penalty: 1.5, logit_bias: vec![(5, 4.0), (2999, 8.0)], ..warm(7) },
    ];
    for sampling in kinds {
        for position in 0..20 {
            let alone = choose(&[SIZE], &sampling, Some(5), position);
            for layout in [vec![1500, 1500], vec![2000, 1000], vec![16, 2900, 84]] {
                let split = choose(&layout, &sampling, Some(5), position);
                assert_eq!(split.token, alone.token, "{layout:?} {sampling:?} at {position}");
                assert!((split.logprob.unwrap() - alone.logprob.unwrap()).abs() < 1e-5);
                let ((ids, logprobs), (ids_alone, logprobs_alone)) =
                    (split.top.unwrap(), alone.top.clone().unwrap());
                assert_eq!(ids, ids_alone);
                let pairs = logprobs.iter().zip(&logprobs_alone);
                assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-5));
            }
        }
    }
}

#[test]
fn draws_follow_the_distribution_that_was_asked_for() {
    // Over many positions the share of each token comes near its probability, and cut tokens never
    // come.
    let all = logits(7).to_vec_cast::<f32>().unwrap();
    let mut order: Vec<usize> = (0..SIZE as usize).collect();
    order.sort_by(|&a, &b| all[b].total_cmp(&all[a]));
    let sampling = Sampling { temperature: 1.0, top_k: 3, ..warm(11) };
    let draws: Vec<u32> =
        (0..600).map(|p| choose(&[2000, 1000], &sampling, None, p).token).collect();
    let mass: f32 = order[..3].iter().map(|&v| all[v].exp()).sum();
    for &v in &order[..3] {
        let share = draws.iter().filter(|&&d| d as usize == v).count() as f32 / 600.0;
        let wanted = all[v].exp() / mass;
        assert!((share - wanted).abs() < 0.08, "token {v}: {share} of draws, wanted {wanted}");
    }
    assert!(draws.iter().all(|&d| order[..3].contains(&(d as usize))));
}

#[test]
fn a_small_nucleus_is_the_most_likely_token_alone() {
    let greedy = choose(&[SIZE], &Sampling::greedy(), None, 0).token;
    for position in 0..50 {
        let sampling = Sampling { top_p: 1e-6, ..warm(1) };
        assert_eq!(choose(&[1000, 2000], &sampling, None, position).token, greedy);
    }
}

#[test]
fn seeds_and_positions_draw_differently_and_repeat_themselves() {
    let run = |seed| -> Vec<u32> {
        (0..30).map(|p| choose(&[SIZE], &warm(seed), None, p).token).collect()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    assert!(run(1).windows(2).any(|pair| pair[0] != pair[1]));
}

#[test]
fn bias_and_penalties_move_the_choice() {
    let chosen = |s: &Sampling| choose(&[1500, 1500], s, None, 0).token;
    let likeliest = chosen(&Sampling::greedy());
    let banned = Sampling { logit_bias: vec![(likeliest, -100.0)], ..Sampling::greedy() };
    assert_ne!(chosen(&banned), likeliest);
    let forced = Sampling { logit_bias: vec![(2999, 100.0)], ..Sampling::greedy() };
    assert_eq!(chosen(&forced), 2999);
    // 2999 was generated once, 11 twice: only the penalty per occurrence tells them apart.
    let pair = vec![(2999, 60.0), (11, 60.0)];
    let tie =
        choose(&[SIZE], &Sampling { logit_bias: pair.clone(), ..Sampling::greedy() }, Some(2), 0);
    let gap = {
        let (_, l) = tie.top.unwrap();
        l[0] - l[1]
    };
    let penalised = Sampling { logit_bias: pair, frequency_penalty: 2.0, ..Sampling::greedy() };
    let after = choose(&[SIZE], &penalised, Some(2), 0);
    let (ids, l) = after.top.unwrap();
    let moved = if ids[0] == tie.token as f32 { l[0] - l[1] - gap } else { l[1] - l[0] - gap };
    assert!((moved.abs() - 2.0).abs() < 1e-3, "{moved}");
}
