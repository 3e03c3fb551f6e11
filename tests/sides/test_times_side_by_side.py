"""The same fops with a client's clock (option ctime): both leaves set the same times of same files.

Bricks of one volume are compared by cluster/disperse: where their trusted.glusterfs.mdata differ it
heals nothing. features/utime in the client's graph gives each fop its time, so a time that the
xattr has tells which fop has set it.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

import volfiles
from glupy.testing.processes import free_port
from pyposix.metadata import Times

from .comparing import LEAVES, PLACES, compared, judged
from .scenarios import SCENARIOS
from .sides import Outcome, Side, served

pytestmark = [
    pytest.mark.allow_log(r".*"),
    pytest.mark.of_10_3,
]

MDATA = "trusted.glusterfs.mdata"
SECOND = 1_000_000_000  # nanoseconds
BY_HAND = "xattring"
"""It removes the xattr itself; `times_told` compares what comes of setting it."""
OF_NAMES = {"rename-over-link", "rename-between-links"}
"""Rows of docs/differences.md that are about gfid2path, not about times."""
TAKEN = "times: disk: making/file"
"""A directory was made there with the gfid of that file, by which pyposix knows files."""


class Timed(Side):
    """A side that knows when it sent which fop."""

    def begin(self, name: str) -> None:
        """Start over."""
        self._begun: list[int] = []
        super().begin(name)

    def do(self, fop: str, *given: Any, **more: Any) -> Any:
        """Wind a fop, and note when."""
        self._begun.append(time.time_ns())
        return super().do(fop, *given, **more)

    def disk(self) -> dict[str, Any]:
        """Return also which fops have set the times of all that is below ``base``: their numbers,
        0 for none of them."""
        found = super().disk()
        for label in [label for label in found if label.startswith("disk: ")]:
            path = self.folder / label.removeprefix("disk: ")
            with contextlib.suppress(OSError):
                times = Times.decode(os.getxattr(path, MDATA, follow_symlinks=False))
                assert times is not None
                found[f"times: {label}"] = {
                    name: bisect.bisect(self._begun, seconds * SECOND + more)
                    for name, (seconds, more) in times._asdict().items()
                }
        return found


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Side]]:
    scratch = tmp_path_factory.mktemp("times")
    with contextlib.ExitStack() as stack:
        found = {}
        for leaf in LEAVES:
            folder = scratch / PLACES[leaf]
            folder.mkdir()
            options = {"janitor-sleep-duration": "600"}
            graph = volfiles.brick(folder, leaf=leaf, port=free_port(), ctime=True, options=options)
            found[leaf] = stack.enter_context(served(graph, folder, scratch, leaf, kind=Timed))
        yield found


def is_times(outcome: Outcome) -> bool:
    return outcome.label.startswith("times: ")


@pytest.mark.parametrize("name", sorted(SCENARIOS.keys() - {BY_HAND}))
def test_same_times(name: str, timed: dict[str, Side]) -> None:
    pairs = compared(timed.values(), name, SCENARIOS[name])
    pairs = [
        (c._replace(differs=None) if is_times(c) and c.differs in OF_NAMES else c, ours)
        for c, ours in pairs
    ]
    wrong = judged(pairs)
    wrong = [line for line in wrong if not line.startswith(TAKEN)]
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:50])
