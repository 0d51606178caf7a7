"""`sudo ./install.sh` on a Mac: what it asks before it installs, and what it says after. On the fake Mac of
fake_mac.py, with stand-ins for what only tells of the machine and for the system's installer."""

import pytest

from fake_mac import ROOT, SCRIPTS, STAND_INS, new_mac  # noqa: F401
from test_launchd import LAYOUT

CONFIG = LAYOUT["CONFIG"]
EXECUTABLE = LAYOUT["EXECUTABLE"]
UNPACKED = "/private/tmp/unpacked/tandem.pkg/Payload"

TOLD = {
    "uname": '[ "${1:-}" = -m ] && cat /standin/machine || cat /standin/system',
    "sw_vers": "cat /standin/macos",
    "sysctl": "echo 549755813888",
    # The package's scripts and files, in the installer's order.
    "installer": f"""[ ! -e /standin/installer-fails ] || exit 1
        sh /private/tmp/scripts/preinstall "$2" / / /
        tar -C {UNPACKED} -cf - . | tar -C / --keep-directory-symlink -xf -
        sh /private/tmp/scripts/postinstall "$2" / / /
        touch /usr/bin/pkgutil.state/io.tandem.pkg""",
}

# What the real executable does is tested elsewhere; here it says what it is told to.
COMMANDS = """
if [ -e "/standin/$1" ]; then cat "/standin/$1"; exit 1; fi
case "$1" in
  version) echo "tandem VERSION"; exit 0 ;;
  selftest) echo "all is fine"; exit 0 ;;
  gates) echo "serving passed"; exit 0 ;;
  doctor) echo "WRONG disk: full"; echo "do: delete"; exit 1 ;;
  config) ! grep -q BROKEN "$4" || { echo "unknown key BROKEN"; exit 64; }; exit 0 ;;
  pair) echo "$*" >>/standin/paired; exit 0 ;;
  model) mkdir -p "$5/$7"; touch "$5/$7/config.json"; exit 0 ;;
esac
"""


@pytest.fixture
def mac(new_mac):  # noqa: F811
    mac = new_mac(binds=(ROOT,))
    for name, text in TOLD.items():
        mac.write(f"/standin/tools/{name}", f"#!/bin/sh\nset -eu\n{text}\n")
        for folder in ("bin", "sbin"):
            path = mac.path(f"/usr/{folder}/{name}")
            path.unlink(missing_ok=True)
            path.write_text(mac.read(f"/standin/tools/{name}"))
            path.chmod(0o755)
    unpack = "#!/bin/sh\nset -eu\n[ -e /standin/damaged ] && exit 1\ncp -R /private/tmp/unpacked \"$3\"\n"
    mac.write("/usr/sbin/pkgutil", unpack)
    mac.path("/usr/sbin/pkgutil").chmod(0o755)
    for name, text in (("system", "Darwin"), ("machine", "arm64"), ("macos", "26.3")):
        mac.write(f"/standin/{name}", text)
    for name in ("preinstall", "postinstall"):
        mac.write(f"/private/tmp/scripts/{name}", (SCRIPTS / name).read_text())
    first, rest = (STAND_INS / "tandem").read_text().split("set -eu\n")
    program = (first + "set -eu\n" + COMMANDS + rest).replace("VERSION", "1")
    for source, path, mode in (
        (program, EXECUTABLE, 0o755),
        ((SCRIPTS / "uninstall").read_text(), LAYOUT["UNINSTALLER"], 0o755),
        ((ROOT / "launchd/io.tandem.supervise.plist").read_text(), LAYOUT["JOB"], 0o644),
        ((ROOT / "pkg/newsyslog/tandem.conf").read_text(), LAYOUT["NEWSYSLOG"], 0o644),
        ((ROOT / "config/tandem.toml").read_text(), LAYOUT["CONFIG_DEFAULT"], 0o644),
    ):
        mac.write(UNPACKED + path, source)
        (mac.disk / (UNPACKED + path).lstrip("/")).chmod(mode)
    mac.write("/private/tmp/t.pkg", "a package")
    return mac


def install(mac, *arguments):
    return mac.run("bash", str(ROOT / "install.sh"), *arguments)


def test_one_command_installs_starts_and_says_that_it_serves(mac):
    code, told = install(mac, "--pkg", "/private/tmp/t.pkg")
    assert code == 0, told
    assert "This Mac: macOS 26.3, 512 GiB of memory." in told
    assert "all is fine" in told and "It serves." in told
    assert mac.running() == "1"


def test_nothing_is_installed_on_what_is_no_such_mac(mac):
    cases = [
        ("system", "Linux", "the appliance is for Macs"),
        ("machine", "x86_64", "needs Apple silicon"),
        ("macos", "26.1.9", "update both Macs"),
        ("macos", "9.9", "update both Macs"),
        ("damaged", "", "can't be unpacked"),
    ]
    for name, text, words in cases:
        before = mac.read(f"/standin/{name}") if mac.path(f"/standin/{name}").exists() else None
        mac.write(f"/standin/{name}", text)
        code, told = install(mac, "--pkg", "/private/tmp/t.pkg")
        assert code == 1 and words in told, (name, told)
        assert not mac.path(EXECUTABLE).exists(), name
        mac.path(f"/standin/{name}").unlink()
        if before is not None:
            mac.write(f"/standin/{name}", before)


def test_what_keeps_it_from_coming_back_by_itself_is_said_before_it_is_installed(mac):
    mac.write("/standin/selftest", "WRONG unattended_boot: no\ndo: turn FileVault off\n")
    code, told = install(mac, "--pkg", "/private/tmp/t.pkg")
    assert code == 0, told
    assert told.index("turn FileVault off") < told.index("Installing;")
    assert "reboots this Mac by itself only when" in told


def test_a_config_is_checked_first_and_the_one_before_is_kept(mac):
    mac.write("/private/tmp/bad.toml", "BROKEN = 1\n")
    code, told = install(mac, "--pkg", "/private/tmp/t.pkg", "--config", "/private/tmp/bad.toml")
    assert code == 1 and "unknown key BROKEN" in told
    assert not mac.path(EXECUTABLE).exists()
    for text in ("[node]\nname = \"one\"\n", "[node]\nname = \"two\"\n"):
        mac.write("/private/tmp/new.toml", text)
        code, told = install(mac, "--pkg", "/private/tmp/t.pkg", "--config", "/private/tmp/new.toml")
        assert code == 0, told
        assert mac.read(CONFIG) == text
    assert 'name = "one"' in mac.read(CONFIG + ".before")


def test_a_model_is_written_into_the_config_and_nothing_else_is(mac):
    mac.write("/private/tmp/some.gguf", "weights")
    code, told = install(mac, "--pkg", "/private/tmp/t.pkg", "--model", "/private/tmp/some.gguf")
    assert code == 0, told
    default = (ROOT / "config/tandem.toml").read_text()
    wanted = default.replace(
        'path = "/usr/local/var/tandem/models/default"', 'path = "/usr/local/var/tandem/models/some"', 1
    )
    assert wanted != default and mac.read(CONFIG) == wanted
    code, told = install(mac, "--pkg", "/private/tmp/t.pkg", "--model", "absent")
    assert code == 1 and "there is no model in /usr/local/var/tandem/models/absent" in told
    assert mac.read(CONFIG) == wanted


def test_what_does_not_serve_is_told_with_what_to_do(mac):
    mac.write("/standin/gates", "artifacts failed\n")
    code, told = install(mac, "--pkg", "/private/tmp/t.pkg")
    assert code == 1
    assert told.count("artifacts failed") == 1, "what does not change is said once"
    assert "does not serve yet" in told and "do: delete" in told
    assert mac.running() == "1", "it stays installed"


def test_pairing_is_part_of_it_and_no_code_is_an_argument(mac):
    code, told = install(mac, "--pkg", "/private/tmp/t.pkg", "--pair", "init")
    assert code == 0, told
    code, told = install(mac, "--pkg", "/private/tmp/t.pkg", "--pair", "left.local")
    assert code == 0, told
    assert mac.read("/standin/paired") == "pair init\npair join left.local\n"


def test_a_package_that_is_refused_is_told(mac):
    mac.write("/standin/installer-fails", "")
    code, told = install(mac, "--pkg", "/private/tmp/t.pkg")
    assert code == 1 and "the package was not installed" in told


def test_options_that_make_no_sense_change_nothing(mac):
    for arguments, words in [
        (["--pkg"], "needs a value"),
        (["--purge"], "--purge is for --uninstall only"),
        (["--uninstall", "--pkg", "x"], "takes no option but --purge"),
        (["--frobnicate"], "there is no option"),
        (["--pkg", "/private/tmp/absent.pkg"], "there is no file"),
        (["--uninstall"], "nothing of Tandem is installed"),
    ]:
        code, told = install(mac, *arguments)
        assert code == 1 and words in told, (arguments, told)


def test_it_is_removed_by_the_same_command(mac):
    assert install(mac, "--pkg", "/private/tmp/t.pkg")[0] == 0
    code, told = install(mac, "--uninstall", "--purge")
    assert code == 0, told
    assert not mac.path(EXECUTABLE).exists() and not mac.path(CONFIG).exists()
