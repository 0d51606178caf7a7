"""The supervisor's log files: all that gateway and ranks say is in them at its level, never a prompt;
a disk that takes no more of them stops nobody; and a shutdown is not made to wait."""

import json
import os
import pathlib
import re
import signal
import stat

import pytest

from supervised import ANSWER, Supervised, needs

# A word that no tokeniser, template or library would log for another reason.
MARK = "zyxomma7431quuv"


def node(folder, **keys):
    """The [node] section: Supervised's own, with keys of this test's."""
    folder = pathlib.Path(folder)
    return {"name": "here", "run_dir": str(folder / "run"), "state_dir": str(folder / "state"),
            "user": "", "log_dir": str(folder / "logs")} | keys


def logged(pair):
    return (pair.folder / "logs/tandem.log").read_text(errors="replace")


def files_with(folder, mark):
    """Every file under a folder that has the mark in it, its rotated and packed kin included."""
    found = []
    for path in pathlib.Path(folder).rglob("*"):
        if stat.S_ISREG(path.lstat().st_mode) and mark.encode() in path.read_bytes():
            found.append(str(path))
    return found


def strike(pair):
    """Kills rank 1, which has much to be said, and waits until all is well again."""
    epoch = pair.epoch()
    os.kill(pair.pids()[1], signal.SIGKILL)
    pair.wait_for(lambda: pair.epoch() > epoch, "started again")
    pair.wait_until_served()


def test_no_prompt_is_in_any_file_even_when_everything_is_logged(tmp_path):
    env = {"RUST_LOG": "trace"}
    section = node(tmp_path, log_level="trace", log_file_max_mib=64)
    with Supervised(tmp_path, {"node": section}, env=env) as pair:
        pair.wait_until_served(120)
        question = [{"role": "system", "content": f"You are {MARK}."},
                    {"role": "user", "content": f"Say {MARK} and nothing else."}]
        for request in ({"max_tokens": 8}, {"max_tokens": 4, "stop": [MARK]}, {"user": MARK},
                        {"temperature": -3}, {"max_tokens": 10**9}, {MARK: MARK}):
            pair.chat(question, **({"max_tokens": 4} | request))
        for path, body in (("completions", {"prompt": f"Once upon {MARK}", "max_tokens": 4}),
                           ("completions", {"prompt": [MARK, MARK], "max_tokens": 2})):
            pair.ask(f"/v1/{path}", json.dumps({"model": "smollm2"} | body))
        # What is no request at all may be the rest of one.
        for body in (f'{{"model": "{MARK}', f"{MARK}", f'{{"messages": "{MARK}"}}'):
            with pytest.raises(OSError):
                pair.ask("/v1/chat/completions", body)
        assert pair.chat()[1] == ANSWER
        pair.wait_for(lambda: pair.ledger("SELECT 1 FROM requests LIMIT 1"), "recorded")
        assert "TRACE" in logged(pair), "everything is logged"
        assert files_with(tmp_path, MARK) == []
    assert files_with(tmp_path, MARK) == []


def test_what_the_children_say_is_in_the_file_at_its_level(tmp_path):
    with Supervised(tmp_path, {"node": node(tmp_path, log_format="json")}) as pair:
        pair.wait_until_served()
        strike(pair)
        mode = stat.S_IMODE((tmp_path / "logs/tandem.log").stat().st_mode)
        assert mode == 0o640, oct(mode)
        assert not list((tmp_path / "run").glob("tandem.log*")), "the children have no files"
    lines = [json.loads(line) for line in logged(pair).splitlines()]
    told = {(line.get("role"), line["level"]) for line in lines}
    assert {("rank", "INFO"), ("gateway", "INFO"), (None, "INFO"), (None, "WARN")} <= told, told
    assert ("rank", "ERROR") in told, "rank 0 lost rank 1"
    told = sorted(line["message"] for line in lines)
    assert "all is stopped" in told, "the last line is there"
    # Sorted, because lines of several threads may come in another order.
    on_stderr = sorted(json.loads(line)["message"] for line in pair.said().splitlines())
    assert told == on_stderr


def test_a_full_or_vanished_log_folder_stops_nobody_and_is_told_once(tmp_path):
    needs("unshare", "mount", "nsenter")
    logs = tmp_path / "logs"
    logs.mkdir()
    mounting = f'mount -t tmpfs -o size=64k tmpfs "{logs}" && exec "$@"'
    wrapper = ["unshare", "-m", "--propagation", "private", "sh", "-c", mounting, "sh"]
    with Supervised(tmp_path, {"node": node(tmp_path)}, wrapper=wrapper) as pair:
        pair.wait_until_served()
        inside = pathlib.Path(f"/proc/{pair.process.pid}/root{logs}")
        filler = inside / "filler"
        with open(filler, "wb", buffering=0) as file:
            for size in (1 << 12, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    continue
        strike(pair)
        assert "tandem.log can't be written: No space" in pair.said()
        assert pair.chat()[1] == ANSWER
        filler.unlink()
        strike(pair)
        assert "tandem.log is written again" in pair.said()
        assert pair.said().count("can't be written") == 1
        text = (inside / "tandem.log").read_text()
        assert re.search(r"\d+ lines are missing there", text), "the file says what it lacks"
        # Removed under the supervisor's hands.
        (inside / "tandem.log").unlink()
        strike(pair)
        assert (inside / "tandem.log").exists(), "made again"


# Stands for the system's own way, which ends its jobs by SIGTERM before the machine goes down: the
# supervisor is the parent of this.
SHUTDOWN = """#!/bin/sh
kill -TERM $PPID
"""


def test_a_supervisor_that_asked_for_the_reboot_does_not_delay_it(tmp_path):
    script = tmp_path / "reboot"
    script.write_text(SHUTDOWN)
    script.chmod(0o755)
    # Whoever waited for one of these would be seen to.
    patience = {"unload_timeout_ms": 600_000, "drain_timeout_ms": 600_000}
    sections = {"reboot": {"command": [str(script)]}, "supervise": patience,
                "node": node(tmp_path)}
    with Supervised(tmp_path, sections) as pair:
        pair.wait_until_served()
        pids = pair.pids()
        pair.obeyed(request="reboot", all=False, reason="a test")
        assert pair.process.wait(60) == 0, pair.tail()
        assert pair.children() == [], "all had ended in order before"
        assert not any(pathlib.Path(f"/proc/{pid}").exists() for pid in pids)
        assert "did not end when asked" not in pair.said()
        said = pair.said()
        assert said.index("rebooting: ") < said.index("all is stopped")


def test_served_without_a_folder_has_no_log_file(tmp_path):
    with Supervised(tmp_path) as pair:
        pair.wait_until_served()
    assert not list(tmp_path.rglob("tandem.log*"))
