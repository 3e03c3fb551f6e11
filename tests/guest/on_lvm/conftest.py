"""A volume group with a thin pool, and clients whose bricks are in this very process."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import volfiles
from glupy.stores.loops import loop_device
from glupy.testing.gfapi import Client
from glupy.testing.logs import LogChecker
from pybd.orphans import Orphans

from .volumes import (
    CHUNK,
    EXTENT,
    GROUP,
    MIB,
    NOT_WIPED,
    OLD,
    THICK,
    THIN,
    THIN_POOL,
    THIN_POOL_SIZE,
    Open,
    command,
    empty,
    soil,
)


@pytest.fixture(scope="session")
def loop_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A volume group on a loop device, and a thin pool in it."""
    image = tmp_path_factory.mktemp("group") / "image"
    with image.open("wb") as file:
        file.truncate(300 * MIB)
    with loop_device(image) as device:
        command("vgcreate", "--physicalextentsize", f"{EXTENT}b", GROUP, device)
        size = ("--size", f"{THIN_POOL_SIZE}b", "--chunksize", f"{CHUNK}b")
        command("lvcreate", "--type", "thin-pool", *size, "--name", THIN_POOL, GROUP)
        yield
        command("vgremove", "--force", "--yes", GROUP)


@pytest.fixture
def group(loop_group: None) -> Iterator[str]:
    yield GROUP
    empty(GROUP)


@pytest.fixture
def soiled(group: str) -> str:
    """The group, with old data wherever it has room."""
    soil("100%FREE")
    command("lvcreate", *NOT_WIPED, "--extents", "1", "--name", "probe", group)
    assert Path(f"/dev/{group}/probe").read_bytes() == OLD * EXTENT
    command("lvremove", "--yes", f"{group}/probe")
    return group


@pytest.fixture
def in_this_process(
    brick_dir: Path, tmp_path: Path, logs: LogChecker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Open]:
    """`in_this_process(pool, …)`: a client with pyposix and pybd, and maybe more options of that,
    in this very process.

    It does not look for lost devices, which would take its time here. Bricks do, see life.py.
    """

    async def patrol(_: Orphans) -> None:
        pass

    monkeypatch.setattr(Orphans, "patrol", patrol)
    with contextlib.ExitStack() as stack:

        def make(pool: str, **options: str) -> Client:
            log = tmp_path / "in-process.log"
            logs.watch(log)
            inserts = [("user/pybd", {"pool": pool, **options})]
            graph = volfiles.leaf_graph(brick_dir, inserts=inserts)
            return stack.enter_context(Client(graph, log=log))

        yield make


@pytest.fixture
def thin(group: str, in_this_process: Open) -> Client:
    return in_this_process(THIN)


@pytest.fixture
def thick(group: str, in_this_process: Open) -> Client:
    return in_this_process(THICK)


@pytest.fixture(params=[pytest.param(1, id="bounded"), pytest.param(50, marks=pytest.mark.long)])
def times(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found
