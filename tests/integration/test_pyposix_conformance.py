"""What POSIX suites of others find over FUSE: pyposix fails nothing that C posix passes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import volfiles
from glupy.testing.logs import LogChecker
from glupy.testing.processes import Brick, FuseMount, free_port

if TYPE_CHECKING:
    from tests.integration import suites
else:  # pytest runs with this folder in sys.path
    import suites

LEAVES = "posix", "pyposix"
MANY_FILES = 180.0
"""Seconds that a client may take to end: it lets go of all files that it has ever met."""

# Suites provoke what is refused, and what is refused is logged.
pytestmark = [pytest.mark.allow_log(r".*")]


@pytest.mark.parametrize(
    ("suite", "at_least"),
    [
        pytest.param(suites.libfuse, 50, id="libfuse"),
        pytest.param(suites.open_posix, 50, id="open-posix", marks=pytest.mark.long),
        pytest.param(suites.python, 1000, id="python", marks=pytest.mark.long),
        pytest.param(suites.stress, 30, id="stress-ng", marks=pytest.mark.long),
    ],
)
def test_fails_nothing_that_c_passes(
    suite: Callable[[Path, Path], suites.Outcomes],
    at_least: int,
    brick_dir: Path,
    tmp_path: Path,
    logs: LogChecker,
) -> None:
    found: dict[str, suites.Outcomes] = {}
    for leaf in LEAVES:
        # As long as each other: some cases are for paths that a socket's address can hold.
        folders = [root / f"{leaf:_>7}" for root in (brick_dir, tmp_path)]
        for each in folders:
            each.mkdir()
        mountpoint, scratch = folders[1] / "mnt", folders[1] / "scratch"
        mountpoint.mkdir()
        scratch.mkdir()
        graph = volfiles.brick(folders[0], leaf=leaf, ctime=True, port=free_port())
        brick = Brick(graph, tmp_path / f"{leaf}-brick")
        mount = FuseMount(brick.client_graph(), mountpoint, tmp_path / f"{leaf}-fuse")
        with brick, contextlib.ExitStack() as stack:
            mount.start()
            stack.callback(mount.stop, MANY_FILES)
            found[leaf] = suite(mountpoint, scratch)
    c, ours = found["posix"], found["pyposix"]
    passed = [case for case, outcome in c.items() if outcome == suites.PASSED]
    failed = {
        leaf: {case: outcome for case, outcome in cases.items() if outcome != suites.PASSED}
        for leaf, cases in found.items()
    }
    print(f"C passes {len(passed)} of {len(c)}; {failed=}")
    assert len(passed) >= at_least
    worse = {case: ours.get(case) for case in passed if ours.get(case) != suites.PASSED}
    assert not worse
