"""Volfiles: the graphs of translators that GlusterFS runs, built, printed, parsed and checked.

The one place of this project that writes or reads the text of a volfile.

>>> graph = brick("/bricks/one", leaf="posix", port=49160)
>>> graph.top.type
'protocol/server'
>>> parse(str(graph)) == graph
True
"""

from .graph import Graph, Xlator, parse, read
from .recipes import PORT, Insert, brick, client, leaf_graph, parse_insert
from .words import VolfileError

__all__ = [
    "PORT",
    "Graph",
    "Insert",
    "VolfileError",
    "Xlator",
    "brick",
    "client",
    "leaf_graph",
    "parse",
    "parse_insert",
    "read",
]
