"""One emulated machine that really reboots: reboot(2), another kernel, the same disk."""

import time

import guests

QUESTION, TOKENS = "Hello", 16


def test_a_machine_reboots_itself_out_of_a_leak_and_serves_again_with_nobody_logged_in(
        tmp_path, board):
    with guests.Guest("a", 1, tmp_path, board.initramfs, {"tandem.toml": guests.config()}) as a:
        expected = 200, board.answer(QUESTION, TOKENS)
        began = time.monotonic()
        a.power_on()
        a.wait_until_serving()
        print(f"\nserving {time.monotonic() - began:.1f} s after power came")
        first = a.boot()
        assert a.status()["boot"] == first
        assert a.chat(QUESTION, TOKENS) == expected, "computed as mlx-lm does"
        assert a.mtu("eth0") == 9000 and a.mtu("eth1") == 1500, "set by the supervisor, where asked"

        began = time.monotonic()
        a.strand()
        a.wait_for(lambda: a.boot() != first, "rebooted", 120)
        print(f"another boot {time.monotonic() - began:.1f} s after the leak")
        a.wait_until_serving()
        print(f"serving {time.monotonic() - began:.1f} s after the leak")
        status = a.status()
        assert status["boot"] == a.boot() != first
        assert status["epoch"] > 1 and status["memory"]["leak"] == "clear"
        assert {gate["state"] for gate in status["gates"]} == {"passed"}
        assert len(status["reboot"]["past_wall_ms"]) == 1, "remembered on its own disk"
        assert a.chat(QUESTION, TOKENS) == expected
