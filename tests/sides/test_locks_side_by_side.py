"""Locks and leases on a brick that has no translators to answer them: what the leaf itself says."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest

import volfiles
from glupy.testing.processes import free_port
from glupy.views import Flock, Lease

from .comparing import LEAVES, PLACES, check, compared
from .sides import Side, served

pytestmark = [pytest.mark.allow_log(r".*"), pytest.mark.of_10_3]

WRITE_LOCK, SET_LOCK = 1, 6  # as protocol/client has them
LOCK, EXCLUSIVE = 2, 1  # of a name, without waiting


def locking(side: Side) -> None:
    file = side.created("file")
    lock = Flock()
    lock.l_type, lock.l_len = WRITE_LOCK, 10
    side.do("lk", file, SET_LOCK, lock)
    side.do("inodelk", "domain", "file", SET_LOCK, lock)
    side.do("finodelk", "domain", file, SET_LOCK, lock)
    side.do("entrylk", "domain", "file", "name", LOCK, EXCLUSIVE)
    side.do("fentrylk", "domain", file, "name", LOCK, EXCLUSIVE)
    side.do("lease", "file", Lease())


def test_a_brick_without_locks(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        sides = []
        for leaf in LEAVES:
            folder = tmp_path / PLACES[leaf]
            folder.mkdir()
            graph = volfiles.brick(folder, leaf=leaf, port=free_port())
            (locks,) = (each.name for each in graph if each.type == "features/locks")
            sides.append(stack.enter_context(served(graph.remove(locks), folder, tmp_path, leaf)))
        pairs = compared(sides, "locks", locking, disk=False)
        check(pairs)
    assert [c.answer["op_errno"] for c, _ in pairs][-6:] == ["ENOSYS"] * 6
    for leaf in LEAVES:
        log = (tmp_path / leaf / "log").read_text()
        assert re.findall(r" C \[.*(features/\w+)", log) == ["features/locks", "features/leases"]
