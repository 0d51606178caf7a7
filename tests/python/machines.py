"""Two machines on one kernel: each a network namespace with a supervisor of its own, joined by two
cables, the Thunderbolt link and the LAN. A machine can lose its power, reboot as another boot, with
clocks that begin anew, and have either cable pulled."""

import contextlib
import ctypes
import http.client
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import threading
import time
import uuid

from supervised import SECTIONS, Supervised

CLONE_NEWNET = 0x40000000
LINK, LAN = "tb0", "lan0"

_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network namespace that lives as long as a process that sleeps in it."""

    def __init__(self):
        self.keeper = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
        own = os.readlink("/proc/self/ns/net")
        deadline = time.monotonic() + 10
        while os.readlink(f"/proc/{self.keeper.pid}/ns/net") == own:
            assert time.monotonic() < deadline, "no namespace was made"
            time.sleep(0.01)
        self.enter = ["nsenter", "-n", "-t", str(self.keeper.pid)]
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *command):
        done = subprocess.run([*self.enter, *command], capture_output=True, timeout=60, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def inside(self):
        """Inside, what the calling thread opens is in this namespace."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/proc/{self.keeper.pid}/ns/net", os.O_RDONLY)
        try:
            assert _libc.setns(there, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            yield
        finally:
            assert _libc.setns(home, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            os.close(home)
            os.close(there)

    def close(self):
        self.keeper.kill()
        self.keeper.wait(30)


class Machine(Supervised):
    """One machine of a pair. `number` is 1 or 2; addresses end with it."""

    def __init__(self, folder, number, namespace, sections=None):
        self.number, self.name, self.namespace = number, f"m{number}", namespace
        self.boots, self.reboots_asked, self.alive_at_reboot = [], 0, []
        folder = pathlib.Path(folder) / self.name
        folder.mkdir()
        super().__init__(folder, sections, start=False)
        # Machines of their own: the same ports on each.
        self.http_port, self.status_port = 8080, 52380
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.sections["gateway"]["listen"] = f"127.0.0.1:{self.http_port}"
        self.sections["supervise"]["status_listen"] = f"127.0.0.1:{self.status_port}"
        self.sections["engine"] = {"control_port": 52310, "ring_port_base": 52320} | (
            (sections or {}).get("engine", {}))
        self.asked = self.folder / "reboot-asked"
        self.script = script = self.folder / "reboot"
        # Tells which gateway or rank still ran. The brackets keep grep from finding itself.
        mark = f"[/]{str(self.run_dir)[1:]}/config.toml"
        script.write_text(f"#!/bin/sh\ngrep -ls '{mark}' /proc/[0-9]*/cmdline > '{script}.new'\n"
                          f"exec mv '{script}.new' '{self.asked}'\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        self.sections["reboot"] |= {"command": [str(script)]} | (sections or {}).get("reboot", {})
        self.write_config()

    def inside(self):
        return self.namespace.inside()

    def address(self, cable, number=None):
        number = number or self.number
        return {LINK: f"169.254.7.{number}", LAN: f"10.77.0.{number}"}[cable]

    def text(self, changes=None):
        sections = {name: dict(keys) for name, keys in self.sections.items()}
        for name, keys in (changes or {}).items():
            sections.setdefault(name, {}).update(keys)
        node = {"name": self.name, "run_dir": str(self.run_dir),
                "state_dir": str(self.state_dir), "user": ""}
        sections = {"node": node, "model": {"path": self.model, "id": "smollm2"}} | sections
        lines = []
        for name, keys in sections.items():
            lines.append(f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        for number in (1, 2):
            lines += ["[[rank]]", f'node = "m{number}"', f'address = "{self.address(LINK, number)}"']
        other = 3 - self.number
        addresses = [f"{self.address(cable, other)}:52390" for cable in (LINK, LAN)]
        lines += ["[[peer]]", f'name = "m{other}"', f"addresses = {json.dumps(addresses)}"]
        return "\n".join(lines) + "\n"

    def start(self, wrapper=None):
        """Boots: another boot id, a clock since boot that begins anew, and an empty run directory."""
        boot = str(uuid.uuid4())
        self.boots.append(boot)
        shutil.rmtree(self.run_dir, ignore_errors=True)
        self.asked.unlink(missing_ok=True)
        file = self.folder / f"boot-{boot[:8]}"
        file.write_text(boot + "\n")
        mounting = f'mount --bind "{file}" /proc/sys/kernel/random/boot_id && exec "$@"'
        up_s = int(time.clock_gettime(time.CLOCK_BOOTTIME))
        self.wrapper = [*self.namespace.enter, "unshare", "-m", "--propagation", "private", "-T",
                        "--boottime", str(1 - up_s), "sh", "-c", mounting, "sh"]
        super().start()

    def restart_supervisor(self):
        """The supervisor alone, within the same boot."""
        super().start()

    def cut_power(self):
        """All that runs on it is gone at once, with whatever was not on disk."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)
        self.sweep()

    def run(self, *arguments, text=None, seconds=60):
        """One of its own commands: exit code and what it said."""
        done = subprocess.run([*self.namespace.enter, self.binary, *arguments, "--config",
                               str(self.config)], capture_output=True, timeout=seconds, text=True,
                              input=text)
        return done.returncode, done.stdout + done.stderr

    def pull(self, cable):
        self.namespace.run("ip", "link", "set", cable, "down")

    def plug(self, cable):
        self.namespace.run("ip", "link", "set", cable, "up")


class Machines:
    """Both, joined; `with` starts what is paired and ends it."""

    def __init__(self, folder, sections=None, second=None):
        self.spaces = [Namespace(), Namespace()]
        for cable, mtu in ((LINK, 9000), (LAN, 1500)):
            self.join(cable, mtu)
        self.all = [Machine(folder, number, space, merged(sections, second if number == 2 else None))
                    for number, space in zip((1, 2), self.spaces, strict=True)]
        self.first, self.second = self.all
        self.power, self.is_over = None, threading.Event()

    def join(self, cable, mtu):
        one, two = self.spaces
        one.run("ip", "link", "add", cable, "mtu", str(mtu), "type", "veth", "peer", "name", cable,
                "mtu", str(mtu), "netns", str(two.keeper.pid))
        prefix, bits = {LINK: ("169.254.7", 30), LAN: ("10.77.0", 24)}[cable]
        for number, space in zip((1, 2), self.spaces, strict=True):
            space.run("ip", "addr", "add", f"{prefix}.{number}/{bits}", "dev", cable)
            space.run("ip", "link", "set", cable, "up")

    def pair(self):
        """As their owner does: a code from one, typed at the other."""
        first, second = self.all
        command = [*first.namespace.enter, first.binary, "pair", "init", "--config",
                   str(first.config)]
        init = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            code = self.code_of(init)
            joined, told = second.run("pair", "join", first.address(LINK), text=code + "\n")
            assert joined == 0, told
            assert init.wait(30) == 0
        finally:
            init.kill()
            init.wait(30)

    @staticmethod
    def code_of(init):
        """The code that `tandem pair init` prints."""
        said = []
        while line := init.stdout.readline():
            said.append(line)
            if found := re.search(r"\b[0-9A-Z]{4}-[0-9A-Z]{4}\b", line):
                return found[0]
        raise AssertionError(f"no code: {said}")

    def start(self):
        for machine in self.all:
            machine.start()

    def watch_for_reboots(self):
        """From now on a machine that asks for a reboot gets one: all it runs is killed, and a
        second later it boots as another boot."""
        def watch():
            while not self.is_over.wait(0.05):
                for machine in self.all:
                    if machine.asked.exists():
                        machine.cut_power()
                        machine.alive_at_reboot += machine.asked.read_text().split()
                        machine.reboots_asked += 1
                        self.before_boot(machine)
                        machine.start()
        self.power = threading.Thread(target=watch, daemon=True)
        self.power.start()

    def before_boot(self, machine):
        """What a reboot mends; a test may put something here."""

    def until(self, condition, what, seconds=120):
        """Polls until the condition holds, while machines may come and go; what it gave then."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if met := condition():
                    return met
            except (OSError, http.client.HTTPException):
                pass
            if time.monotonic() >= deadline:
                tails = [f"{machine.name}:\n{machine.tail(40)}" for machine in self.all]
                raise AssertionError("\n".join([f"not {what} in {seconds} s", *tails]))
            time.sleep(0.02)

    def wait_until_served(self, seconds=90):
        started = time.monotonic()
        for machine in self.all:
            machine.wait_for(machine.is_ready, "ready", seconds)
        return time.monotonic() - started

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.is_over.set()
        if self.power:
            self.power.join(60)
        try:
            if kind is None:
                ends = [threading.Thread(target=machine.end) for machine in self.all]
                for end in ends:
                    end.start()
                for end in ends:
                    end.join(90)
        finally:
            for machine in self.all:
                if machine.process and machine.process.poll() is None:
                    machine.process.kill()
                    machine.process.wait(30)
                machine.sweep()
                machine.log.close()
            for space in self.spaces:
                space.close()


def merged(*many):
    """Sections of a config, the later ones in front."""
    whole = {name: {} for name in SECTIONS}
    for sections in many:
        for name, keys in (sections or {}).items():
            whole.setdefault(name, {}).update(keys)
    return whole
