"""Locked memory that nobody owns: seen, judged, not started into, and mended by the one thing that
mends it. A System V segment stands for what a driver strands, freeing it for the reboot."""

import json
import os
import signal
import stat
import subprocess
import sys
import uuid

import pytest

import examples
from supervised import ANSWER, Supervised, needs

# Locked memory without an owner is counted over the whole machine.
pytestmark = pytest.mark.alone

MIB = 1 << 20
LEAK = {"threshold_mib": 128, "threshold_percent": 0, "settle_ms": 300, "samples": 3,
        "sample_ms": 150, "spread_mib": 64}

# Stands for /sbin/shutdown: notes what was on disk and what still ran, and frees the segment.
REBOOT = """#!{python}
import json, pathlib, sqlite3, subprocess
run, state, out = map(pathlib.Path, {paths!r})
ledger = sqlite3.connect(f"file:{{state}}/ledger.db?mode=ro", uri=True)
[(reboots,)] = ledger.execute("SELECT json -> 'reboots' FROM state").fetchall()
phases = [row[0] for row in ledger.execute("SELECT phase FROM reboots ORDER BY id")]
mark = f"{{run}}/config.toml".encode()
alive = []
for entry in pathlib.Path("/proc").iterdir():
    try:
        if entry.name.isdigit() and mark in (entry / "cmdline").read_bytes():
            alive.append(entry.name)
    except OSError:
        pass
with open(out, "a") as file:
    noted = {{"reboots": json.loads(reboots), "phases": phases, "alive": alive}}
    file.write(json.dumps(noted) + "\\n")
subprocess.run([{leak!r}, "free", {segment!r}], check=True)
"""


@pytest.fixture(scope="module")
def leak():
    """The program that makes such a segment."""
    needs("cargo", "unshare", "mount")
    return examples.build("leak")


@pytest.fixture
def segment(leak):
    """Makes a segment of 384 MiB when called; it is gone when the test ends."""
    made = []

    def make():
        run = subprocess.run([leak, "make", "384"], capture_output=True, timeout=60, check=True)
        made.append(run.stdout.decode().strip())
        return made[-1]

    yield make
    for one in made:
        subprocess.run([leak, "free", one], capture_output=True, timeout=60)


def wired_mib(pair):
    return pair.status()["memory"]["wired_bytes"] // MIB


def strand(pair, segment):
    """What a crash does: memory that was wired stays, and its owner is gone."""
    before = wired_mib(pair)
    made = segment()
    pair.wait_for(lambda: wired_mib(pair) >= before + 300, "seeing the memory")
    assert pair.status()["memory"]["leak"] == "clear", "while ranks run, they explain it"
    os.kill(pair.pids()[1], signal.SIGKILL)
    return made


def verdicts(pair):
    return [row[0] for row in pair.ledger("SELECT verdict FROM leaks ORDER BY id")]


def boot_in(folder):
    """A wrapper that makes the supervisor see a boot of its own."""
    boot = str(uuid.uuid4())
    file = folder / f"boot-{boot[:8]}"
    file.write_text(boot + "\n")
    mounting = f'mount --bind "{file}" /proc/sys/kernel/random/boot_id && exec "$@"'
    return boot, ["unshare", "-m", "--propagation", "private", "sh", "-c", mounting, "sh"]


def test_a_leak_is_confirmed_and_the_machine_rebooted_once_in_order(tmp_path, leak, segment):
    script, noted = tmp_path / "reboot", tmp_path / "noted"
    sections = {"leak": LEAK, "reboot": {
        "automatic": True, "command": [str(script)], "per_day_max": 2, "interval_min_ms": 0,
        "uptime_min_ms": 0, "latch_ms": 0}}
    first_boot, wrapper = boot_in(tmp_path)
    with Supervised(tmp_path, sections, start=False) as pair:
        pair.start(wrapper)
        pair.wait_until_served()
        assert pair.status()["boot"] == first_boot
        assert pair.status()["reboot"]["budget_left"] == 2
        # Held until the script is written: it must name the segment.
        pair.obeyed(request="hold")
        made = strand(pair, segment)
        paths = (str(pair.run_dir), str(pair.state_dir), str(noted))
        script.write_text(REBOOT.format(python=sys.executable, paths=paths, leak=str(leak),
                                        segment=made))
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        pair.wait_for(lambda: "leak_confirmed" in pair.faults(), "confirmed")
        evidence = pair.faults()["leak_confirmed"]["evidence"]
        assert "owned by no live process" in evidence and "baseline" in evidence
        assert verdicts(pair) == ["watching", "suspect", "confirmed"]
        assert pair.epoch() == 1 and pair.pids()[:2] == [None, None], "nothing starts into a leak"
        assert pair.status()["reboot"]["phase"] == "steady", "held by an operator"
        pair.obeyed(request="release")
        pair.wait_for(noted.exists, "rebooting")
        pair.wait_for(lambda: noted.read_text().endswith("\n"), "done with the reboot")
        turns = pair.status()["uptime_ms"]
        pair.wait_for(lambda: pair.status()["uptime_ms"] > turns + 2000, "some turns on")
        [note] = map(json.loads, noted.read_text().splitlines())
        assert note["alive"] == [], "all had ended in order before"
        assert [r["boot"] for r in note["reboots"]] == [first_boot], "on disk before it was done"
        assert note["phases"] == ["draining", "rebooting"]
        assert pair.epoch() == 1, "nothing starts while the machine goes down"
        pair.kill()

        second_boot, wrapper = boot_in(tmp_path)
        pair.start(wrapper)
        print(f"\nserving {pair.wait_until_served():.2f} s after the boot")
        status = pair.status()
        assert status["boot"] == second_boot and status["memory"]["leak"] == "clear"
        assert {gate["state"] for gate in status["gates"]} == {"passed"}
        assert status["reboot"]["budget_left"] == 1 and status["reboot"]["phase"] == "steady"
        assert len(status["reboot"]["past_wall_ms"]) == 1
        assert status["epoch"] == 2 and pair.chat()[1] == ANSWER
        assert len(noted.read_text().splitlines()) == 1


# What keeps it from rebooting, and what the refusal must name.
REFUSALS = [
    ({"automatic": True, "command": []}, "reboot.command"),
    ({"automatic": False, "command": ["/bin/false"]}, "reboot.automatic"),
    ({"automatic": True, "command": ["/bin/false"], "per_day_max": 0}, "[reboot] allows"),
]


@pytest.mark.parametrize("reboot,named", REFUSALS)
def test_a_leak_that_may_not_be_rebooted_away_is_told_and_not_started_into(
        tmp_path, leak, segment, reboot, named):
    sections = {"leak": LEAK, "reboot": {"uptime_min_ms": 0} | reboot}
    with Supervised(tmp_path, sections) as pair:
        pair.wait_until_served()
        made = strand(pair, segment)
        fault = pair.wait_for(lambda: pair.faults().get("reboot_refused"), "refused")
        assert named in fault["evidence"] and fault["rung"] == "hold" and fault["remedy"]
        assert pair.faults()["leak_confirmed"]["rung"] == "reboot"
        turns = pair.status()["uptime_ms"]
        pair.wait_for(lambda: pair.status()["uptime_ms"] > turns + 2000, "some turns on")
        assert pair.epoch() == 1 and pair.pids()[:2] == [None, None]
        assert pair.fetch("/readyz")[0] == 503 and not pair.is_healthy()
        subprocess.run([leak, "free", made], check=True, timeout=60)
        print(f"\nserving {pair.wait_until_served():.2f} s after the memory was free")
        assert not {"leak_confirmed", "reboot_refused"} & set(pair.faults())
        assert verdicts(pair)[-1] == "clear" and pair.epoch() == 2
        assert pair.status()["reboot"]["past_wall_ms"] == []
