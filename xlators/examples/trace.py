"""Log fops: the arguments on their way down, the reply on its way up. A statedump has counts.

    glupy run xlators/examples/trace.py:Trace DIR MOUNTPOINT --level INFO
    glupy run xlators/examples/trace.py:Trace DIR MOUNTPOINT --level INFO -o fops=writev,discard

A fop and its reply have the same number in front, since other fops may come between the two. Of
data only the length is logged.

What to see here: the table of fops (``glupy.fops``) has each one's name, arguments and reply, so
that one handler serves them all. A handler may decide at once, as a plain ``def``, and return a
coroutine only where there is something to wait for.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

from glupy import PASS, FopError, Frame, Option, OptionError, Translator, Vector, fops

LONGEST = 200  # characters of one value


def shown(names: Iterable[str], values: Iterable[object]) -> str:
    """Return ``name=value, …`` without what is None: NULL in C."""
    pairs = zip(names, values, strict=True)
    return ", ".join(f"{name}={_short(value)}" for name, value in pairs if value is not None)


def _short(value: object) -> str:
    text = f"<{value.nbytes} bytes>" if isinstance(value, Vector) else repr(value)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def chosen(names: str) -> frozenset[str]:
    """Return the names in an option's value; OptionError, one line in the log, if one is no fop."""
    given = frozenset(fops.TABLE if names == "all" else map(str.strip, names.split(",")))
    if unknown := given - fops.TABLE.keys():
        raise OptionError(f"no such fop: {', '.join(sorted(unknown))}")
    return given


class Trace(Translator):
    """Log the chosen fops, and pass everything on."""

    options = (Option("fops", str, default="all", description="Names with commas, or all."),)

    def init(self) -> None:
        self.counts: Counter[str] = Counter()
        self.lock = Lock()
        self.reconfigure()

    def reconfigure(self) -> None:
        self.chosen = chosen(self.option("fops"))

    async def traced(self, fop: fops.Fop, frame: Frame, arguments: tuple[Any, ...]) -> object:
        """Wind a fop and return its reply; log both."""
        head = f"{frame.unique} {fop.name}"
        self.log.info("%s(%s)", head, shown([name for name, _ in fop.arguments], arguments))
        with self.lock:
            self.counts[fop.name] += 1
        try:
            reply = await getattr(self.child, fop.name)(*arguments)
        except FopError as error:
            self.log.info("%s: %s", head, shown(error.reply._fields, error.reply))
            raise  # a failed fop has a reply too; it goes up as it is
        self.log.info("%s: %s", head, shown(reply._fields, reply))
        return reply

    def dump_priv(self) -> dict[str, object]:
        with self.lock:
            return dict(self.counts)


def _handler(fop: fops.Fop) -> Callable[..., object]:
    def handler(self: Trace, frame: Frame, *arguments: Any) -> object:
        return self.traced(fop, frame, arguments) if fop.name in self.chosen else PASS

    return handler


for _fop in fops.TABLE.values():
    setattr(Trace, _fop.name, _handler(_fop))
