"""Keeps the test command to Debian packages that pins.sh names: what else a machine has by chance,
another may lack.

    named.py link FOLDER PACKAGE...      fills FOLDER with links to the programs of these packages, of all
                                         that they depend on, and of what every Debian has: a PATH
    named.py outside PACKAGE... -- FILE...
                                         prints the files that belong to none of them; 1 if there are any
"""

import os
import pathlib
import re
import sys


class Debian:
    """The packages that are installed under a root."""

    def __init__(self, root="/"):
        self.root = pathlib.Path(root)
        self.info = self.root / "var/lib/dpkg/info"
        self.packages, self.providers = {}, {}
        for entry in (self.root / "var/lib/dpkg/status").read_text().split("\n\n"):
            fields = dict(re.findall(r"^([\w-]+): (.*)$", entry, re.M))
            if fields.get("Status", "").endswith(" ok installed"):
                name = fields["Package"]
                self.packages[name] = fields
                for provided in self.names(fields.get("Provides", "")):
                    self.providers.setdefault(provided, []).append(name)

    @staticmethod
    def names(field):
        """Of a field such as Depends, without versions; alternatives count as one each."""
        return re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]*)", field)

    def closure(self, wanted):
        """The packages of these names that are installed, with all that they depend on, and what every
        Debian has."""
        every = [name for name, fields in self.packages.items()
                 if fields.get("Essential") == "yes" or fields.get("Priority") == "required"]
        found, todo = set(), [*wanted, *every, "apt"]
        while todo:
            name = todo.pop()
            todo += [one for one in self.providers.get(name, []) if one not in found]
            if name in self.packages and name not in found:
                found.add(name)
                fields = self.packages[name]
                for kind in ("Pre-Depends", "Depends"):
                    todo += self.names(fields.get(kind, ""))
        return found

    def files(self, wanted):
        """Paths of all files of the packages' closure, as they are found under the root."""
        found = set()
        for name in self.closure(wanted):
            for listed in (f"{name}.list", f"{name}:amd64.list"):
                if (self.info / listed).exists():
                    lines = (self.info / listed).read_text().splitlines()
                    found |= {self.place(self.root / line.lstrip("/")) for line in lines}
        return found

    @staticmethod
    def place(path):
        """The path without links in its folders: /bin is /usr/bin, whichever way it is written."""
        return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))

    def belongs(self, path, files):
        """Whether a path is one of the files, or leads to one (as what Debian offers alternatives for)."""
        return self.place(path) in files or os.path.realpath(path) in files

    def link(self, folder, wanted):
        """Fills the folder with links to the programs."""
        files = self.files(wanted)
        for programs in ("usr/sbin", "usr/bin"):
            for program in sorted((self.root / programs).iterdir()):
                link = pathlib.Path(folder) / program.name
                if self.belongs(program, files) and not link.is_symlink():
                    link.symlink_to(program)

    def outside(self, wanted, paths):
        """Those of the paths that belong to none."""
        files = self.files(wanted)
        return [path for path in paths if not self.belongs(path, files)]


def main(what, *rest):
    if what == "link":
        Debian().link(rest[0], rest[1:])
        return 0
    split = rest.index("--")
    assert rest[split + 1:], "no file to look for"
    found = Debian().outside(rest[:split], rest[split + 1:])
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
