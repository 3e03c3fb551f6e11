"""What a pool or a brick has no room for has not happened, and what was there stays."""

import errno
import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from glupy import stores
from glupy.testing import failing
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect

from .conftest import KEY, MIB
from .mapped import LEAVES, ONE_LEAF, REFUSED, devices, read, refuses, write

DATA = bytes(range(1, 251)) * 4096 * 8
"""8,192,000 bytes."""


@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.allow_log(
    r"is not unmapped|is full|No space left on device|errno=28|Unable to write|space"
)
def test_a_file_that_cannot_be_unmapped_for_want_of_space_stays_mapped(
    make_bd: Callable[..., Brick], connect: Connect, pool: Path, tmp_path: Path
) -> None:
    """The last of its data has room in part."""
    folders = tmp_path / "small", tmp_path / "mnt"
    with stores.store(folders[0], 64 * MIB, folders[1]) as small, ExitStack() as undo:
        backend = small.folder / "brick"
        backend.mkdir()
        undo.callback((brick := make_bd(backend, options={"reserve": "0"})).stop)
        undo.callback((client := connect(brick)).close)
        write(client, "/f", DATA)
        client.setxattr("/f", KEY, b"thin:16MB")
        os.sync()  # what the file had takes no room any more
        with (small.folder / "ballast").open("wb") as out:
            os.posix_fallocate(out.fileno(), 0, _free(small.folder) - len(DATA) + 60_000)
        refuses(errno.ENOSPC, partial(client.removexattr, "/f", KEY))
        assert read(client, "/f", len(DATA)) == DATA
        assert len(devices(pool)) == 1
        assert client.getxattr("/f", KEY) == b"thin:16777216"


@pytest.mark.parametrize("leaf", ONE_LEAF)
@pytest.mark.parametrize("bd_options", [{"reserve": "50"}])
@pytest.mark.allow_log(r"No space left on device|errno=28|is full")
def test_the_reserve_of_a_pool_is_not_for_a_fallocate(
    make_bd: Callable[..., Brick], connect: Connect, tmp_path: Path
) -> None:
    folders = tmp_path / "small", tmp_path / "mnt"
    with stores.store(folders[0], 64 * MIB, folders[1]) as small, ExitStack() as undo:
        pool = small.folder / "pool"
        pool.mkdir()
        undo.callback((brick := make_bd(pool=pool)).stop)
        undo.callback((client := connect(brick)).close)
        with client.creat("/f") as file:
            file.ftruncate(100 * MIB)
        client.setxattr("/f", KEY, b"thin:100MB")
        with client.open("/f") as file:
            free = _free(small.folder)
            refuses(errno.ENOSPC, partial(file.fallocate, 0, free * 3 // 4))
            assert file.fstat().st_blocks == 0
            file.fallocate(0, free // 4)


def _free(folder: Path) -> int:
    stat = os.statvfs(folder)
    return stat.f_bfree * stat.f_frsize


@pytest.mark.parametrize("leaf", ONE_LEAF)
@pytest.mark.allow_log(*REFUSED, r"Input/output error")
def test_a_snapshot_that_failed_is_none(
    over_failing: Brick, connect: Connect, brick_dir: Path, orders: Path
) -> None:
    """Or a merge of what takes its place would overwrite what it was to be made of."""
    backend, client = brick_dir / "brick", connect(over_failing)
    write(client, "/f", b"data" * 1000)
    client.setxattr("/f", KEY, b"thin")
    client.creat("/snap").close()
    gfid = os.getxattr(backend / "snap", "trusted.gfid").hex()
    failing.order(orders, "truncate", errno.EIO)
    refuses(errno.EIO, partial(client.setxattr, "/f", "snapshot", gfid.encode()))
    assert not list(orders.glob("truncate"))
    assert not any("origin" in key for key in os.listxattr(backend / "snap"))
    client.setxattr("/snap", KEY, b"thin:1MB")
    refuses(errno.EINVAL, partial(client.setxattr, "/snap", "merge", b"1"))
    assert read(client, "/f", 4000) == b"data" * 1000
