"""A config file that changes while all runs: what is wrong is refused and changes nothing, what is
right is taken with the least that has to be restarted."""

import itertools
import os
import pathlib
import signal
import time

import pytest

import ports
from supervised import ANSWER, Stream, Supervised, undisturbed


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    with Supervised(tmp_path_factory.mktemp("config")) as pair:
        pair.wait_until_served()
        yield pair


@pytest.fixture(scope="module")
def story(pair):
    return undisturbed(pair)


@pytest.fixture(autouse=True)
def settled(pair):
    push(pair, {})


marks = itertools.count(200)


def push(pair, changes):
    """Writes a config and waits until it is in force; a count that restarts nothing tells that."""
    mark = next(marks)
    supervise = changes.get("supervise", {}) | {"restarts_max": mark}
    pair.write_config(changes | {"supervise": supervise})
    pair.wait_for(lambda: pair.status()["restarts_max"] == mark, "in force")
    pair.wait_for(lambda: pair.status()["gateway"]["phase"] == "up", "with a gateway")
    pair.wait_until_served()


def refused(pair, expected=""):
    """Why the config is refused, if it is for a reason that names this."""
    why = pair.status()["config_refused"]
    return why if why and expected in why else None


# What is pushed, given the right text (None deletes the file), and what the refusal must name.
WRONG = {
    "a syntax error": (lambda text: text.replace("[engine]", "[engine"), "unclosed table"),
    "an unknown key": (lambda text: text.replace("[engine]", "[engine]\nturbo = true"), "turbo"),
    "a value out of range": (
        lambda text: text.replace("poll_ms = 200\n", "poll_ms = 1\n", 1), "host.poll_ms"),
    "a key that takes a restart": (
        lambda text: text.replace('name = "here"', 'name = "there"').replace(
            'node = "here"', 'node = "there"'), "node.name"),
    "a rank less": (lambda text: text[:text.rindex("[[rank]]")], "[[rank]]"),
    "half of it": (lambda text: text[:len(text) // 2], ""),
    "nothing": (lambda text: "", ""),
    "no file": (None, "can't read"),
    "what is no text": (lambda text: "\x00\x01" + text, ""),
    "too much": (lambda text: text + "#" * (2 << 20), "larger than"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_config_is_refused_with_the_reason_and_the_old_one_stays(pair, what):
    in_force, pids = (pair.run_dir / "config.toml").read_text(), pair.pids()
    why = write_wrong(pair, what)
    assert pair.faults()["config"]["evidence"] == why
    assert pair.pids() == pids and pair.is_ready() and pair.chat()[1] == ANSWER
    assert (pair.run_dir / "config.toml").read_text() == in_force


def write_wrong(pair, what):
    """Pushes it and gives the reason of the refusal: of the whole file, which may be read before all
    of it is written."""
    change, expected = WRONG[what]
    if change is None:
        pair.config.unlink()
    else:
        pair.config.write_text(change(pair.text()))
    return pair.wait_for(lambda: refused(pair, expected), f"refused: {expected}")


def test_a_config_that_is_a_fifo_is_refused_and_waited_for_by_nobody(pair):
    pids = pair.pids()
    pair.config.unlink()
    os.mkfifo(pair.config)
    assert "no regular file" in pair.wait_for(lambda: refused(pair), "refused", 20)
    assert pair.pids() == pids and pair.chat()[1] == ANSWER


@pytest.mark.parametrize("what", ["a syntax error", "no file"])
def test_a_rank_that_dies_meanwhile_comes_back_under_the_old_config(pair, story, what):
    in_force, epoch, pids = (pair.run_dir / "config.toml").read_text(), pair.epoch(), pair.pids()
    write_wrong(pair, what)
    stream = Stream(pair).wait_for_text()
    os.kill(pids[1], signal.SIGKILL)
    stream.is_undisturbed(story, f"rank 1 killed under {what} as config")
    pair.wait_until_served()
    assert pair.epoch() == epoch + 1
    assert (pair.run_dir / "config.toml").read_text() == in_force


def test_a_change_of_the_engine_is_a_new_epoch_and_no_restart_after_a_failure(pair, story):
    epoch, pids, restarts = pair.epoch(), pair.pids(), pair.status()["restarts"]
    stream = Stream(pair).wait_for_text()
    pair.write_config({"engine": {"max_active": 8}})
    stream.is_undisturbed(story, "engine.max_active changed")
    pair.wait_for(lambda: pair.epoch() == epoch + 1, "in a new epoch")
    pair.wait_until_served()
    after = pair.pids()
    assert not set(after[:2]) & set(pids[:2]) and after[2] == pids[2]
    assert pair.status()["restarts"] == restarts
    assert "max_active = 8" in (pair.run_dir / "config.toml").read_text()
    [(cause,)] = pair.ledger(f"SELECT cause FROM epochs WHERE epoch = {epoch}")
    assert cause == "the config has another plan for them"
    assert not any(leak["epoch"] == epoch for leak in pair.status()["suspected_leaks"])


def test_a_change_of_the_gateway_lets_running_streams_finish(pair, story):
    # A whole stream fits into the time to drain, on a machine that is busy with much else too.
    patient = {"drain_timeout_ms": 180_000}
    push(pair, {"gateway": patient, "supervise": patient})
    epoch, pids = pair.epoch(), pair.pids()
    stream = Stream(pair).wait_for_text()
    changed = time.monotonic()
    pair.write_config({"gateway": patient | {"max_queued": 77}, "supervise": patient})
    stream.is_undisturbed(story, "gateway.max_queued changed")
    pair.wait_for(lambda: pair.pids()[2] not in (pids[2], None), "replaced")
    pair.away("gateway.max_queued changed", changed)
    pair.wait_until_served()
    assert pair.epoch() == epoch and pair.pids()[:2] == pids[:2]


def test_a_gateway_that_is_to_listen_elsewhere_is_served_there(pair):
    epoch, pids = pair.epoch(), pair.pids()
    [port] = ports.free_ports(1)
    old = pair.url, pair.http_port
    pair.write_config({"gateway": {"listen": f"127.0.0.1:{port}"}})
    pair.wait_for(lambda: refused(pair) or pair.pids()[2] not in (pids[2], None), "answered to")
    if why := refused(pair):
        assert "gateway.listen" in why and pair.chat()[1] == ANSWER
        return
    pair.url, pair.http_port = f"http://127.0.0.1:{port}", port
    try:
        pair.wait_for(lambda: pair.status()["gateway"]["ready"], "ready at its new address")
        pair.wait_until_served()
        assert pair.chat()[1] == ANSWER and pair.epoch() == epoch
    finally:
        (pair.url, pair.http_port) = old


def test_a_change_of_the_supervision_restarts_nothing(pair, story):
    epoch, pids = pair.epoch(), pair.pids()
    stream = Stream(pair).wait_for_text()
    pair.write_config({"supervise": {"restarts_max": 55}, "canary": {"period_ms": 900},
                       "host": {"flap_max": 7}, "leak": {"reserve_mib": 65}})
    pair.wait_for(lambda: pair.status()["restarts_max"] == 55, "taken")
    stream.is_undisturbed(story, "supervise.restarts_max changed")
    assert (pair.epoch(), pair.pids()) == (epoch, pids)


def test_a_file_that_nobody_changes_is_not_read_for_ever(pair):
    """The system announces reading too: taken as a change, each would lead to the next."""
    [watcher] = threads_named(pair.process.pid, "notify-rs")

    def wakes():
        return next(line for line in (watcher / "status").read_text().splitlines()
                    if line.startswith("voluntary_ctxt_switches"))

    assert pair.wait_for(lambda: settled_for(pair, wakes, 2000), "quiet", 20)


def threads_named(pid, beginning):
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            if (task / "comm").read_text().startswith(beginning):
                found.append(task)
        except OSError:
            continue  # It ended meanwhile.
    return found


def settled_for(pair, look, span_ms):
    """What it gives, if it gave the same for so long."""
    seen, turns = look(), pair.status()["uptime_ms"]
    pair.wait_for(lambda: pair.status()["uptime_ms"] > turns + span_ms, "some turns on")
    return seen if look() == seen else None


def test_a_storm_of_changes_ends_in_the_last_one(pair, story):
    pids = pair.pids()
    stream = Stream(pair).wait_for_text()
    for count in range(60):
        if count % 3:
            pair.config.write_text(pair.text({"supervise": {"restarts_max": 200 + count}}))
        else:
            pair.config.write_text(pair.text()[:300 + count])
    pair.wait_for(lambda: pair.status()["restarts_max"] == 259 and not refused(pair), "taken")
    stream.is_undisturbed(story, "sixty changes of the config")
    assert pair.pids() == pids
