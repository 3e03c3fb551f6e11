"""Where bricks of several files of tests lie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from glupy import stores

LONG = pytest.mark.long


@pytest.fixture(params=["ext4", *(pytest.param(kind, marks=LONG) for kind in ("xfs", "btrfs"))])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of a test's own, of each kind; ask for it before what runs on it."""
    kind = request.param
    with stores.store(tmp_path / "image", 1 << 30, tmp_path / "store", kind=kind) as store:
        yield store.folder
