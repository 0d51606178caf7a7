"""No process is one whose death loses anything: each is killed under a running stream. Nothing is
lost but, with the gateway, the streams that it carried, and their clients are told."""

import os
import pathlib
import random
import signal
import sqlite3
import threading
import time

import pytest

from supervised import Stream, Supervised, is_running, undisturbed


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    with Supervised(tmp_path_factory.mktemp("kills")) as pair:
        print(f"\nserving {pair.wait_until_served():.2f} s after the start")
        yield pair


@pytest.fixture(scope="module")
def story(pair):
    return undisturbed(pair)


@pytest.fixture(autouse=True)
def settled(pair):
    if pair.process.poll() is not None:
        pair.start()
    pair.wait_until_served()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_costs_an_epoch_and_no_token(pair, story, rank):
    epoch, pids = pair.epoch(), pair.pids()
    stream = Stream(pair).wait_for_text()
    os.kill(pids[rank], signal.SIGKILL)
    stream.is_undisturbed(story, f"rank {rank} killed")
    pair.wait_until_served()
    assert pair.epoch() == epoch + 1
    assert pair.pids()[2] == pids[2], "the gateway outlives the ranks"
    [(cause,)] = pair.ledger(f"SELECT cause FROM epochs WHERE epoch = {epoch}")
    assert f"rank {rank}: killed by signal 9" in cause, cause
    [(started,)] = pair.ledger(f"SELECT count(*) FROM actions WHERE action LIKE "
                               f"'StartGang%epoch: {epoch + 1},%'")
    assert started == 1


def test_a_killed_supervisor_costs_nothing_its_successor_adopts_all(pair, story):
    epoch, pids = pair.epoch(), pair.pids()
    [(starts,)] = pair.ledger("SELECT starts FROM boots ORDER BY first_id DESC LIMIT 1")
    stream = Stream(pair).wait_for_text()
    pair.kill()
    killed = time.monotonic()
    assert pair.chat()[0] == 200, "the gateway serves without a supervisor"
    pair.start()
    pair.wait_for(lambda: pair.pids() == pids, "in charge of what ran before")
    print(f"\nsupervisor killed: its successor knew all {time.monotonic() - killed:.2f} s later")
    stream.is_undisturbed(story, "supervisor killed")
    pair.wait_until_served()
    assert (pair.epoch(), pair.pids()) == (epoch, pids)
    [(again,)] = pair.ledger("SELECT starts FROM boots ORDER BY first_id DESC LIMIT 1")
    assert again == starts + 1


def test_every_thread_of_a_rank_goes_before_the_gateway(pair):
    def nice(pid):
        tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
        return {os.getpriority(os.PRIO_PROCESS, int(task.name)) for task in tasks}

    assert [nice(pid) for pid in pair.pids()] == [{-5}, {-5}, nice(os.getpid())]


def test_a_killed_gateway_costs_its_streams_and_their_clients_are_told(pair):
    epoch, pids = pair.epoch(), pair.pids()
    stream = Stream(pair).wait_for_text()
    killed = time.monotonic()
    os.kill(pids[2], signal.SIGKILL)
    stream.ended()
    assert not stream.is_whole and stream.finish is None, "cut off, and not made to look whole"
    pair.away("gateway killed", killed)
    pair.wait_until_served()
    after = pair.pids()
    assert pair.epoch() == epoch and after[:2] == pids[:2], "the ranks outlive the gateway"
    assert after[2] != pids[2]
    [(_, entered)] = pair.ledger("SELECT id, json ->> 'to' FROM events WHERE kind = 'gateway' AND "
                                 "json ->> 'from' = 'up' ORDER BY id DESC LIMIT 1")
    assert entered == "backoff"


def test_killing_supervisor_and_a_rank_together_costs_no_token(pair, story):
    epoch, pids = pair.epoch(), pair.pids()
    stream = Stream(pair).wait_for_text()
    pair.kill()
    os.kill(pids[1], signal.SIGKILL)
    pair.start()
    stream.is_undisturbed(story, "supervisor and rank 1 killed")
    pair.wait_until_served()
    assert pair.epoch() == epoch + 1 and pair.pids()[2] == pids[2]


def test_all_processes_killed_at_once_are_all_started_again(pair):
    epoch, pids = pair.epoch(), pair.pids()
    stream = Stream(pair).wait_for_text()
    pair.kill()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    stream.ended()
    assert not stream.is_whole, "its client is told"
    pair.start()
    pair.away("all four killed", killed)
    pair.wait_until_served()
    assert pair.epoch() == epoch + 1 and not set(pids) & set(pair.pids())


def test_while_no_gateway_runs_nothing_is_called_ready(tmp_path):
    with Supervised(tmp_path, {"supervise": {"backoff_min_ms": 4000, "backoff_max_ms": 4000}}
                    ) as pair:
        pair.wait_until_served()
        os.kill(pair.pids()[2], signal.SIGKILL)
        killed = time.monotonic()
        pair.wait_for(lambda: pair.status()["gateway"]["phase"] == "backoff", "waiting")
        pair.wait_for(lambda: not pair.is_ready(), "called not ready", 3)
        assert pair.status()["gateway"]["phase"] == "backoff", "it is told while it lasts"
        assert not pair.is_healthy()
        pair.away("gateway killed, with a pause of 4 s", killed)


def test_a_stopped_rank_is_killed_only_after_its_time_to_unload(pair, story):
    epoch, pids = pair.epoch(), pair.pids()
    stream = Stream(pair).wait_for_text()
    os.kill(pids[1], signal.SIGSTOP)
    stream.is_undisturbed(story, "rank 1 stopped")
    pair.wait_until_served()
    assert pair.epoch() == epoch + 1 and not is_running(pids[1])
    leak = pair.status()["suspected_leaks"][-1]
    assert (leak["epoch"], leak["rank"], leak["pid"]) == (epoch, 1, pids[1])
    [(asked, killed)] = pair.ledger(
        "SELECT (SELECT min(boot_ms) FROM phases WHERE entered = 'stopping' AND "
        f"epoch = {epoch}), (SELECT max(boot_ms) FROM actions WHERE action LIKE 'KillRank%')")
    # No timing of ours but the promise: a rank has that long before memory is put at risk.
    assert killed - asked >= pair.sections["supervise"]["unload_timeout_ms"]


def test_no_acknowledged_order_is_lost_when_the_supervisor_dies_in_mid_save(pair, story):
    """Twenty times, at random moments while orders make it save all the time."""
    epoch, pids = pair.epoch(), pair.pids()
    dice = random.Random(20)
    for cut in range(20):
        told = []  # (request, number) as acknowledged, in order

        def give_orders(told=told, requests=("hold", "release")):
            while True:
                for request in requests:
                    reply = pair.order(request=request)
                    if reply is None:
                        told.append((request, None))
                        return
                    if reply["reply"] == "obeyed":
                        told.append((request, reply["order"]))

        operator = threading.Thread(target=give_orders, daemon=True)
        operator.start()
        pair.wait_for(lambda told=told: len(told) >= 2, "taking orders")
        time.sleep(dice.uniform(0, 0.06))
        pair.kill()
        operator.join(30)
        assert not operator.is_alive()
        check_the_ledger(pair, [t for t in told if t[1] is not None], told[-1][0], cut)
        pair.start()
        pair.wait_for(pair.status, "up again")
        check_the_status(pair, told)
        assert pair.obeyed(request="release") > max(number or 0 for _, number in told)
    assert (pair.epoch(), pair.pids()) == (epoch, pids), "the ranks never noticed"
    assert undisturbed(pair) == story


def check_the_ledger(pair, acknowledged, asked_last, cut):
    """While no supervisor runs: whole, and not older than what an operator was told."""
    ledger = sqlite3.connect(f"file:{pair.state_dir}/ledger.db?mode=ro", uri=True)
    assert ledger.execute("PRAGMA integrity_check").fetchall() == [("ok",)], f"cut {cut}"
    [(last_order, hold)] = ledger.execute(
        "SELECT json ->> 'last_order', json -> 'operator' -> 'hold' FROM state").fetchall()
    ledger.close()
    request, number = acknowledged[-1]
    # One more may have been saved and not told.
    assert last_order in (number, number + 1), f"cut {cut}: {last_order}, was told {number}"
    is_held = hold not in (None, "null")
    assert is_held == ((request if last_order == number else asked_last) == "hold"), f"cut {cut}"


def check_the_status(pair, told):
    """What was acknowledged last is so, unless the one behind it was obeyed without being told."""
    last = [request for request, number in told if number is not None][-1]
    held = pair.status()["operator_hold_until_ms"] is not None
    assert held == (last == "hold") or told[-1][1] is None and held == (told[-1][0] == "hold")
