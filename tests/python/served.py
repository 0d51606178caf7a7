"""Starts the real executable as a served pair and talks to it as an operator and a client would."""

import json
import os
import pathlib
import signal
import subprocess
import time
import urllib.error
import urllib.request

import ports

ROOT = pathlib.Path(__file__).resolve().parents[2]

CONFIG = """
[node]
name = "here"
run_dir = {folder}
state_dir = {folder}
user = ""
[model]
path = {model}
id = "smollm2"
aliases = ["gpt-4o"]
[[rank]]
node = "here"
address = "127.0.0.1"
weight = {first}
[[rank]]
node = "here"
address = "127.0.0.1"
weight = 1
[engine]
control_port = {control}
ring_port_base = {ring}
[gateway]
listen = "127.0.0.1:{http}"
{gateway}
[supervise]
status_listen = "127.0.0.1:{status}"
backoff_min_ms = 200
restarts_max = 100
unload_timeout_ms = 5000
"""


class Pair:
    """`tandem supervise` on a folder of its own, two ranks on loopback."""

    def __init__(self, folder, first_weight=1, gateway=""):
        self.binary = os.environ.get("TANDEM_BIN", str(ROOT / "target/release/tandem"))
        model = os.environ.get("TANDEM_MODEL")
        assert model, "TANDEM_MODEL is not set: run ./install.sh test"
        self.folder = pathlib.Path(folder)
        http, status, control = ports.free_ports(3)
        self.url = f"http://127.0.0.1:{http}"
        self.config = self.folder / "tandem.toml"
        self.config.write_text(CONFIG.format(
            folder=json.dumps(str(self.folder / "run")), model=json.dumps(model),
            first=first_weight, control=control, ring=ports.free_ports(2)[0], http=http,
            status=status, gateway=gateway))
        self.log = open(self.folder / "supervise.log", "wb")
        self.process = subprocess.Popen(
            [self.binary, "supervise", "--config", self.config], stdout=self.log,
            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
        self.log.close()

    def said(self):
        return (self.folder / "supervise.log").read_text(errors="replace")

    def status(self):
        """What `tandem status --json` prints, or None while there is nobody to ask."""
        run = subprocess.run([self.binary, "status", "--json", "--config", self.config],
                             capture_output=True, timeout=30)
        return json.loads(run.stdout) if run.stdout.strip() else None

    def get(self, path):
        try:
            with urllib.request.urlopen(self.url + path, timeout=30) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.load(refusal)

    def wait_until_served(self, seconds=90):
        self.wait_for(lambda: self.get("/health")[0] == 200, "healthy", seconds)

    def wait_for(self, condition, what, seconds=60):
        """A bound against a hang: polls until the condition holds."""
        deadline = time.monotonic() + seconds
        while True:
            assert self.process.poll() is None, f"the supervisor ended:\n{self.said()}"
            try:
                if condition():
                    return
            except OSError:
                pass
            assert time.monotonic() < deadline, f"not {what} in {seconds} s:\n{self.said()}"
            time.sleep(0.05)

    def rank_pid(self, rank):
        status = self.status()
        return {r["rank"]: r["pid"] for r in status["ranks"]}[rank]

    def epoch(self):
        return self.status()["epoch"]
