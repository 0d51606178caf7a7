"""Tiny random models of every architecture, made and computed by mlx-lm: the reference.

Weights are scaled up so that the answers vary; with mlx's own initialisation a random model
repeats one token, and equal tokens would show little.
"""

import importlib
import json
import pathlib

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_map_with_path
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import quantize_model

mx.set_default_device(mx.cpu)

SHAPE = dict(
    hidden_size=192, num_hidden_layers=3, intermediate_size=320, num_attention_heads=6,
    num_key_value_heads=3, head_dim=32, rms_norm_eps=1e-5, vocab_size=515,
    max_position_embeddings=2048, rope_theta=10000.0, tie_word_embeddings=True,
)
WIDE = dict(SHAPE, hidden_size=256, num_attention_heads=4, num_key_value_heads=2, head_dim=64,
            intermediate_size=512)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64)
MIXED = {"model.embed_tokens": dict(group_size=32, bits=8), "model.layers.1.mlp.up_proj": False,
         "model.layers.0.self_attn.v_proj": dict(group_size=32, bits=6),
         "model.layers.2.mlp.down_proj": dict(group_size=32, bits=5)}

# name: (config, quantisation or None, dtype)
MODELS = {
    "llama": (dict(SHAPE, model_type="llama"), None, mx.float32),
    "llama-untied-bias": (dict(SHAPE, model_type="llama", tie_word_embeddings=False,
                               attention_bias=True, mlp_bias=True), None, mx.float32),
    "llama-traditional": (dict(SHAPE, model_type="llama", rope_traditional=True), None,
                          mx.float32),
    "llama-linear": (dict(SHAPE, model_type="llama",
                          rope_scaling=dict(rope_type="linear", factor=2.0)), None, mx.float32),
    "llama-llama3": (dict(SHAPE, model_type="llama", rope_scaling=LLAMA3), None, mx.float32),
    "llama-yarn": (dict(SHAPE, model_type="llama", rope_scaling=YARN), None, mx.float32),
    "mistral": (dict(SHAPE, model_type="mistral", tie_word_embeddings=False), None, mx.float32),
    "qwen2": (dict(SHAPE, model_type="qwen2"), None, mx.float32),
    "qwen3": (dict(SHAPE, model_type="qwen3"), None, mx.float32),
    "llama-bf16": (dict(SHAPE, model_type="llama"), None, mx.bfloat16),
    "qwen3-f16": (dict(SHAPE, model_type="qwen3"), None, mx.float16),
    "llama-4bit": (dict(SHAPE, model_type="llama"), dict(group_size=32, bits=4), mx.float32),
    "llama-mixed": (dict(SHAPE, model_type="llama"), dict(group_size=32, bits=4, **MIXED),
                    mx.float32),
    "qwen2-3bit": (dict(WIDE, model_type="qwen2"), dict(group_size=64, bits=3), mx.float32),
    "qwen3-2bit": (dict(WIDE, model_type="qwen3"), dict(group_size=128, bits=2), mx.float32),
    "llama-5bit": (dict(SHAPE, model_type="llama"), dict(group_size=32, bits=5), mx.float32),
    "qwen3-6bit": (dict(WIDE, model_type="qwen3"), dict(group_size=64, bits=6), mx.float32),
    "mistral-8bit": (dict(WIDE, model_type="mistral"), dict(group_size=128, bits=8),
                     mx.bfloat16),
}

MODULES = {"mistral": "llama"}


def make(name, folder):
    """Writes the model to `folder` and gives it back in f32, for `reference`."""
    config, quantization, dtype = MODELS[name]
    module = MODULES.get(config["model_type"], config["model_type"])
    module = importlib.import_module(f"mlx_lm.models.{module}")
    mx.random.seed(sum(map(ord, name)))
    model = module.Model(module.ModelArgs.from_dict(config))

    def widen(path, weight):
        if path.endswith("bias"):
            return mx.random.normal(weight.shape) * 0.5
        if "norm" in path:
            return 1 + mx.random.normal(weight.shape) * 0.2
        return mx.random.normal(weight.shape) * (2.0 / weight.shape[-1]) ** 0.5

    model.update(tree_map_with_path(widen, model.parameters()))
    if quantization:
        overrides = {k: v for k, v in quantization.items() if "." in k}
        predicate = (lambda path, _: overrides.get(path, True)) if overrides else None
        size, bits = quantization["group_size"], quantization["bits"]
        model, config = quantize_model(model, config, size, bits, quant_predicate=predicate)
    model.set_dtype(dtype)
    folder = pathlib.Path(folder)
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))
    # The engine computes in f32 on a CPU: so does the reference, on the same stored values.
    model.set_dtype(mx.float32)
    return model


def reference(model, prompt, count):
    """Greedy tokens and the logits they were chosen from, [count, vocabulary] of f32."""
    cache = make_prompt_cache(model)
    piece, tokens, logits = mx.array([prompt]), [], []
    for _ in range(count):
        row = model(piece, cache=cache)[0, -1]
        logits.append(np.array(row))
        tokens.append(int(mx.argmax(row)))
        piece = mx.array([[tokens[-1]]])
    return tokens, np.stack(logits)
