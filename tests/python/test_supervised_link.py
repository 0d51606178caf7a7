"""The joined port's settings, changed behind the supervisor's back in a network namespace."""

import os
import signal
import time

import pytest

from namespaces import ip, join, mtu_bytes, network, set_mtu_bytes
from supervised import ANSWER, Stream, Supervised, needs, undisturbed

LINK = {"host": {"link": "tb0", "link_mtu_bytes": 9000}}


@pytest.fixture
def alone():
    """The test's own network namespace."""
    needs("ip")
    with network():
        yield


def mended(pair, bytes_wanted=9000):
    pair.wait_for(lambda: mtu_bytes() == bytes_wanted, "mended")


def test_a_changed_mtu_is_set_again_and_nobody_notices(tmp_path, alone):
    join()
    with Supervised(tmp_path, LINK) as pair:
        pair.wait_until_served()
        mended(pair)
        story, epoch = undisturbed(pair), pair.epoch()
        stream = Stream(pair).wait_for_text()
        drifts = pair.invariant("link_mtu")["drifts"]
        for mtu in (1500, 1280, 8999, 9001, 4000):
            set_mtu_bytes(mtu)
            broken = time.monotonic()
            mended(pair)
            print(f"\nMTU {mtu} mended {1000 * (time.monotonic() - broken):.0f} ms after it")
            drifts += 1
            pair.wait_for(lambda n=drifts: (row := pair.invariant("link_mtu"))["drifts"] == n
                          and row["holds"], "told")
        stream.is_undisturbed(story, "five drifts of the MTU")
        assert pair.epoch() == epoch
        found = pair.ledger("SELECT found FROM drifts WHERE change = 'drift' AND invariant = "
                            "'link_mtu' ORDER BY id DESC LIMIT 5")
        assert [int(row[0]) for row in found] == [4000, 9001, 8999, 1280, 1500]


def test_a_link_that_flaps_is_left_alone_for_a_while_with_a_fault(tmp_path, alone):
    join()
    set_mtu_bytes(9000)
    window_ms = 4000
    sections = {"host": LINK["host"] | {"flap_max": 3, "flap_window_ms": window_ms}}
    with Supervised(tmp_path, sections) as pair:
        pair.wait_until_served()
        for drifts in range(1, 4):
            set_mtu_bytes(1500)
            mended(pair)
            pair.wait_for(lambda n=drifts: pair.invariant("link_mtu")["drifts"] == n
                          and pair.invariant("link_mtu")["holds"], "told")
        set_mtu_bytes(1400)
        fault = pair.wait_for(lambda: pair.faults().get("flapping"), "told as flapping")
        assert fault["of"] == "link_mtu" and "left alone" in fault["evidence"]
        assert mtu_bytes() == 1400 and pair.chat()[1] == ANSWER, "it serves nevertheless"
        mended(pair)
        # The fault is over when it may be mended again; that it holds is told a reading later.
        pair.wait_for(lambda: "flapping" not in pair.faults()
                      and pair.invariant("link_mtu")["holds"], "over")
        [(drift, held)] = pair.ledger(
            "SELECT (SELECT max(boot_ms) FROM drifts WHERE found = '1400'), "
            "(SELECT max(boot_ms) FROM drifts WHERE change = 'held')")
        assert held - drift >= window_ms, "left alone for the whole window"


def test_what_is_only_observed_is_shown_and_not_touched(tmp_path, alone):
    join()
    with Supervised(tmp_path, LINK | {"invariants": {"link_mtu": "observe"}}) as pair:
        pair.wait_until_served()
        set_mtu_bytes(1400)
        pair.wait_for(lambda: (row := pair.invariant("link_mtu"))["holds"] is False
                      and row["found"] == 1400, "seen")
        turns = pair.status()["uptime_ms"]
        pair.wait_for(lambda: pair.status()["uptime_ms"] > turns + 2000, "some turns on")
        assert mtu_bytes() == 1400 and "broken" not in pair.faults()
        assert pair.invariant("link_mtu")["mode"] == "observe"
        assert pair.chat()[1] == ANSWER


def test_without_the_interface_no_engine_starts_until_it_is_back(tmp_path, alone):
    with Supervised(tmp_path, LINK) as pair:
        gate = pair.wait_for(lambda: gate_named(pair, "invariants", "checking"), "waiting")
        assert "there is no interface tb0" in gate["evidence"]
        assert pair.invariant("link_mtu")["holds"] is None
        turns = pair.status()["uptime_ms"]
        pair.wait_for(lambda: pair.status()["uptime_ms"] > turns + 2000, "some turns on")
        assert pair.epoch() == 0 and pair.pids()[:2] == [None, None]
        join(address=None)
        print(f"\nserving {pair.wait_until_served():.2f} s after the interface came")
        assert mtu_bytes() == 9000 and pair.invariant("link_address")["holds"]

        # Gone while serving: what runs is not stopped for it, what ended is not started.
        ip("link", "del", "tb0")
        pair.wait_for(lambda: pair.invariant("link_mtu")["holds"] is None, "unknown")
        assert pair.chat()[1] == ANSWER and pair.epoch() == 1
        os.kill(pair.pids()[0], signal.SIGKILL)
        killed = time.monotonic()
        pair.wait_for(lambda: pair.status()["phase"] == "idle", "idle")
        turns = pair.status()["uptime_ms"]
        pair.wait_for(lambda: pair.status()["uptime_ms"] > turns + 2000, "some turns on")
        assert pair.epoch() == 1 and pair.pids()[:2] == [None, None]
        join(address=None)
        pair.away("rank 0 killed while the interface was gone", killed)
        assert pair.epoch() == 2


def gate_named(pair, name, state):
    found = {gate["gate"]: gate for gate in pair.status()["gates"]}.get(name)
    return found if found and found["state"] == state else None
