"""Two emulated machines that really reboot: reboot(2), another kernel, the same disks."""

import re
import time

import pytest

import pairs

# Two emulated processors take all that two cores have.
pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def pair(tmp_path_factory, board):
    """A pair that was introduced once and serves; nobody logs in after that."""
    with pairs.Pair(tmp_path_factory.mktemp("pair"), board) as both:
        began = time.monotonic()
        both.power_on()
        both.introduce()
        both.wait_until_serving()
        print(f"\nserving {time.monotonic() - began:.1f} s after power came, pairing included")
        yield both


def test_both_machines_are_set_up_by_their_supervisors_and_answer_alike(pair):
    for guest in pair:
        assert guest.status()["boot"] == guest.boot()
        mtus = guest.mtu("eth0"), guest.mtu("eth1")
        assert mtus == (9000, 1500), "booted with 1500; only the link is wanted otherwise"
    pair.answers()


def test_a_leak_in_one_reboots_both_and_both_serve_again(pair):
    boots, epoch = pair.boots(), pair.a.status()["epoch"]
    counts = [len(guest.status()["reboot"]["past_wall_ms"]) for guest in pair]
    began = time.monotonic()
    pair.b.strand()
    pair.wait_until_rebooted(boots)
    print(f"\nboth in another boot {time.monotonic() - began:.1f} s after the leak")
    pair.wait_until_serving()
    print(f"serving {time.monotonic() - began:.1f} s after the leak")
    for guest, count in zip(pair, counts, strict=True):
        status = guest.status()
        assert status["memory"]["leak"] == "clear" and status["epoch"] > epoch
        assert {gate["state"] for gate in status["gates"]} == {"passed"}
        past = status["reboot"]["past_wall_ms"]
        assert len(past) == count + 1, "one reboot each, remembered on its own disk"
    pair.answers()


def test_a_power_cut_in_mid_commit_leaves_nobody_behind_and_costs_no_second_reboot(pair):
    boots = pair.boots()
    counts = [len(guest.status()["reboot"]["past_wall_ms"]) for guest in pair]
    committed = pair.a.said().count("reboot: committed")
    began = time.monotonic()
    pair.a.strand()
    pair.a.wait_for(lambda: pair.a.said().count("reboot: committed") > committed, "committed",
                    120, pause_s=0.01)
    pair.b.cut_power()
    stage = re.findall("reboot: ([a-z]+): leak", pair.b.said())[-1]
    print(f"\npower of b cut {time.monotonic() - began:.1f} s after the leak: a had committed, "
          f"b had last said that it was {stage}")
    assert stage != "steady", "b had heard of it"
    pair.a.wait_for(lambda: pair.a.boot() != boots[0], "in another boot", 240)
    pair.b.power_on()
    pair.wait_until_serving()
    print(f"serving {time.monotonic() - began:.1f} s after the leak")
    after = pair.boots()
    assert all(new != old for new, old in zip(after, boots, strict=True))
    pair.answers()
    for guest in pair:
        guest.wait_for(lambda g=guest: g.status()["reboot"]["phase"] == "steady", "done", 60)
    past = [len(guest.status()["reboot"]["past_wall_ms"]) for guest in pair]
    assert past[0] == counts[0] + 1 and past[1] <= counts[1] + 1, (counts, past)
    assert pair.boots() == after, "the power cut was b's reboot"
