"""Ten coordinated reboots in a row with nobody logged in: about half a minute each.

    .tandem/peer/bin/python tests/qemu/ten_reboots.py [COUNT]

Needs what `./install.sh test` sets up. Leaks memory in one guest after the other and prints how
long the pair was away each time; ends with 1 if it ever stays away."""

import os
import pathlib
import statistics
import sys
import tempfile
import time

import board as boards
import guests
import image
import pairs


def main(count):
    assert not (lacking := boards.lacking()), f"this machine lacks: {', '.join(lacking)}"
    kernel = image.kernel()[1].name
    print(f"two guests of {guests.MEMORY_MIB} MiB, Linux {kernel}, on {os.cpu_count()} cores",
          flush=True)
    away = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "board").mkdir()
        (folder / "pair").mkdir()
        with pairs.Pair(folder / "pair", boards.make(folder / "board")) as pair:
            began = time.monotonic()
            pair.power_on()
            pair.introduce()
            pair.wait_until_serving()
            print(f"serving {time.monotonic() - began:.1f} s after power came", flush=True)
            for number in range(1, count + 1):
                node = (pair.a, pair.b)[number % 2]
                boots, began = pair.boots(), time.monotonic()
                node.strand()
                pair.wait_until_rebooted(boots)
                pair.wait_until_serving()
                away.append(time.monotonic() - began)
                pair.answers()
                pasts = [len(guest.status()["reboot"]["past_wall_ms"]) for guest in pair]
                assert pasts == [number, number], f"reboots of a and b: {pasts}"
                print(f"{number}: a leak in {node.node}, serving {away[-1]:.1f} s after it",
                      flush=True)
    print(f"{count} reboots of both, each serving again: {min(away):.1f} to {max(away):.1f} s, "
          f"median {statistics.median(away):.1f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
