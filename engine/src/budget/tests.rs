use std::fs;
use std::io::Write as _;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::model_config::ModelConfig;
use crate::settings::RankPlace;

const METAL: Form = Form::Metal;
const CPU: Form = Form::Cpu { expand: true };

/// A folder with the headers of the model that `config` describes, and no data: the file has holes.
fn model(config: &Value, float: &str) -> (TempDir, ModelFiles) {
    let typed = ModelConfig::parse(config).unwrap();
    let mut tensors: Vec<(String, &str, Vec<usize>)> = Vec::new();
    for matrix in typed.matrices() {
        let module = matrix.module;
        match typed.group(&module) {
            None => {
                let shape = vec![matrix.rows, matrix.columns];
                tensors.push((format!("{module}.weight"), float, shape));
            }
            Some(group) => {
                let words = vec![matrix.rows, group.words(matrix.columns)];
                let groups = vec![matrix.rows, matrix.columns / group.group_size];
                tensors.push((format!("{module}.weight"), "U32", words));
                tensors.push((format!("{module}.scales"), float, groups.clone()));
                tensors.push((format!("{module}.biases"), float, groups));
            }
        }
        if matrix.bias {
            tensors.push((format!("{module}.bias"), float, vec![matrix.rows]));
        }
    }
    for (norm, len) in typed.norms() {
        tensors.push((format!("{norm}.weight"), float, vec![len]));
    }
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, dtype, shape) in tensors {
        let width = if dtype == "BF16" { 2 } else { 4 };
        let begin = end;
        end += shape.iter().product::<usize>() * width;
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]});
        header.insert(name, entry);
    }
    let header = Value::Object(header).to_string();
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let mut file = fs::File::create(folder.path().join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len((8 + header.len() + end) as u64).unwrap();
    let files = ModelFiles::open(folder.path()).unwrap();
    (folder, files)
}

/// The shape of Llama 3.1 8B: 8,030,261,248 parameters.
fn llama_8b() -> Value {
    json!({
        "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32,
        "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8,
        "vocab_size": 128_256, "max_position_embeddings": 131_072, "tie_word_embeddings": false,
    })
}

/// As Qwen2.5 in small: biases on q, k and v, tied head, quantised in groups of 64 by 4 bits.
fn quantised() -> Value {
    json!({
        "model_type": "qwen2", "hidden_size": 128, "num_hidden_layers": 2,
        "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 1000, "max_position_embeddings": 1024, "tie_word_embeddings": true,
        "rope_theta": 10_000.0,
        "quantization": {"group_size": 64, "bits": 4},
    })
}

fn demand(files: &ModelFiles, weights: &[u32], rank: usize, form: Form) -> Demand {
    let plan = ShardPlan::new(&files.config, weights, rank).unwrap();
    Demand::new(files, &plan, &Settings::default(), form).unwrap()
}

fn terms(context_tokens: u32) -> Terms {
    Terms { context_tokens, max_active: 16, kv_cache_max_mib: 0 }
}

fn ceiling(bytes: u64) -> Option<Ceiling> {
    Some(Ceiling { bytes, origin: "as told".into() })
}

#[test]
fn a_published_model_takes_its_published_bytes() {
    let (_folder, files) = model(&llama_8b(), "BF16");
    let parameters = 8_030_261_248;
    // Form, bytes of a value.
    for (form, width) in [(METAL, 2), (CPU, 4)] {
        let budget = demand(&files, &[1], 0, form).budget(1, 1);
        assert_eq!(budget.weights_bytes, parameters * width, "{form:?}");
        // 32 layers, keys and values, 8 heads of 128.
        assert_eq!(budget.kv_cache_bytes, 32 * 2 * 8 * 128 * width, "{form:?}");
    }
}

#[test]
fn ranks_hold_the_model_once_and_what_is_whole_on_each_again() {
    let (_folder, files) = model(&llama_8b(), "BF16");
    let whole = demand(&files, &[1], 0, METAL).budget(256, 256);
    for weights in [&[1, 1][..], &[3, 1], &[2, 1, 1]] {
        let parts: Vec<Budget> = (0..weights.len())
            .map(|r| demand(&files, weights, r, METAL).budget(256, 256))
            .collect();
        let norms = 2 * 4096 * (2 * 32 + 1);
        let again = norms * (weights.len() as u64 - 1);
        let sum = |of: fn(&Budget) -> u64| parts.iter().map(of).sum::<u64>();
        assert_eq!(sum(|b| b.weights_bytes), whole.weights_bytes + again, "{weights:?}");
        assert_eq!(sum(|b| b.kv_cache_bytes), whole.kv_cache_bytes, "{weights:?}");
    }
}

#[test]
fn quantised_weights_count_as_they_are_kept() {
    let (_folder, files) = model(&quantised(), "BF16");
    // Embedding; then in each layer q, k, v, o, gate, up, down.
    let matrices = 1000 * 128 + 2 * (128 * (128 + 64 + 64 + 128) + 3 * 128 * 256);
    let vectors = 2 * (128 + 64 + 64) + 128 * (2 * 2 + 1);
    // Form, bytes of 64 values of a matrix, bytes of a value of a vector.
    for (form, group, value) in
        [(METAL, 32 + 2 * 2, 2), (Form::Cpu { expand: false }, 32 + 2 * 4, 4), (CPU, 64 * 4, 4)]
    {
        let expected = matrices / 64 * group + vectors * value;
        assert_eq!(demand(&files, &[1], 0, form).weights_bytes, expected, "{form:?}");
    }
}

#[test]
fn half_types_that_differ_compute_in_f32() {
    let (folder, files) = model(&quantised(), "BF16");
    assert_eq!(demand(&files, &[1], 0, METAL).kv_bytes_per_token, 2 * 2 * 2 * 32 * 2);
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let at = text.find("\"model.norm.weight\"").unwrap();
    let dtype = at + bytes[at..].windows(4).position(|w| w == b"BF16").unwrap();
    let mut changed = bytes;
    changed[dtype..dtype + 4].copy_from_slice(b"F16\"");
    // One byte shorter: the comma or brace moves up.
    let quote = dtype + 4;
    changed[quote] = b' ';
    fs::write(&path, changed).unwrap();
    let files = ModelFiles::open(folder.path()).unwrap();
    assert_eq!(demand(&files, &[1], 0, METAL).kv_bytes_per_token, 2 * 2 * 2 * 32 * 4);
}

#[test]
fn what_the_ceiling_leaves_is_the_caches_and_no_byte_more() {
    let (_folder, files) = model(&llama_8b(), "BF16");
    let pair = [demand(&files, &[1, 1], 0, METAL), demand(&files, &[1, 1], 1, METAL)];
    let terms = terms(8192);
    let need = fit(&pair, &terms, None).unwrap().need_bytes;
    for extra in [0, 1, 1 << 20, 1 << 30, 10 << 30, 100 << 30] {
        let ceiling = ceiling(need + extra);
        let fitted = fit(&pair, &terms, ceiling.as_ref()).unwrap();
        let total = |tokens| pair.iter().map(|d| d.budget(tokens, 8192).total()).sum::<u64>();
        assert_eq!(fitted.budgets.iter().map(Budget::total).sum::<u64>(), total(fitted.kv_tokens));
        assert!(fitted.kv_tokens >= 8192 && total(fitted.kv_tokens) <= need + extra, "{extra}");
        let all = 16 * 8192;
        assert!(fitted.kv_tokens == all || total(fitted.kv_tokens + 256) > need + extra, "{extra}");
        assert_eq!(fitted.need_bytes, need);
    }
}

#[test]
fn what_can_not_be_is_refused_with_a_context_that_can() {
    let (_folder, files) = model(&llama_8b(), "BF16");
    let alone = [demand(&files, &[1], 0, METAL)];
    let need = fit(&alone, &terms(131_072), None).unwrap().need_bytes;
    for short in [1, 1 << 30, 8 << 30] {
        let ceiling = ceiling(need - short);
        let refused = fit(&alone, &terms(131_072), ceiling.as_ref()).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains(&format!("{} MiB", mib(need))) && text.contains("as told"), "{text}");
        let (_, rest) = text.split_once("engine.context_tokens to ").expect("a key to lower");
        let tokens: u32 = rest.split(' ').next().unwrap().parse().unwrap();
        assert!(fit(&alone, &terms(tokens), ceiling.as_ref()).is_ok(), "{tokens} tokens");
        assert!(fit(&alone, &terms(tokens + 1), ceiling.as_ref()).is_err(), "{tokens} tokens");
    }
    // Ceiling, what is to be changed.
    let budget = alone[0].budget(256, 256);
    let base = budget.weights_bytes + budget.fixed_bytes;
    for (bytes, expected) in [(base, "engine.prefill_step_tokens"), (base - 1, "weights alone")] {
        let refused = fit(&alone, &terms(131_072), ceiling(bytes).as_ref()).unwrap_err();
        assert!(refused.to_string().contains(expected), "{refused}");
        assert!(refused.to_string().contains("smaller"), "{refused}");
    }
}

#[test]
fn a_cache_limit_bounds_the_caches_and_must_have_room_for_one_request() {
    let (_folder, files) = model(&llama_8b(), "BF16");
    let alone = [demand(&files, &[1], 0, METAL)];
    // 128 KiB a token: 8 to a MiB. Limit in MiB, tokens or part of the refusal.
    let rows: [(u64, Result<u64, &str>); 5] = [
        (0, Ok(16 * 1024)),
        (300, Ok(2304)),
        (128, Ok(1024)),
        (127, Err("128 MiB; raise it to 128 or more, or lower engine.context_tokens to 768 or")),
        (31, Err("raise it to 128 or more")),
    ];
    for (kv_cache_max_mib, expected) in rows {
        let terms = Terms { kv_cache_max_mib, ..terms(1024) };
        match (fit(&alone, &terms, None), expected) {
            (Ok(fit), Ok(tokens)) => assert_eq!(fit.kv_tokens, tokens, "{kv_cache_max_mib} MiB"),
            (Err(why), Err(part)) => assert!(why.to_string().contains(part), "{why}"),
            (got, _) => panic!("{kv_cache_max_mib} MiB: {got:?}"),
        }
    }
}

#[test]
fn a_rank_counts_those_of_its_own_machine() {
    let (folder, files) = model(&quantised(), "BF16");
    let setup = |addresses: [&str; 2], ceiling| RankSetup {
        rank: 1,
        ranks: addresses.map(|a| RankPlace { address: a.parse().unwrap(), weight: 1 }).into(),
        model_dir: folder.path().into(),
        run_dir: "run".into(),
        settings: Settings::default(),
        ceiling,
    };
    let apart = ["10.0.0.1", "10.0.0.2"];
    let need = fit_rank(&files, &setup(apart, None)).unwrap().need_bytes;
    assert!(fit_rank(&files, &setup(apart, ceiling(need))).is_ok());
    let error = fit_rank(&files, &setup(["10.0.0.2"; 2], ceiling(need))).unwrap_err();
    assert!(
        matches!(&error, EngineError::Usage(text) if text.contains("these 2 ranks")),
        "{error}"
    );
    assert!(!tandem_wire::exit::is_retryable(error.exit_code()));
}

#[test]
fn a_ceiling_is_the_lowest_that_is_known() {
    let wired = |mib| Ceiling::of_wired(512 << 30, mib).bytes;
    assert_eq!((wired(0), wired(505_000)), (384 << 30, 505_000 << 20));
    assert_eq!(Ceiling::of_memory(24 << 30, 1024).bytes, 23 << 30);
    assert_eq!(Ceiling::of_memory(1 << 30, 2048).bytes, 0);
    let lowered = |config: Option<u64>, device| {
        Ceiling::lowered(config.and_then(ceiling), device).map(|ceiling| ceiling.bytes)
    };
    for (config, device, expected) in [
        (Some(7), Some(5), Some(5)),
        (Some(5), Some(7), Some(5)),
        (None, Some(3), Some(3)),
        (Some(3), None, Some(3)),
        (None, None, None),
    ] {
        assert_eq!(lowered(config, device), expected);
    }
}

#[test]
fn the_table_has_a_column_a_rank_and_every_part() {
    let (_folder, files) = model(&llama_8b(), "BF16");
    let budget = demand(&files, &[1], 0, METAL).budget(8192, 8192);
    let text = table(&[("rank 0 (a)".into(), budget), ("rank 1 (b)".into(), budget)]);
    let cells = |label: &str| -> Vec<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(label)).expect(label);
        line.split_whitespace().map(|cell| cell.parse().unwrap()).collect()
    };
    assert_eq!(cells("weights"), [15317, 15317]);
    assert_eq!(cells("KV cache"), [1024, 1024]);
    let parts = cells("weights")[0] + cells("KV cache")[0] + cells("prefill peak")[0];
    assert!(cells("total")[0].abs_diff(parts + cells("fixed")[0]) <= 4, "{text}");
}
