"""Two machines that serve one model: what each trouble costs. Real executables, real cables of a real
kernel, SmolLM2 over two ranks."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from machines import LAN, LINK, Machines
from supervised import ANSWER, QUESTION, Stream, needs, undisturbed

# Short, so that a lost node is known in a second and a half.
PAIR = {"pair": {"report_ms": 150, "silence_timeout_ms": 1500}}
# Each trouble strikes one of the two; with TANDEM_FULL set also the other, and strangers send all.
IS_FULL = "TANDEM_FULL" in os.environ


@pytest.fixture(scope="module", autouse=True)
def able():
    needs("ip", "unshare", "nsenter", "mount")


@pytest.fixture(scope="module")
def served_pair(able, tmp_path_factory):
    """A pair that serves, and survives every test that gets it."""
    with Machines(tmp_path_factory.mktemp("pair"), PAIR) as both:
        both.pair()
        both.start()
        yield both


@pytest.fixture
def machines(served_pair):
    """The pair, served by one epoch."""
    served_pair.first.wait_for(lambda: serving_epoch(served_pair), "served by both", 90)
    return served_pair


def node(machine, name):
    """What a machine's status says of a node."""
    return {each["name"]: each for each in machine.status()["pair"]["nodes"]}[name]


def paths(machine):
    """Whether each cable to the other node answers, by its name."""
    other = 3 - machine.number
    up = {path["address"]: path["is_up"] for path in node(machine, f"m{other}")["paths"]}
    return {cable: up[f"{machine.address(cable, other)}:52390"] for cable in (LINK, LAN)}


def serving_epoch(machines):
    """The epoch in which both are ready, or None."""
    one, two = (machine.status() for machine in machines.all)
    is_one = one["epoch"] == two["epoch"] and one["phase"] == two["phase"] == "serving"
    return one["epoch"] if is_one and all(machine.is_ready() for machine in machines.all) else None


def served_after(machines, epoch, what, since, seconds=90):
    """Waits for a later epoch and a right answer from both gateways."""
    machines.first.wait_for(lambda: (serving_epoch(machines) or 0) > epoch, "a new epoch", seconds)
    for machine in machines.all:
        assert machine.chat()[1] == ANSWER
    print(f"\n{what}: serving was away for {time.monotonic() - since:.2f} s")


def test_both_gateways_answer_and_stream_the_same(machines):
    one, two = machines.all
    assert one.status()["pair"]["role"] == "leader" and two.status()["pair"]["role"] == "follower"
    assert [rank["rank"] for rank in one.status()["ranks"]] == [0]
    assert [rank["rank"] for rank in two.status()["ranks"]] == [1]
    for machine in machines.all:
        assert machine.chat()[1] == ANSWER
        assert machine.status()["pair"]["hindrance"] is None
        assert paths(machine) == {LINK: True, LAN: True}
        states = {gate["gate"]: gate["state"] for gate in machine.status()["gates"]}
        assert set(states.values()) == {"passed"}, states
    transport = {gate["gate"]: gate for gate in one.status()["gates"]}["transport"]["evidence"]
    assert "ring" in transport and "KiB" in transport
    told = undisturbed(one, 40)
    assert undisturbed(two, 40) == told, "through the other machine's gateway"


def test_the_thunderbolt_cable_is_pulled_and_plugged_in_again(machines):
    one, two = machines.all
    told = undisturbed(one)
    epoch = serving_epoch(machines)
    stream = Stream(one).wait_for_text()
    since = time.monotonic()
    one.pull(LINK)
    one.wait_for(lambda: paths(one) == {LINK: False, LAN: True}, "seeing the cut", 20)
    assert node(one, "m2")["heard_age_ms"] < 5000, "a cut cable is no dead machine"
    assert "peer_lost" not in one.faults() and "path_lost" in one.faults()
    one.wait_for(lambda: not one.is_ready(), "unready", 30)
    one.plug(LINK)
    served_after(machines, epoch, "Thunderbolt cable pulled", since)
    stream.is_undisturbed(told, "stream over a pulled cable")
    one.wait_for(lambda: not {"path_lost", "peer_lost"} & set(one.faults()), "clear of faults")


def test_both_cables_are_pulled(machines):
    one, two = machines.all
    told = undisturbed(one)
    epoch = serving_epoch(machines)
    stream = Stream(one).wait_for_text()
    since = time.monotonic()
    for cable in (LINK, LAN):
        one.pull(cable)
    for machine in machines.all:
        machine.wait_for(lambda m=machine: "peer_lost" in m.faults(), "missing the other", 30)
        machine.wait_for(lambda m=machine: m.status()["ranks"][0]["pid"] is None, "stopped", 30)
        assert not machine.is_ready()
    code, said = two.chat(seconds=5)
    assert code == 503, said
    for cable in (LINK, LAN):
        one.plug(cable)
    served_after(machines, epoch, "both cables pulled", since)
    stream.is_undisturbed(told, "stream over two pulled cables")


def test_the_other_machine_loses_its_power(machines):
    one, two = machines.all
    told = undisturbed(one)
    epoch, boot = serving_epoch(machines), two.status()["boot"]
    stream = Stream(one).wait_for_text()
    since = time.monotonic()
    two.cut_power()
    one.wait_for(lambda: "peer_lost" in one.faults(), "missing the other", 30)
    two.start()
    served_after(machines, epoch, "the second machine's power cut", since)
    assert node(one, "m2")["boot"] == two.status()["boot"] != boot
    stream.is_undisturbed(told, "stream over a power cut of the other machine")
    assert one.status()["reboot"]["past_wall_ms"] == [], "a power cut is no reason to reboot"


def test_the_first_machine_loses_its_power(machines):
    one, two = machines.all
    epoch = serving_epoch(machines)
    since = time.monotonic()
    one.cut_power()
    two.wait_for(lambda: two.status()["ranks"][0]["pid"] is None, "stopped", 30)
    assert two.chat(seconds=5)[0] == 503
    one.start()
    served_after(machines, epoch, "the first machine's power cut", since)


@pytest.mark.parametrize("number", [1, 2] if IS_FULL else [2])
def test_a_supervisor_dies_and_nobody_notices(machines, number):
    machine = machines.all[number - 1]
    told = undisturbed(machines.first)
    epoch, pids = serving_epoch(machines), machine.pids()
    stream = Stream(machines.first).wait_for_text()
    machine.kill()
    machine.restart_supervisor()
    machine.wait_for(machine.is_ready, "ready")
    stream.is_undisturbed(told, f"supervisor {number} killed")
    assert serving_epoch(machines) == epoch and machine.pids() == pids


@pytest.mark.parametrize("number", [1, 2] if IS_FULL else [1])
def test_a_rank_is_stopped(machines, number):
    machine = machines.all[number - 1]
    told = undisturbed(machines.first)
    epoch = serving_epoch(machines)
    stream = Stream(machines.first).wait_for_text()
    since = time.monotonic()
    os.kill(machine.pids()[0], signal.SIGSTOP)
    served_after(machines, epoch, f"rank {number - 1} stopped", since)
    stream.is_undisturbed(told, f"stream over rank {number - 1} stopped")


def test_other_model_bytes_on_one_machine_are_named_and_not_served(tmp_path):
    with Machines(tmp_path, PAIR) as both:
        one, two = both.all
        copy = tmp_path / "model"
        shutil.copytree(two.model, copy)
        with open(copy / "config.json", "a") as file:
            file.write("\n")
        right, two.model = two.model, str(copy)
        two.write_config()
        both.pair()
        both.start()

        def failed():
            gates = {gate["gate"]: gate for gate in one.status()["gates"]}
            # File by file, once the other's list came.
            evidence = gates["parity"]["evidence"]
            return gates["parity"]["state"] == "failed" and "config.json" in evidence and evidence
        evidence = one.wait_for(failed, "refused by the file", 60)
        assert "tokenizer.json" not in evidence, evidence
        assert one.status()["ranks"][0]["pid"] is None and not one.is_ready()
        shutil.copy(pathlib.Path(right) / "config.json", copy / "config.json")
        print(f"\nserving {both.wait_until_served():.2f} s after the file was made equal")


def test_another_config_on_one_machine_is_named_and_not_served(tmp_path):
    with Machines(tmp_path, PAIR, second={"engine": {"max_active": 5}}) as both:
        one, two = both.all
        both.pair()
        both.start()

        def failed():
            gates = {gate["gate"]: gate for gate in one.status()["gates"]}
            return gates["parity"]["state"] == "failed" and gates["parity"]["evidence"]
        evidence = one.wait_for(failed, "refused", 60)
        assert "engine.max_active" in evidence and "16" in evidence and "5" in evidence, evidence
        two.write_config({"engine": {"max_active": 16}})
        print(f"\nserving {both.wait_until_served():.2f} s after the config was made equal")


def test_a_stranger_with_a_key_of_its_own_is_not_heard(tmp_path):
    with Machines(tmp_path, PAIR) as both:
        one, two = both.all
        both.pair()
        key = two.state_dir / "peer"
        shutil.move(key, tmp_path / "kept")
        both.start()
        one.wait_for(lambda: "peer_lost" in one.faults(), "refusing the key", 30)
        problems = [path["problem"] for path in node(one, "m2")["paths"]]
        assert all("is not m2" in problem for problem in problems), problems
        assert one.status()["ranks"][0]["pid"] is None
        two.cut_power()
        shutil.rmtree(key)
        shutil.move(tmp_path / "kept", key)
        two.start()
        both.wait_until_served()


def nonsense(machine, count, sent):
    """Connects `count` times to where the other nodes reach a machine, and sends what no node does."""
    shapes = [b"", b"\x16\x03\x01", b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n"]
    with machine.inside():
        for number in range(count):
            try:
                with socket.create_connection(("169.254.7.1", 52390), 10) as door:
                    door.sendall(shapes[number % 4] + os.urandom(number % 64 + 1))
                    sent.append(number)
            except OSError:
                pass


def test_thousands_of_malformed_frames_harm_nobody(machines):
    one = machines.first
    epoch, sent, each = serving_epoch(machines), [], 2500 if IS_FULL else 750
    strangers = [threading.Thread(target=nonsense, args=(one, each, sent)) for _ in range(4)]
    for stranger in strangers:
        stranger.start()
    for stranger in strangers:
        stranger.join(180)
    assert len(sent) > 2 * each, "most of it was not sent"
    assert serving_epoch(machines) == epoch and one.chat()[1] == ANSWER
    assert paths(one)[LAN] and not one.faults()


def test_slow_strangers_do_not_hinder_a_pairing(tmp_path):
    with Machines(tmp_path, PAIR) as both:
        one, two = both.all
        command = [*one.namespace.enter, one.binary, "pair", "init", "--config", str(one.config)]
        init = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        slow = []
        try:
            code = both.code_of(init)
            for _ in range(20):
                with two.inside():
                    door = socket.create_connection(("169.254.7.1", 52391), 5)
                door.sendall(b"\x01")
                slow.append(door)
            # The routes of the one that joins lead elsewhere, as those of a host with a VPN do.
            for command in ("link add vpn0 type veth peer name vpn1", "link set vpn0 up",
                            "link set vpn1 up", "route add 169.254.7.1/32 dev vpn0"):
                two.namespace.run("ip", *command.split())
            wrong, said = two.run("pair", "join", "169.254.7.1", text="AAAA-AAAA\n")
            assert wrong != 0 and "code" in said, said
            soon, said = two.run("pair", "join", "169.254.7.1", text=code + "\n")
            assert soon != 0 and "try again in" in said, said
            time.sleep(1.5)
            joined, said = two.run("pair", "join", "169.254.7.1", text=code + "\n")
            assert joined == 0, said
            assert init.wait(30) == 0
        finally:
            init.kill()
            init.wait(30)
            for door in slow:
                door.close()


def test_alone_it_serves_the_smaller_model_and_hands_back(tmp_path):
    model = os.environ["TANDEM_MODEL"]
    fallback = {"fallback": {"path": model, "id": "small", "after_ms": 1500}}
    with Machines(tmp_path, {**PAIR, **fallback}) as both:
        one, two = both.all
        both.pair()
        both.start()
        both.wait_until_served()
        since = time.monotonic()
        one.cut_power()
        two.wait_for(lambda: two.status()["model"] == "small" and two.is_ready(), "alone", 60)
        print(f"\nthe smaller model served {time.monotonic() - since:.2f} s after a power cut")
        body = json.dumps({"model": "smollm2", "messages": QUESTION, "temperature": 0})
        said = two.ask("/v1/chat/completions", body)
        assert said["model"] == "small" and said["choices"][0]["message"]["content"] == ANSWER
        assert two.status()["pair"]["mode"] == "alone" and "fallback" in two.faults()
        one.start()
        both.wait_until_served()
        one.wait_for(lambda: two.status()["model"] == "smollm2", "handed back", 60)
        assert two.chat()[1] == ANSWER
