"""A Mac to install on: a real disk with real owners and modes, real processes, and stand-ins for the Mac's
launchctl, dscl and pkgutil (tests/mac)."""

import contextlib
import os
import pathlib
import re
import stat
import subprocess
import time

import pytest

from supervised import needs
from test_launchd import LAYOUT

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS, STAND_INS = ROOT / "pkg/scripts", ROOT / "tests/mac"
LIBEXEC, EXECUTABLE, CONFIG = LAYOUT["LIBEXEC"], LAYOUT["EXECUTABLE"], LAYOUT["CONFIG"]
PREVIOUS = f"{LIBEXEC}.previous"


class Mac:
    """A Mac to install on. `shell` is what its /bin/sh is."""

    def __init__(self, folder, binds=(), shell="sh"):
        self.shell = shell
        self.kept = subprocess.Popen(
            ["unshare", "-m", "-n", "-p", "--fork", "--kill-child", "--propagation", "private",
             STAND_INS / "boot", folder, STAND_INS, *binds],
        )
        children = pathlib.Path(f"/proc/{self.kept.pid}/task/{self.kept.pid}/children")
        # Mounting takes milliseconds; a machine that needs half a minute for it is stuck.
        for _ in range(3000):
            inside = children.read_text().split()
            self.disk = pathlib.Path(f"/proc/{inside[0]}/root{folder}/mac") if inside else None
            if self.disk and (self.disk / "standin/booted").exists():
                break
            assert self.kept.poll() is None, "the fake Mac did not boot"
            time.sleep(0.01)
        self.enter = ["nsenter", "-t", inside[0], "-m", "-n", "-p", "chroot", f"{folder}/mac",
                      "/usr/bin/env", "-i", "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "HOME=/var/root"]

    def end(self):
        self.kept.kill()
        self.kept.wait()

    def run(self, *command):
        """Gives the exit code and all that was printed."""
        done = subprocess.run(
            [*self.enter, *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=120,
        )
        return done.returncode, done.stdout

    def path(self, path):
        """Where a path of the Mac is for us. Links of the Mac's own, such as /var, are followed."""
        for name in ("var", "etc", "tmp"):
            if path.startswith(f"/{name}/"):
                path = "/private" + path
        return self.disk / path.lstrip("/")

    def write(self, path, text):
        self.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path(path).write_text(text)

    def read(self, path):
        return self.path(path).read_text()

    def owner_and_mode(self, path):
        found = self.path(path).lstat()
        return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)

    # The installer.

    def script(self, name, *arguments):
        script = f"/private/tmp/scripts/{name}"
        self.write(script, (SCRIPTS / name).read_text())
        return self.run(*self.shell.split(), script, *arguments)

    def preinstall(self, target="/"):
        return self.script("preinstall", "/tmp/tandem.pkg", "/", target, "/")

    def postinstall(self):
        return self.script("postinstall", "/tmp/tandem.pkg", "/", "/", "/")

    def payload(self, version, program=None):
        """Writes what the package holds, as the installer does it."""
        text = (STAND_INS / "tandem").read_text().replace("VERSION", version)
        self.write(EXECUTABLE, program or text)
        self.path(EXECUTABLE).chmod(0o755)
        for source, path, mode in (
            (SCRIPTS / "uninstall", LAYOUT["UNINSTALLER"], 0o755),
            (ROOT / "launchd/io.tandem.supervise.plist", LAYOUT["JOB"], 0o644),
            (ROOT / "pkg/newsyslog/tandem.conf", LAYOUT["NEWSYSLOG"], 0o644),
            (ROOT / "config/tandem.toml", LAYOUT["CONFIG_DEFAULT"], 0o644),
        ):
            self.write(path, source.read_text())
            self.path(path).chmod(mode)
        self.write(f"{LIBEXEC}/version", version)
        self.path(LAYOUT["COMMAND"]).unlink(missing_ok=True)
        self.path(LAYOUT["COMMAND"]).symlink_to("../libexec/tandem/tandem")

    def install(self, version="1", program=None):
        code, told = self.preinstall()
        if code == 0:
            self.payload(version, program)
            code, more = self.postinstall()
            told += more
            # The real installer writes none if a script failed.
            if code == 0:
                self.write(f"/usr/bin/pkgutil.state/{LAYOUT['PACKAGE_ID']}", version)
        return code, told

    def uninstall(self, *arguments):
        """By a copy, as the installed one removes itself."""
        return self.script("uninstall", *arguments)

    # What became of it.

    def version(self):
        return self.read(f"{LIBEXEC}/version")

    def running(self):
        """The version that says last that it supervises, if the job runs."""
        _, job = self.run("launchctl", "print", f"system/{LAYOUT['LABEL']}")
        said = re.findall(r"version (\w+) supervises", self.read("/var/log/tandem/supervise.log"))
        return said[-1] if "state = running" in job else None

    def calls(self, tool):
        path = self.path(f"/usr/bin/{tool}.state/calls")
        return path.read_text().splitlines() if path.exists() else []

    def log(self):
        return self.read("/var/log/tandem/install.log")

    def accounts(self):
        """The service user's id and group's id, None where there is none."""
        found = []
        for kind, key in (("Users", "UniqueID"), ("Groups", "PrimaryGroupID")):
            path = self.path(f"/usr/bin/dscl.state/{kind}/_tandem/{key}")
            found.append(int(path.read_text()) if path.exists() else None)
        return tuple(found)

    def account(self, kind, name, key, value):
        self.write(f"/usr/bin/dscl.state/{kind}/{name}/{key}", f"{value}\n")

    def files(self):
        """Every path that an installation could have made, with its kind, owner, mode and text."""
        found = {}
        for top in ("Library", "usr/local", "private/etc", "private/var"):
            for folder, folders, files in os.walk(self.disk / top):
                for name in folders + files:
                    path = pathlib.Path(folder, name)
                    facts = path.lstat()
                    text = path.read_bytes() if stat.S_ISREG(facts.st_mode) else None
                    key = str(path.relative_to(self.disk))
                    found[key] = (facts.st_mode, facts.st_uid, facts.st_gid, text)
        return found


@pytest.fixture
def new_mac(tmp_path):
    needs("unshare", "nsenter", "mount", "chroot", "ip", "ps")
    with contextlib.ExitStack() as stack:

        def new(**options):
            folder = tmp_path / f"mac-{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            mac = Mac(folder, **options)
            stack.callback(mac.end)
            return mac

        yield new


@pytest.fixture
def mac(new_mac):
    return new_mac()
