"""Facts that stand in two places must agree: pins, the crates' own versions, the launchd job."""

import json
import pathlib
import plistlib
import re
import subprocess
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
PINS = dict(
    re.findall(r"^(\w+)=\"?([^\"\n]*)\"?$", (ROOT / "tests/setup/pins.sh").read_text(), re.M)
)


def test_the_mlx_wheel_is_the_version_that_mlx_sys_is_written_for():
    metadata = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--locked", "--offline"],
        cwd=ROOT, check=True, capture_output=True,
    )
    packages = json.loads(metadata.stdout)["packages"]
    [mlx_sys] = [p for p in packages if p["name"] == "mlx-sys"]
    cmake = pathlib.Path(mlx_sys["manifest_path"]).parent / "src/mlx-c/CMakeLists.txt"
    [wanted] = re.findall(r"GIT_TAG v([\d.]+)", cmake.read_text())
    assert PINS["MLX_WHEEL"] == f"mlx-cpu=={wanted}"


def test_the_reference_runs_on_the_same_mlx():
    requirements = (ROOT / "tests/python/requirements.txt").read_text()
    assert f"mlx[cpu]=={PINS['MLX_WHEEL'].removeprefix('mlx-cpu==')}" in requirements.splitlines()


def test_set_up_asks_for_the_rust_that_the_workspace_names():
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
    assert workspace["rust-version"] == f"1.{PINS['RUST_MIN_MINOR']}"


def test_both_bindings_are_made_with_the_same_libclang():
    tools = (ROOT / "pkg/src/cross/tools.rs").read_text()
    assert re.findall(r'const LIBCLANG: &str = "(.*)";', tools) == [PINS["LIBCLANG"]]


def test_the_launchd_job_is_a_plist_that_does_not_kill_a_loaded_model():
    with open(ROOT / "launchd/io.tandem.supervise.plist", "rb") as f:
        job = plistlib.load(f)
    assert job["ProgramArguments"][1:3] == ["supervise", "--config"]
    assert job["ProgramArguments"][0].startswith("/") and job["ProgramArguments"][3].startswith("/")
    # launchd's own default of some seconds ends in SIGKILL, which strands the ranks' memory.
    assert job["ExitTimeOut"] >= 300
    assert job["AbandonProcessGroup"] is True
    assert job["KeepAlive"] == {"SuccessfulExit": False}
