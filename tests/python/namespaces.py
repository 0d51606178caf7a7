"""A network namespace of its own for the calling thread, with a pair of joined interfaces."""

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import subprocess

CLONE_NEWNET = 0x40000000
SIOCGIFMTU, SIOCSIFMTU = 0x8921, 0x8922

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextlib.contextmanager
def network():
    """Inside, the calling thread and all that it starts are in a new network namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    _checked(_libc.unshare(CLONE_NEWNET))
    try:
        ip("link", "set", "lo", "up")
        yield
    finally:
        _checked(_libc.setns(home, CLONE_NEWNET))
        os.close(home)


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=30)


def join(link="tb0", address="169.254.7.1/16"):
    """Makes a pair of interfaces, as a cable between two machines does; both ends are up."""
    ip("link", "add", link, "type", "veth", "peer", "name", "far0", "mtu", "9000")
    ip("link", "set", "far0", "up")
    ip("link", "set", link, "up")
    if address:
        ip("addr", "add", address, "dev", link)


def mtu_bytes(link="tb0"):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        request = struct.pack("16si12x", link.encode(), 0)
        return struct.unpack("16si12x", fcntl.ioctl(door, SIOCGIFMTU, request))[1]


def set_mtu_bytes(mtu, link="tb0"):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        fcntl.ioctl(door, SIOCSIFMTU, struct.pack("16si12x", link.encode(), mtu))
