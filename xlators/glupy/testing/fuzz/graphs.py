"""What can be told of a client by its graph."""

import volfiles
from glupy.constants import bytesize

FRAGMENT = 512
"""Bytes of a stripe that go to one brick: cluster/disperse has no other."""
SHARD = "64MB"
"""The size of a shard, where the graph has no other."""
_FAITHFUL = {"performance/io-threads", "performance/readdir-ahead"}
"""Those of performance/* that keep neither data nor attributes."""


def boundaries(graph: volfiles.Graph) -> tuple[int, ...]:
    """Where stripes and shards end: the first ones of each size."""
    found: list[int] = []
    for node in graph:
        if node.type == "features/shard":
            size = bytesize(node.options.get("shard-block-size", SHARD))
            found += size, 2 * size
        elif node.type == "cluster/disperse":
            found.append(FRAGMENT * (len(node.subvolumes) - int(node.options["redundancy"])))
    return tuple(dict.fromkeys(found))


def why_alone(graph: volfiles.Graph) -> str | None:
    """Why there cannot be two such clients at once, each seeing what the other does; None: there
    can."""
    for node in graph:
        if not node.subvolumes and node.type != "protocol/client":
            return f"one, {node.type} is in its own process"
        if node.type == "features/shard":
            return "one, shard keeps a file's size to itself, and adds to that"
        if node.type.startswith("performance/") and node.type not in _FAITHFUL:
            return f"one, {node.type} may not see what another does"
    return None
