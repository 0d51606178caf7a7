"""What operators, strangers and a busy status port can do; and what readiness means."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from supervised import ANSWER, Stream, Supervised, is_running, needs, undisturbed


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    with Supervised(tmp_path_factory.mktemp("operator")) as pair:
        yield pair


@pytest.fixture(autouse=True)
def settled(request):
    if "pair" in request.fixturenames:
        request.getfixturevalue("pair").wait_until_served()


def test_ready_means_tokens_came_and_not_that_a_port_is_open(tmp_path):
    with Supervised(tmp_path) as pair:
        codes = []

        def look():
            code = pair.fetch("/readyz")[0]
            codes.append(code)
            return code == 200

        pair.wait_for(look, "ready")
        assert codes[0] == 503 and codes[-1] == 200, codes
        assert pair.status()["proven"]
        # A rank tells its counters once a second.
        pair.wait_for(lambda: (pair.status()["ranks"][0]["tokens"] or 0) >= 1, "told of tokens")
        pair.wait_for(lambda: pair.ledger("SELECT 1 FROM canaries WHERE passed"), "told")
        assert pair.chat()[1] == ANSWER


def test_a_drained_pair_ends_in_order_and_resumes(pair):
    stream = Stream(pair, 40).wait_for_text(10)
    pids = pair.pids()
    pair.obeyed(request="drain")
    stream.ended()
    assert stream.is_whole and stream.finish == "length", "running requests are finished"
    pair.wait_for(lambda: pair.pids() == [None] * 3, "drained")
    assert not any(is_running(pid) for pid in pids)
    status = pair.status()
    assert status["operator_drained"] and status["health"] == "not_serving"
    assert pair.fetch("/readyz")[0] == 503
    pair.kill()
    pair.start()
    pair.wait_for(lambda: pair.status()["operator_drained"], "drained still, by its memory")
    turns = pair.status()["uptime_ms"]
    pair.wait_for(lambda: pair.status()["uptime_ms"] > turns + 2000, "some turns on")
    assert pair.pids() == [None] * 3
    resumed = time.monotonic()
    pair.obeyed(request="resume")
    pair.away("resumed after a drain", resumed)


def test_a_held_pair_does_nothing_by_itself_until_released(pair):
    pair.obeyed(request="hold")
    pair.wait_for(lambda: pair.status()["operator_hold_until_ms"] == 0, "held")
    epoch, pids = pair.epoch(), pair.pids()
    os.kill(pids[1], signal.SIGKILL)
    pair.wait_for(lambda: pair.status()["ranks"][0]["pid"] is None, "without ranks")
    turns = pair.status()["uptime_ms"]
    pair.wait_for(lambda: pair.status()["uptime_ms"] > turns + 2000, "some turns on")
    assert pair.epoch() == epoch and pair.pids()[:2] == [None, None]
    released = time.monotonic()
    pair.obeyed(request="release")
    pair.away("a rank killed while held, and released", released)
    assert pair.epoch() == epoch + 1


def command(pair, *words):
    """Runs `tandem` as an operator does; its exit code and all that it printed."""
    run = subprocess.run([pair.binary, *words, "--config", pair.config], capture_output=True,
                         timeout=60)
    return run.returncode, (run.stdout + run.stderr).decode()


def test_the_commands_give_orders_and_say_by_their_exit_code_how_it_went(pair):
    assert command(pair, "hold", "--for", "2h")[0] == 0
    until_ms = pair.wait_for(lambda: pair.status()["operator_hold_until_ms"], "held")
    assert until_ms / 1000 - time.time() > 7000
    assert command(pair, "release")[0] == 0
    pair.wait_for(lambda: pair.status()["operator_hold_until_ms"] is None, "released")
    assert command(pair, "drain")[0] == 0
    pair.wait_for(lambda: pair.pids() == [None] * 3, "drained")
    assert command(pair, "status")[0] == 2, "not serving"
    assert command(pair, "resume")[0] == 0
    pair.wait_for(lambda: command(pair, "status")[0] == 0, "healthy")
    code, said = command(pair, "hold", "--for", "1ms")
    assert code == 64 and said, (code, said)
    pair.kill()
    code, said = command(pair, "release")
    assert code == 69 and "no supervisor" in said, (code, said)
    assert command(pair, "status")[0] == 69
    pair.start()


def test_a_hold_ends_by_itself(pair):
    pair.obeyed(request="hold", for_ms=5000)
    pair.wait_for(lambda: pair.status()["operator_hold_until_ms"], "held")
    pair.wait_for(lambda: pair.status()["operator_hold_until_ms"] is None, "over", 20)


# What a user who is neither root nor the supervisor's sees: the socket itself is closed to them.
STRANGER = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
control = socket.socket(socket.AF_UNIX)
try:
    control.connect(sys.argv[1])
except PermissionError:
    sys.exit(77)
"""
PUSHY = """
try:
    control.sendall(b'{"request": "drain"}\\n')
except BrokenPipeError:
    pass  # It is refused without being read.
print(control.recv(4096).decode())
"""


def test_a_stranger_may_not_give_orders(pair):
    needs()
    path = pair.run_dir / "control.sock"
    mode = path.stat().st_mode & 0o777
    assert mode == 0o600, oct(mode)
    orders = pair.ledger("SELECT count(*) FROM orders")
    run = subprocess.run([sys.executable, "-c", STRANGER, path], capture_output=True, timeout=30)
    assert run.returncode == 77, run
    # Even where the folders and the socket's mode are opened by mistake, who asks is asked.
    opened = [pair.run_dir, path, *list(pair.run_dir.parents)[:-2]]
    modes = [(file, file.stat().st_mode & 0o7777) for file in opened]
    try:
        for file, _ in modes:
            file.chmod(0o777)
        run = subprocess.run([sys.executable, "-c", STRANGER + PUSHY, path], capture_output=True,
                             timeout=30)
    finally:
        for file, mode in modes:
            file.chmod(mode)
    assert b'"forbidden"' in run.stdout, run
    assert pair.ledger("SELECT count(*) FROM orders") == orders
    assert not pair.status()["operator_drained"]


@pytest.mark.parametrize("line", [b"", b"\n", b"{}\n", b'{"request": "reboot"}\n', b"\xff" * 9000,
                                  b'{"request": "hold", "for_ms": -1}\n', b'{"request": "drain"'])
def test_noise_on_the_control_socket_is_no_order(pair, line):
    orders = pair.ledger("SELECT count(*) FROM orders")
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(15)
        control.connect(str(pair.run_dir / "control.sock"))
        try:
            control.sendall(line)
            control.shutdown(socket.SHUT_WR)
            assert b'"reply":"error"' in control.makefile("rb").readline()
        except (BrokenPipeError, ConnectionResetError):
            pass  # It refuses what is too long without reading it.
    assert pair.order(request="ping") == {"reply": "pong"}
    assert pair.ledger("SELECT count(*) FROM orders") == orders


def test_a_busy_status_port_disturbs_neither_serving_nor_mending(pair):
    story, epoch = undisturbed(pair, 60), pair.epoch()
    idle = [socket.create_connection(("127.0.0.1", pair.status_port), timeout=10)
            for _ in range(100)]
    # They take all places, but none is kept for one who says nothing.
    pair.wait_for(pair.status, "answering beside 100 idle connections", 20)
    answers = []

    def ask():
        answers.extend(pair.fetch("/status")[0] for _ in range(250))

    stream = Stream(pair, 60).wait_for_text()
    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    os.kill(rank_pid_by_file(pair, 1), signal.SIGKILL)
    stream.is_undisturbed(story, "rank 1 killed under 1000 status requests")
    for asker in askers:
        asker.join(60)
        assert not asker.is_alive()
    assert answers == [200] * 1000
    for held in idle:
        held.close()
    pair.wait_until_served()
    assert pair.epoch() == epoch + 1


def rank_pid_by_file(pair, rank):
    return int((pair.run_dir / f"rank-{rank}.pid").read_text().split()[0])


def test_a_stopped_gateway_is_not_ready_and_is_replaced(pair):
    epoch, pids = pair.epoch(), pair.pids()
    os.kill(pids[2], signal.SIGSTOP)
    stopped = time.monotonic()
    periods = 3 * pair.sections["canary"]["period_ms"] + pair.sections["canary"]["timeout_ms"]
    pair.wait_for(lambda: not pair.is_ready(), "told as not ready", 20 + periods / 1000)
    print(f"\ngateway stopped: not ready {time.monotonic() - stopped:.2f} s after it")
    pair.away("gateway stopped", stopped)
    pair.wait_until_served()
    after = pair.pids()
    assert after[2] != pids[2] and not is_running(pids[2])
    assert (pair.epoch(), after[:2]) == (epoch, pids[:2]), "the ranks have nothing to do with it"


# When the signal comes: a condition on the status.
PHASES = {
    "at once": lambda status: True,
    "while the ranks start": lambda status: status["phase"] == "starting",
    "while the ranks are ready and unproven": lambda status: status["phase"] == "serving",
    "while serving": lambda status: status["proven"],
}


@pytest.mark.parametrize("when", ["backoff", "stopping"])
def test_sigterm_between_two_epochs_ends_all(tmp_path, when):
    supervise = {"backoff_min_ms": 30000, "backoff_max_ms": 30000}
    with Supervised(tmp_path, {"supervise": supervise}) as pair:
        pair.wait_until_served()
        # One that is killed leaves the other a moment to notice; one that is stopped, seconds.
        os.kill(pair.pids()[1], signal.SIGKILL if when == "backoff" else signal.SIGSTOP)
        pair.wait_for(lambda: pair.status()["phase"] == when, when)
        pair.process.send_signal(signal.SIGTERM)
        assert pair.process.wait(60) == 0, pair.tail()
        assert pair.children() == []


@pytest.mark.parametrize("when", PHASES)
def test_sigterm_ends_all_in_order(tmp_path, when):
    with Supervised(tmp_path) as pair:
        pair.wait_for(lambda: PHASES[when](pair.status()), when)
        pair.process.send_signal(signal.SIGTERM)
        assert pair.process.wait(60) == 0, pair.tail()
        assert pair.children() == []
        assert "killing it" not in pair.said(), "all ended by themselves"


def test_sigterm_while_a_rank_is_stopped_ends_all(tmp_path):
    with Supervised(tmp_path, {"supervise": {"unload_timeout_ms": 1500}}) as pair:
        pair.wait_until_served()
        os.kill(pair.pids()[1], signal.SIGSTOP)
        pair.process.send_signal(signal.SIGTERM)
        assert pair.process.wait(60) == 0, pair.tail()
        assert pair.children() == []
