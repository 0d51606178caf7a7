"""Two emulated machines that really reboot: reboot(2), another kernel, the same disks."""

import time

import pytest

import pairs


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


@pytest.mark.parametrize("node", ["b"])
def test_a_leak_in_one_reboots_both_and_both_serve_again(pair, node):
    boots, epoch = pair.boots(), pair.a.status()["epoch"]
    counts = [len(guest.status()["reboot"]["past_wall_ms"]) for guest in pair]
    began = time.monotonic()
    getattr(pair, node).strand()
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


def test_a_power_cut_between_commit_and_reboot_leaves_nobody_behind_and_costs_no_second_reboot(
        pair):
    boots = pair.boots()
    counts = [len(guest.status()["reboot"]["past_wall_ms"]) for guest in pair]
    committed = pair.a.said().count("reboot: committed")
    began = time.monotonic()
    pair.a.strand()
    pair.a.wait_for(lambda: pair.a.said().count("reboot: committed") > committed, "committed",
                    120, pause_s=0.01)
    pair.b.cut_power()
    print(f"\npower of b cut {time.monotonic() - began:.1f} s after the leak, a had committed")
    pair.a.wait_for(lambda: pair.a.boot() != boots[0], "in another boot", 240)
    pair.b.power_on()
    pair.wait_until_serving()
    print(f"serving {time.monotonic() - began:.1f} s after the leak")
    after = pair.boots()
    assert all(new != old for new, old in zip(after, boots, strict=True))
    pair.answers()
    for guest, count in zip(pair, counts, strict=True):
        guest.wait_for(lambda g=guest: g.status()["reboot"]["phase"] == "steady", "done", 60)
        assert len(guest.status()["reboot"]["past_wall_ms"]) <= count + 1
    assert pair.boots() == after, "the power cut was its reboot"
