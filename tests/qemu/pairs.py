"""Two guests that serve one model together: a rank each, two cables between them."""

import pathlib
import re

import guests

# Node a has rank 0.
NODES = ("a", "b")

# What only a pair is told. As many reboots as the config allows; and twice the time or more before a
# silent node or rank counts as lost, because a busy host can keep an emulated processor waiting.
SECTIONS = {
    "engine": {"silence_timeout_ms": 5000},
    "pair": {"silence_timeout_ms": 6000},
    "reboot": {"per_day_max": 24},
}

# pair.listen's default.
LINK_PORT = 52390


class Pair:
    """Both nodes, off until powered on. more: keys of their configs, by section."""

    def __init__(self, folder, board, more=None):
        self.board = board
        sections = {name: dict(keys) for name, keys in SECTIONS.items()}
        for name, keys in (more or {}).items():
            sections[name] = sections.get(name, {}) | keys
        numbers = {node: number for number, node in enumerate(NODES, 1)}
        ranks_on = [(node, guests.address("link", number)) for node, number in numbers.items()]

        def guest(node, other):
            ways = [f"{guests.address(cable, numbers[other])}:{LINK_PORT}"
                    for cable in guests.CABLES]
            toml = guests.config(node, ranks_on, sections, [(other, ways)])
            return guests.Guest(node, numbers[node], pathlib.Path(folder), board.initramfs,
                                {"tandem.toml": toml}, other)

        self.a, self.b = guest("a", "b"), guest("b", "a")

    def __iter__(self):
        return iter((self.a, self.b))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for guest in self:
            guest.cut_power()

    def power_on(self):
        for guest in self:
            guest.power_on()

    def introduce(self):
        """What an operator does once: makes the two trust each other."""
        for guest in self:
            guest.wait_for(guest.boot, "up", 120)
        tandem = "tandem pair {} --config /state/tandem.toml"
        self.a.shell(f"{tandem.format('init')} >/tmp/init 2>&1 </dev/null &")
        found = self.a.wait_for(
            lambda: re.search(r"^ *(\w{4}-\w{4}) *$", self.a.shell("cat /tmp/init"), re.M),
            "showing a code", 60)
        self.b.shell(f"echo {found[1]} | {tandem.format('join ' + self.a.address('lan'))}", 60)
        self.a.wait_for(lambda: "b" in self.a.shell("ls /state/tandem/peer/peers.json && cat "
                                                    "/state/tandem/peer/peers.json"), "paired", 30)

    def boots(self):
        """The kernels' own identities of their boots, of a and of b."""
        return tuple(guest.boot() for guest in self)

    def wait_until_serving(self, seconds=240):
        """Until real tokens came through both nodes' gateways: what each says alone."""
        for guest in self:
            guest.wait_until_serving(seconds)

    def wait_until_rebooted(self, boots, seconds=240):
        """Until both run in another boot than they did."""
        for guest, boot in zip(self, boots, strict=True):
            guest.wait_for(lambda g=guest, old=boot: g.boot() != old, "in another boot", seconds)

    def answers(self, question="Hello", tokens=16):
        """That both gateways answer as mlx-lm does."""
        expected = 200, self.board.answer(question, tokens)
        for guest in self:
            assert guest.chat(question, tokens) == expected, guest.tail()
