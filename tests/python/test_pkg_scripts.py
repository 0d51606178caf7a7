"""The package's scripts, run as the installer runs them, in a root of their own (fake_mac.py)."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

from fake_mac import CONFIG, EXECUTABLE, LIBEXEC, PREVIOUS, ROOT, SCRIPTS, mac, new_mac  # noqa: F401
from test_launchd import LAYOUT


def installed(mac, version="1"):
    code, told = mac.install(version)
    assert code == 0, told
    assert mac.running() == version
    return told


@pytest.mark.parametrize("shell", ["dash", "bash --posix"])
def test_it_is_installed_removed_without_a_trace_and_installed_again(new_mac, shell):
    mac = new_mac(shell=shell)
    before = mac.files()
    for _ in range(2):
        installed(mac)
        code, told = mac.uninstall("--purge")
        assert code == 0, told
        assert mac.files() == before
        assert mac.accounts() == (None, None)
    assert "KILL WINDOW OPENED" not in mac.calls("launchctl")
    code, told = mac.uninstall("--purge")
    assert (code, "nothing of it is here" in told) == (0, True)


def test_the_real_command_comes_up_and_goes(new_mac):
    binary = pathlib.Path(os.environ.get("TANDEM_BIN", ROOT / "target/release/tandem")).resolve()
    if not binary.exists():
        assert "TANDEM_REQUIRE_ALL" not in os.environ, binary
        pytest.skip("tandem is not built")
    linked = subprocess.run(["ldd", binary], capture_output=True, text=True, check=True).stdout
    libraries = map(pathlib.Path, re.findall(r"=> (/\S+)", linked))
    folders = {path.parent for path in (binary, *libraries)} | {
        path.resolve().parent for path in libraries
    }
    own = [str(folder) for folder in sorted(folders) if folder.parts[1] not in ("usr", "lib", "lib64")]
    mac = new_mac(binds=own)
    before = mac.files()
    code, told = mac.install(program=f"""#!/bin/sh
case $1 in
  service) exec {binary} "$@" --launchctl /usr/bin/launchctl ;;
  status) exec {binary} status --config {CONFIG} ;;
esac
exec {binary} "$@"
""")
    assert code == 0, told + mac.log()
    code, status = mac.run(EXECUTABLE, "status")
    assert code in (1, 2) and "artifacts failed" in status, status
    code, told = mac.run(LAYOUT["UNINSTALLER"], "--purge")
    assert code == 0, told
    assert mac.files() == before
    assert "KILL WINDOW OPENED" not in mac.calls("launchctl")


def test_everything_has_its_owner_and_mode(mac):
    installed(mac)
    uid, gid = mac.accounts()
    assert (uid, gid) == (499, 499)
    for path, expected in {
        LIBEXEC: (0, 0, 0o755),
        EXECUTABLE: (0, 0, 0o755),
        LAYOUT["JOB"]: (0, 0, 0o644),
        LAYOUT["VAR"]: (0, 0, 0o755),
        f"{LAYOUT['VAR']}/state": (0, 0, 0o700),
        f"{LAYOUT['VAR']}/models": (0, 0, 0o755),
        LAYOUT["LOGS"]: (0, 0, 0o755),
        CONFIG: (0, 80, 0o640),
    }.items():
        assert mac.owner_and_mode(path) == expected, path
    user = mac.path("/usr/bin/dscl.state/Users/_tandem")
    assert (user / "UserShell").read_text() == "/usr/bin/false\n"
    assert (user / "IsHidden").read_text() == "1\n"
    assert mac.read(CONFIG) == (ROOT / "config/tandem.toml").read_text()


def test_what_an_admin_made_outlives_removal_and_is_kept_by_the_next_installation(mac):
    installed(mac)
    kept = {CONFIG: "# mine\n", f"{LAYOUT['VAR']}/models/m/config.json": "{}",
            f"{LAYOUT['VAR']}/state/tandem.db": "memory"}
    for path, text in kept.items():
        mac.write(path, text)
    code, told = mac.uninstall()
    assert code == 0 and f"kept {LAYOUT['VAR']}" in told, told
    for path in (LIBEXEC, LAYOUT["JOB"], LAYOUT["NEWSYSLOG"], LAYOUT["COMMAND"], LAYOUT["RUN"]):
        assert not os.path.lexists(mac.path(path)), path
    assert not list(mac.path("/usr/bin/pkgutil.state").iterdir())
    code, told = mac.uninstall()
    assert (code, "nothing of it is here" in told) == (0, True)
    installed(mac)
    assert {path: mac.read(path) for path in kept} == kept


def test_an_upgrade_unloads_the_running_version_before_it_is_replaced(mac):
    installed(mac, "1")
    mac.write(CONFIG, "# mine\n")
    installed(mac, "2")
    assert mac.version() == "2"
    said = mac.read("/var/log/tandem/supervise.log").splitlines()
    assert said == ["version 1 supervises", "version 1 unloaded", "version 2 supervises"]
    assert mac.read(CONFIG) == "# mine\n"
    assert not mac.path(PREVIOUS).exists()
    assert "KILL WINDOW OPENED" not in mac.calls("launchctl")
    for part in ("stopping the installed version", "saving", "installed and running"):
        assert part in mac.log()


@pytest.mark.parametrize("trouble", ["mute-2", "crashes-2"])
def test_a_version_that_does_not_come_up_gives_way_to_the_one_before(mac, trouble):
    installed(mac, "1")
    mac.write(LAYOUT["NEWSYSLOG"], "# of version 1\n")
    mac.write(f"/standin/{trouble}", "")
    code, told = mac.install("2")
    assert code != 0 and "the version before runs again" in told, told
    assert (mac.version(), mac.running()) == ("1", "1")
    assert mac.read(LAYOUT["NEWSYSLOG"]) == "# of version 1\n"
    for left in (PREVIOUS, f"{LIBEXEC}.failed"):
        assert not mac.path(left).exists(), left
    # Once its trouble is gone it is taken.
    mac.path(f"/standin/{trouble}").unlink()
    installed(mac, "2")


def test_a_first_version_that_does_not_come_up_is_left_stopped_and_can_be_removed(mac):
    before = mac.files()
    mac.write("/standin/mute-1", "")
    code, told = mac.install("1")
    assert code != 0 and "supervise.log says why" in told, told
    assert mac.running() is None
    assert mac.uninstall("--purge")[0] == 0
    assert mac.files() == before


def test_a_version_that_does_not_end_is_neither_killed_nor_replaced(mac):
    installed(mac, "1")
    mac.write("/standin/wedged", "")
    code, told = mac.install("2")
    assert code != 0 and "does not end" in told and "reboot" in told, told
    assert (mac.version(), mac.running()) == ("1", "1")
    for arguments in ((), ("--purge",)):
        code, told = mac.uninstall(*arguments)
        assert code == 75 and "nothing was removed" in told, told
    assert (mac.version(), mac.running()) == ("1", "1")


def test_what_was_stopped_for_an_upgrade_that_is_refused_is_started_again(mac):
    installed(mac, "1")
    rank = subprocess.Popen([*mac.enter, "bash", "-c", f"exec -a {EXECUTABLE} sleep.real 100"])
    try:
        while EXECUTABLE not in (told := mac.run("ps", "-axww", "-o", "args=")[1]):
            assert rank.poll() is None, told
        code, told = mac.install("2")
        assert code != 0 and "processes of it still run" in told, told
        assert (mac.version(), mac.running()) == ("1", "1")
        assert mac.uninstall()[0] == 75
    finally:
        rank.kill()
        rank.wait()


def test_an_upgrade_that_was_cut_off_still_goes_back_to_what_ran(mac):
    installed(mac, "1")
    assert mac.preinstall()[0] == 0
    mac.payload("2")
    mac.write("/standin/mute-3", "")
    code, told = mac.install("3")
    assert code != 0 and "keeping" in told, told
    assert (mac.version(), mac.running()) == ("1", "1")


def link(path):
    def spoil(mac):
        where = mac.path(path)
        where.parent.mkdir(parents=True, exist_ok=True)
        if where.is_dir():
            where.rename(f"{where}.real")
        where.symlink_to("/private/tmp")
    return spoil


def mode(path, bits):
    def spoil(mac):
        mac.path(path).mkdir(parents=True, exist_ok=True)
        mac.path(path).chmod(bits)
    return spoil


def owner(path):
    def spoil(mac):
        mac.path(path).mkdir(parents=True, exist_ok=True)
        os.chown(mac.path(path), 501, 20)
    return spoil


def text(path, bits=0o644):
    def spoil(mac):
        mac.write(path, "somebody's")
        mac.path(path).chmod(bits)
    return spoil


HOSTILE = [
    ("/usr/local", mode("/usr/local", 0o775)),
    ("/usr/local/bin", owner("/usr/local/bin")),
    ("/usr/local/libexec", link("/usr/local/libexec")),
    (LIBEXEC, text(LIBEXEC)),
    (PREVIOUS, owner(PREVIOUS)),
    (f"{LAYOUT['VAR']}/state", link(f"{LAYOUT['VAR']}/state")),
    ("/usr/local/etc/tandem", mode("/usr/local/etc/tandem", 0o777)),
    (CONFIG, text(CONFIG, 0o664)),
    (CONFIG, link(CONFIG)),
    ("/Library/LaunchDaemons", mode("/Library/LaunchDaemons", 0o1777)),
    (LAYOUT["JOB"], link(LAYOUT["JOB"])),
    (LAYOUT["LOGS"], link(LAYOUT["LOGS"])),
    ("/private/var", mode("/private/var", 0o775)),
    ("/etc/newsyslog.d", owner("/etc/newsyslog.d")),
    (LAYOUT["COMMAND"], text(LAYOUT["COMMAND"])),
    (LAYOUT["COMMAND"], link(LAYOUT["COMMAND"])),
]


def test_a_disk_that_others_could_change_is_refused_untouched(mac):
    fresh = ("Library", "usr/local", "private")
    mac.run("sh", "-c", f"mkdir /save && cp -a --parents {' '.join(fresh)} /save")
    for path, spoil in HOSTILE:
        spoil(mac)
        before = mac.files()
        code, told = mac.preinstall()
        assert code != 0 and f"not installed: {path} " in told, (path, told)
        assert mac.files() == before, path
        code, told = mac.run("sh", "-c", f"rm -rf {' '.join(fresh)} && cp -a /save/. /")
        assert code == 0, told
    assert mac.preinstall()[0] == 0, "what was put back is not hostile"


def test_another_volume_is_refused(mac):
    code, told = mac.preinstall(target="/Volumes/Other")
    assert code != 0 and "the volume that this Mac runs from" in told, told


def test_the_directory_service_may_be_busy_and_ids_may_be_taken(mac):
    mac.account("Users", "_somebody", "UniqueID", 499)
    mac.account("Groups", "_some_group", "PrimaryGroupID", 498)
    mac.write("/usr/bin/dscl.state/refuse", "2")
    assert "trying again" in installed(mac)
    assert mac.accounts() == (497, 497)
    # What is there keeps its id.
    installed(mac)
    assert mac.accounts() == (497, 497)


def test_an_account_that_was_half_made_is_made_whole(mac):
    mac.write("/usr/bin/dscl.state/refuse-create", "5")
    code, told = mac.install()
    assert code != 0 and "failed 5 times" in told, told
    mac.account("Groups", "_tandem", "PrimaryGroupID", 450)
    installed(mac)
    assert mac.accounts() == (499, 450)


def test_an_id_that_another_takes_at_the_same_moment_is_not_shared(mac):
    mac.write("/usr/bin/dscl.state/race", "_other")
    code, told = mac.install()
    assert code != 0 and "was taken by another" in told, told
    assert mac.uninstall()[0] == 0
    installed(mac)
    assert mac.accounts() == (498, 498)


def test_without_a_free_id_or_with_somebody_elses_name_nothing_is_started(mac):
    for number in range(401, 500):
        mac.account("Users", f"_u{number}", "UniqueID", number)
    code, told = mac.install()
    assert code != 0 and "ids from 401 to 499 are taken" in told, told
    assert mac.accounts() == (None, None)
    mac.account("Users", "_tandem", "UniqueID", 501)
    mac.account("Groups", "_tandem", "PrimaryGroupID", 20)
    code, told = mac.install()
    assert code != 0 and "another user _tandem" in told, told
    assert not any(call.startswith("bootstrap") for call in mac.calls("launchctl"))


def test_an_account_that_the_system_does_not_let_go_is_told_and_removed_later(mac):
    installed(mac)
    mac.write("/usr/bin/dscl.state/refuse-delete", "100")
    code, told = mac.uninstall()
    assert code == 1 and "/Users/_tandem" in told and "Full Disk Access" in told, told
    mac.path("/usr/bin/dscl.state/refuse-delete").unlink()
    code, told = mac.uninstall()
    assert (code, mac.accounts()) == (0, (None, None)), told


def test_the_network_services_that_the_supervisor_made_go_and_no_others(mac):
    services = "/usr/bin/networksetup.state/services"
    others = mac.read(services)
    installed(mac)
    mac.write(services, others + "Tandem Thunderbolt 4\n*Tandem Thunderbolt 2\n")
    code, told = mac.uninstall()
    assert code == 0, told
    assert mac.read(services) == others
    assert "removed the network service Tandem Thunderbolt 4" in told


def test_the_uninstaller_says_what_it_takes(mac):
    code, told = mac.uninstall("--help")
    assert code == 0 and "--purge" in told
    assert mac.uninstall("--everything")[0] == 64
    nobody = ["setpriv", "--reuid", "65534", "--clear-groups"]
    if shutil.which("setpriv"):
        mac.write("/private/tmp/uninstall", (SCRIPTS / "uninstall").read_text())
        assert mac.run(*nobody, "sh", "/private/tmp/uninstall")[0] == 77
