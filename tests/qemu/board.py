"""What every guest boots: one initramfs with the executable that was built, and a tiny model."""

import dataclasses
import os
import pathlib
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/python"))

import examples  # noqa: E402
import image  # noqa: E402
import tiny_chat  # noqa: E402

PROGRAMS = ("qemu-system-x86_64", "busybox", "mkfs.ext4", "strip")


@dataclasses.dataclass(frozen=True)
class Board:
    """What all guests have in common."""

    initramfs: pathlib.Path
    model: object
    model_folder: pathlib.Path

    def answer(self, text, max_tokens):
        """What mlx-lm answers greedily with the same model, so what every guest must answer."""
        return tiny_chat.answer(self.model, self.model_folder, text, max_tokens)


def lacking():
    """What this machine lacks for guests."""
    programs = [program for program in PROGRAMS if not shutil.which(program)]
    return programs + ([] if image.has_kernel() else [f"a kernel in {image.PACKAGE}"])


def make(folder):
    """Builds it in an empty folder."""
    folder = pathlib.Path(folder)
    tokenizer = os.environ.get("TANDEM_MODEL", ROOT / ".tandem/models/smollm2-135m-instruct")
    tandem = os.environ.get("TANDEM_BIN", str(ROOT / "target/release/tandem"))
    model = tiny_chat.make(folder / "model", tokenizer)
    initramfs = image.initramfs(folder / "initramfs", tandem, examples.build("leak"),
                                folder / "model")
    return Board(initramfs, model, folder / "model")
