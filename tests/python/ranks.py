"""Runs the engine's `reference` example as one rank or several, and reads what they say."""

import json
import os
import pathlib
import subprocess
import tempfile

import numpy as np

from ports import free_ports


def generate(binary, model, weights, prompt, tokens, expand=True, logits=False):
    """Greedy generation by len(weights) ranks. Gives each rank's report and, if asked for, the
    logits of all ranks joined: [tokens, vocabulary] of f32."""
    with tempfile.TemporaryDirectory() as folder:
        hosts = [[f"127.0.0.1:{port}"] for port in free_ports(len(weights))]
        hostfile = pathlib.Path(folder, "hosts.json")
        hostfile.write_text(json.dumps(hosts))
        ranks = []
        for rank in range(len(weights)):
            out = pathlib.Path(folder, f"logits-{rank}")
            command = [binary, model, "--weights", ",".join(map(str, weights))]
            command += ["--rank", str(rank), "--tokens", str(tokens)]
            command += ["--prompt", ",".join(map(str, prompt))]
            command += ["--expand"] if expand else []
            command += ["--out", out] if logits else []
            env = dict(os.environ, MLX_RANK=str(rank), MLX_HOSTFILE=str(hostfile))
            env["OPENBLAS_NUM_THREADS"] = "1"
            pipe = subprocess.PIPE
            ranks.append((subprocess.Popen(command, stdout=pipe, stderr=pipe, env=env), out))
        reports, parts = [], []
        for process, out in ranks:
            # A bound against a hang, far over what any of these runs takes.
            stdout, stderr = process.communicate(timeout=300)
            assert process.returncode == 0, stderr.decode()
            reports.append(json.loads(stdout))
            if logits:
                parts.append(np.fromfile(out, "<f4").reshape(tokens, -1))
    return reports, np.concatenate(parts, axis=1) if logits else None
