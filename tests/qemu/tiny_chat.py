"""A tiny random model with a real tokeniser, small enough to answer under software emulation, and
what mlx-lm answers with it."""

import json
import pathlib
import shutil

import numpy as np
import tiny_models
from tokenizers import Tokenizer
from transformers.utils.chat_template_utils import render_jinja_template

# Of SmolLM2's tokeniser: its special tokens, all bytes, and the merges that come first.
VOCABULARY = 2048

# Two KV heads, so that two ranks can share it.
SHAPE = dict(tiny_models.SHAPE, model_type="llama", hidden_size=64, num_hidden_layers=2,
             intermediate_size=128, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
             vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2)


def make(folder, source):
    """Writes a model folder with the tokeniser of `source`, a folder of SmolLM2; gives the model
    as mlx-lm has it."""
    folder, source = pathlib.Path(folder), pathlib.Path(source)
    folder.mkdir()
    for name in ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json"):
        shutil.copy(source / name, folder)
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    bpe = tokenizer["model"]
    bpe["vocab"] = {text: n for text, n in bpe["vocab"].items() if n < VOCABULARY}
    pairs = [pair if isinstance(pair, list) else pair.split(" ") for pair in bpe["merges"]]
    bpe["merges"] = [pair for pair in pairs if all(
        part in bpe["vocab"] for part in (*pair, "".join(pair)))]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    tiny_models.MODELS["guest"] = (SHAPE, None, tiny_models.mx.float32)
    model = tiny_models.make("guest", folder)
    hush(model, bpe["vocab"])
    weights = dict(tiny_models.tree_flatten(model.parameters()))
    tiny_models.mx.save_safetensors(str(folder / "model.safetensors"), weights,
                                    metadata={"format": "mlx"})
    return model


def hush(model, vocabulary):
    """Makes a random model say words only: whatever is no whole printable ASCII gets logits near
    zero, which never win. An answer of stray bytes would be taken for garbage, rightly."""
    rows = model.model.embed_tokens.weight
    spoken = np.full((VOCABULARY, 1), 0.01, np.float32)
    for text, token in vocabulary.items():
        # A leading space is spelt U+0120 in a byte-level vocabulary.
        if text.removeprefix("\u0120").isalpha() and text.removeprefix("\u0120").isascii():
            spoken[token] = 1.0
    model.model.embed_tokens.weight = rows * tiny_models.mx.array(spoken)


def answer(model, folder, question, count):
    """What mlx-lm answers greedily, in at most this many tokens."""
    tokenizer = Tokenizer.from_file(str(pathlib.Path(folder, "tokenizer.json")))
    config = json.loads(pathlib.Path(folder, "tokenizer_config.json").read_text())
    messages = [{"role": "user", "content": question}]
    [text], _ = render_jinja_template([messages], chat_template=config["chat_template"],
                                      add_generation_prompt=True)
    prompt = tokenizer.encode(text, add_special_tokens=False).ids
    tokens, _ = tiny_models.reference(model, prompt, count)
    return tokenizer.decode(tokens)
