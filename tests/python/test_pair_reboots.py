"""Two machines reboot together or not at all: what is lost, and how long serving is away. Real
executables on a real kernel; a machine that asks for a reboot gets one, as another boot. A System V
segment stands for memory that a driver strands; it is freed by the first reboot after."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from machines import LAN, LINK, Machines
from supervised import ANSWER, Stream, needs
from test_supervised_leak import LEAK, MIB, leak, segment  # noqa: F401 (fixtures)

# Locked memory without an owner is counted over the whole machine.
pytestmark = pytest.mark.alone

PAIR = {
    "pair": {"report_ms": 150, "silence_timeout_ms": 1500},
    "leak": LEAK | {"confirm_after_ms": 500},
    # A reboot that were one too many would not be kept back by a limit.
    "reboot": {"automatic": True, "per_day_max": 5, "interval_min_ms": 0, "uptime_min_ms": 0,
               "latch_ms": 0},
}
# Each trouble strikes one of the two; with TANDEM_FULL set also the other, which takes a minute more.
IS_FULL = "TANDEM_FULL" in os.environ
ON_REAL_KERNELS_TOO = pytest.mark.skipif(
    not IS_FULL, reason="tests/qemu shows it too, with a real reboot; TANDEM_FULL runs both"
)
# Sees no leak.
BLIND = {"leak": {"threshold_mib": 1 << 20}}


@pytest.fixture(autouse=True)
def able():
    needs("ip", "unshare", "nsenter", "mount", "grep")


@pytest.fixture
def pairs(tmp_path):
    """Makes a pair that serves, with some keys changed, and ends it with the test."""
    made = []

    def make(changes=None, second=None):
        sections = {name: dict(keys) for name, keys in PAIR.items()}
        for name, keys in (changes or {}).items():
            sections.setdefault(name, {}).update(keys)
        made.append(both := Machines(tmp_path, sections, second))
        both.pair()
        both.start()
        both.wait_until_served()
        both.watch_for_reboots()
        return both

    yield make
    for both in made:
        with both:
            pass


@pytest.fixture
def stranded(segment, leak):  # noqa: F811
    """Strands memory beside a pair; whichever machine of it reboots frees it."""
    def strand(both, seeing=None):
        is_pair, seeing = seeing is None, seeing or both.all
        before = {machine.name: wired_mib(machine) for machine in seeing}
        made = segment()
        both.before_boot = lambda _: subprocess.run(
            [leak, "free", made], capture_output=True, timeout=60)
        for machine in seeing:
            both.until(lambda m=machine: wired_mib(m) >= before[m.name] + 300, "seeing the memory")
        if is_pair:
            os.kill(both.first.pids()[0], signal.SIGKILL)
    return strand


def wired_mib(machine):
    return machine.status()["memory"]["wired_bytes"] // MIB


def events(machine, kind):
    """What its ledger tells of one kind, oldest first."""
    rows = machine.ledger(f"SELECT json FROM events WHERE kind = '{kind}' ORDER BY id")
    return [json.loads(row) for (row,) in rows]


def went(machine):
    """The reboots that it asked its system for."""
    told = [event for event in events(machine, "reboot") if event["phase"] == "rebooting"]
    return [event["intent"] for event in told]


def outcome(machine, intent):
    """What came of one; None while it is on its way."""
    told = [each for each in events(machine, "reboot_closed") if each["intent"] == intent]
    assert len(told) < 2, told
    return told[0]["outcome"] if told else None


def counted(machine):
    """The boots that automatic reboots ended, as its ledger has them."""
    [(reboots,)] = machine.ledger("SELECT json -> 'reboots' FROM state")
    return [past["boot"] for past in json.loads(reboots)]


def is_serving(both):
    return all(machine.is_ready() for machine in both.all)


def phases(both):
    return [machine.status()["reboot"]["phase"] for machine in both.all]


def served_again(both, since, what, boots=(2, 2)):
    """Waits until both serve in their last boots and have closed the reboot; then they stay up."""
    both.until(lambda: [len(machine.boots) for machine in both.all] == list(boots), "booted")
    both.until(lambda: is_serving(both), "serving")
    away_s = time.monotonic() - since
    both.until(lambda: phases(both) == ["steady", "steady"], "over")
    stay_up(both)
    assert [len(machine.boots) for machine in both.all] == list(boots), "one reboot too many"
    for machine in both.all:
        assert machine.status()["boot"] == machine.boots[-1]
        assert machine.chat()[1] == ANSWER
        assert machine.alive_at_reboot == [], "all had ended in order before"
    print(f"\n{what}: serving was away for {away_s:.2f} s")


def stay_up(both):
    """Lets some time of every machine pass."""
    ends = [machine.status()["uptime_ms"] + 3000 for machine in both.all]
    for machine, end_ms in zip(both.all, ends, strict=True):
        both.until(lambda m=machine, ms=end_ms: m.status()["uptime_ms"] >= ms, "some time on")


def rebooted_together(both, since, what, is_counted=True):
    """That both went once, for the same reboot, and that it is proven, counted and closed."""
    served_again(both, since, what)
    assert [machine.reboots_asked for machine in both.all] == [1, 1]
    [intent] = went(both.first)
    assert went(both.second) == [intent]
    assert [outcome(machine, intent) for machine in both.all] == ["proven", "proven"]
    for machine in both.all:
        assert counted(machine) == (machine.boots[:1] if is_counted else [])
        left = machine.sections["reboot"]["per_day_max"] - is_counted
        assert machine.status()["reboot"]["budget_left"] == left
    return intent


def refusal(machine):
    """Status and Retry-After of a new request."""
    connection = http.client.HTTPConnection("127.0.0.1", machine.http_port, timeout=30)
    try:
        with machine.inside():
            connection.connect()
        body = {"model": "smollm2", "messages": [{"role": "user", "content": "Hello"}],
                "max_tokens": 1}
        connection.request("POST", "/v1/chat/completions", json.dumps(body),
                           {"content-type": "application/json"})
        reply = connection.getresponse()
        reply.read()
        return reply.status, reply.getheader("retry-after")
    finally:
        connection.close()


@ON_REAL_KERNELS_TOO
def test_a_leak_reboots_both_once_and_in_order(pairs, stranded):
    both = pairs()
    since = time.monotonic()
    stranded(both)
    intent = rebooted_together(both, since, "memory stranded")
    for machine in both.all:
        passed = [told["phase"] for told in events(machine, "reboot") if told["intent"] == intent]
        # One turn can take several steps.
        course = ["draining", "ready", "committed", "rebooting", "steady"]
        assert passed == [phase for phase in course if phase in passed]
        assert {"draining", "rebooting", "steady"} <= set(passed)
        assert machine.status()["memory"]["leak"] == "clear"
        assert not {"leak_confirmed", "reboot_refused", "reboot_failed"} & set(machine.faults())


def test_an_order_reboots_both_and_running_streams_end_before(pairs):
    both = pairs({"gateway": {"drain_timeout_ms": 90000}, "supervise": {"drain_timeout_ms": 95000}})
    streams = [Stream(machine, 240).wait_for_text() for machine in both.all]
    since = time.monotonic()
    code, said = both.second.run("reboot", "--pair", "--reason", "new memory modules")
    assert code == 0, said
    for machine in both.all:
        both.until(lambda m=machine: refusal(m)[0] == 503, "refusing")
        status, retry_after = refusal(machine)
        assert (status, retry_after is not None and int(retry_after) > 0) == (503, True)
        shown = machine.status()["reboot"]
        assert shown["proposer"] == "m2" and shown["nodes"] == ["m1", "m2"]
        assert "new memory modules" in shown["cause"]
    streams[0].ended()
    for machine, stream in zip(both.all, streams, strict=True):
        stream.is_undisturbed(streams[0].text, f"stream at {machine.name} while the pair reboots")
    rebooted_together(both, since, "reboot ordered, streams waited for", is_counted=False)


def test_a_hold_on_one_machine_keeps_both_from_rebooting(pairs, stranded):
    both = pairs()
    one, two = both.all
    code, said = one.run("hold")
    assert code == 0, said
    since = time.monotonic()
    stranded(both)
    for machine, named in ((one, "an operator holds it"), (two, "node m1 would refuse")):
        fault = both.until(lambda m=machine: m.faults().get("reboot_refused"), "refused")
        assert named in fault["evidence"] and "operator" in fault["evidence"], fault
    stay_up(both)
    assert phases(both) == ["steady", "steady"] and not is_serving(both)
    assert [machine.reboots_asked for machine in both.all] == [0, 0]
    code, said = one.run("release")
    assert code == 0, said
    rebooted_together(both, since, "memory stranded while one machine was held")


def heard_age_s(machine, other):
    """How old the newest report of the other is."""
    nodes = {node["name"]: node for node in machine.status()["pair"]["nodes"]}
    return nodes[other.name]["heard_age_ms"] / 1000


@pytest.mark.parametrize("number", [1, 2] if IS_FULL else [1])
def test_a_commit_that_one_machine_never_hears_of_reboots_it_all_the_same(pairs, number):
    # The word of a machine counts for as long as it takes to thaw the other's rank.
    both = pairs({"pair": {"silence_timeout_ms": 20000}, "supervise": {"unload_timeout_ms": 90000},
                  "canary": {"period_ms": 600000}})
    one, two = both.all[number - 1], both.all[2 - number]
    frozen = one.pids()[0]
    since = time.monotonic()
    os.kill(frozen, signal.SIGSTOP)
    code, said = one.run("reboot", "--pair", "--reason", "its commit is lost")
    assert code == 0, said
    both.until(lambda: two.status()["reboot"]["phase"] == "ready", "ready")
    ready_at = time.monotonic()
    both.until(lambda: heard_age_s(one, two) < time.monotonic() - ready_at - 1, "heard to be ready")
    assert one.status()["reboot"]["phase"] == "draining"
    for cable in (LINK, LAN):
        one.pull(cable)
    os.kill(frozen, signal.SIGCONT)
    both.until(lambda: one.reboots_asked == 1, "gone by what it knew")
    both.until(lambda: one.status()["reboot"]["phase"] == "verifying", "back")
    shown = two.status()["reboot"]
    assert two.reboots_asked == 0 and shown["phase"] == "ready", "it never heard of the commit"
    for cable in (LINK, LAN):
        one.plug(cable)
    rebooted_together(both, since, f"the commit of m{number} was lost", is_counted=False)


@ON_REAL_KERNELS_TOO
@pytest.mark.parametrize("number", [1, 2] if IS_FULL else [2])
def test_a_power_cut_after_the_commit_takes_the_place_of_the_reboot(pairs, stranded, number):
    both = pairs()
    cut, other = both.all[number - 1], both.all[2 - number]
    # It would never go down by itself.
    cut.script.write_text("#!/bin/sh\n")
    since = time.monotonic()
    stranded(both)
    both.until(lambda: cut.status()["reboot"]["phase"] in ("committed", "rebooting"), "committed")
    cut.cut_power()
    both.before_boot(cut)
    cut.start()
    served_again(both, since, f"power of m{number} cut in the middle of a reboot")
    assert (cut.reboots_asked, other.reboots_asked) == (0, 1)
    [intent] = went(other)
    assert went(cut) in ([], [intent])
    for machine in both.all:
        assert outcome(machine, intent) == "proven"
        assert counted(machine) == machine.boots[:1], "counted once, on both"


@pytest.mark.parametrize("is_powered", [True, False] if IS_FULL else [False])
def test_a_machine_whose_peer_is_silent_reboots_alone_and_the_peer_does_not(
        pairs, stranded, is_powered):
    both = pairs({"reboot": {"alone_after_ms": 4000}}, second=BLIND)
    one, two = both.all
    since = time.monotonic()
    if is_powered:
        for cable in (LINK, LAN):
            one.pull(cable)
    else:
        two.cut_power()
    both.until(lambda: "peer_lost" in one.faults(), "missing the other")
    both.until(lambda: one.status()["ranks"][0]["pid"] is None, "stopped")
    stranded(both, seeing=[one])
    both.until(lambda: one.reboots_asked == 1, "rebooting alone")
    both.until(lambda: one.status()["boot"] == one.boots[-1], "back")
    if is_powered:
        for cable in (LINK, LAN):
            one.plug(cable)
        boots = (2, 1)
    else:
        two.start()
        boots = (2, 2)
    served_again(both, since, "alone: " + ("both cables cut" if is_powered else "peer without power"),
                 boots)
    assert [machine.reboots_asked for machine in both.all] == [1, 0]
    assert len(went(one)) == 1 and went(two) == [] and counted(two) == []
    assert events(two, "reboot") == [], "it is none of its business"


def test_a_reboot_that_is_over_is_not_obeyed_again(pairs, stranded, tmp_path):
    both = pairs()
    old = {machine.name: tmp_path / f"old-{machine.name}" for machine in both.all}
    since = time.monotonic()
    stranded(both)
    free = both.before_boot

    def keep(machine):
        free(machine)
        shutil.copytree(machine.state_dir, old[machine.name])

    both.before_boot = keep
    both.until(lambda: [len(machine.boots) for machine in both.all] == [2, 2], "booted")
    # While it is still told of.
    for machine in both.all * 3:
        both.until(lambda m=machine: m.status()["boot"] == m.boots[-1], "up")
        machine.kill()
        machine.restart_supervisor()
    rebooted_together(both, since, "memory stranded, supervisors killed six times")
    # When it is over.
    for machine in both.all * 2:
        machine.kill()
        machine.restart_supervisor()
        both.until(lambda: is_serving(both), "serving")
    stay_up(both)
    # With ledgers in which it has only begun, as a restored backup has.
    since = time.monotonic()
    for machine in both.all:
        machine.cut_power()
    for machine in both.all:
        shutil.rmtree(machine.state_dir)
        shutil.copytree(old[machine.name], machine.state_dir)
        machine.start()
    served_again(both, since, "ledgers of the middle of the reboot restored", (3, 3))
    assert [machine.reboots_asked for machine in both.all] == [1, 1]
