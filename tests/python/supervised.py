"""A supervised pair for the tests of what it survives: every key of its config can be set, its
supervisor can die and be replaced, and it can run in namespaces of its own."""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest

import ports
import served

STORY = [{"role": "user", "content": "Write a long story about a lighthouse and a crow."}]
QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
ANSWER = "The capital of France is Paris."

# Short periods, so that what takes minutes in a machine's life takes seconds in a test.
SECTIONS = {
    "engine": {},
    "gateway": {"drain_timeout_ms": 20000},
    "supervise": {
        "backoff_min_ms": 100, "backoff_max_ms": 500, "restarts_max": 100,
        "unload_timeout_ms": 5000, "drain_timeout_ms": 25000, "gateway_timeout_ms": 3000,
        "silence_timeout_ms": 8000,
    },
    "host": {"poll_ms": 200, "slow_poll_ms": 1000, "disk_free_min_mib": 0},
    "invariants": {},
    # So large that nothing is explained by other processes of the machine that runs the tests.
    "leak": {"owner_min_mib": 1 << 20, "settle_ms": 1000, "samples": 2, "sample_ms": 200,
             "confirm_after_ms": 600000, "reserve_mib": 64},
    # Rarely: each one computes, beside all other tests, whatever only waits.
    "canary": {"period_ms": 5000, "timeout_ms": 20000},
    "reboot": {"automatic": False},
}


def needs(*programs, root=True):
    """Skips a test where the machine lacks something; where all is required it fails instead."""
    lacking = [program for program in programs if not shutil.which(program)]
    if root and os.geteuid() != 0:
        lacking.append("root")
    if lacking:
        reason = "this machine lacks: " + ", ".join(lacking)
        assert "TANDEM_REQUIRE_ALL" not in os.environ, reason
        pytest.skip(reason)


class Supervised(served.Pair):
    """`tandem supervise` whose process can be ended and started again over the same folders.

    sections: keys to set, by section. wrapper: arguments in front of the command, which must end
    by executing it, so that the supervisor keeps the process id. env: more environment."""

    def __init__(self, folder, sections=None, wrapper=(), env=None, start=True):
        self.binary = os.environ.get("TANDEM_BIN", str(served.ROOT / "target/release/tandem"))
        self.model = os.environ.get("TANDEM_MODEL")
        assert self.model, "TANDEM_MODEL is not set: run ./install.sh test"
        self.folder = pathlib.Path(folder)
        self.config = self.folder / "tandem.toml"
        self.run_dir, self.state_dir = self.folder / "run", self.folder / "state"
        http_port, self.status_port, control = ports.free_ports(3)
        self.http_port = http_port
        self.url = f"http://127.0.0.1:{http_port}"
        self.sections = {name: dict(keys) for name, keys in SECTIONS.items()}
        self.sections["engine"] |= {
            "control_port": control, "ring_port_base": ports.free_ports(2)[0]}
        self.sections["gateway"]["listen"] = f"127.0.0.1:{http_port}"
        self.sections["supervise"]["status_listen"] = f"127.0.0.1:{self.status_port}"
        for name, keys in (sections or {}).items():
            self.sections.setdefault(name, {}).update(keys)
        self.wrapper, self.env = list(wrapper), dict(os.environ, **(env or {}))
        self.log = open(self.folder / "supervise.log", "ab")
        self.process = None
        self.write_config()
        if start:
            self.start()

    def text(self, changes=None):
        """The config as TOML, with some keys changed: {section: {key: value}}."""
        sections = {name: dict(keys) for name, keys in self.sections.items()}
        for name, keys in (changes or {}).items():
            sections[name] |= keys
        rank = '[[rank]]\nnode = "here"\naddress = "127.0.0.1"\n'
        node = {"name": "here", "run_dir": str(self.run_dir), "state_dir": str(self.state_dir),
                "user": ""}
        sections = {"node": node, "model": {"path": self.model, "id": "smollm2"}} | sections
        lines = []
        for name, keys in sections.items():
            lines.append(f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        return "\n".join(lines) + "\n" + rank * 2

    def write_config(self, changes=None):
        """Replaces the file at once, as a careful editor does."""
        fresh = self.folder / "tandem.toml.new"
        fresh.write_text(self.text(changes))
        fresh.rename(self.config)

    def start(self, wrapper=None):
        command = [*(self.wrapper if wrapper is None else wrapper), self.binary, "supervise",
                   "--config", str(self.config)]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT,
                                        stdin=subprocess.DEVNULL, env=self.env)

    def kill(self):
        """A power cut for the supervisor alone."""
        self.process.kill()
        self.process.wait(30)

    def end(self, seconds=60):
        """An orderly end; whatever is left of a tree whose supervisor is dead is killed."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
            try:
                assert self.process.wait(seconds) == 0, self.tail()
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise AssertionError(f"no orderly end in {seconds} s:\n{self.tail()}") from None
            finally:
                self.sweep()
        self.sweep()

    def sweep(self):
        for pid in self.children():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def children(self):
        """Process ids of every gateway and rank that was started with this folder's config."""
        mark, found = f"{self.run_dir}/config.toml".encode(), []
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    command = (entry / "cmdline").read_bytes()
                    state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
                except OSError:
                    continue
                if mark in command and state != "Z":
                    found.append(int(entry.name))
        return found

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.end()
        finally:
            if self.process and self.process.poll() is None:
                self.process.kill()
                self.process.wait(30)
            self.sweep()
            self.log.close()

    def tail(self, lines=60):
        return "\n".join(self.said().splitlines()[-lines:])

    # What is asked of it.

    def inside(self):
        """Inside, what the calling thread opens is where this pair is reached."""
        return contextlib.nullcontext()

    def fetch(self, path, port=None):
        """Status code and body of a request to the status endpoint."""
        url = f"http://127.0.0.1:{port or self.status_port}{path}"
        try:
            with self.inside(), urllib.request.urlopen(url, timeout=10) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read()

    def status(self):
        code, body = self.fetch("/status")
        if code != 200:
            raise OSError(f"no status yet: {code} {body}")
        return json.loads(body)

    def order(self, **request):
        """Sends a request to the control socket; the reply, or None if none came."""
        try:
            with socket.socket(socket.AF_UNIX) as control:
                control.settimeout(15)
                control.connect(str(self.run_dir / "control.sock"))
                control.sendall(json.dumps(request).encode() + b"\n")
                with control.makefile("rb") as replies:
                    line = replies.readline()
            return json.loads(line) if line.endswith(b"\n") else None
        except OSError:
            return None

    def obeyed(self, **request):
        reply = self.order(**request)
        assert reply and reply["reply"] == "obeyed", f"{request}: {reply}\n{self.tail()}"
        return reply["order"]

    def ledger(self, sql):
        """Rows of a query; read beside the supervisor that writes."""
        path = self.state_dir / "ledger.db"
        if self.wrapper and self.process and self.process.poll() is None:
            code = ("import json,sqlite3,sys;print(json.dumps(sqlite3.connect("
                    "f'file:{sys.argv[1]}?mode=ro',uri=True).execute(sys.argv[2]).fetchall()))")
            run = subprocess.run(["nsenter", "-m", "-t", str(self.process.pid), sys.executable,
                                  "-c", code, path, sql], capture_output=True, timeout=30)
            assert run.returncode == 0, run.stderr.decode()
            return [tuple(row) for row in json.loads(run.stdout)]
        ledger = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        try:
            return ledger.execute(sql).fetchall()
        finally:
            ledger.close()

    def pids(self):
        """Of the ranks in order, and of the gateway."""
        status = self.status()
        return [rank["pid"] for rank in status["ranks"]] + [status["gateway"]["pid"]]

    def is_ready(self):
        return self.fetch("/readyz")[0] == 200

    def is_healthy(self):
        return self.status()["health"] == "healthy"

    def faults(self):
        return {fault["fault"]: fault for fault in self.status()["faults"]}

    def invariant(self, name):
        return {row["name"]: row for row in self.status()["invariants"]}[name]

    # Waiting.

    def wait_for(self, condition, what, seconds=60):
        """Polls until the condition holds; what it gave then."""
        deadline = time.monotonic() + seconds
        while True:
            assert self.process.poll() is None, f"the supervisor ended:\n{self.tail()}"
            try:
                if met := condition():
                    return met
            except (OSError, http.client.HTTPException):
                pass
            assert time.monotonic() < deadline, f"not {what} in {seconds} s:\n{self.tail()}"
            time.sleep(0.02)

    def wait_until_served(self, seconds=60):
        """Until real tokens came through: what /readyz means."""
        started = time.monotonic()
        self.wait_for(self.is_ready, "ready", seconds)
        return time.monotonic() - started

    # What clients do.

    def chat(self, messages=QUESTION, seconds=60, **request):
        """Status and answer of a greedy chat."""
        body = json.dumps({"model": "smollm2", "messages": messages, "temperature": 0} | request)
        post = urllib.request.Request(self.url + "/v1/chat/completions", body.encode(),
                                      {"content-type": "application/json"})
        try:
            with self.inside(), urllib.request.urlopen(post, timeout=seconds) as reply:
                return reply.status, json.load(reply)["choices"][0]["message"]["content"]
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()

    def ask(self, path, body, seconds=60):
        """The JSON that a POST to the API brings."""
        post = urllib.request.Request(self.url + path, body.encode(),
                                      {"content-type": "application/json"})
        with self.inside(), urllib.request.urlopen(post, timeout=seconds) as reply:
            return json.load(reply)

    def away(self, what, since):
        """Asks until the right answer comes, and prints for how long it did not."""
        self.wait_for(lambda: self.chat()[1] == ANSWER, "answering", 60)
        print(f"\n{what}: a new request was answered {time.monotonic() - since:.2f} s after it")


class Stream(threading.Thread):
    """A client that reads a greedy story to its end, whatever happens meanwhile."""

    def __init__(self, pair, max_tokens=80):
        super().__init__(daemon=True)
        self.pair, self.max_tokens = pair, max_tokens
        self.text, self.finish, self.is_whole, self.trouble = "", None, False, None
        self.times = [time.monotonic(), time.monotonic()]
        self.start()

    def run(self):
        try:
            self.read()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.trouble = repr(error)

    def read(self):
        body = {"model": "smollm2", "messages": STORY, "temperature": 0, "stream": True,
                "max_tokens": self.max_tokens}
        connection = http.client.HTTPConnection("127.0.0.1", self.pair.http_port, timeout=90)
        with self.pair.inside():
            connection.connect()
        connection.request("POST", "/v1/chat/completions", json.dumps(body),
                           {"content-type": "application/json"})
        reply = connection.getresponse()
        if reply.status != 200:
            raise ValueError(f"{reply.status} {reply.read()}")
        for line in reply:
            if not line.startswith(b"data: "):
                continue
            data = line[6:].strip()
            if data == b"[DONE]":
                self.is_whole = True
                break
            event = json.loads(data)
            if "error" in event:
                raise ValueError(event["error"])
            for choice in event["choices"]:
                if choice["delta"].get("content"):
                    self.times.append(time.monotonic())
                    self.text += choice["delta"]["content"]
                self.finish = choice["finish_reason"] or self.finish
        connection.close()

    def wait_for_text(self, characters=30):
        self.pair.wait_for(lambda: len(self.text) >= characters or self.trouble, "streaming", 60)
        assert not self.trouble, f"{self.trouble}\n{self.pair.tail()}"
        return self

    def ended(self, seconds=90):
        """Waits for the end; the longest silence before or between tokens, in seconds."""
        self.join(seconds)
        assert not self.is_alive(), f"the stream hangs after {self.text!r}:\n{self.pair.tail()}"
        return max(b - a for a, b in zip(self.times, self.times[1:], strict=False))

    def is_undisturbed(self, expected, what):
        """That nothing was lost or changed; prints the longest silence."""
        silence_s = self.ended()
        assert self.trouble is None and self.is_whole, f"{self.trouble}\n{self.pair.tail()}"
        assert (self.text, self.finish) == (expected, "length")
        print(f"\n{what}: nothing lost; the stream was silent for {silence_s:.2f} s at most")


def undisturbed(pair, max_tokens=80):
    """The story as it is told when nothing happens."""
    stream = Stream(pair, max_tokens)
    stream.ended()
    assert stream.is_whole and stream.finish == "length", (stream.trouble, stream.text)
    return stream.text


def is_running(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
