"""The test command sees only what the packages that set-up names bring."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/setup"))

import named  # noqa: E402

STATUS = """Package: base
Status: install ok installed
Essential: yes

Package: named
Status: install ok installed
Depends: needed (>= 2), this | that, virtual

Package: needed
Status: hold ok installed
Description: text
 of several lines

Package: that
Status: install ok installed

Package: provider
Status: install ok installed
Provides: other, virtual (= 1)

Package: by-hand
Status: install ok installed

Package: removed
Status: deinstall ok config-files
"""
PACKAGES = ("base", "named", "needed", "that", "provider", "by-hand")


@pytest.fixture
def debian(tmp_path):
    info = tmp_path / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (info.parent / "status").write_text(STATUS)
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/sbin").mkdir()
    (tmp_path / "bin").symlink_to("usr/bin")
    for name in PACKAGES:
        (tmp_path / "usr/bin" / name).write_text("")
        # Some packages still say /bin.
        architecture = ":amd64" if name == "needed" else ""
        (info / f"{name}{architecture}.list").write_text(f"/.\n/bin\n/bin/{name}\n")
    (tmp_path / "usr/bin/compiled-by-hand").write_text("")
    for name in ("needed", "by-hand"):
        (tmp_path / f"usr/bin/alternative-{name}").symlink_to(name)
    return named.Debian(tmp_path)


def test_the_path_has_what_is_named_needed_and_everywhere_and_nothing_else(debian, tmp_path):
    folder = tmp_path / "path"
    folder.mkdir()
    debian.link(folder, ["named", "not-installed"])
    assert sorted(link.name for link in folder.iterdir()) == [
        "alternative-needed", "base", "named", "needed", "provider", "that"]
    assert (folder / "needed").resolve() == tmp_path / "usr/bin/needed"


def test_a_file_of_another_package_and_one_of_none_are_told(debian, tmp_path):
    found = debian.outside(["named"], [f"{tmp_path}/{path}" for path in (
        "bin/needed", "usr/bin/needed", "bin/by-hand", "usr/bin/compiled-by-hand")])
    assert found == [f"{tmp_path}/bin/by-hand", f"{tmp_path}/usr/bin/compiled-by-hand"]


def test_on_this_machine_the_command_tells_by_its_exit_code(tmp_path):
    if not pathlib.Path("/var/lib/dpkg/status").exists():
        pytest.skip("no Debian")
    mine = tmp_path / "mine.h"
    mine.write_text("")
    command = [sys.executable, named.__file__, "outside", "coreutils", "--", "/bin/ls"]
    assert subprocess.run(command, timeout=60).returncode == 0
    run = subprocess.run([*command, mine], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (1, f"{mine}\n")
