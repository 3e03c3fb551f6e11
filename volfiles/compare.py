"""What is different between two graphs, node by node and option by option."""

from collections.abc import Iterator
from typing import NamedTuple

from .graph import Graph
from .words import quote
from .xlator import Xlator


class Difference(NamedTuple):
    """One thing that is otherwise: ``str()`` is one line.

    `what` is ``type``, ``option NAME``, ``subvolumes`` or, of the graph as a whole, ``top``;
    `volume` is None for that. `old` and `new` are as a volfile has them, None where there is none.
    """

    volume: str | None
    what: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        where = "" if self.volume is None else f"volume {self.volume!r}: "
        if self.old is None:
            return f"{where}+ {self.what} {self.new}"
        if self.new is None:
            return f"{where}- {self.what} {self.old}"
        return f"{where}{self.what} {self.old} -> {self.new}"


def diff(old: Graph, new: Graph) -> list[Difference]:
    """What `new` has otherwise than `old`, from the leaf up; nothing if they mean the same.

    The order of the volumes and that of their options mean nothing, but for which is the top.
    """
    before, after = {x.name: x for x in old}, {x.name: x for x in new}
    found: list[Difference] = []
    for name in dict.fromkeys([*before, *after]):
        found += _changes(name, _facts(before.get(name)), _facts(after.get(name)))
    if old.top.name != new.top.name:
        found.append(Difference(None, "top", quote(old.top.name), quote(new.top.name)))
    return found


def _changes(name: str, old: dict[str, str], new: dict[str, str]) -> Iterator[Difference]:
    for what in dict.fromkeys([*old, *new]):
        if old.get(what) != new.get(what):
            yield Difference(name, what, old.get(what), new.get(what))


def _facts(xlator: Xlator | None) -> dict[str, str]:
    """What a volfile says of an xlator."""
    if xlator is None:
        return {}
    facts = {"type": quote(xlator.type)}
    facts |= {f"option {quote(key)}": quote(value) for key, value in xlator.options.items()}
    if xlator.subvolumes:
        facts["subvolumes"] = " ".join(map(quote, xlator.subvolumes))
    return facts
