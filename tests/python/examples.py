"""Programs that tests run beside the product: the crates' examples."""

import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def build(name):
    """Builds an example in the same profile as the executable that is tested; its path."""
    is_release = "release" in os.environ.get("TANDEM_BIN", "release")
    # Of the whole workspace, as the tests are built: alone it would have other features, and be built twice.
    command = ["cargo", "build", "--locked", "--workspace", "--example", name]
    subprocess.run(command + ["--release"] * is_release, cwd=ROOT, check=True, timeout=1800)
    return ROOT / "target" / ("release" if is_release else "debug") / "examples" / name
