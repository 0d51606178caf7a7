"""The wall clock jumps by days under the supervisor: it is for people, and decides nothing but the
end of a hold that was given by it."""

import pathlib
import subprocess
import time

import pytest

from supervised import ANSWER, Stream, Supervised, needs, undisturbed

DAY_S = 86400


@pytest.fixture
def clock(tmp_path):
    """Gives a function that sets the supervisor's clock off, and the environment that lets it."""
    needs("cc", root=False)
    source = pathlib.Path(__file__).with_name("clock_shift.c")
    library, file = tmp_path / "clock_shift.so", tmp_path / "shift"
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o", library,
                    source], check=True, timeout=60)

    def shift(seconds):
        fresh = file.with_suffix(".new")
        fresh.write_text(f"{seconds}\n")
        fresh.rename(file)

    shift(0)
    return shift, {"LD_PRELOAD": str(library), "CLOCK_SHIFT_FILE": str(file)}


@pytest.mark.parametrize("days", [3, -3])
def test_a_jump_of_the_clock_restarts_nothing_and_touches_no_budget(tmp_path, clock, days):
    shift, env = clock
    sections = {"reboot": {"automatic": True, "command": ["/bin/false"], "uptime_min_ms": 0}}
    with Supervised(tmp_path, sections, env=env) as pair:
        pair.wait_until_served()
        story = undisturbed(pair)
        pids, epoch, before = pair.pids(), pair.epoch(), pair.status()
        pair.obeyed(request="hold", for_ms=2 * 3_600_000)
        until_ms = pair.wait_for(lambda: pair.status()["operator_hold_until_ms"], "held")
        assert abs(until_ms / 1000 - time.time() - 7200) < 60
        stream = Stream(pair).wait_for_text()
        shift(days * DAY_S)
        if days > 0:
            pair.wait_for(lambda: pair.status()["operator_hold_until_ms"] is None, "released")
        stream.is_undisturbed(story, f"clock set by {days} days")
        pair.wait_for(lambda: pair.status()["uptime_ms"] > before["uptime_ms"] + 3000, "turning")
        after = pair.status()
        if days < 0:
            # It can't end sooner than it was meant to, by any clock.
            assert after["operator_hold_until_ms"] == until_ms
        assert pair.pids() == pids and after["epoch"] == epoch
        assert after["restarts"] == before["restarts"] == 0
        assert after["reboot"]["budget_left"] == before["reboot"]["budget_left"]
        assert after["faults"] == []
        pair.wait_until_served()
        pair.obeyed(request="release")
        # What happens after the jump carries the new time, in the order in which it happened.
        [(wall_ms,)] = pair.ledger("SELECT wall_ms FROM orders ORDER BY id DESC LIMIT 1")
        assert abs(wall_ms / 1000 - time.time() - days * DAY_S) < 60
        pair.obeyed(request="hold", for_ms=5000)
        pair.wait_for(lambda: pair.status()["operator_hold_until_ms"], "held again")
        pair.wait_for(lambda: pair.status()["operator_hold_until_ms"] is None, "over by itself")
        shift(0)
        assert pair.chat()[1] == ANSWER and pair.pids() == pids


def test_a_supervisor_that_starts_under_another_clock_adopts_all(tmp_path, clock):
    shift, env = clock
    with Supervised(tmp_path, env=env) as pair:
        pair.wait_until_served()
        pids, epoch = pair.pids(), pair.epoch()
        for days in (-3, 3):
            pair.kill()
            shift(days * DAY_S)
            pair.start()
            pair.wait_until_served()
            assert pair.pids() == pids and pair.epoch() == epoch
            assert pair.status()["restarts"] == 0
