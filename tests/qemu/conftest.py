"""What all guests share: one initramfs a run, with the executable that was built."""

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/python"))

import image  # noqa: E402
import tiny_chat  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Board:
    """What every guest boots."""

    initramfs: pathlib.Path
    # The model in it, as mlx-lm has it: what the guests must answer.
    model: object
    folder: pathlib.Path

    def answer(self, text, max_tokens):
        return tiny_chat.answer(self.model, self.folder, text, max_tokens)


@pytest.fixture(scope="session")
def board(tmp_path_factory):
    lacking = [program for program in ("qemu-system-x86_64", "busybox", "mkfs.ext4", "strip")
               if not shutil.which(program)]
    lacking += [name for name in ("TANDEM_MODEL",) if name not in os.environ]
    if lacking:
        reason = "this machine lacks: " + ", ".join(lacking)
        assert "TANDEM_REQUIRE_ALL" not in os.environ, reason
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("board")
    model = tiny_chat.make(folder / "model", os.environ["TANDEM_MODEL"])
    tandem = os.environ.get("TANDEM_BIN", ROOT / "target/release/tandem")
    initramfs = image.initramfs(folder / "initramfs", tandem, leak_program(), folder / "model")
    return Board(initramfs, model, folder / "model")


def leak_program():
    """The example that locks memory and leaves it behind."""
    command = ["cargo", "build", "--locked", "-p", "tandem-host", "--example", "leak"]
    if is_release := "release" in os.environ.get("TANDEM_BIN", "release"):
        command.append("--release")
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return ROOT / "target" / ("release" if is_release else "debug") / "examples/leak"
