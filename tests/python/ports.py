"""TCP ports on loopback that nobody listens on, each given to one test of this machine only."""

import random
import socket
import sys

# Below where any system takes ports for outgoing connections, and below the demo's.
FIRST, END = 15000, 28000

# Sockets that hold what was given, as long as this process lives: its tests may end a listener and
# start it again.
_held = []


def free_ports(count):
    """So many ports, in a row."""
    for _ in range(1000):
        first = random.randrange(FIRST, END - count + 1)
        claims = [_claim(port) for port in range(first, first + count)]
        if all(claims):
            _held.extend(claims)
            return list(range(first, first + count))
        for claim in filter(None, claims):
            claim.close()
    raise AssertionError(f"no {count} ports in a row are free")


def _claim(port):
    """A socket that keeps other tests from this port, or None if it is taken."""
    with socket.socket() as door:
        # A listener that ended a minute ago is in nobody's way.
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(("127.0.0.1", port))
        except OSError:
            return None
    claim = socket.socket(socket.AF_UNIX)
    try:
        # A name that is no file: it is free again when this process ends, however it does. A Mac has
        # none; there the tests run one after the other.
        if sys.platform == "linux":
            claim.bind(f"\0tandem-test-port-{port}")
    except OSError:
        claim.close()
        return None
    return claim
