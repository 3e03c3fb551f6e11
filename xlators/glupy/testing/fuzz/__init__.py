"""Property-based tests of fops on any graph: sequences of calls, a model, and what differs.

>>> with open_target("pyposix") as ground:
...     finding = Search(ground).run(examples=1000, seed=0)
"""

from glupy.testing.fuzz.machine import Search
from glupy.testing.fuzz.model import Promises
from glupy.testing.fuzz.runner import Finding, Ground, Mismatch, Runner, replay
from glupy.testing.fuzz.targets import TargetError, open_target

__all__ = [
    "Finding",
    "Ground",
    "Mismatch",
    "Promises",
    "Runner",
    "Search",
    "TargetError",
    "open_target",
    "replay",
]
