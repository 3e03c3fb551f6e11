"""Sides that several files of tests use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

import volfiles
from glupy.testing.processes import free_port

from .asking import Asking, Running, run_both
from .comparing import LEAVES, PLACES
from .sides import served


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Asking]]:
    """Both on the same file system."""
    scratch = tmp_path_factory.mktemp("asking")
    with contextlib.ExitStack() as stack:
        found: list[Any] = []
        for leaf in LEAVES:
            folder = scratch / PLACES[leaf]
            folder.mkdir()
            options = {"janitor-sleep-duration": "600"}
            graph = volfiles.brick(folder, leaf=leaf, port=free_port(), options=options)
            found.append(stack.enter_context(served(graph, folder, scratch, leaf, kind=Asking)))
        yield found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Running]]:
    """The same, of bricks whose options change."""
    scratch = tmp_path_factory.mktemp("running")
    with run_both({leaf: scratch / PLACES[leaf] for leaf in LEAVES}, scratch) as found:
        yield found
