"""What makes a graph of xlators, and a graph that GlusterFS runs as it is meant.

`structure` is what there is no graph without: a `Graph` refuses it. `findings` is that and
whatever else GlusterFS 10.3 refuses when it starts the graph, or accepts and then does wrongly;
everything that glusterd writes is without findings. Each is a VolfileError that names the node
and its line.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from .words import VolfileError
from .xlator import Xlator

# How many subvolumes a type takes: the least, the most, and how that is said.
_MANY = 1 << 16
_NUMBERS = {
    type_: numbers
    for numbers, types in (
        # These refuse to start with any other number…
        (
            (1, 1, "one"),
            """
            debug/delay-gen debug/error-gen debug/trace
            features/arbiter features/barrier features/cdc features/changelog
            features/gfid-access features/index features/locks features/namespace
            features/posix-locks features/quiesce features/quota features/read-only features/sdfs
            features/selinux features/shard features/thin-arbiter features/trash features/worm
            performance/io-cache performance/io-threads performance/open-behind
            performance/quick-read performance/read-ahead performance/readdir-ahead
            performance/write-behind playground/template
            """,
        ),
        ((2, 2, "two"), "features/snapview-client"),
        ((3, _MANY, "at least three"), "cluster/disperse cluster/ec"),
        (
            (1, _MANY, "at least one"),
            """
            cluster/afr cluster/dht cluster/distribute cluster/nufa cluster/replicate
            cluster/switch debug/io-stats features/bit-rot features/quotad nfs/server
            protocol/server
            """,
        ),
        ((0, 0, "none"), "protocol/client"),
        # …and these ask the first, and never any other.
        (
            (1, 1, "one"),
            """
            features/access-control features/bitrot-stub features/cloudsync features/leases
            features/marker features/upcall features/utime
            performance/md-cache performance/nl-cache performance/stat-prefetch
            system/posix-acl
            """,
        ),
    )
    for type_ in types.split()
}
_LOCKS = "features/locks", "features/posix-locks"
_LEAF = "storage/"
# They only export their subvolumes by name, so these may have another parent too.
_EXPORTING = "protocol/server", "nfs/server"


def installed_types(folder: Path) -> frozenset[str]:
    """The types in GlusterFS' folder of xlators (``glusterfsd --print-xlatordir``)."""
    files = (path for path in folder.rglob("*.so") if path.is_file())
    return frozenset(str(path.relative_to(folder).with_suffix("")) for path in files)


def structure(xlators: Sequence[Xlator]) -> Iterator[VolfileError]:
    """What keeps these xlators from being a graph; the order is that of the file."""
    if not xlators:
        yield VolfileError("no volume is defined")
    below: set[str] = set()
    children = {xlator.name: xlator.subvolumes for xlator in xlators}
    cycles: set[frozenset[str]] = set()
    for xlator in xlators:
        if xlator.name in below:
            yield xlator.error("a volume of this name is defined already")
        if not xlator.options and not xlator.subvolumes:
            yield xlator.error("has neither an option nor a subvolume")
        for subvolume in dict.fromkeys(xlator.subvolumes):
            if subvolume in below:
                continue
            if subvolume not in children:
                yield xlator.error(f"subvolume {subvolume!r} is not defined")
            elif not (cycle := _path(children, subvolume, xlator.name)):
                yield xlator.error(f"subvolume {subvolume!r} is defined only after it")
            elif frozenset(cycle) not in cycles:
                cycles.add(frozenset(cycle))
                yield xlator.error("is in a cycle: " + " -> ".join([xlator.name, *cycle]))
        below.add(xlator.name)


def _path(children: Mapping[str, Sequence[str]], start: str, end: str) -> list[str]:
    """The names on a shortest way down from `start` to `end`, both included; empty if none."""
    came_from: dict[str, str | None] = {start: None}
    for name in (queue := [start]):
        if name == end:
            way: list[str] = []
            step: str | None = end
            while step is not None:
                way.insert(0, step)
                step = came_from[step]
            return way
        for child in children.get(name, ()):
            if child not in came_from:
                came_from[child] = name
                queue.append(child)
    return []


def findings(xlators: Sequence[Xlator], types: Collection[str] | None = None) -> list[VolfileError]:
    """All that is wrong, line by line; `types` are those that there are, None if nobody knows."""
    found = [*structure(xlators)]
    nodes = {xlator.name: xlator for xlator in xlators}
    parents: dict[str, list[Xlator]] = {name: [] for name in nodes}
    for xlator in nodes.values():
        for subvolume in xlator.subvolumes:
            parents.get(subvolume, []).append(xlator)
    for xlator in nodes.values():
        if types is not None and xlator.type not in types:
            found.append(xlator.error(f"type {xlator.type!r} is not installed"))
        found += _number(xlator)
        found += _options(xlator)
        if xlator.type in _LOCKS:
            found += _locks(nodes, xlator)
        found += _parents(xlator, parents[xlator.name])
        if not parents[xlator.name] and xlator.name != xlators[-1].name:
            found.append(xlator.error(f"nobody asks it: the top is {xlators[-1].name!r}"))
    return sorted(found, key=lambda error: error.line or 0)


def _number(xlator: Xlator) -> Iterator[VolfileError]:
    number = len(xlator.subvolumes)
    least, most, meant = _NUMBERS.get(xlator.type, (0, _MANY, ""))
    if xlator.type.startswith(_LEAF):
        most, meant = 0, "none"
    if not least <= number <= most:
        has = f"{number or 'no'} subvolume{'' if number == 1 else 's'}"
        yield xlator.error(f"has {has}: {xlator.type} takes {meant}")


def _options(xlator: Xlator) -> Iterator[VolfileError]:
    """Options that must agree with the subvolumes."""
    number = len(xlator.subvolumes)
    if xlator.type in ("cluster/disperse", "cluster/ec"):
        text = xlator.options.get("redundancy", "(none)")
        most = (number - 1) // 2
        if number >= 3 and not (text.isdecimal() and 1 <= int(text) <= most):
            yield xlator.error(f"redundancy {text}: {number} subvolumes take 1 to {most}")
    if xlator.type in ("cluster/replicate", "cluster/afr"):
        text = xlator.options.get("afr-pending-xattr", "")
        named = len([*filter(None, text.split(","))])
        if text and named != number:
            yield xlator.error(f"afr-pending-xattr has {named} names for {number} subvolumes")


def _locks(nodes: dict[str, Xlator], locks: Xlator) -> Iterator[VolfileError]:
    """As features/locks itself does, look for the leaf below the first subvolume of each."""
    seen: set[str] = set()
    leaf = locks
    while leaf.subvolumes and leaf.name not in seen:
        seen.add(leaf.name)
        if leaf.subvolumes[0] not in nodes:
            return
        leaf = nodes[leaf.subvolumes[0]]
    if leaf is not locks and not leaf.subvolumes and not leaf.type.startswith(_LEAF):
        where = "" if leaf.line is None else f" in line {leaf.line}"
        yield locks.error(
            f"{locks.type} wants a leaf in storage/: {leaf.name!r}{where} is {leaf.type}"
        )


def _parents(xlator: Xlator, parents: list[Xlator]) -> Iterator[VolfileError]:
    if xlator.type == "protocol/server":
        for parent in parents:
            yield xlator.error(f"nothing may be above protocol/server: {parent.name!r} is")
    names = [parent.name for parent in parents if parent.type not in _EXPORTING]
    for name, times in Counter(names).items():
        if times > 1:
            yield xlator.error(f"{name!r} has it as a subvolume {times} times")
    if len(others := list(dict.fromkeys(names))) > 1:
        several = ", ".join(map(repr, others))
        yield xlator.error(f"is a subvolume of {several}: one is meant")
