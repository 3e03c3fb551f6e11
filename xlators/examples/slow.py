"""Delay chosen fops, as a slow disk or a far network would.

    glupy run xlators/examples/slow.py:Slow DIR MOUNTPOINT -o fops=unlink,rmdir -o milliseconds=500

What to see here: ``await glupy.sleep()`` holds no thread. Any number of fops may wait at once,
while GlusterFS has 16 threads for all of them. After it a handler may still return ``PASS``.
"""

from collections.abc import Callable
from typing import Any

from glupy import PASS, Frame, Option, OptionError, Pass, Translator, fops, sleep


def chosen(names: str) -> frozenset[str]:
    """Return the names in an option's value; OptionError, one line in the log, if one is no fop."""
    given = frozenset(fops.TABLE if names == "all" else map(str.strip, names.split(",")))
    if unknown := given - fops.TABLE.keys():
        raise OptionError(f"no such fop: {', '.join(sorted(unknown))}")
    return given


class Slow(Translator):
    """Wait before the chosen fops are passed on."""

    options = (
        Option("fops", str, default="all", description="Names with commas, or all."),
        Option("milliseconds", int, default=100, minimum=0, description="How long to wait."),
    )

    def init(self) -> None:
        self.reconfigure()

    def reconfigure(self) -> None:
        self.chosen = chosen(self.option("fops"))
        self.seconds = self.option("milliseconds") / 1000

    async def delayed(self) -> Pass:
        await sleep(self.seconds)
        return PASS


def _handler(fop: fops.Fop) -> Callable[..., object]:
    def handler(self: Slow, _frame: Frame, *_arguments: Any) -> object:
        return self.delayed() if fop.name in self.chosen else PASS

    return handler


for _fop in fops.TABLE.values():
    setattr(Slow, _fop.name, _handler(_fop))
