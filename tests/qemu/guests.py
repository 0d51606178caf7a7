"""One emulated machine: QEMU in software emulation, its power, its cables, and ways in for a test
that the product knows nothing of."""

import ctypes
import http.client
import json
import pathlib
import re
import signal
import socket
import subprocess
import time

import image
import ports

# A supervisor, a gateway, a rank of a tiny model, what a test leaks, and the initramfs.
MEMORY_MIB = 768

# Room for translated code. With QEMU's own 1 GiB, what an earlier boot left there makes every
# later one take twice the time: 8.5 s instead of 4.5 s of a processor, measured.
TRANSLATED_MIB = 64

# Where the rig reaches into a guest: a shell a connection, the status endpoint, the API (see init).
SHELL, STATUS, API = 7000, 7001, 7002

# Longest wait for the answer to one of many questions. A connection that was opened while the guest
# booted is never answered, so the next one must not be kept waiting.
POLL_S = 2

# From linux/prctl.h.
PR_SET_PDEATHSIG = 1

# Two cables to the other guest, as eth0 and eth1: the fast link and the LAN.
CABLES = ("link", "lan")


# What a guest's supervisor is told, by section: periods so short that what takes minutes in a
# machine's life takes seconds here, and a reboot that asks the kernel and nobody else. `-n` leaves
# out the sync that busybox would do first: what matters must be on the disk already.
SECTIONS = {
    "node": {"run_dir": "/run/tandem", "state_dir": "/state/tandem"},
    "model": {"path": "/model", "id": "tiny"},
    "supervise": {"backoff_min_ms": 100},
    "host": {"link": "eth0", "disk_free_min_mib": 8, "poll_ms": 1000},
    "leak": {"threshold_mib": 128, "threshold_percent": 0, "settle_ms": 300, "samples": 3,
             "sample_ms": 300, "spread_mib": 64, "reserve_mib": 64, "owner_min_mib": 1 << 20},
    "canary": {"period_ms": 5000},
    "reboot": {"command": ["/bin/reboot", "-f", "-n"], "interval_min_ms": 0,
               "uptime_min_ms": 0, "latch_ms": 0},
}


def config(node, ranks_on, more=None, peers=()):
    """The TOML of one node. ranks_on: node and address of every rank. more: keys by section.
    peers: name and addresses of the other nodes."""
    sections = {name: dict(keys) for name, keys in SECTIONS.items()}
    sections["node"]["name"] = node
    for name, keys in (more or {}).items():
        sections[name] = sections.get(name, {}) | keys
    tables = [(f"[{name}]", keys) for name, keys in sections.items()]
    tables += [("[[rank]]", {"node": name, "address": at}) for name, at in ranks_on]
    tables += [("[[peer]]", {"name": name, "addresses": list(at)}) for name, at in peers]
    lines = []
    for head, keys in tables:
        lines += [head, *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
    return "\n".join(lines) + "\n"


class Guest:
    """A node's machine. `folder` holds its disk and console, and the sockets by which guests in
    the same folder reach each other; `other` is the node at the other end of its cables."""

    def __init__(self, node, number, folder, initramfs, files, other):
        self.node, self.number, self.other = node, number, other
        self.folder, self.initramfs = pathlib.Path(folder), initramfs
        self.folder.mkdir(exist_ok=True)
        self.console = self.folder / f"{node}.console"
        self.said_by_qemu = self.folder / f"{node}.qemu"
        self.disk = image.disk(self.folder / f"{node}.img", files)
        self.ports = dict(zip((SHELL, STATUS, API), ports.free_ports(3), strict=True))
        self.process = None

    def address(self, cable):
        """This guest's IP address on a cable."""
        return address(cable, self.number)

    # Power.

    def command(self):
        kernel, _ = image.kernel()
        told = {"node": self.node} | {cable: self.address(cable) for cable in CABLES}
        # On a busy host the kernel would find its emulated timer too slow to be one, and give up.
        append = ["console=ttyS0", "quiet", "panic=-1", "mitigations=off", "no_timer_check"]
        append += [f"tandem.{name}={value}" for name, value in told.items()]
        forward = "".join(f",hostfwd=tcp:127.0.0.1:{here}-:{there}"
                          for there, here in self.ports.items())
        command = [
            "qemu-system-x86_64", "-accel", f"tcg,tb-size={TRANSLATED_MIB}", "-cpu", "max",
            "-smp", "1", "-m", f"{MEMORY_MIB}M", "-nodefaults", "-no-user-config",
            "-display", "none", "-kernel", kernel, "-initrd", self.initramfs,
            "-append", " ".join(append),
            "-chardev", f"file,id=console,path={self.console},append=on",
            "-serial", "chardev:console",
            "-drive", f"file={self.disk},if=none,id=state,format=raw",
            "-device", "virtio-blk-pci,drive=state,addr=0x3",
        ]
        for slot, cable in enumerate(CABLES, 4):
            ends = {"local": self.node, "remote": self.other}
            path = "".join(f",{end}.type=unix,{end}.path={self.folder}/{cable}.{node}"
                           for end, node in ends.items())
            command += ["-netdev", f"dgram,id={cable}{path}"]
            mac = f"52:54:00:77:0{slot}:0{self.number}"
            command += self.card(cable, mac, slot)
        command += ["-netdev", f"user,id=rig,restrict=on,ipv6=off{forward}"]
        return command + self.card("rig", f"52:54:00:77:0f:0{self.number}", 6)

    @staticmethod
    def card(network, mac, slot):
        """A network card; without its ROM, which would only be for booting from it."""
        return ["-device", f"virtio-net-pci,netdev={network},mac={mac},addr=0x{slot},romfile="]

    def power_on(self):
        with open(self.said_by_qemu, "ab") as said:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                preexec_fn=end_with_parent)

    def cut_power(self):
        """What was not on its disk is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)

    def is_on(self):
        return self.process is not None and self.process.poll() is None

    # Ways in.

    def said(self):
        """Everything on its console, of all boots, without colours."""
        text = self.console.read_text(errors="replace") if self.console.exists() else ""
        return re.sub("\x1b\\[[0-9]*m", "", text)

    def shell(self, script, seconds=30):
        """Runs a script in the guest; what it printed. It must succeed."""
        with socket.create_connection(("127.0.0.1", self.ports[SHELL]), seconds) as channel:
            channel.sendall(f"( {script}\n) 2>&1; echo \"ended:$?\"\n".encode())
            channel.shutdown(socket.SHUT_WR)
            said = b""
            while piece := channel.recv(1 << 16):
                said += piece
        text, _, code = said.decode().rpartition("ended:")
        if not code:
            raise OSError(f"{self.node} did not answer {script!r}")
        assert code.strip() == "0", f"{script!r} on {self.node}: {text}"
        return text

    def fetch(self, path, port=STATUS, body=None, seconds=POLL_S):
        """Status code and body of a request to the status endpoint or, on port API, the gateway."""
        there = {STATUS: 52380, API: 8080}[port]
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[port], timeout=seconds)
        try:
            headers = {"host": f"127.0.0.1:{there}", "connection": "close"}
            if body is not None:
                headers["content-type"] = "application/json"
            connection.request("POST" if body else "GET", path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def status(self):
        code, body = self.fetch("/status")
        if code != 200:
            raise OSError(f"no status yet: {code} {body}")
        return json.loads(body)

    def boot(self):
        """The kernel's own identity of this boot."""
        return self.shell("cat /proc/sys/kernel/random/boot_id", POLL_S).strip()

    def mtu(self, interface):
        """In bytes, as the kernel has it now."""
        return int(self.shell(f"cat /sys/class/net/{interface}/mtu"))

    def strand(self, mib=256):
        """What a crash of a rank does: memory stays locked, and nobody owns it."""
        pid = next(rank["pid"] for rank in self.status()["ranks"] if rank["pid"])
        self.shell(f"leak make {mib} && kill -9 {pid}")

    def is_serving(self):
        """Whether real tokens came through: what /readyz means."""
        return self.fetch("/readyz")[0] == 200

    def chat(self, text, max_tokens, seconds=60):
        """Status and greedy answer, asked at this node's own gateway."""
        body = {"model": "tiny", "messages": [{"role": "user", "content": text}],
                "temperature": 0, "max_tokens": max_tokens}
        code, reply = self.fetch("/v1/chat/completions", API, json.dumps(body), seconds)
        if code != 200:
            return code, reply.decode()
        return code, json.loads(reply)["choices"][0]["message"]["content"]

    # Waiting.

    def wait_until_serving(self, seconds=120):
        self.wait_for(self.is_serving, "serving", seconds)

    def wait_for(self, condition, what, seconds, pause_s=0.25):
        """Polls until the condition holds; what it gave then."""
        deadline = time.monotonic() + seconds
        while True:
            assert self.is_on(), f"{self.node} is off:\n{self.tail()}"
            try:
                if met := condition():
                    return met
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                pass
            assert time.monotonic() < deadline, (
                f"{self.node} was not {what} in {seconds} s:\n{self.tail()}")
            time.sleep(pause_s)

    def tail(self, lines=40):
        text = self.said()
        if self.process and not self.is_on():
            text += self.said_by_qemu.read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])


def end_with_parent():
    """In a new process, before it becomes QEMU: however the tests end, no guest outlives them."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def address(cable, number):
    """The IP address of the guest with this number on a cable."""
    return f"10.77.{CABLES.index(cable)}.{number}"
