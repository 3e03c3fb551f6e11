"""The filter by which bricks of a volume get a leaf and translators that glusterd does not know.

glusterd runs it (`glusterd-filter`, which runs this) with each volfile that it has written. What
is asked for is in the volfile itself, since glusterd stores a volume's settings only later:
``gluster volume set VOL user.xlator.glupy posix user.xlator.glupy.leaf pyposix`` puts a node of
type user/glupy with option ``leaf`` right above posix. The filter does what the options say and
takes the node out. A volfile without that node stays as it is, so a second run changes nothing.

A setting of glusterd's cannot be taken back, only changed: `posix` and `none` say that nothing is
asked for.
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote, unquote

from . import Graph, Insert, VolfileError, Xlator, read, replace_file

LOG = Path("/var/log/glusterfs/glupy-filter.log")
TYPE = "user/glupy"
"""The type of the node that asks."""
POSIX = "storage/posix"
_LEAF, _BRICKS, _TRANSLATORS = KEYS = ("leaf", "bricks", "translators")
"""The options that ask. Others of the node are of a translator that option ``module`` names."""
_NONE = "none"


@dataclass(frozen=True)
class Request:
    """What is asked for the bricks of a volume. Types are whole (``storage/pyposix``)."""

    leaf: str = POSIX
    bricks: Mapping[str, str] = field(default_factory=dict)
    """Bricks (``HOST:PATH``) whose leaf is another one."""
    translators: Sequence[Insert] = ()
    """What is put above the leaf, from below."""

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> "Request":
        """The request in the options of a node; VolfileError if there is none in them.

        ``leaf=pyposix``, ``bricks=HOST:PATH=posix,…`` and ``translators=TYPE,KEY=VALUE,…+TYPE…``.
        In names and values all but letters, digits and ``_.-~/:@*`` is written as %XX.
        """
        bricks, translators = {}, []
        for text in _listed(options, _BRICKS, ","):
            brick, leaf = _pair(text)
            bricks[brick] = leaf_type(leaf)
        for text in _listed(options, _TRANSLATORS, "+"):
            type_, *pairs = text.split(",")
            translators.append((unquote(type_), dict(map(_pair, pairs))))
        return cls(leaf_type(unquote(options.get(_LEAF, POSIX))), bricks, translators)

    def options(self) -> dict[str, str]:
        """The options that `parse` makes this request of. All of them: each may have been set."""
        bricks = [f"{_word(brick)}={_short(leaf)}" for brick, leaf in self.bricks.items()]
        return {
            _LEAF: _short(self.leaf),
            _BRICKS: ",".join(bricks) or _NONE,
            _TRANSLATORS: "+".join(map(written, self.translators)) or _NONE,
        }

    def leaf_of(self, brick: str) -> str:
        """The type of a brick's leaf."""
        return self.bricks.get(brick, self.leaf)

    def leaf_in(self, volfile: Path, directory: str) -> str:
        """The type of the leaf of the brick that a volfile is of.

        Bricks of one directory on several hosts differ by the name of the volfile only.
        """
        dashed = directory.lstrip("/").replace("/", "-")
        for brick, leaf in self.bricks.items():
            host, _, path = brick.partition(":/")
            if f"/{path}" == directory and volfile.name.endswith(f".{host}.{dashed}.vol"):
                return leaf
        return self.leaf


def leaf_type(leaf: str) -> str:
    """The type of a leaf, in whose name ``storage/`` may be omitted; VolfileError if it is none."""
    type_ = leaf if "/" in leaf else f"storage/{leaf}"
    if not type_.startswith("storage/"):
        raise VolfileError(f"{type_!r} cannot be a leaf: features/locks wants a type in storage/")
    return type_


def written(translator: Insert) -> str:
    """A translator, as the request has it."""
    type_, options = translator
    pairs = [f"{_word(key)}={_word(value)}" for key, value in options.items()]
    return ",".join([_word(type_), *pairs])


def asking(graph: Graph) -> Iterator[Xlator]:
    """The nodes of a graph that ask for something: the filter leaves none of them."""
    for xlator in graph:
        # One with a module is a translator by itself.
        if xlator.type == TYPE and (xlator.options.keys() & KEYS or "module" not in xlator.options):
            yield xlator


def expanded(graph: Graph, volfile: Path) -> Graph:
    """What a graph is to be, by what it asks for itself. VolfileError if it asks what cannot be."""
    for node in asking(graph):
        graph = _expanded(graph, node, volfile)
    return graph


def _expanded(graph: Graph, node: Xlator, volfile: Path) -> Graph:
    others = {key: value for key, value in node.options.items() if key not in KEYS}
    if others and "module" not in others:
        raise node.error(f"option {next(iter(others))!r} is not one of {', '.join(KEYS)}")
    leaf = node
    while leaf.subvolumes:
        leaf = graph[leaf.subvolumes[0]]
    if "directory" not in leaf.options:
        raise leaf.error("is no storage translator: it has no directory")
    request = Request.parse(node.options)
    above = [*request.translators, *([(node.type, others)] if others else [])]
    taken = {xlator.name for xlator in graph if xlator is not node}
    inserted: list[Xlator] = []
    below = tuple(node.subvolumes)
    for type_, options in above:
        name = _free(f"{node.name.removesuffix('-glupy')}-{type_.rpartition('/')[2]}", taken)
        taken.add(name)
        inserted.append(Xlator(name, type_, options, below))
        below = (name,)
    xlators: list[Xlator] = []
    for xlator in graph:
        if xlator is node:
            xlators += inserted
        elif xlator is leaf:
            # Its name stays: glusterd gives it options by that.
            directory = leaf.options["directory"]
            xlators.append(replace(leaf, type=request.leaf_in(volfile, directory)))
        else:
            subvolumes = [below[0] if name == node.name else name for name in xlator.subvolumes]
            xlators.append(replace(xlator, subvolumes=subvolumes))
    return Graph(xlators)


def apply(volfile: Path) -> list[str]:
    """Do what a volfile asks for, in one step; its mode and owner stay.

    Returns the types that it has now and had not; of a volfile that asks for nothing, nothing.
    """
    graph = read(volfile)
    if not any(asking(graph)):
        return []
    new = expanded(graph, volfile)
    replace_file(volfile, str(new))
    before = {xlator.name: xlator.type for xlator in graph}
    return [xlator.type for xlator in new if before.get(xlator.name) != xlator.type]


def main(name: str) -> int:
    """Filter a volfile; return the exit status. What was done, or why not, is a line in the log."""
    try:
        types = apply(Path(name))
    except Exception as error:
        _log("E", name, str(error).removeprefix(f"{name}: ").partition("\n")[0])
        return 1
    if types:
        _log("I", name, ", ".join(types))
    return 0


def _log(level: str, name: str, text: str) -> None:
    now = time.strftime("%Y-%m-%d %H:%M:%S +0000", time.gmtime())
    line = f"[{now}] {level} {name}: {text}\n"
    try:
        with LOG.open("a", errors="surrogateescape") as log:
            log.write(line)
    except OSError:
        with suppress(OSError):
            sys.stderr.write(line)


def _listed(options: Mapping[str, str], key: str, separator: str) -> list[str]:
    text = options.get(key, _NONE)
    return [] if text == _NONE else text.split(separator)


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    if not key or not value:
        raise VolfileError(f"{text!r} is not NAME=VALUE")
    return unquote(key, errors="surrogateescape"), unquote(value, errors="surrogateescape")


def _word(text: str) -> str:
    return quote(text, safe="/:@*", errors="surrogateescape")


def _short(leaf: str) -> str:
    return _word(leaf.removeprefix("storage/"))


def _free(name: str, taken: set[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free
