"""What a guest is made of: Debian's kernel, an initramfs with the project's own executable in it,
and a disk image for the state."""

import os
import pathlib
import re
import shutil
import stat
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# Drivers of what QEMU is told to emulate; what they depend on comes with them.
MODULES = ("virtio_pci", "virtio_blk", "virtio_net")

# A supervisor that is root gives its children to this user, as on a Mac.
ACCOUNTS = {"etc/passwd": "root:x:0:0::/:/bin/sh\n_tandem:x:300:300::/:/bin/false\n",
            "etc/group": "root:x:0:\n_tandem:x:300:\n"}

# Ledger, logs and files of an identity; ext4's journal is a quarter of it.
DISK_MIB = 64


# The unpacked Debian package that `./install.sh test` fetched.
PACKAGE = pathlib.Path(os.environ.get("TANDEM_GUEST_KERNEL", ROOT / ".tandem/guest-kernel"))


def has_kernel():
    return any(PACKAGE.glob("boot/vmlinuz-*"))


def kernel():
    """The kernel, and the folder of its modules."""
    [file] = PACKAGE.glob("boot/vmlinuz-*")
    return file, PACKAGE / "lib/modules" / file.name.removeprefix("vmlinuz-")


def module_order(folder, names=MODULES):
    """Files of modules, each after all that it depends on (its own `depends=` says so)."""
    files = {file.stem.replace("-", "_"): file for file in folder.rglob("*.ko")}
    order = []

    def add(name):
        file = files[name.replace("-", "_")]
        if file in order:
            return
        needed = re.search(rb"\0depends=([^\0]*)\0", file.read_bytes())
        for other in filter(None, needed[1].decode().split(",")):
            add(other)
        order.append(file)

    for name in names:
        add(name)
    return order


def libraries(executable):
    """The shared libraries that an executable loads, by the name it asks for."""
    run = subprocess.run(["ldd", executable], capture_output=True, text=True, timeout=60)
    if "not a dynamic executable" in run.stderr:
        return {}
    assert run.returncode == 0 and "not found" not in run.stdout, run.stdout + run.stderr
    found = {}
    for line in run.stdout.splitlines():
        if named := re.match(r"\s*(\S+) => (/\S+) ", line):
            found[named[1]] = pathlib.Path(named[2])
        elif loader := re.match(r"\s*(/\S+) \(", line):
            found[loader[1]] = pathlib.Path(loader[1])
    return found


class Cpio:
    """A cpio archive in the kernel's `newc` form (Documentation/driver-api/early-userspace/
    buffer-format.rst), in which every file belongs to root."""

    def __init__(self, file):
        self.file, self.inode, self.folders = file, 0, set()

    def _add(self, name, mode, data=b""):
        self.inode += 1
        fields = (self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        for part in (head, data):
            self.file.write(part + bytes(-len(part) % 4))

    def folder(self, name):
        for parent in [*reversed(pathlib.PurePath(name).parents), pathlib.PurePath(name)]:
            if (text := str(parent)) != "." and text not in self.folders:
                self.folders.add(text)
                self._add(text, stat.S_IFDIR | 0o755)

    def write(self, name, data, mode=0o644):
        self.folder(str(pathlib.PurePath(name).parent))
        self._add(name, stat.S_IFREG | mode, data)

    def copy(self, name, source):
        executable = os.access(source, os.X_OK)
        self.write(name, pathlib.Path(source).read_bytes(), 0o755 if executable else 0o644)

    def link(self, name, target):
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def end(self):
        self._add("TRAILER!!!", 0)


def initramfs(target, tandem, leak, model):
    """Writes the initramfs: uncompressed, because software emulation inflates slowly."""
    _, modules = kernel()
    busybox = shutil.which("busybox")
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True,
                             timeout=60).stdout.split()
    with open(target, "wb") as file:
        cpio = Cpio(file)
        for name in ("dev", "proc", "sys", "state", "sbin"):
            cpio.folder(name)
        cpio.copy("init", HERE / "init")
        cpio.copy("bin/busybox", busybox)
        for name in applets:
            if name != "busybox":
                cpio.link(f"bin/{name}", "busybox")
        loaded = libraries(busybox)
        for name, source in (("tandem", tandem), ("leak", leak)):
            cpio.write(f"bin/{name}", stripped(source), 0o755)
            loaded |= libraries(source)
        for name, source in loaded.items():
            at = name[1:] if name.startswith("/") else f"lib/x86_64-linux-gnu/{name}"
            cpio.write(at, source.read_bytes(), 0o755)
        order = module_order(modules)
        for module in order:
            cpio.copy(f"modules/{module.name}", module)
        cpio.write("modules/order", "".join(f"{m.name}\n" for m in order).encode())
        for name, text in ACCOUNTS.items():
            cpio.write(name, text.encode())
        for part in sorted(pathlib.Path(model).iterdir()):
            cpio.copy(f"model/{part.name}", part)
        cpio.end()
    return target


def stripped(executable):
    """An executable's bytes without its debug information, which would only fill memory."""
    with tempfile.NamedTemporaryFile() as file:
        subprocess.run(["strip", "-o", file.name, executable], timeout=120, check=True)
        return pathlib.Path(file.name).read_bytes()


def disk(target, files):
    """An ext4 image that holds these files, {name: text}; sparse, so it costs what is used."""
    seed = target.with_suffix(".files")
    seed.mkdir()
    for name, text in files.items():
        at = seed / name
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(text)
    with open(target, "wb") as file:
        file.truncate(DISK_MIB << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-d", seed, target], check=True, timeout=120,
                   capture_output=True)
    shutil.rmtree(seed)
    return target
