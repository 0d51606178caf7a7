"""Tests that run side by side must never be given the same port."""

import socket
import subprocess
import sys

import pytest

import ports

ASK = "import ports, sys; print(*ports.free_ports(400), flush=True); sys.stdin.read()"


def test_processes_that_ask_at_once_are_given_different_ports():
    askers = [subprocess.Popen([sys.executable, "-c", ASK], cwd=ports.__file__.rpartition("/")[0],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
              for _ in range(4)]
    try:
        given = [int(port) for asker in askers for port in asker.stdout.readline().split()]
    finally:
        for asker in askers:
            asker.communicate()
    assert len(given) == len(set(given)) == 1600


def test_a_port_that_was_given_is_not_given_again_and_one_that_is_taken_never(monkeypatch):
    [first] = ports.free_ports(1)
    monkeypatch.setattr(ports, "FIRST", first)
    monkeypatch.setattr(ports, "END", first + 3)
    with socket.socket() as door:
        door.bind(("127.0.0.1", first + 1))
        door.listen()
        assert ports.free_ports(1) == [first + 2]
        with pytest.raises(AssertionError, match="are free"):
            ports.free_ports(1)
