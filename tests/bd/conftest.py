"""Bricks with user/pybd over each posix, and a pool of loop files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glupy.testing import failing
from glupy.testing.processes import Brick

MIB = 1 << 20
KEY = "user.glusterfs.bd"


@pytest.fixture
def pool(brick_dir: Path) -> Path:
    """A pool on the store, beside the bricks."""
    folder = brick_dir / "pool"
    folder.mkdir()
    return folder


@pytest.fixture
def sector_size() -> int:
    return 512


@pytest.fixture
def bd_options() -> dict[str, str]:
    """Options of user/pybd beside its pool."""
    return {}


@pytest.fixture
def make_bd(
    make_brick: Callable[..., Brick], pool: Path, sector_size: int, bd_options: dict[str, str]
) -> Callable[..., Brick]:
    def make(
        directory: Path | None = None, *, above: Any = (), pool: Path = pool, **recipe: Any
    ) -> Brick:
        options = {"pool": f"loop:{pool}", "sector-size": str(sector_size), **bd_options}
        return make_brick(directory, inserts=[("user/pybd", options), *above], **recipe)

    return make


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """Where `failing` is told what fails."""
    folder = tmp_path / "orders"
    folder.mkdir()
    return folder


@pytest.fixture
def over_failing(
    make_brick: Callable[..., Brick], brick_dir: Path, pool: Path, orders: Path
) -> Brick:
    """A brick below whose pybd fops fail as `orders` say; its folder is `brick`."""
    directory = brick_dir / "brick"
    directory.mkdir()
    fails = "features/glupy", {"module": f"{failing.__name__}:Failing", "orders": str(orders)}
    return make_brick(directory, inserts=[fails, ("user/pybd", {"pool": f"loop:{pool}"})])


@pytest.fixture
def brick(make_bd: Callable[..., Brick]) -> Brick:
    return make_bd()


@pytest.fixture
def rules(mapped: str) -> dict[str, str]:
    """The option that maps all files by their names, if a test wants that."""
    return {"map": "*=thin"} if mapped == "by-name" else {}
