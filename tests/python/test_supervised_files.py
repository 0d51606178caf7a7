"""The model's files change behind a running engine: what serves is left alone, and damaged files are
named instead of being loaded again and again."""

import os
import pathlib
import shutil
import signal

from supervised import ANSWER, Supervised

DAMAGE_BYTES = 1 << 20


def overwrite(path, offset, content):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(content)


def test_damaged_weights_are_named_and_not_loaded_again_and_again(tmp_path):
    with Supervised(tmp_path, start=False) as pair:
        model = tmp_path / "model"
        shutil.copytree(pair.model, model)
        pair.model = str(model)
        pair.write_config()
        pair.start()
        pair.wait_until_served()
        pair.wait_for(pathlib.Path(pair.state_dir, "proven.json").exists, "remembered", 60)
        assert "model_changed" not in pair.faults()
        epoch = pair.epoch()

        weights = model / "model.safetensors"
        offset = weights.stat().st_size // 2
        with open(weights, "rb") as file:
            file.seek(offset)
            sound = file.read(DAMAGE_BYTES)
        overwrite(weights, offset, b"\xff" * DAMAGE_BYTES)
        fault = pair.wait_for(lambda: pair.faults().get("model_changed"), "told", 60)
        assert "model.safetensors: the same size, other content" in fault["evidence"], fault
        assert "tokenizer.json" not in fault["evidence"], fault
        assert pair.epoch() == epoch and pair.chat()[1] == ANSWER, "what serves is left alone"

        os.kill(pair.pids()[0], signal.SIGKILL)
        pair.wait_for(lambda: pair.status()["phase"] == "held", "held", 90)
        reason = pair.faults()["held"]["evidence"]
        assert "model.safetensors: the same size, other content" in reason, reason
        assert pair.epoch() <= epoch + 2, "started again and again"
        assert pair.status()["reboot"]["past_wall_ms"] == []

        overwrite(weights, offset, sound)
        pair.wait_for(lambda: "model_changed" not in pair.faults(), "restored", 60)
        pair.obeyed(request="release")
        pair.wait_until_served()
        assert pair.chat()[1] == ANSWER
