//! Metadata and vocabularies that must be refused, by key.

use crate::damage::check;
use crate::file::{Gguf, Val};

#[test]
fn metadata_that_makes_no_model_is_refused_by_key() {
    let text =
        |key: &'static str, value: &'static str| move |f: &mut Gguf| f.set(key, Val::text(value));
    let number = |key: &'static str, value: u32| move |f: &mut Gguf| f.set(key, Val::U32(value));
    check(text("general.architecture", "gemma3"), "general.architecture is \"gemma3\"; llama");
    check(|f| f.unset("general.architecture"), "general.architecture is missing");
    check(|f| f.unset("llama.embedding_length"), "llama.embedding_length is missing");
    check(number("llama.embedding_length", 0), "llama.embedding_length is Int(0), not a size");
    check(text("llama.block_count", "two"), "llama.block_count is Text(\"two\")");
    check(number("llama.block_count", u32::MAX), "llama.block_count is Int(4294967295)");
    check(number("llama.block_count", 1), "tensor blk.1.attn_q.weight is unknown");
    check(number("llama.block_count", 3), "has no tensor for model.layers.2");
    check(number("llama.attention.head_count_kv", 3), "3 does not divide num_attention_heads 4");
    check(number("llama.attention.head_count", 8), "blk.0.attn_k.weight has 32 rows of 64");
    check(number("llama.rope.dimension_count", 8), "rope.dimension_count must be the head's 16");
    check(number("llama.expert_count", 8), "llama.expert_count is 8; that is not supported");
    check(number("split.count", 2), "llama-gguf-split --merge");
    check(text("llama.rope.scaling.type", "longrope"), "scaling.type is \"longrope\"");
    check(
        |f| f.set("llama.attention.layer_norm_rms_epsilon", Val::F32(f32::NAN)),
        "layer_norm_rms_epsilon is Float(NaN)",
    );
    check(|f| f.set("llama.attention.causal", Val::Bool(false)), "is an encoder");
    check(|f| f.set("llama.logit_scale", Val::F32(0.5)), "llama.logit_scale is 0.5");
}

#[test]
fn vocabularies_that_make_no_tokeniser_are_refused() {
    const TOKENS: &str = "tokenizer.ggml.tokens";
    const TYPES: &str = "tokenizer.ggml.token_type";
    let set = |key: &'static str, value: Val| move |f: &mut Gguf| f.set(key, value);
    check(set("tokenizer.ggml.model", Val::text("t5")), "tokenizer.ggml.model is \"t5\"");
    check(set("tokenizer.ggml.pre", Val::text("tekken")), "tokenizer.ggml.pre is \"tekken\"");
    check(|f| f.unset("tokenizer.ggml.pre"), "tokenizer.ggml.pre is missing; convert");
    check(set(TOKENS, Val::texts(&["a"; 8])), "token \"a\" comes twice");
    check(set(TOKENS, Val::texts(&["a", "b"])), "has 2 tokens and 8 token types");
    check(set(TOKENS, Val::texts(&["x"; 9])), "has 9 tokens and an embedding of 8 rows");
    check(set(TOKENS, Val::texts(&[])), "has 0 tokens");
    check(set(TOKENS, Val::U32(1)), "tokenizer.ggml.tokens is not a list of texts");
    check(set(TYPES, Val::I32s(vec![1, 1, 1, 1, 1, 1, 1, 9])), "unknown type 9");
    check(set("tokenizer.ggml.merges", Val::texts(&["a z"])), "merge \"a z\" does not join");
    check(set("tokenizer.ggml.merges", Val::texts(&["ab"])), "merge \"ab\" does not join");
    check(set("tokenizer.ggml.merges", Val::texts(&["b a"])), "merge \"b a\" does not join");
    check(
        |f| {
            f.unset("tokenizer.ggml.eos_token_id");
            f.set(
                TOKENS,
                Val::texts(&["<|start|>", "<fin>", "a", "b", "ab", "c", "abc", "<tool>"]),
            );
        },
        "names no token that ends a text (tokenizer.ggml.eos_token_id)",
    );
    check(set("tokenizer.ggml.eos_token_id", Val::U32(8)), "eos_token_id is 8, beyond the");
    check(set("tokenizer.ggml.bos_token_id", Val::text("x")), "bos_token_id is Text(\"x\")");
    check(set("tokenizer.chat_template", Val::U32(1)), "chat_template is not a text");
    check(
        |f| {
            f.set("tokenizer.ggml.model", Val::text("llama"));
            f.set("tokenizer.ggml.scores", Val::F32s(vec![f32::NAN; 8]));
        },
        "tokenizer.ggml.scores has not one number for every token",
    );
    check(
        |f| {
            f.unset("tokenizer.ggml.bos_token_id");
            f.set("tokenizer.ggml.add_bos_token", Val::Bool(true));
        },
        "without naming it",
    );
}
