"""Who has got hold of the children's user can't turn root's supervisor against others, or keep it
from starting: two users, for real."""

import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

from supervised import Supervised, needs

SERVICE = "nobody"

# Run as the service user: binds each socket and says Hello for somebody else to all who come.
FORGER = r"""
folder, victim, epoch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def serve(rank):
    path = f"{folder}/rank-{rank}.sock"
    if os.path.lexists(path):
        os.unlink(path)
    forged = socket.socket(socket.AF_UNIX)
    forged.bind(path)
    os.chmod(path, 0o666)
    forged.listen()
    body = json.dumps({"type": "hello", "protocol": 2, "epoch": epoch, "rank": rank, "world": 2,
                       "pid": victim}).encode()
    while True:
        client, _ = forged.accept()
        try:
            client.sendall(struct.pack("<I", len(body)) + body)
            print(rank, flush=True)
        except OSError:
            pass
for rank in map(int, sys.argv[4:]):
    threading.Thread(target=serve, args=(rank,)).start()
print("up", flush=True)
"""

# Run as the service user: all that it may try on the supervisor's own files; what it could do.
PLANTER = r"""
run_dir = sys.argv[1]
def plant(name, make):
    try:
        make(f"{run_dir}/{name}")
        print("planted", name)
    except OSError:
        pass
plant("rank-5.pid", os.mkfifo)
plant("rank-6.pid", lambda path: os.symlink("/dev/zero", path))
plant("rank-0.old.log", os.mkdir)
plant("control.sock", os.unlink)
plant("supervise.pid", os.unlink)
plant("supervise.pid", lambda path: fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX))
plant("config.toml", lambda path: open(path, "a"))
plant("canary.key", lambda path: open(path))
# These are its own to make, and must not matter.
os.mkfifo(f"{run_dir}/children/manifest.json")
os.makedirs(f"{run_dir}/children/rank-3.sock/deep/er")
os.mkfifo(f"{run_dir}/children/rank-4.sock")
os.symlink("/dev/ptmx", f"{run_dir}/children/rank-5.sock")
"""


@pytest.fixture
def folder():
    """One that other users can reach, which pytest's own are not."""
    needs()
    path = pathlib.Path(tempfile.mkdtemp(prefix="tandem-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def sections(folder, model=None):
    node = {"name": "here", "run_dir": str(folder / "run"), "state_dir": str(folder / "state"),
            "user": SERVICE}
    return {"node": node, "model": {"path": str(model or folder / "no-model"), "id": "smollm2"},
            "supervise": {"unload_timeout_ms": 1000}}


# All that the scripts need is loaded first: that user may not even reach Python's own files.
BECOME = """
import fcntl, json, os, socket, struct, sys, threading
os.setgroups([])
os.setresgid({gid}, {gid}, {gid})
os.setresuid({uid}, {uid}, {uid})
"""


def as_service(script, *arguments):
    account = pwd.getpwnam(SERVICE)
    become = BECOME.format(uid=account.pw_uid, gid=account.pw_gid)
    return subprocess.Popen([sys.executable, "-c", become + script, *map(str, arguments)],
                            stdout=subprocess.PIPE, text=True, cwd="/")


@pytest.mark.parametrize("epoch", [1, 9_999_999_999, 2**63, 2**64 - 1])
def test_a_forged_hello_harms_nobody_and_plants_keep_nobody_from_starting(folder, epoch):
    victim = subprocess.Popen(["sleep", "600"], start_new_session=True)
    forger = None
    try:
        with Supervised(folder, sections(folder)) as pair:
            pair.wait_for(pair.status, "up")
            pair.kill()
            planter = as_service(PLANTER, pair.run_dir)
            planted, _ = planter.communicate(timeout=30)
            assert planter.returncode == 0 and planted == "", planted
            # Ranks that the config has, and ranks that it does not.
            forger = as_service(FORGER, pair.run_dir / "children", victim.pid, epoch, 0, 1, 7)
            assert forger.stdout.readline() == "up\n"
            pair.start()
            status = pair.wait_for(pair.status, "up beside what was planted")
            assert sorted(forger.stdout.readline() for _ in range(3)) == ["0\n", "1\n", "7\n"]
            assert status["epoch"] in (0, None), "nobody's epoch is taken over"
            assert victim.pid not in pair.pids()
            pair.end()
            assert victim.poll() is None, "a stranger was signalled"
    finally:
        for process in filter(None, (victim, forger)):
            process.kill()
            process.wait(30)


def test_children_have_a_user_of_their_own_and_the_least_rights_and_are_taken_over(folder):
    binary = os.environ.get("TANDEM_BIN", "target/release/tandem")
    model = pathlib.Path(os.environ["TANDEM_MODEL"])
    reach = as_service("sys.exit(not all(os.access(path, os.R_OK) for path in sys.argv[1:]))",
                       binary, model / "config.json")
    if reach.wait(30) != 0:
        pytest.skip(f"{SERVICE} can't reach {binary} and {model}")
    with Supervised(folder, sections(folder, model)) as pair:
        pair.wait_until_served()
        service = pwd.getpwnam(SERVICE)
        for pid in pair.pids():
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
            assert lines["Uid"].split() == [str(service.pw_uid)] * 4
            assert lines["Groups"].split() == []
            assert lines["NoNewPrivs"].strip() == "1"
            limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
            bounds = {line[:25].strip(): line[25:].split()[:2] for line in limits.splitlines()}
            assert bounds["Max file size"] == [str(64 << 20)] * 2
            assert bounds["Max processes"] == ["4096"] * 2
        found = {path.name: path.stat() for path in pair.run_dir.iterdir()}
        for name, stat in found.items():
            assert stat.st_mode & 0o022 == 0, name
            assert stat.st_uid == (service.pw_uid if name == "children" else 0), name
        epoch, pids = pair.epoch(), pair.pids()
        # By its notes, and where these are gone by what the kernel says of who serves its socket.
        for lost in ([], ["rank-0.pid", "rank-1.pid"]):
            pair.kill()
            for name in lost:
                (pair.run_dir / name).unlink()
            pair.start()
            pair.wait_for(lambda: pair.pids() == pids, "in charge of what ran before")
            pair.wait_until_served()
            assert pair.epoch() == epoch
        os.kill(pids[1], signal.SIGKILL)
        pair.wait_for(lambda: pair.epoch() == epoch + 1, "a new epoch")
        pair.wait_until_served()
