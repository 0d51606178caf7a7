//! Files that must be refused: by name, with the reason, before anything is written.

use crate::file::{F16, F32, FFN, Gguf, HIDDEN, Q4_1, Q8_0, Sandbox, Val, write_text};

/// Imports bytes that must be refused; gives the reason.
fn refusal(sandbox: &Sandbox, bytes: &[u8]) -> String {
    let error = sandbox.import(bytes).expect_err("must be refused");
    assert_eq!(sandbox.left(), [""; 0], "nothing may be left behind");
    let text = error.to_string();
    assert!(text.contains("tiny.gguf: "), "the file must be named: {text}");
    text
}

/// A tiny file after `change` must be refused for this reason.
pub(crate) fn check(change: impl FnOnce(&mut Gguf), reason: &str) {
    let mut file = Gguf::tiny("llama", Q4_1);
    change(&mut file);
    let error = refusal(&Sandbox::new(), &file.bytes());
    assert!(error.contains(reason), "expected {reason:?} in: {error}");
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let file = Gguf::tiny("llama", Q8_0);
    let (bytes, header) = (file.bytes(), file.header().len());
    let sandbox = Sandbox::new();
    // Every byte of the header, then the end of every tensor and one byte less.
    let mut cuts: Vec<usize> = (0..=header).collect();
    let mut end = header;
    for tensor in &file.tensors {
        end = end.next_multiple_of(file.alignment) + tensor.data.len();
        cuts.extend([end - 1, end - tensor.data.len()]);
    }
    assert_eq!(end, bytes.len());
    for cut in cuts {
        let error = refusal(&sandbox, &bytes[..cut]);
        assert!(error.contains("truncated"), "cut at {cut}: {error}");
    }
    assert!(sandbox.import(&bytes).is_ok());
}

#[test]
fn counts_and_lengths_that_lie_are_refused_before_memory_is_taken() {
    let sound = Gguf::tiny("llama", Q4_1).bytes();
    let sandbox = Sandbox::new();
    for (at, what) in [(8, "tensors"), (16, "metadata keys")] {
        for count in [u64::MAX, 1 << 40, 1 << 17] {
            let mut bytes = sound.clone();
            bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
            let error = refusal(&sandbox, &bytes);
            assert!(error.contains(&format!("claims {count} {what}")), "{error}");
        }
    }
    // The first key's length, then lengths inside values: a text, a list of each kind.
    let mut bytes = sound;
    bytes[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(refusal(&sandbox, &bytes).contains("a metadata key needs 18446744073709551615 bytes"));
    for length in [u64::MAX, u64::MAX / 8, 1 << 36] {
        let text = length.to_le_bytes().to_vec();
        check(|f| f.set("general.name", Val::Raw(8, text)), "general.name needs");
        for kind in [0u32, 3, 5, 6, 7, 8, 11, 12] {
            let list = [&kind.to_le_bytes()[..], &length.to_le_bytes()].concat();
            check(|f| f.set("general.tags", Val::Raw(9, list)), "general.tags needs");
        }
    }
}

#[test]
fn malformed_headers_are_refused() {
    let magic = refusal(&Sandbox::new(), b"GGML and then some more bytes");
    assert!(magic.contains("not a GGUF file"), "{magic}");
    check(|f| f.version = 1, "GGUF version 1; 2 and 3 are supported");
    check(|f| f.version = 3u32.swap_bytes(), "big-endian");
    let raw = |kind, bytes: &[u8]| Val::Raw(kind, bytes.to_vec());
    let mut bad_text = Vec::new();
    write_text(&mut bad_text, b"\xFF\xFE");
    check(|f| f.set("general.name", raw(8, &bad_text)), "general.name is not valid UTF-8");
    check(|f| f.set("general.name", raw(99, &[])), "unknown value type 99");
    check(|f| f.set("general.flag", raw(7, &[2])), "general.flag: 2 is no boolean");
    let nested = [9u32.to_le_bytes().as_slice(), &1u64.to_le_bytes()].concat();
    check(|f| f.set("general.x", raw(9, &nested.repeat(20))), "lists in lists");
    let endless = [9u32.to_le_bytes().as_slice(), &u64::MAX.to_le_bytes()].concat();
    check(|f| f.set("general.x", raw(9, &endless)), "general.x needs");
    check(|f| f.set("tokenizer.ggml.tokens", Val::Lists(vec![vec![1]])), "is not a list of texts");
    let strange = [77u32.to_le_bytes().as_slice(), &1u64.to_le_bytes()].concat();
    check(|f| f.set("general.x", raw(9, &strange)), "unknown element type 77");
    check(|f| f.keys.push(f.keys[0].clone()), "general.architecture comes twice");
    check(|f| f.keys[1].0 = "k".repeat(300), "a metadata key is 300 bytes long");
    for alignment in [3, 1 << 21] {
        check(|f| f.set("general.alignment", Val::U32(alignment)), "not a power of two");
    }
    check(|f| f.set("general.alignment", Val::U32(0)), "general.alignment is Int(0)");
    // The table is right for 32, so tensors do not lie where 64 would put them.
    check(|f| f.set("general.alignment", Val::U32(4096)), "begins at");
}

#[test]
fn a_different_alignment_that_is_true_is_fine() {
    let mut file = Gguf::tiny("llama", Q4_1);
    file.alignment = 256;
    file.set("general.alignment", Val::U32(256));
    assert!(Sandbox::new().import(&file.bytes()).is_ok());
}

#[test]
fn tensors_that_cant_be_are_refused_by_name() {
    const UP: &str = "blk.1.ffn_up.weight";
    check(|f| f.tensor(UP).shift = -32, "tensor blk.1.ffn_up.weight begins at");
    check(|f| f.tensor(UP).shift = 32, "tensor blk.1.ffn_up.weight begins at");
    check(|f| f.tensor(UP).shift = i64::MIN, "tensor blk.1.ffn_up.weight begins at");
    check(|f| f.tensor(UP).axes = vec![0, 96], "ffn_up.weight has an axis of length 0");
    check(|f| f.tensor(UP).axes = vec![1 << 33, 1], "has an axis of length 8589934592");
    check(|f| f.tensor(UP).axes = vec![u64::from(u32::MAX) - 31, 0xFFFF_FFFF], "truncated: tensor");
    check(|f| f.tensor(UP).axes = vec![64, 8, 12], "ffn_up.weight has 3 axes");
    check(|f| f.tensor(UP).axes = vec![], "ffn_up.weight has 0 axes");
    check(|f| f.tensor(UP).axes = vec![48, 128], "rows of 48 values, no multiple of Q4_1's block");
    check(|f| f.tensor(UP).axes = vec![6144], "ffn_up.weight must have 2 axes");
    check(|f| f.tensor(UP).kind = 12, "tensor blk.1.ffn_up.weight is Q4_K; F32");
    check(|f| f.tensor(UP).kind = 1000, "is of the unknown ggml type 1000");
    check(
        |f| f.tensor(UP).name = "output_norm.weight".to_owned(),
        "output_norm.weight comes twice",
    );
    check(
        |f| f.tensor(UP).name = "blk.7.ffn_up.weight".to_owned(),
        "blk.7.ffn_up.weight is unknown",
    );
    check(|f| f.tensor(UP).name = "blk.1.ffn_gate_exps.weight".to_owned(), "belongs to no llama");
    check(|f| f.tensor(UP).name = "../../etc/passwd".to_owned(), "belongs to no llama");
    check(|f| f.tensor(UP).name = "blk.-1.ffn_up.weight".to_owned(), "belongs to no llama");
    check(
        |f| f.tensors.retain(|t| t.name != UP),
        "no tensor for model.layers.1.mlp.up_proj.weight",
    );
    check(|f| f.tensors.retain(|t| !t.name.contains("embd")), "token_embd.weight is missing");
    check(|f| f.matrix(UP, FFN / 2, HIDDEN, F32), "has 48 rows of 64, the metadata makes it 96");
    check(|f| f.matrix("output_norm.weight", 1, HIDDEN, F32), "output_norm.weight must have 1");
    check(
        |f| f.put("output_norm.weight", vec![64], Q8_0, vec![0; 68]),
        "output_norm.weight is quantised",
    );
    check(
        |f| f.tensor(UP).data[..2].copy_from_slice(&half::f16::NAN.to_le_bytes()),
        "tensor blk.1.ffn_up.weight holds a scale that is not a number",
    );
    check(
        |f| {
            f.tensor("output_norm.weight").data[8..12].copy_from_slice(&f32::INFINITY.to_le_bytes())
        },
        "tensor output_norm.weight holds a value that is not a number",
    );
    check(|f| f.matrix("rope_freqs.weight", 2, 4, F32), "rope_freqs.weight is not a vector");
    check(|f| f.vector("rope_freqs.weight", 8), "follows no Llama 3 rule");
}

#[test]
fn flipped_bytes_never_panic_and_leave_no_half_model() {
    let file = Gguf::tiny("llama", F16);
    let (sound, header) = (file.bytes(), file.header().len());
    let sandbox = Sandbox::new();
    let mut state = 0x5EED_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 33) as usize % below
    };
    let mut refused = 0;
    for _ in 0..1500 {
        let mut bytes = sound.clone();
        for _ in 0..=random(2) {
            bytes[random(header)] = match random(3) {
                0 => 0xFF,
                1 => 0,
                _ => random(256) as u8,
            };
        }
        match sandbox.import(&bytes) {
            // A flip in a name or template can make another sound file.
            Ok(imported) => std::fs::remove_dir_all(imported.dir).unwrap(),
            Err(_) => refused += 1,
        }
        assert_eq!(sandbox.left(), [""; 0]);
    }
    assert!(refused > 500, "only {refused} refused");
}
