"""Volfiles: the graphs of translators that GlusterFS runs, built, printed, parsed and checked.

The one place of this project that writes or reads the text of a volfile.

>>> graph = brick("/bricks/one", leaf="posix", port=49160)
>>> graph.top.type
'protocol/server'
>>> parse(str(graph)) == graph
True
>>> graph.check()
[]
"""

from .compare import Difference, diff
from .graph import Graph, check, parse, read
from .recipes import (
    ARBITER,
    PORT,
    Address,
    brick,
    client,
    clients,
    disperse,
    distribute,
    leaf_graph,
    parse_insert,
    replicate,
    shard,
)
from .revise import replace_file, revise
from .rules import installed_types
from .words import VolfileError
from .xlator import Insert, Xlator

__all__ = [
    "ARBITER",
    "PORT",
    "Address",
    "Difference",
    "Graph",
    "Insert",
    "VolfileError",
    "Xlator",
    "brick",
    "check",
    "client",
    "clients",
    "diff",
    "disperse",
    "distribute",
    "installed_types",
    "leaf_graph",
    "parse",
    "parse_insert",
    "read",
    "replace_file",
    "replicate",
    "revise",
    "shard",
]
