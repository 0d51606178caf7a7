use serde_json::{Value, json};

use super::*;

fn config(change: impl FnOnce(&mut Value)) -> ModelConfig {
    let mut json = json!({
        "model_type": "llama", "hidden_size": 576, "num_hidden_layers": 2,
        "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3,
        "vocab_size": 49152, "tie_word_embeddings": true,
    });
    change(&mut json);
    ModelConfig::parse(&json).unwrap()
}

fn plans(config: &ModelConfig, weights: &[u32]) -> Vec<ShardPlan> {
    (0..weights.len()).map(|rank| ShardPlan::new(config, weights, rank).unwrap()).collect()
}

#[test]
fn three_kv_heads_run_on_two_ranks() {
    let config = config(|_| {});
    let even = plans(&config, &[1, 1]);
    assert_eq!((even[0].kv_heads.clone(), even[1].kv_heads.clone()), (0..2, 2..3));
    assert_eq!((even[0].heads.clone(), even[1].heads.clone()), (0..6, 6..9));
    assert_eq!((even[0].ffn.clone(), even[1].ffn.clone()), (0..768, 768..1536));
    assert_eq!(even[1].vocab, 24_576..49_152);
    let uneven = plans(&config, &[2, 1]);
    assert_eq!(uneven[0].ffn, 0..1024);
    assert_eq!(uneven[0].vocab, 0..32_768);
    assert_eq!((uneven[0].head_count(), uneven[1].kv_head_count()), (6, 1));
}

#[test]
fn what_cant_be_split_is_refused_with_the_numbers() {
    let one_head = config(|c| c["num_key_value_heads"] = json!(1));
    assert_eq!(
        ShardPlan::new(&one_head, &[1, 1], 0).unwrap_err().to_string(),
        "model.layers.*.self_attn can't be split over 2 ranks: it has 1 KV head"
    );
    assert!(ShardPlan::new(&one_head, &[7], 0).is_ok(), "one rank takes all of any model");
    // 48 columns of o_proj a KV head, groups of 128: only 8 heads together end on a group.
    let torn = config(|c| {
        c["hidden_size"] = json!(768);
        c["num_attention_heads"] = json!(16);
        c["num_key_value_heads"] = json!(16);
        c["quantization"] = json!({"group_size": 128, "bits": 4});
    });
    assert_eq!(plans(&torn, &[1, 1])[1].kv_heads, 8..16);
    let error = ShardPlan::new(&torn, &[1, 1, 1], 0).unwrap_err().to_string();
    assert!(error.contains("parted only by 8") && error.contains("groups of 128"), "{error}");
    let narrow = config(|c| {
        c["intermediate_size"] = json!(128);
        c["quantization"] = json!({"group_size": 128, "bits": 4,
            "model.layers.0.self_attn.o_proj": false, "model.layers.1.self_attn.o_proj": false});
    });
    assert_eq!(
        ShardPlan::new(&narrow, &[1, 1], 1).unwrap_err().to_string(),
        "model.layers.*.mlp can't be split over 2 ranks: its 128 columns come in groups of 128"
    );
    let few = config(|c| c["vocab_size"] = json!(1));
    let error = ShardPlan::new(&few, &[1, 1], 1).unwrap_err().to_string();
    assert!(error.contains("the vocabulary") && error.contains("1 token"), "{error}");
}

#[test]
fn unusable_weights_are_refused() {
    let config = config(|_| {});
    for (weights, rank) in [(vec![], 0), (vec![1, 0], 0), (vec![1, 1], 2), (vec![1; 65], 0)] {
        assert!(matches!(ShardPlan::new(&config, &weights, rank), Err(ShardError::Weights { .. })));
    }
}

/// A small deterministic generator: the same cases in every run.
struct Cases(u64);

impl Cases {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) as usize % bound
    }
}

#[test]
fn ranges_of_all_ranks_tile_every_axis_in_whole_groups() {
    let mut cases = Cases(42);
    let (mut split, mut refused) = (0, 0);
    for _ in 0..2000 {
        let kv = 1 + cases.below(16);
        let per_kv = 1 + cases.below(8);
        let head_dim = [16, 32, 48, 64, 80, 96, 128][cases.below(7)];
        let group = [32, 64, 128][cases.below(3)];
        let bits = [2, 3, 4, 5, 6, 8][cases.below(6)];
        let quantised = cases.below(3) > 0 && (kv * per_kv * head_dim).is_multiple_of(group);
        let ffn = (1 + cases.below(40)) * if quantised { group } else { 8 };
        let config = config(|c| {
            c["num_attention_heads"] = json!(kv * per_kv);
            c["num_key_value_heads"] = json!(kv);
            c["head_dim"] = json!(head_dim);
            c["intermediate_size"] = json!(ffn);
            c["vocab_size"] = json!(1 + cases.below(5000));
            if quantised {
                c["quantization"] = json!({"group_size": group, "bits": bits});
            }
        });
        let ranks = 1 + cases.below(4);
        let weights: Vec<u32> = (0..ranks).map(|_| 1 + cases.below(9) as u32).collect();
        if ShardPlan::new(&config, &weights, 0).is_err() {
            refused += 1;
            continue;
        }
        split += 1;
        let plans = plans(&config, &weights);
        let tiles = |range: fn(&ShardPlan) -> Range<usize>, total: usize, unit: usize| {
            let mut end = 0;
            for range in plans.iter().map(range) {
                assert_eq!(range.start, end, "no gap, no overlap: {plans:?}");
                assert!(!range.is_empty(), "everyone gets something: {plans:?}");
                assert!(range.start.is_multiple_of(unit), "{plans:?}");
                end = range.end;
            }
            assert_eq!(end, total);
        };
        let group = if quantised { group } else { 1 };
        tiles(|p| p.kv_heads.clone(), kv, 1);
        tiles(|p| p.heads.clone(), kv * per_kv, per_kv);
        tiles(|p| p.ffn.clone(), ffn, group);
        tiles(|p| p.vocab.clone(), config.vocab_size, 1);
        for plan in &plans {
            assert!((plan.heads.start * head_dim).is_multiple_of(group));
        }
    }
    assert!(split > 1000 && refused > 50, "{split} split, {refused} refused");
}

#[test]
fn no_rank_is_a_piece_or_more_off_its_exact_share() {
    let mut cases = Cases(7);
    for _ in 0..5000 {
        let ranks = 1 + cases.below(6);
        let weights: Vec<u32> = (0..ranks).map(|_| 1 + cases.below(20) as u32).collect();
        let pieces = 20 * ranks + cases.below(500);
        let sum: u32 = weights.iter().sum();
        let ranges = share(pieces, 1, &weights).unwrap();
        for (range, weight) in ranges.iter().zip(&weights) {
            let exact = pieces as f64 * f64::from(*weight) / f64::from(sum);
            // A share below one piece is raised to one; others then give.
            let slack = if exact < 1.0 { 1.0 } else { ranks as f64 };
            assert!((range.len() as f64 - exact).abs() < slack, "{weights:?} {pieces} {ranges:?}");
        }
    }
    // Extreme weights still leave everyone a piece.
    let lens = |total, weights: &[u32]| -> Vec<usize> {
        share(total, 1, weights).unwrap().into_iter().map(|r| r.len()).collect()
    };
    assert_eq!(lens(4, &[u32::MAX, 1, 1]), [2, 1, 1]);
    assert_eq!(lens(3, &[1, u32::MAX, 1]), [1, 1, 1]);
    assert_eq!(lens(10, &[1, 1, 1]), [4, 3, 3]);
    assert_eq!(share(2, 1, &[1, 1, 1]), None);
}

fn rows(range: Range<usize>) -> Part {
    Part::Rows(Vec::from([range]))
}

#[test]
fn packed_columns_and_scales_follow_the_dense_columns() {
    for (bits, words) in [(2, 4..8), (3, 6..12), (4, 8..16), (5, 10..20), (6, 12..24), (8, 16..32)]
    {
        let config = config(|c| {
            c["hidden_size"] = json!(256);
            c["num_attention_heads"] = json!(4);
            c["num_key_value_heads"] = json!(4);
            c["intermediate_size"] = json!(128);
            c["attention_bias"] = json!(true);
            c["quantization"] = json!({"group_size": 32, "bits": bits,
                "model.layers.1.mlp.down_proj": false});
        });
        let plan = ShardPlan::new(&config, &[1, 1], 1).unwrap();
        let part = |name: &str| tensor_part(&plan, &config, name).unwrap();
        assert_eq!(plan.ffn, 64..128);
        assert_eq!(part("model.layers.0.mlp.down_proj.weight"), Part::Columns(words));
        assert_eq!(part("model.layers.0.mlp.down_proj.scales"), Part::Columns(2..4));
        assert_eq!(part("model.layers.0.mlp.down_proj.biases"), Part::Columns(2..4));
        assert_eq!(part("model.layers.1.mlp.down_proj.weight"), Part::Columns(64..128));
        assert_eq!(part("model.layers.0.self_attn.o_proj.scales"), Part::Columns(4..8));
        assert_eq!(part("model.layers.0.self_attn.o_proj.bias"), Part::All);
        for kind in ["weight", "scales", "biases", "bias"] {
            let q = part(&format!("model.layers.0.self_attn.q_proj.{kind}"));
            assert_eq!(q, rows(128..256));
        }
        assert_eq!(part("model.layers.0.mlp.up_proj.scales"), rows(64..128));
        assert_eq!(part("model.embed_tokens.scales"), rows(24_576..49_152));
        assert_eq!(part("model.layers.0.input_layernorm.weight"), Part::All);
        assert_eq!(part("model.norm.weight"), Part::All);
        let error = tensor_part(&plan, &config, "model.layers.0.mlp.experts.weight").unwrap_err();
        assert!(error.to_string().contains("experts.weight is unknown"));
    }
}
