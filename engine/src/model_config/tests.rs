use serde_json::{Value, json};

use super::*;

fn llama() -> Value {
    json!({
        "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2,
        "intermediate_size": 128, "num_attention_heads": 4, "vocab_size": 100,
    })
}

fn with(changes: &[(&str, Value)]) -> Value {
    let mut json = llama();
    for (key, value) in changes {
        json[*key] = value.clone();
    }
    json
}

fn parse(changes: &[(&str, Value)]) -> ModelConfig {
    ModelConfig::parse(&with(changes)).unwrap()
}

fn refusal(changes: &[(&str, Value)]) -> String {
    ModelConfig::parse(&with(changes)).expect_err("must be refused").to_string()
}

#[test]
fn defaults_are_those_of_each_family() {
    let llama = parse(&[]);
    assert_eq!((llama.num_key_value_heads, llama.head_dim), (4, 16));
    assert_eq!((llama.rms_norm_eps, llama.rope_theta), (1e-6, 10_000.0));
    assert_eq!(llama.max_position_embeddings, 2048);
    assert!(!llama.attention_bias && !llama.mlp_bias && !llama.qk_norm);
    assert!(!llama.tie_word_embeddings && llama.quantization.is_none());
    let biased = parse(&[("attention_bias", json!(true))]);
    assert!(biased.attention_bias && biased.attention_output_bias);

    let mistral = parse(&[("model_type", json!("mistral")), ("num_key_value_heads", json!(2))]);
    assert_eq!((mistral.heads_per_kv_head(), mistral.context_limit()), (2, 131_072));

    let theta = ("rope_theta", json!(1e6));
    let qwen2 = parse(&[("model_type", json!("qwen2")), theta.clone()]);
    assert!(qwen2.attention_bias && !qwen2.attention_output_bias && !qwen2.qk_norm);
    assert_eq!(qwen2.context_limit(), 32_768);

    let qwen3 = parse(&[("model_type", json!("qwen3")), theta, ("head_dim", Value::Null)]);
    assert!(qwen3.qk_norm && !qwen3.attention_bias);
    assert_eq!(qwen3.head_dim, 128, "not hidden_size / heads");
}

#[test]
fn both_forms_of_rope_parameters_are_read() {
    let llama3 = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    let old = parse(&[("rope_scaling", llama3.clone()), ("rope_theta", json!(500_000))]);
    let mut new = llama3;
    new["rope_theta"] = json!(500_000.0);
    let new = parse(&[("rope_parameters", new)]);
    assert_eq!(old.rope_scaling, new.rope_scaling);
    assert_eq!((old.rope_theta, new.rope_theta), (500_000.0, 500_000.0));
    assert!(matches!(old.rope_scaling, RopeScaling::Llama3 { factor: 8.0, .. }));
    let linear = parse(&[("rope_scaling", json!({"type": "linear", "factor": 2}))]);
    assert_eq!(linear.rope_scaling, RopeScaling::Linear { factor: 2.0 });
    let plain = parse(&[("rope_parameters", json!({"rope_type": "default", "rope_theta": 5e5}))]);
    assert_eq!((plain.rope_scaling, plain.rope_theta), (RopeScaling::Default, 5e5));
}

#[test]
fn yarn_works_out_what_q_and_k_are_scaled_by() {
    let scaling = |more: Value| {
        let mut json = json!({
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768,
        });
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        match parse(&[("rope_scaling", json)]).rope_scaling {
            RopeScaling::Yarn { attention_factor, beta_fast, beta_slow, .. } => {
                (attention_factor, beta_fast, beta_slow)
            }
            other => panic!("{other:?}"),
        }
    };
    let usual = 0.1 * 4f32.ln() + 1.0;
    assert_eq!(scaling(json!({})), (usual, 32.0, 1.0));
    assert_eq!(scaling(json!({"attention_factor": 1.5, "beta_fast": 16})), (1.5, 16.0, 1.0));
    assert_eq!(scaling(json!({"mscale": 1.0, "mscale_all_dim": 1.0})).0, 1.0);
    assert_eq!(scaling(json!({"mscale": 1.0})).0, usual);
}

#[test]
fn a_sliding_window_limits_the_context_only_where_it_is_used() {
    let window = ("sliding_window", json!(4096));
    let context = ("max_position_embeddings", json!(32_768));
    let limit = |more: &[(&str, Value)]| {
        parse(&[&[window.clone(), context.clone()], more].concat()).context_limit()
    };
    let theta = ("rope_theta", json!(1e6));
    assert_eq!(limit(&[]), 32_768);
    assert_eq!(limit(&[("model_type", json!("mistral"))]), 4096);
    let qwen = [("model_type", json!("qwen2")), theta];
    assert_eq!(limit(&qwen), 32_768);
    let on = [qwen.as_slice(), &[("use_sliding_window", json!(true))]].concat();
    assert_eq!(limit(&on), 32_768, "its 2 layers are below max_window_layers 28");
    assert_eq!(limit(&[on.as_slice(), &[("max_window_layers", json!(1))]].concat()), 4096);
    let types = |kind: &str| ("layer_types", json!(["full_attention", kind]));
    assert_eq!(limit(&[types("sliding_attention")]), 4096);
    assert_eq!(limit(&[types("full_attention")]), 32_768);
}

#[test]
fn quantisation_is_read_as_mlx_lm_writes_it() {
    let config = parse(&[(
        "quantization",
        json!({
            "group_size": 64, "bits": 4, "mode": "affine",
            "model.embed_tokens": {"group_size": 32, "bits": 8},
            "model.layers.0.mlp.up_proj": {"bits": 6},
            "model.layers.0.mlp.gate_proj": {"group_size": 128, "bits": 5},
            "lm_head": false, "model.layers.1.mlp.up_proj": true,
        }),
    )]);
    let group = |name: &str| config.group(name).map(|g| (g.group_size, g.bits));
    assert_eq!(group("model.layers.0.self_attn.q_proj"), Some((64, 4)));
    assert_eq!(group("model.layers.1.mlp.up_proj"), Some((64, 4)));
    assert_eq!(group("model.layers.0.mlp.up_proj"), Some((64, 6)));
    assert_eq!(group("model.embed_tokens"), Some((32, 8)));
    assert_eq!(group("lm_head"), None);
    assert_eq!(group("model.layers.0.mlp.gate_proj"), Some((128, 5)));
    assert_eq!(Group::new(64, 3).unwrap().words(64), 6);
    assert_eq!(Group::new(32, 5).unwrap().words(64), 10);
    assert!(parse(&[("quantization", json!({}))]).quantization.is_none());
}

#[test]
fn what_is_unsupported_or_out_of_range_is_refused_by_key() {
    let quantised = |json: Value| ("quantization", json);
    let rope = |json: Value| ("rope_scaling", json);
    let awq = json!({"quant_method": "awq", "bits": 4, "group_size": 128});
    for (change, reason) in [
        (("model_type", json!("gemma3")), "model_type: \"gemma3\" is not supported; these are: ll"),
        (("model_type", Value::Null), "model_type: is missing"),
        (("hidden_size", json!(0)), "hidden_size: 0 is not a whole number in 1..=1048576"),
        (("hidden_size", json!(-64)), "hidden_size: -64"),
        (("hidden_size", json!(1u64 << 60)), "hidden_size: 1152921504606846976"),
        (("hidden_size", json!(66)), "hidden_size: 66 is no multiple"),
        (("num_hidden_layers", json!("two")), "num_hidden_layers: \"two\""),
        (("num_key_value_heads", json!(3)), "num_key_value_heads: 3 does not divide"),
        (("head_dim", json!(15)), "head_dim: 15 is odd"),
        (("head_dim", json!(1 << 20)), "head_dim: 4 heads of 1048576"),
        (("vocab_size", json!(1.5)), "vocab_size: 1.5"),
        (("rms_norm_eps", json!(-1e-5)), "rms_norm_eps: "),
        (("rope_theta", json!("big")), "rope_theta: "),
        (("hidden_act", json!("gelu")), "hidden_act: \"gelu\" is not supported"),
        (("rope_interleaved", json!(true)), "rope_interleaved: is not supported"),
        (("partial_rotary_factor", json!(0.5)), "partial_rotary_factor: 0.5"),
        (("tie_word_embeddings", json!(1)), "tie_word_embeddings: 1 is not a boolean"),
        (("eos_token_id", json!([1, -2])), "eos_token_id: -2"),
        (rope(json!({"rope_type": "dynamic"})), "rope_scaling.rope_type: \"dynamic\""),
        (rope(json!({"rope_type": "linear"})), "rope_scaling.factor: is missing"),
        (rope(json!({"type": "llama3", "factor": 8})), "rope_scaling.low_freq_factor: is miss"),
        (rope(json!({"type": "yarn", "factor": 4})), "rope_scaling.original_max_position_emb"),
        (rope(json!([1])), "rope_scaling: [1] is not an object"),
        (quantised(json!({"group_size": 32, "bits": 7})), "quantization: 7 bits in groups of 32"),
        (quantised(json!({"group_size": 32, "bits": 1})), "quantization: 1 bits in groups of 32"),
        (quantised(json!({"group_size": 16, "bits": 4})), "quantization: 4 bits in groups of 16"),
        (quantised(json!({"bits": 4})), "quantization.group_size: is not a size"),
        (quantised(json!({"group_size": 32, "bits": 4, "mode": "mxfp4"})), "mode: \"mxfp4\""),
        (quantised(json!({"group_size": 32, "bits": 4, "m": {"bits": 7}})), "quantization.m: 7"),
        (("quantization_config", awq), "quantization_config.quant_method: \"awq\""),
    ] {
        let error = refusal(std::slice::from_ref(&change));
        assert!(error.contains(reason), "{change:?}: {error}");
    }
    let error = refusal(&[("model_type", json!("qwen2"))]);
    assert!(error.contains("rope_theta: is missing"), "no guess between two defaults: {error}");
}
