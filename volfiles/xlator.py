"""One translator (xlator) of a graph, and its piece of a volfile."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .words import VolfileError, quote, unfit

Insert = tuple[str, Mapping[str, str]]
"""One more translator in a graph: its type, and its options."""


@dataclass(frozen=True)
class Xlator:
    """One node of a graph: a volume of a volfile.

    ``options`` keep their order; ``subvolumes`` are the names of the children, first child first.
    ``line`` is where the node was read, for messages only. Raises VolfileError for words that a
    volfile cannot carry: empty ones, and line breaks and NULs in them.
    """

    name: str
    type: str
    options: Mapping[str, str] = field(default_factory=dict)
    subvolumes: Sequence[str] = ()
    line: int | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", dict(self.options))
        object.__setattr__(self, "subvolumes", tuple(self.subvolumes))
        self._check("its name", self.name)
        self._check("its type", self.type)
        for key, value in self.options.items():
            self._check("an option's name", key)
            self._check(f"option {key!r}", value)
        for subvolume in self.subvolumes:
            self._check("a subvolume's name", subvolume)

    def _check(self, what: str, word: object) -> None:
        if reason := unfit(word):
            raise self.error(f"{what}: {reason}")

    def error(self, reason: str) -> VolfileError:
        """The error that says what is wrong with this node."""
        return VolfileError(reason, volume=self.name, line=self.line)

    def __str__(self) -> str:
        lines = [f"volume {quote(self.name)}", f"    type {quote(self.type)}"]
        lines += [f"    option {quote(key)} {quote(value)}" for key, value in self.options.items()]
        if self.subvolumes:
            lines.append(" ".join(["    subvolumes", *map(quote, self.subvolumes)]))
        return "\n".join([*lines, "end-volume\n"])
