"""Measures Tandem and mlx_lm.server side by side: same machine, MLX, BLAS and weights, one run.

    ./install.sh test                       # once: builds, installs mlx-lm, imports the model
    .tandem/peer/bin/python tests/bench/compare.py [--quick] [--out results.jsonl]

Every figure is printed, and written to --out, as soon as it is known. Each server is measured by
`tandem bench`, over HTTP, alone on the machine; the servers take turns, so that a machine that
changes its speed changes it for all. Ratios at the end are of medians.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/python"))
import ranks  # noqa: E402
import served  # noqa: E402

BINARY = ROOT / "target/release/tandem"
MODEL = pathlib.Path(os.environ.get("TANDEM_MODEL", ROOT / ".tandem/models/smollm2-135m-instruct"))
BLAS = "libopenblas.so.0"


def converted(folder, dense):
    """The model as mlx-lm serves it: scales widened to f32 (as stored, mlx's CPU kernels would be
    sixty times slower for it), or every weight expanded to f32."""
    import mlx.core as mx
    out = pathlib.Path(folder, "dense" if dense else "stored")
    shutil.copytree(MODEL, out, ignore=shutil.ignore_patterns("*.safetensors*"))
    config = json.loads((MODEL / "config.json").read_text())
    quantization = config["quantization"]
    tensors = {}
    for file in sorted(MODEL.glob("*.safetensors")):
        tensors |= mx.load(str(file))
    result = {}
    for name, tensor in tensors.items():
        module = name.rsplit(".", 1)[0]
        scales = tensors.get(module + ".scales")
        if dense and scales is not None:
            if name.endswith(".weight"):
                one = quantization.get(module, quantization)
                widen = [tensors[f"{module}.{k}"].astype(mx.float32) for k in ("scales", "biases")]
                result[name] = mx.dequantize(
                    tensor, *widen, group_size=one["group_size"], bits=one["bits"])
        else:
            result[name] = tensor.astype(mx.float32) if tensor.dtype != mx.uint32 else tensor
    if dense:
        config.pop("quantization")
        config.pop("quantization_config", None)
    mx.save_safetensors(str(out / "model.safetensors"), result, metadata={"format": "mlx"})
    (out / "config.json").write_text(json.dumps(config))
    return out


class Peer:
    """mlx_lm.server."""

    def __init__(self, folder, model):
        self.url = f"http://127.0.0.1:{ranks.free_ports(1)[0]}"
        self.model = "default_model"
        env = dict(os.environ, LD_PRELOAD=BLAS, OPENBLAS_NUM_THREADS="2", HF_HUB_OFFLINE="1")
        command = [sys.executable, "-m", "mlx_lm", "server", "--model", model]
        command += ["--port", self.url.rsplit(":", 1)[1]]
        self.log = open(pathlib.Path(folder, "peer.log"), "ab")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=env)


class Ours:
    """`tandem supervise` with one rank or two."""

    def __init__(self, folder, world, expand, cores=None):
        folder = pathlib.Path(folder, f"ours-{time.monotonic_ns()}")
        folder.mkdir()
        ports = ranks.free_ports(3)
        rank = '[[rank]]\nnode = "here"\naddress = "127.0.0.1"\nweight = 1\n'
        config = folder / "tandem.toml"
        config.write_text(f"""
[node]
name = "here"
run_dir = {json.dumps(str(folder / "run"))}
state_dir = {json.dumps(str(folder / "state"))}
user = ""
[model]
path = {json.dumps(str(MODEL))}
id = "smollm2"
{rank * world}
[engine]
control_port = {ports[0]}
ring_port_base = {ranks.free_ports(2)[0]}
cpu_expand = {str(expand).lower()}
[gateway]
listen = "127.0.0.1:{ports[1]}"
[supervise]
status_listen = "127.0.0.1:{ports[2]}"
""")
        self.url = f"http://127.0.0.1:{ports[1]}"
        self.model = "smollm2"
        self.log = open(folder / "log", "ab")
        self.process = subprocess.Popen(
            (["taskset", "-c", cores] if cores else []) + [BINARY, "supervise", "--config", config],
            stdout=self.log, stderr=self.log)


def tree(pid):
    pids = [pid]
    for entry in pathlib.Path("/proc").iterdir():
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue
        if entry.name.isdigit() and int(stat.rsplit(")", 1)[1].split()[1]) == pid:
            pids += tree(int(entry.name))
    return pids


def peak_mb(pid):
    """Peak resident memory of a process tree: each process's own peak, added up."""
    total = 0
    for one in tree(pid):
        for line in pathlib.Path(f"/proc/{one}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                total += int(line.split()[1])
    return total / 1024


def first_token(server, began):
    """Seconds from spawn to the first token of a one-token chat."""
    body = {"model": server.model, "max_tokens": 1, "temperature": 0,
            "messages": [{"role": "user", "content": "Hi"}]}
    while time.monotonic() < began + 120:
        request = urllib.request.Request(
            server.url + "/v1/chat/completions", json.dumps(body).encode(),
            {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:
                json.load(reply)
                return time.monotonic() - began
        except OSError:
            time.sleep(0.01)
    raise SystemExit("a server gave no token in 120 s")


def measure(name, start, arguments, say):
    began = time.monotonic()
    server = start()
    try:
        say(name, "startup_s", first_token(server, began))
        command = [BINARY, "bench", "--url", server.url, "--model", server.model, "--json"]
        with subprocess.Popen(command + arguments, stdout=subprocess.PIPE) as bench:
            for line in bench.stdout:
                figure = json.loads(line)
                if figure.get("median") is not None:
                    say(name, figure["section"], figure["median"])
        say(name, "peak_rss_mb", peak_mb(server.process.pid))
    finally:
        server.process.send_signal(signal.SIGTERM)
        try:
            server.process.wait(60)
        except subprocess.TimeoutExpired:
            server.process.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round, no 2048-token prefill")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default="results.jsonl")
    parser.add_argument("--only", help="comma-separated names of servers")
    options = parser.parse_args()
    lengths = "512" if options.quick else "512,2048"
    results = {}
    with tempfile.TemporaryDirectory() as folder, open(options.out, "a") as out:
        def say(name, figure, value):
            results.setdefault((name, figure), []).append(value)
            line = {"server": name, "figure": figure, "value": round(value, 4)}
            print(json.dumps(line), file=out, flush=True)
            print(f"{name:18} {figure:24} {value:10.3f}", flush=True)

        dense, stored = converted(folder, True), converted(folder, False)
        short = ["--runs", "1", "--decode-tokens", "64", "--prompt-tokens"]
        servers = {
            "mlx-lm dense": (lambda: Peer(folder, dense), short + [lengths]),
            "tandem tp1": (lambda: Ours(folder, 1, True), short + [lengths]),
            # What TP=2 is compared with: a rank with one core, as each of its ranks has.
            "tandem tp1 1 core": (lambda: Ours(folder, 1, True, "0"), short + [lengths]),
            "tandem tp2": (lambda: Ours(folder, 2, True), short + [lengths]),
            # The quantised kernels take a minute for 512 tokens: decode is what they are asked.
            "mlx-lm stored": (lambda: Peer(folder, stored), short + ["64"]),
            "tandem stored": (lambda: Ours(folder, 1, False), short + ["64"]),
        }
        for _ in range(1 if options.quick else options.rounds):
            for name, (start, arguments) in servers.items():
                if not options.only or name in options.only.split(","):
                    measure(name, start, arguments, say)
    print("\nmedians, and ratios to mlx-lm on the same weights")
    for (name, figure), values in results.items():
        peer = "mlx-lm stored" if "stored" in name else "mlx-lm dense"
        theirs = results.get((peer, figure))
        ratio = statistics.median(values) / statistics.median(theirs) if theirs else float("nan")
        print(f"{name:18} {figure:24} {statistics.median(values):10.3f} {ratio:8.2f}")


main()
