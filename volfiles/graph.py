"""A graph of translators (xlators), and the volfile that says the same.

A volfile defines one volume after another, each naming the volumes below it, so a graph is the
sequence of its xlators from the leaf up; the last one is the top. ``str(graph)`` is the volfile,
written as glusterd writes it, and ``parse`` takes it back: ``parse(str(graph)) == graph``.
`parse` accepts what libglusterfs's grammar (graph.y) accepts; comments are not kept.
"""

import graphlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .words import Keyword, Token, VolfileError, quote, tokens, unfit


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


@dataclass(frozen=True)
class Graph:
    """Xlators in the order of a volfile: every one after its subvolumes, the top last.

    Raises VolfileError, naming the node, for what GlusterFS refuses or only logs: no xlator at
    all, a name twice, a subvolume that is unknown, defined too late or part of a cycle, or an
    xlator with neither an option nor a subvolume.
    """

    xlators: Sequence[Xlator]

    def __post_init__(self) -> None:
        object.__setattr__(self, "xlators", tuple(self.xlators))
        if not self.xlators:
            raise VolfileError("no volume is defined")
        below: dict[str, Xlator] = {}
        for xlator in self.xlators:
            if xlator.name in below:
                raise xlator.error("a volume of this name is defined already")
            if not xlator.options and not xlator.subvolumes:
                raise xlator.error("has neither an option nor a subvolume")
            for subvolume in xlator.subvolumes:
                if subvolume not in below:
                    raise self._not_below(xlator, subvolume)
            below[xlator.name] = xlator

    def _not_below(self, xlator: Xlator, subvolume: str) -> VolfileError:
        """What is wrong with a subvolume that is not defined before the xlator above it."""
        children = {node.name: node.subvolumes for node in self.xlators}
        if subvolume not in children:
            return xlator.error(f"subvolume {subvolume!r} is not defined")
        try:
            graphlib.TopologicalSorter(children).prepare()
        except graphlib.CycleError as error:
            cycle = error.args[1][::-1]
            return self[cycle[0]].error("is in a cycle: " + " -> ".join(cycle))
        return xlator.error(f"subvolume {subvolume!r} is defined only after it")

    @classmethod
    def stack(cls, *xlators: Xlator) -> "Graph":
        """The graph of xlators one above the other, the leaf first; sets their subvolumes."""
        stacked: list[Xlator] = []
        for xlator in xlators:
            stacked.append(replace(xlator, subvolumes=[below.name for below in stacked[-1:]]))
        return cls(stacked)

    @property
    def top(self) -> Xlator:
        """The xlator that a process talks to: the last one."""
        return self.xlators[-1]

    def __getitem__(self, name: str) -> Xlator:
        """The xlator of this name, or KeyError."""
        for xlator in self.xlators:
            if xlator.name == name:
                return xlator
        raise KeyError(name)

    def __iter__(self) -> Iterator[Xlator]:
        return iter(self.xlators)

    def __str__(self) -> str:
        return "\n".join(map(str, self.xlators))

    def write(self, path: Path) -> None:
        """Write the volfile; names that are not UTF-8 (in Python: surrogates) come out as given."""
        path.write_bytes(str(self).encode("utf-8", "surrogateescape"))


def read(path: Path) -> Graph:
    """The graph that the volfile at `path` defines; VolfileError names the file."""
    try:
        return parse(path.read_bytes().decode("utf-8", "surrogateescape"))
    except VolfileError as error:
        error.source = str(path)
        raise


def parse(text: str) -> Graph:
    """The graph that the text of a volfile defines; VolfileError says what is wrong where.

    An option that is given twice has its last value, as in GlusterFS.
    """
    words = deque(tokens(text))
    xlators = []
    while words:
        xlators.append(_parse_volume(words))
    return Graph(xlators)


def _parse_volume(words: deque[Token]) -> Xlator:
    begin = words.popleft()
    if begin.keyword is not Keyword.VOLUME:
        raise VolfileError(f"{begin.text!r} where 'volume' is expected", line=begin.line)
    name = _word(words, begin)
    type_ = ""
    options: dict[str, str] = {}
    subvolumes: list[str] = []

    def error(reason: str) -> VolfileError:
        return VolfileError(reason, volume=name, line=statement.line)

    statement = begin
    while words:
        statement = words.popleft()
        if not type_ and statement.keyword is not Keyword.TYPE:
            raise error("its type is missing, or does not come first")
        match statement.keyword:
            case Keyword.TYPE:
                if type_:
                    raise error("a second type")
                type_ = _word(words, statement, name)
            case Keyword.OPTION:
                key = _word(words, statement, name)
                options[key] = _word(words, statement, name)
            case Keyword.SUBVOLUMES:
                if subvolumes:
                    raise error("a second line of subvolumes")
                subvolumes.append(_word(words, statement, name))
                while words and words[0].keyword is None:
                    subvolumes.append(words.popleft().text)
            case Keyword.END_VOLUME:
                return Xlator(name, type_, options, subvolumes, begin.line)
            case Keyword.VOLUME:
                break
            case None:
                raise error(f"{statement.text!r} where a keyword is expected")
    raise error("its end-volume is missing")


def _word(words: deque[Token], statement: Token, volume: str | None = None) -> str:
    """Take the next word of a statement."""
    if not words or words[0].keyword:
        reason = f"a word is missing after {statement.text!r}"
        raise VolfileError(reason, volume=volume, line=statement.line)
    return words.popleft().text
