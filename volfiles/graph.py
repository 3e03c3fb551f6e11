"""A graph of translators (xlators), and the volfile that says the same.

A volfile defines one volume after another, each naming the volumes below it, so a graph is the
sequence of its xlators from the leaf up; the last one is the top. ``str(graph)`` is the volfile,
written as glusterd writes it, and ``parse`` takes it back: ``parse(str(graph)) == graph``.
`parse` accepts what libglusterfs's grammar (graph.y) accepts. A graph has no comments: where a
file's own have to stay, `revise` changes its text.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from . import rules
from .syntax import volumes
from .words import VolfileError
from .xlator import Insert, Xlator


@dataclass(frozen=True)
class Graph:
    """Xlators in the order of a volfile: every one after its subvolumes, the top last.

    Raises VolfileError, naming the node, for what GlusterFS refuses or only logs: no xlator at
    all, a name twice, a subvolume that is unknown, defined too late or part of a cycle, or an
    xlator with neither an option nor a subvolume. What else may be wrong, `check` tells.
    """

    xlators: Sequence[Xlator]

    def __post_init__(self) -> None:
        object.__setattr__(self, "xlators", tuple(self.xlators))
        for error in rules.structure(self.xlators):
            raise error

    @classmethod
    def stack(cls, *xlators: Xlator) -> "Graph":
        """The graph of xlators one above the other, the leaf first; sets their subvolumes."""
        stacked: list[Xlator] = []
        for xlator in xlators:
            stacked.append(replace(xlator, subvolumes=[below.name for below in stacked[-1:]]))
        return cls(stacked)

    @classmethod
    def join(cls, graphs: Sequence["Graph"], top: Xlator) -> "Graph":
        """The graph of a new top over the tops of others; sets its subvolumes.

        Their names must differ, as everywhere in a graph.
        """
        below = [graph.top.name for graph in graphs]
        return cls([*(x for graph in graphs for x in graph), replace(top, subvolumes=below)])

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

    def check(self, types: Collection[str] | None = None) -> list[VolfileError]:
        """What GlusterFS would refuse of this graph, or accept and do wrongly (see `rules`).

        `types` are those that there are, such as `installed_types`; None asks for no type.
        """
        return rules.findings(self.xlators, types)

    def insert(
        self,
        insert: Insert,
        *,
        above: str | None = None,
        below: str | None = None,
        name: str | None = None,
    ) -> "Graph":
        """The graph with one more xlator, `above` or `below` the one of that name.

        Above an xlator it takes its place under all of its parents, or as the top. Below one it
        comes between that and its subvolume, whose other parents keep it. Unless told, its `name`
        is made of the other's and its type. VolfileError if there is no such xlator, `name` is
        taken, or there is not exactly one subvolume for it to be above.
        """
        if (above is None) == (below is None):
            raise ValueError("insert above one xlator or below one")
        type_, options = insert
        near = self._named(above if above is not None else str(below))
        child = near.name if above is not None else _only_subvolume(near)
        if name is None:
            name = self._new_name(near.name, type_)
        new = Xlator(name, type_, options, [child])
        xlators: list[Xlator] = []
        for xlator in self.xlators:
            if xlator is near and below is not None:
                xlators += [new, _with_subvolumes(xlator, child, new.name)]
            elif xlator is near:
                xlators += [xlator, new]
            elif above is not None:
                xlators.append(_with_subvolumes(xlator, child, new.name))
            else:
                xlators.append(xlator)
        return Graph(xlators)

    def remove(self, name: str) -> "Graph":
        """The graph without one xlator: its parents have its subvolume instead.

        VolfileError if there is no such xlator, or it has not exactly one subvolume.
        """
        gone = self._named(name)
        child = _only_subvolume(gone)
        return Graph([_with_subvolumes(x, name, child) for x in self.xlators if x is not gone])

    def _named(self, name: str) -> Xlator:
        try:
            return self[name]
        except KeyError:
            raise VolfileError(f"no volume is called {name!r}") from None

    def _new_name(self, near: str, type_: str) -> str:
        """NEAR-locks for features/locks, and NEAR-locks-2 if there is one already."""
        taken = {xlator.name for xlator in self.xlators}
        first = name = f"{near}-{type_.rpartition('/')[2]}"
        number = 1
        while name in taken:
            number += 1
            name = f"{first}-{number}"
        return name


def _only_subvolume(xlator: Xlator) -> str:
    if len(xlator.subvolumes) != 1:
        number = len(xlator.subvolumes) or "no"
        raise xlator.error(f"has {number} subvolumes: which one is above the other is not clear")
    return xlator.subvolumes[0]


def _with_subvolumes(xlator: Xlator, old: str, new: str) -> Xlator:
    """The xlator, or if it has the subvolume `old`, one like it that has `new` instead."""
    if old not in xlator.subvolumes:
        return xlator
    return replace(xlator, subvolumes=[new if x == old else x for x in xlator.subvolumes])


def parse(text: str) -> Graph:
    """The graph that the text of a volfile defines; VolfileError says what is wrong where.

    An option that is given twice has its last value, as in GlusterFS.
    """
    return Graph([volume.xlator for volume in volumes(text)])


def check(text: str, types: Collection[str] | None = None) -> list[VolfileError]:
    """All that is wrong with the text of a volfile: one error of its syntax, or as `Graph.check`.

    Unlike `parse` it does not end at the first volume that does not fit.
    """
    try:
        found = volumes(text)
    except VolfileError as error:
        return [error]
    return rules.findings([volume.xlator for volume in found], types)


def read(path: Path) -> Graph:
    """The graph that the volfile at `path` defines; VolfileError names the file."""
    try:
        return parse(path.read_bytes().decode("utf-8", "surrogateescape"))
    except VolfileError as error:
        error.source = str(path)
        raise
