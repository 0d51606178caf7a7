"""Random faults on a pair under a steady load: what clients lose, and for how long serving is away.

    .tandem/peer/bin/python tests/bench/soak.py --minutes 30 --seed 1

Two machines on one kernel (network namespaces, two cables), SmolLM2 over both ranks, four clients that
ask one request after the other at both gateways. Every answer is compared with the one of a quiet pair.
"""

import argparse
import collections
import http.client
import json
import os
import pathlib
import random
import signal
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))

from machines import LAN, LINK, Machines  # noqa: E402

SUBJECTS = ["a lighthouse", "a crow", "the sea", "a train", "winter", "a clock", "bread", "a bridge"]
PAIR = {
    "pair": {"report_ms": 250, "silence_timeout_ms": 2000},
    "supervise": {"restarts_max": 1000},
}
LATE_S = 30


class Client(threading.Thread):
    """Asks for ever; half of its requests are streams."""

    def __init__(self, number, machine, expected, tally, is_over):
        super().__init__(daemon=True)
        self.number, self.machine, self.expected = number, machine, expected
        self.tally, self.is_over = tally, is_over

    def run(self):
        dice = random.Random(self.number)
        while not self.is_over.is_set():
            subject = dice.choice(SUBJECTS)
            began = time.monotonic()
            outcome = self.ask(subject, is_stream=dice.random() < 0.5)
            self.tally.add(outcome, time.monotonic() - began)
            if outcome in ("refused", "unreachable"):
                time.sleep(1)

    def ask(self, subject, is_stream):
        body = request(subject) | {"stream": is_stream}
        text, is_begun = "", False
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.machine.http_port, timeout=120)
            with self.machine.inside():
                connection.connect()
            connection.request("POST", "/v1/chat/completions", json.dumps(body),
                               {"content-type": "application/json"})
            reply = connection.getresponse()
            if reply.status != 200:
                reply.read()
                return "refused" if reply.status in (429, 503) else f"status {reply.status}"
            is_begun = True
            if is_stream:
                text = streamed(reply)
            else:
                text = json.load(reply)["choices"][0]["message"]["content"]
        except (OSError, http.client.HTTPException, ValueError):
            return "lost" if is_begun else "unreachable"
        return "right" if text == self.expected[subject] else "wrong"


def request(subject):
    return {"model": "smollm2", "temperature": 0, "max_tokens": 32,
            "messages": [{"role": "user", "content": f"Write two sentences about {subject}."}]}


def streamed(reply):
    text = ""
    for line in reply:
        if line.startswith(b"data: [DONE]"):
            return text
        if line.startswith(b"data: "):
            event = json.loads(line[6:])
            if "error" in event:
                raise ValueError(event["error"])
            text += "".join(choice["delta"].get("content") or "" for choice in event["choices"])
    raise ValueError("the stream ended early")


class Tally:
    def __init__(self):
        self.lock, self.counts, self.times = threading.Lock(), collections.Counter(), []

    def add(self, outcome, seconds):
        with self.lock:
            self.counts[outcome] += 1
            if outcome == "right":
                self.times.append(seconds)
                self.counts["late"] += seconds > LATE_S


def strike(machines, kind, dice):
    """One fault, and its end where it does not end by itself."""
    machine = dice.choice(machines.all)
    pids = machine.pids()
    if kind == "rank killed":
        os.kill(pids[0], signal.SIGKILL)
    elif kind == "rank stopped":
        os.kill(pids[0], signal.SIGSTOP)
    elif kind == "gateway killed":
        os.kill(pids[-1], signal.SIGKILL)
    elif kind == "supervisor killed":
        machine.kill()
        machine.restart_supervisor()
    elif kind == "power cut":
        machine.cut_power()
        time.sleep(2)
        machine.start()
    else:
        cables = {"Thunderbolt cable pulled": [LINK], "LAN cable pulled": [LAN],
                  "both cables pulled": [LINK, LAN]}[kind]
        for cable in cables:
            machine.pull(cable)
        time.sleep(dice.uniform(2, 10))
        for cable in cables:
            machine.plug(cable)
    return machine.name


KINDS = ["rank killed", "rank stopped", "gateway killed", "supervisor killed", "power cut",
         "Thunderbolt cable pulled", "LAN cable pulled", "both cables pulled"]


def away_s(machines, limit_s=180):
    """For how long one of the two is not ready from now on; settled once both are for 3 s."""
    began = last_bad = time.monotonic()
    while time.monotonic() - last_bad < 3:
        try:
            if not all(machine.is_ready() for machine in machines.all):
                last_bad = time.monotonic()
        except (OSError, http.client.HTTPException):
            last_bad = time.monotonic()
        if last_bad - began > limit_s:
            raise SystemExit(f"not serving again after {limit_s} s")
        time.sleep(0.1)
    return last_bad - began


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--minutes", type=float, default=30)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--period", type=float, default=60, help="seconds from fault to fault")
    options.add_argument("--clients", type=int, default=4)
    options = options.parse_args()
    dice, tally, is_over = random.Random(options.seed), Tally(), threading.Event()
    with tempfile.TemporaryDirectory() as folder, Machines(folder, PAIR) as machines:
        machines.pair()
        machines.start()
        machines.wait_until_served()
        expected = {}
        for subject in SUBJECTS:
            reply = machines.first.ask("/v1/chat/completions", json.dumps(request(subject)))
            expected[subject] = reply["choices"][0]["message"]["content"]
        clients = [Client(number, machines.all[number % 2], expected, tally, is_over)
                   for number in range(options.clients)]
        for client in clients:
            client.start()
        end = time.monotonic() + options.minutes * 60
        away = collections.defaultdict(list)
        while time.monotonic() + options.period < end:
            next_at = time.monotonic() + options.period
            kind = dice.choice(KINDS)
            began = time.monotonic()
            where = strike(machines, kind, dice)
            struck_s = time.monotonic() - began
            seconds = struck_s + away_s(machines)
            away[kind].append(seconds)
            print(json.dumps({"fault": kind, "on": where, "away_s": round(seconds, 1),
                              **tally.counts}), flush=True)
            time.sleep(max(0, next_at - time.monotonic()))
        is_over.set()
        for client in clients:
            client.join(150)
    times = sorted(tally.times)
    at = lambda share: round(times[int(share * (len(times) - 1))], 2)  # noqa: E731
    print(json.dumps({
        "minutes": options.minutes, "faults": sum(map(len, away.values())), **tally.counts,
        "answer_s": {"p50": at(0.5), "p99": at(0.99), "max": at(1)},
        "away_s": {kind: {"times": len(each), "median": round(sorted(each)[len(each) // 2], 1),
                          "max": round(max(each), 1)} for kind, each in sorted(away.items())},
    }, indent=1))


if __name__ == "__main__":
    main()
