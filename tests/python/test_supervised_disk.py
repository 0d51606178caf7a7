"""A full disk and a ruined ledger: serving goes on, nothing risky is done without memory, and what
was told before is not lost."""

import os
import pathlib
import signal
import subprocess
import time

from supervised import Stream, Supervised, needs, undisturbed

# Small, so that it is full soon; the ledger alone takes some 100 KiB.
DISK = "size=3m"


def fill(pair):
    """Writes until the state's disk is full; the file that takes the room, as seen through the
    gateway, which outlives the supervisor."""
    filler = f"/proc/{pair.pids()[2]}/root{pair.state_dir}/filler"
    with open(filler, "wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return pathlib.Path(filler)


def waits_for_the_ledger(pair):
    """The ranks could be started, and the first gate says why they are not."""
    status = pair.status()
    first = status["gates"][0]
    says_why = first["state"] == "failed" and "the ledger" in first["evidence"]
    return status["phase"] == "idle" and says_why


def test_a_full_disk_stops_risky_actions_and_not_serving(tmp_path):
    needs("unshare", "mount", "nsenter")
    state = tmp_path / "state"
    state.mkdir()
    mounting = f'mount -t tmpfs -o {DISK} tmpfs "{state}" && exec "$@"'
    wrapper = ["unshare", "-m", "--propagation", "private", "sh", "-c", mounting, "sh"]
    with Supervised(tmp_path, wrapper=wrapper) as pair:
        pair.wait_until_served()
        story = undisturbed(pair)
        number = pair.obeyed(request="hold", for_ms=3_600_000)
        pair.obeyed(request="release")
        before = pair.ledger("SELECT id, json FROM events ORDER BY id")
        filler = fill(pair)
        # What the log of the ledger had room for is used up by orders.
        pair.wait_for(lambda: not is_obeyed(pair), "out of room for orders", 60)
        pair.wait_for(lambda: pair.status()["ledger_trouble"], "told of the trouble")
        assert "ledger" in pair.faults()
        epoch, pids = pair.epoch(), pair.pids()
        Stream(pair).is_undisturbed(story, "disk full")

        # A supervisor that comes up on a full disk goes on where the last one was.
        inside = ["nsenter", "-m", "-t", str(pids[2])]
        pair.kill()
        pair.start(inside)
        pair.wait_for(lambda: pair.pids() == pids, "in charge of what ran before")
        pair.wait_for(lambda: pair.status()["ledger_trouble"], "told of the trouble")

        # A start counts against a budget and takes a number, so it waits for memory.
        stream = Stream(pair).wait_for_text()
        os.kill(pids[0], signal.SIGKILL)
        killed = time.monotonic()
        pair.wait_for(lambda: all(r["pid"] is None for r in pair.status()["ranks"]), "down")
        pair.wait_for(lambda: waits_for_the_ledger(pair), "refusing to start without memory")
        turns = pair.status()["uptime_ms"]
        pair.wait_for(lambda: pair.status()["uptime_ms"] > turns + 3000, "some turns on")
        assert [r["pid"] for r in pair.status()["ranks"]] == [None, None]
        assert pair.pids()[2] == pids[2], "the gateway lives on"

        filler.unlink()
        pair.away("rank 0 killed while the disk was full", killed)
        pair.wait_until_served()
        assert pair.status()["ledger_trouble"] is None and "ledger" not in pair.faults()
        assert pair.epoch() == epoch + 1
        stream.is_undisturbed(story, "rank 0 killed while the disk was full")
        after = pair.ledger("SELECT id, json FROM events ORDER BY id")
        assert after[:len(before)] == before, "what was written stays"
        assert pair.obeyed(request="release") > number
        assert pair.ledger("PRAGMA integrity_check") == [("ok",)]


def is_obeyed(pair):
    reply = pair.order(request="release")
    return bool(reply) and reply["reply"] == "obeyed"


def test_a_ruined_ledger_is_set_aside_and_turns_automatic_reboots_off(tmp_path):
    needs(root=False)
    sections = {"reboot": {"automatic": True, "command": ["/bin/false"], "uptime_min_ms": 0,
                           "per_day_max": 3}}
    with Supervised(tmp_path, sections) as pair:
        pair.wait_until_served()
        assert pair.status()["reboot"]["budget_left"] == 3
        pids, epoch = pair.pids(), pair.epoch()
        pair.kill()
        ledger = pair.state_dir / "ledger.db"
        for file in (ledger, ledger.with_name("ledger.db-wal")):
            text = file.read_bytes()
            file.write_bytes(text[:100] + os.urandom(max(len(text) - 100, 0)))
        pair.start()
        trouble = pair.wait_for(lambda: pair.status()["ledger_trouble"], "told of the loss")
        assert "ledger.corrupt-1.db" in trouble
        assert (pair.state_dir / "ledger.corrupt-1.db").exists()
        assert pair.status()["reboot"]["budget_left"] == 0
        pair.wait_for(lambda: "automatic reboots in 24 hours" in pair.status()["reboot"]["refused"],
                      "refusing to reboot")
        # It can't know what the ranks it finds are, so they end in order, and others begin.
        pair.wait_until_served()
        assert pair.epoch() > epoch and not set(pids[:2]) & set(pair.pids())
        assert pair.chat()[0] == 200
        pair.obeyed(request="release")
        pair.wait_for(lambda: pair.status()["ledger_trouble"] is None, "over it")
        assert pair.status()["reboot"]["budget_left"] == 0, "a release forgives no reboots"


def test_a_state_folder_that_is_no_folder_stops_the_start_with_a_reason(tmp_path):
    pair = Supervised(tmp_path, start=False)
    pair.state_dir.write_text("a file")
    run = subprocess.run([pair.binary, "supervise", "--config", str(pair.config)],
                         capture_output=True, timeout=60)
    assert run.returncode == 69, run
    assert b"state_dir" in run.stdout + run.stderr
    pair.log.close()
