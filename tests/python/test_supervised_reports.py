"""Crash reports of every shape dropped into a watched folder, while a stream runs: a whole panic of
the boot before is told, all else is bounded and does no harm."""

import json
import os
import pathlib
import time

import pytest

from supervised import Stream, Supervised, needs, undisturbed
from test_supervised_leak import boot_in

PANIC = ("panic(cpu 7 caller 0xfffffe0044): \"completeMemory() prepare count underflow\" "
         "@IOGPUMemory.cpp:550\nBoot session UUID: {boot}\n")


def panic(boot, incident):
    """A kernel panic's report as the system writes it: a header line and a body, both JSON."""
    header = {"bug_type": "210", "timestamp": "2026-04-16 10:00:01.00 +0200",
              "os_version": "macOS 26.4.1 (25E246)", "incident_id": incident}
    body = {"incident": incident, "date": "2026-04-16 10:00:00.11 +0200",
            "panicString": PANIC.format(boot=boot), "panicFlags": "0x902"}
    return json.dumps(header) + "\n" + json.dumps(body) + "\n"


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A pair in its second boot, its folder of reports, and the boot before."""
    needs("unshare", "mount")
    folder = tmp_path_factory.mktemp("reports")
    reports = folder / "reports"
    reports.mkdir()
    first, wrapper = boot_in(folder)
    with Supervised(folder, {"host": {"report_dirs": [str(reports)]}}, start=False) as pair:
        pair.start(wrapper)
        pair.wait_until_served()
        pair.end()
        _, wrapper = boot_in(folder)
        pair.start(wrapper)
        pair.wait_until_served()
        yield pair, reports, first


@pytest.fixture(scope="module")
def story(scene):
    return undisturbed(scene[0])


@pytest.fixture(autouse=True)
def untouched(scene):
    """Whatever a report is, no process is restarted for it."""
    pair, reports, _ = scene
    epoch, pids = pair.epoch(), pair.pids()
    yield
    assert (pair.epoch(), pair.pids()) == (epoch, pids)
    for file in reports.iterdir():
        file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()


def threads(pair):
    return len(list(pathlib.Path(f"/proc/{pair.process.pid}/task").iterdir()))


def test_a_panic_of_another_system_s_boot_is_no_fault_of_ours(scene):
    pair, reports, _ = scene
    (reports / "other.ips").write_text(panic("7EDF3EA8-1F47-4E07-A28D-C02488B3E469", "A-0"))
    pair.wait_for(lambda: "panic-gpu-memory-count" in pair.said(), "read")
    assert "panic" not in pair.faults()


def test_a_torn_panic_of_the_last_boot_is_told_once_it_is_whole(scene, story):
    pair, reports, first = scene
    stream = Stream(pair).wait_for_text()
    text = panic(first.upper(), "A-1")
    report = reports / "panic-full.ips"
    report.write_text(text[:len(text) - 40])
    turns = pair.status()["uptime_ms"]
    pair.wait_for(lambda: pair.status()["uptime_ms"] > turns + 1500, "some turns on")
    assert "panic" not in pair.faults(), "half a report proves nothing"
    report.write_text(text)
    fault = pair.wait_for(lambda: pair.faults().get("panic"), "told")
    assert "completeMemory() prepare count underflow" in fault["evidence"] and fault["remedy"]
    assert pair.wait_for(pair.is_healthy, "healthy: a panic of the last boot is history")
    stream.is_undisturbed(story, "a panic of the last boot found")


def test_what_only_looks_like_a_report_is_bounded_and_waited_for_by_nobody(scene, story):
    pair, reports, first = scene
    stream = Stream(pair).wait_for_text()
    before = threads(pair)
    whole = panic(first, "A-2")
    (reports / "huge.ips").write_bytes(whole.encode()[:-2] + b" " * (20 << 20) + b"}\n")
    header = whole.split("\n", 1)[0]
    (reports / "deep.ips").write_text(header + "\n" + "[" * 1_000_000)
    (reports / "deeper.ips").write_text('{"a":' * 500_000 + "\n{}")
    (reports / "binary.ips").write_bytes(os.urandom(1 << 20))
    (reports / "empty.ips").write_bytes(b"")
    os.mkfifo(reports / "fifo.ips")
    (reports / "link.ips").symlink_to("/etc/passwd")
    (reports / "endless.ips").symlink_to("/dev/zero")
    (reports / "folder.ips").mkdir()
    # Behind all that, a whole one is still found.
    (reports / "zz-last.ips").write_text(panic(first, "A-3"))
    pair.wait_for(lambda: "huge.ips" in pair.said() and "link.ips" in pair.said(), "refused")
    stream.is_undisturbed(story, "odd files among the reports")
    assert "root:" not in pair.said(), "no link was followed"
    assert threads(pair) <= before + 8, "nothing waits at the FIFO"
    resident_kib = next(int(line.split()[1]) for line in pathlib.Path(
        f"/proc/{pair.process.pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    assert resident_kib < 200 << 10, f"{resident_kib} KiB at the most"


def test_five_hundred_reports_at_once_are_read_and_serving_goes_on(scene, story):
    pair, reports, first = scene
    stream = Stream(pair).wait_for_text()
    before = pair.said().count("panic-gpu-memory-count")
    for number in range(500):
        (reports / f"many-{number}.ips").write_text(panic(first, f"M-{number}"))
    asked = []
    for _ in range(50):
        began = time.monotonic()
        pair.status()
        asked.append(time.monotonic() - began)
    stream.is_undisturbed(story, "500 reports at once")
    pair.wait_for(lambda: pair.said().count("panic-gpu-memory-count") >= before + 500, "all read",
                  150)
    print(f"\nstatus answered in {1000 * max(asked):.0f} ms at most meanwhile")
    assert max(asked) < 10
