"""Property-based tests of fops on any graph: sequences of calls, a model, and what differs.

>>> with open_target("pyposix") as ground:
...     finding = Search(ground).run(examples=1000, seed=0)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from glupy.testing.fuzz.faults import FAULTS, FaultError
from glupy.testing.fuzz.ground import Ground
from glupy.testing.fuzz.model import FileModel, Promises
from glupy.testing.fuzz.outcome import Finding, Mismatch
from glupy.testing.fuzz.runner import Runner, replay
from glupy.testing.fuzz.targets import (
    GFAPI,
    TargetError,
    behind_rpc,
    ground_of,
    mapped,
    of_posix,
    open_target,
)

if TYPE_CHECKING:
    from glupy.testing.fuzz.rules import RULES, DataRules, NameRules, XattrRules
    from glupy.testing.fuzz.search import Search
    from glupy.testing.fuzz.space import giving_back

__all__ = [
    "FAULTS",
    "GFAPI",
    "RULES",
    "DataRules",
    "FaultError",
    "FileModel",
    "Finding",
    "Ground",
    "Mismatch",
    "NameRules",
    "Promises",
    "Runner",
    "Search",
    "TargetError",
    "XattrRules",
    "behind_rpc",
    "giving_back",
    "ground_of",
    "mapped",
    "of_posix",
    "open_target",
    "replay",
]


def __getattr__(name: str) -> Any:
    """What makes sequences up needs Hypothesis; what does them again does not."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = {"giving_back": "space", "Search": "search"}.get(name, "rules")
    return getattr(import_module(f"glupy.testing.fuzz.{room}"), name)
