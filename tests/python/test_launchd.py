"""The launchd job and the package's scripts name the same paths as the package's own list."""

import pathlib
import plistlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAYOUT = dict(
    re.findall(r'^pub const (\w+): &str = "(.*)";$', (ROOT / "pkg/src/layout.rs").read_text(), re.M)
)
JOB = plistlib.loads((ROOT / "launchd/io.tandem.supervise.plist").read_bytes())
# What a script calls a path, where it is not the list's own name.
NAMES = {"PACKAGE": "PACKAGE_ID", "USER_NAME": "USER"}


def variables(script):
    """The constants of a script, with the ones in them filled in."""
    found = {}
    text = (ROOT / "pkg/scripts" / script).read_text()
    for name, value in re.findall(r"^([A-Z_]+)=(\S+)$", text, re.M):
        found[name] = re.sub(r"\$(\w+)", lambda m: found[m[1]], value)
    return found


def test_the_job_is_the_one_that_the_package_installs():
    assert JOB["Label"] == LAYOUT["LABEL"]
    assert LAYOUT["JOB"] == f"/Library/LaunchDaemons/{JOB['Label']}.plist"
    assert JOB["ProgramArguments"] == [
        LAYOUT["EXECUTABLE"], "supervise", "--config", LAYOUT["CONFIG"],
    ]
    assert JOB["StandardOutPath"] == JOB["StandardErrorPath"]
    # No folder that others than root may write to; what is called by a bare name is the system's.
    assert JOB["EnvironmentVariables"] == {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
    assert JOB["HardResourceLimits"] == JOB["SoftResourceLimits"]


@pytest.mark.parametrize("script", ["preinstall", "postinstall", "uninstall"])
def test_a_script_names_the_paths_of_the_package(script):
    found = variables(script)
    common = [name for name in found if NAMES.get(name, name) in LAYOUT]
    assert {"LABEL", "LIBEXEC", "EXECUTABLE", "JOB", "NEWSYSLOG", "VAR", "LOGS"} <= set(common)
    for name in common:
        assert found[name] == LAYOUT[NAMES.get(name, name)], name


def test_a_script_waits_longer_than_launchd():
    assert int(variables("uninstall")["UNLOAD_TRIES"]) > JOB["ExitTimeOut"]


def test_what_launchd_and_the_installer_write_is_rotated():
    lines = (ROOT / "pkg/newsyslog/tandem.conf").read_text().splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    logs = [row[0] for row in rows]
    assert logs == [JOB["StandardErrorPath"], f"{LAYOUT['LOGS']}/install.log"]
    for _, owner, mode, count, size_kib, when, flags in rows:
        assert owner == "root:wheel" and int(mode, 8) & 0o022 == 0
        assert 0 < int(count) <= 10 and 0 < int(size_kib) <= 10240
        assert (when, flags) == ("*", "N"), "nobody is signalled"
