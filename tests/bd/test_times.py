"""Times of a mapped file are in memory, until its stub has them by a fsync, flush, release or
forget: each of them alone."""

import contextlib
import os
import struct
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import volfiles
from glupy import keys
from glupy.testing.gfapi import Client, File
from glupy.testing.logs import LogChecker
from glupy.testing.processes import Brick, FuseMount, free_port
from glupy.testing.pytest_plugin import Connect
from glupy.testing.waiting import wait_until

from .conftest import KEY, MIB
from .mapped import LEAVES, SLOW, write

pytestmark = pytest.mark.parametrize("leaf", LEAVES)

TICK = 0.02
"""More than the file system's clock ticks in, in seconds."""


def mtime(path: Path) -> int:
    return path.stat().st_mtime_ns


def stored(stub: Path) -> list[int]:
    """The times that the stub has of a client's clock."""
    _, _, *numbers = struct.unpack(">BQ6q", os.getxattr(stub, keys.MDATA))
    return [numbers[each] * 10**9 + numbers[each + 1] for each in (0, 2, 4)]


def shown(client: Client) -> list[int]:
    found = client.stat("/f")
    return [found.st_ctime_ns, found.st_mtime_ns, found.st_atime_ns]


def discarded(file: File, stub: Path) -> int:
    """Change a file; return its mtime, which the stub does not have yet."""
    time.sleep(TICK)
    file.discard(0, 4096)
    told = file.fstat().st_mtime_ns
    assert mtime(stub) < told
    return told


@pytest.fixture
def mapped(client: Client) -> Client:
    write(client, "/f", b"x" * MIB)
    client.setxattr("/f", KEY, b"thin")
    return client


@pytest.mark.allow_log(
    r"forced unwinding frame",
    r"remote operation failed",
    r"Transport endpoint is not connected",
)
def test_fsync(
    make_bd: Callable[..., Brick], connect: Connect, brick: Brick, mapped: Client, backend: Path
) -> None:
    stub, file = backend / "f", mapped.open("/f")
    for sync in file.fdatasync, file.fsync:
        told = discarded(file, stub)
        sync()
        assert mtime(stub) == told
    brick.kill()
    with contextlib.suppress(OSError):
        file.close()
    assert connect(make_bd(backend)).stat("/f").st_mtime_ns == told


def test_all_times_with_a_clients_clock(
    make_bd: Callable[..., Brick], connect: Connect, brick_dir: Path
) -> None:
    folder = brick_dir / "brick"
    folder.mkdir()
    brick = make_bd(folder, ctime=True)

    with connect(brick) as client:
        write(client, "/f", b"x" * MIB)
        client.setxattr("/f", KEY, b"thin")
        with client.open("/f") as file:
            # In this order: a zerofill sets mtime and atime there, but no ctime.
            for change in lambda: file.zerofill(0, 4096), lambda: file.pwrite(b"y", 0):
                time.sleep(TICK)
                before = shown(client)
                change()
                now = shown(client)
                assert now != before
                assert stored(folder / "f") == before
                file.fsync()
                assert stored(folder / "f") == shown(client) == now
            time.sleep(TICK)
            file.pwrite(b"z", 0)
            now = shown(client)
            assert stored(folder / "f") != now
        assert stored(folder / "f") == now
    brick.stop()
    assert shown(connect(make_bd(folder, ctime=True))) == now


def test_flush(mapped: Client, backend: Path, mount: FuseMount) -> None:
    """The kernel sends one for each close, and a release only with the last one."""
    with (mount.mountpoint / "f").open("r+b", buffering=0) as file:
        time.sleep(TICK)
        os.pwrite(file.fileno(), b"y", 0)
        told = mapped.stat("/f").st_mtime_ns
        assert mtime(backend / "f") < told
        os.close(os.dup(file.fileno()))
        assert mtime(backend / "f") == told


def test_release(
    make_brick: Callable[..., Brick], brick_dir: Path, pool: Path, connect: Connect
) -> None:
    """What comes while a flush is on its way is stored by the release behind it."""
    slow = "features/glupy", {"module": SLOW, "fops": "flush", "milliseconds": "400"}
    folder = brick_dir / "brick"
    folder.mkdir()
    bd = "user/pybd", {"pool": f"loop:{pool}"}
    client = connect(make_brick(folder, inserts=[slow, bd], ctime=True))
    with client.creat("/f") as file:
        file.pwrite(b"x" * MIB, 0)
        client.setxattr("/f", KEY, b"thin")
        closing = threading.Thread(target=client.open("/f").close)
        closing.start()
        time.sleep(0.2)
        file.pwrite(b"y", 0)
        now = shown(client)
        assert stored(folder / "f") != now
        closing.join()
        wait_until(lambda: stored(folder / "f") == now)


def test_forget(
    leaf: str, brick_dir: Path, pool: Path, tmp_path: Path, connect: Connect, logs: LogChecker
) -> None:
    """features/shard opens no shard: its fds are anonymous, nobody flushes or releases them."""
    folder = brick_dir / "brick"
    folder.mkdir()
    mapping = "user/pybd", {"pool": f"loop:{pool}", "map": "*.1=thin"}
    *below, top = volfiles.brick(folder, leaf=leaf, port=free_port(), inserts=[mapping]).xlators
    top = replace(top, options={**top.options, "inode-lru-limit": "1"})
    shard = "features/shard", {"shard-block-size": "4MB"}
    with (
        Brick(volfiles.Graph([*below, top]), tmp_path / "brick") as brick,
        connect(brick, inserts=[shard]) as client,
    ):
        logs.watch(brick.log, brick.output)
        file = client.creat("/f")
        file.pwrite(b"x" * 4096, 5 * MIB)
        gfid = uuid.UUID(bytes=os.getxattr(folder / "f", "trusted.gfid"))
        stub = folder / ".shard" / f"{gfid}.1"
        assert KEY in os.listxattr(stub)
        time.sleep(TICK)
        before = mtime(stub)
        file.discard(5 * MIB, 4096)
        after = time.time_ns()
        assert mtime(stub) == before
        for number in range(10):
            client.creat(f"/{number}").close()
        wait_until(lambda: mtime(stub) > before)
        assert mtime(stub) < after
        file.close()
