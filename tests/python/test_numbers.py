"""The engine's numbers against mlx-lm's: every architecture, quantisation and layout of ranks."""

import json
import os
import pathlib

import numpy as np
import pytest

import examples
import ranks
import tiny_models

# It computes all the time, and measures memory.
pytestmark = pytest.mark.alone

TOKENS = 128
PROMPT = [7, 100, 3, 511, 42, 42, 9, 250, 1, 77, 300]


@pytest.fixture(scope="session")
def binary():
    return examples.build("reference")


def margin(logits):
    """The smallest gap between the best logit and the next: under it rounding may decide."""
    best = np.sort(logits, axis=1)[:, -2:]
    return float((best[:, 1] - best[:, 0]).min())


@pytest.mark.parametrize("name", tiny_models.MODELS)
def test_tokens_and_logits_are_those_of_mlx_lm_on_one_rank_and_on_two(name, binary, tmp_path):
    model = tiny_models.make(name, tmp_path)
    tokens, logits = tiny_models.reference(model, PROMPT, TOKENS)
    assert len(set(tokens)) > 8, "a model that repeats itself shows nothing"
    config, quantization, _ = tiny_models.MODELS[name]
    # As stored and expanded are two paths through different kernels; both are promised.
    for expand in [True, False] if quantization else [True]:
        for weights in [[1], [1, 1], [2, 1]]:
            if weights == [2, 1] and config["num_key_value_heads"] == 2:
                weights = [3, 1]
            reports, ours = ranks.generate(
                binary, tmp_path, weights, PROMPT, TOKENS, expand=expand, logits=True)
            case = f"{name} on {weights}, expand={expand}"
            assert all(r["tokens"] == reports[0]["tokens"] for r in reports), case
            for r in reports:
                assert r["weights_bytes"] == r["predicted_weights_bytes"], case
            error = float(np.abs(ours - logits).max()) if reports[0]["tokens"] == tokens else None
            assert error is not None or margin(logits) < 1e-3, f"{case}: other tokens"
            assert error is None or error < 1e-3, f"{case}: logits differ by {error}"


def test_a_prompt_longer_than_a_step_is_the_same_on_two_ranks(binary):
    """Several prefill steps, and sums between ranks that take more than one exchange each."""
    prompt = [int(n) for n in np.random.default_rng(5).integers(300, 30000, 700)]
    alone, expected = ranks.generate(binary, smollm2(), [1], prompt, 8, logits=True)
    for weights in [[1, 1], [2, 1]]:
        reports, logits = ranks.generate(binary, smollm2(), weights, prompt, 8, logits=True)
        assert all(r["tokens"] == alone[0]["tokens"] for r in reports), weights
        assert float(np.abs(logits - expected).max()) < 1e-3, weights


def test_each_rank_reads_only_its_shard(binary, tmp_path):
    tiny_models.make("llama", tmp_path)
    size = sum(
        int(np.prod(t["shape"])) * 4 for t in header(tmp_path / "model.safetensors").values())
    alone, _ = ranks.generate(binary, tmp_path, [1], PROMPT, 1)
    assert alone[0]["bytes_read"] == size
    pair, _ = ranks.generate(binary, tmp_path, [1, 1], PROMPT, 1)
    # What both read: the norms. Nothing else.
    norms = 4 * 192 * (2 * 3 + 1)
    assert sum(r["bytes_read"] for r in pair) == size + norms


@pytest.mark.parametrize("expand", [True, False])
@pytest.mark.parametrize("weights", [[1], [2, 1]])
def test_loading_holds_little_more_than_the_shard(binary, weights, expand):
    for report in ranks.generate(binary, smollm2(), weights, [1, 2], 1, expand=expand)[0]:
        bound = 1.15 * report["weights_bytes"] + 150e6
        assert report["peak_rss_after_load"] < bound, report
        assert report["weights_bytes"] == report["predicted_weights_bytes"], report
        assert report["peak_rss"] < report["predicted_bytes"], report


def smollm2():
    model = os.environ.get("TANDEM_MODEL")
    assert model, "TANDEM_MODEL is not set: run ./install.sh test"
    return model


def header(path):
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        tensors = json.loads(file.read(length))
    tensors.pop("__metadata__", None)
    return tensors


@pytest.mark.parametrize("weights", [[1], [1, 1], [2, 1]])
def test_smollm2_says_what_mlx_lm_says(binary, weights):
    """The completions in smollm2.json were made by mlx-lm 0.32.2 from the same GGUF (see the file);
    a forward pass in plain numpy agrees with each of their 230 tokens."""
    model = smollm2()
    path = pathlib.Path(__file__).with_name("smollm2.json")
    for completion in json.loads(path.read_text())["completions"]:
        wanted = completion["tokens"]
        reports, _ = ranks.generate(binary, model, weights, completion["prompt"], len(wanted))
        for report in reports:
            assert report["tokens"] == wanted, completion["text"]
