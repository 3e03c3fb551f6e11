"""What clients are told of blocks: by statfs, and by what features/shard counts."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from glupy import stores
from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect

from .conftest import KEY, MIB
from .mapped import LEAVES, devices, write

pytestmark = pytest.mark.parametrize("leaf", LEAVES)

NOTHING = MIB // 4
"""What folders, extents and xattrs may take, in bytes."""


def free(client: Client, path: str = "/") -> int:
    found = client.statvfs(path)
    return found.f_bavail * found.f_frsize


def size(client: Client, path: str = "/") -> int:
    found = client.statvfs(path)
    return found.f_blocks * found.f_frsize


def near(one: float, other: float) -> bool:
    return abs(one - other) < NOTHING


def test_statfs_tells_of_brick_and_pool(
    make_brick: Callable[..., Brick],
    make_bd: Callable[..., Brick],
    connect: Connect,
    tmp_path: Path,
) -> None:
    """Less the reserves of both, as of posix's own."""
    without = connect(make_brick())
    with stores.store(tmp_path / "small", 64 * MIB, tmp_path / "mnt") as store:
        pool = store.folder / "pool"
        pool.mkdir()
        brick = make_bd(pool=pool)
        with connect(brick) as client:
            write(client, "/f", b"x" * 8 * MIB)
            client.setxattr("/f", KEY, b"thin:40MB")
            with client.open("/f") as file:
                for used in 8 * MIB, MIB:
                    file.discard(used, 40 * MIB)
                    file.fsync()
                    stores.run("sync", "--file-system", store.folder)
                    there = os.statvfs(pool)
                    assert (there.f_frsize, client.statvfs("/").f_frsize) == (1024, 4096)
                    for path in "/", "/f":
                        assert near(size(client, path) - size(without), there.f_blocks * 1024)
                        room = (there.f_bavail - there.f_blocks / 100) * 1024
                        assert near(free(client, path) - free(without), room)
                    assert near(file.fstat().st_blocks * 512, used)
            pool.rename(pool.with_name("away"))
            for path in "/", "/f":
                assert size(client, path) == size(without)
                assert near(free(client, path), free(without))
        brick.stop()


@pytest.mark.parametrize(
    ("options", "part"),
    [({"shared-brick-count": "2"}, 0.5), ({"export-statfs-size": "off"}, 0)],
)
def test_statfs_tells_as_much_of_the_pool_as_of_the_brick(
    make_brick: Callable[..., Brick],
    make_bd: Callable[..., Brick],
    connect: Connect,
    tmp_path: Path,
    options: dict[str, str],
    part: float,
) -> None:
    """Bricks of a volume that share a file system share the pool."""
    without = connect(make_brick(options=options))
    with stores.store(tmp_path / "small", 64 * MIB, tmp_path / "mnt") as store:
        brick = make_bd(pool=store.folder, options=options)
        with connect(brick) as client:
            there = os.statvfs(store.folder)
            assert near(size(client) - size(without), part * there.f_blocks * 1024)
            room = (there.f_bavail - there.f_blocks / 100) * 1024
            assert near(free(client) - free(without), part * room)
        brick.stop()


def test_statfs_counts_one_file_system_once(
    make_brick: Callable[..., Brick], client: Client, connect: Connect
) -> None:
    without = connect(make_brick())
    write(client, "/f", b"")
    client.setxattr("/f", KEY, b"thin:40MB")
    for path in "/", "/f":
        assert size(client, path) == size(without)
        assert near(free(client, path), free(without))


@pytest.mark.parametrize("bd_options", [{"map": "*=thin"}])
def test_shards_that_a_truncate_removes_take_their_blocks_along(
    brick: Brick, connect: Connect
) -> None:
    client = connect(brick, inserts=[("features/shard", {"shard-block-size": "4MB"})])
    with client.creat("/f") as file:
        file.pwrite(b"x" * 12 * MIB, 0)
        file.fsync()
        assert near(file.fstat().st_blocks * 512, 12 * MIB)
        file.ftruncate(2 * MIB)
        assert near(file.fstat().st_blocks * 512, 2 * MIB)


@pytest.mark.parametrize("bd_options", [{"map": "*=thin"}])
def test_atomic_updates_see_only_themselves(brick: Brick, connect: Connect, pool: Path) -> None:
    """features/shard adds up what each fop says it did to the blocks: that and no more."""
    client = connect(brick, inserts=[("features/shard", {"shard-block-size": "4MB"})])
    file = client.creat("/f")
    file.pwrite(b"x" * 4096, 8 * MIB - 4096)

    def work(number: int) -> None:
        offset = 4 * MIB + number % 60 * 65536
        file.pwrite(b"x" * 32768, offset)
        if number % 2:
            file.discard(offset, 16384)
        elif number % 4:
            file.zerofill(offset + 32768, 16384)

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(work, number) for number in range(240)]:
            done.result(60)
    file.fsync()
    blocks = sum(device.stat().st_blocks for device in devices(pool))
    assert abs(file.fstat().st_blocks - blocks) <= 8 * len(devices(pool))
