"""What fails has an errno that says why, one line in the log, and touches nothing else."""

import contextlib
import errno
import fcntl
import os
import struct
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from glupy import stores
from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect

from .conftest import KEY, MIB
from .mapped import ONE_LEAF, devices, fill, inserted, read, refuses, write

# Of the translators above, which log each fop that fails, and of C posix.
pytestmark = [
    pytest.mark.parametrize("leaf", ONE_LEAF),
    pytest.mark.allow_log(
        *(r"-pybd: ", r"errno=", r"error=Input/output", r"error: Input/output", r"setxattr"),
        r"forced unwinding .*\(RELEASE",  # of the last closes, when a brick ends
        r"_fill_writev_xdata",  # C posix's put writes before the inode is linked
    ),
]

PUT = inserted("put:Put")
INSIDE = inserted("inside:Inside")

_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, fs/ext4/ext4.h; XFS_IOC_GOINGDOWN
_NO_FLUSH = 2
_LOOP_CLR_FD = 0x4C01  # linux/loop.h
_BLKFLSBUF = 0x1261  # linux/fs.h

LOST = b"lost" * (MIB // 4)
"""More than what `fill` may leave; whole pages, so that nothing has to be read."""


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own for the pool."""
    with stores.store(tmp_path / "small", 64 * MIB, tmp_path / "mnt") as store:
        yield store.folder


@pytest.fixture
def pool(small: Path) -> Path:
    folder = small / "pool"
    folder.mkdir()
    return folder


@contextlib.contextmanager
def serving(brick: Brick) -> Iterator[Brick]:
    """It ends before its pool goes."""
    try:
        yield brick
    finally:
        brick.stop()


@pytest.fixture
def brick(make_bd: Callable[..., Brick], small: Path) -> Iterator[Brick]:
    with serving(make_bd(above=[PUT, INSIDE])) as brick:
        yield brick


def gfid_of(path: Path) -> str:
    return str(uuid.UUID(bytes=os.getxattr(path, "trusted.gfid")))


def said(brick: Brick) -> list[str]:
    """Lines of pybd in the log that complain of a file: not of the pool, which it looks at when it
    likes."""
    lines = [line for line in brick.log_text().splitlines() if "-pybd: " in line]
    of_pool = "the pool is full", "devices cannot be looked through"
    return [
        line
        for line in lines
        if line.split("] ")[1][0] in "EW" and not any(each in line for each in of_pool)
    ]


def test_orders(brick: Brick, client: Client, pool: Path, backend: Path) -> None:
    """Each order that is refused leaves files and pool as they were."""
    write(client, "/f", b"x" * 5000)
    write(client, "/big", b"y" * 8 * MIB)
    write(client, "/empty", b"")
    write(client, "/mapped", b"z" * MIB)
    client.setxattr("/mapped", KEY, b"thin")
    client.mkdir("/d")
    client.mknod("/fifo", 0o010644)
    gfid = os.getxattr(backend / "empty", "trusted.gfid").hex()
    full = r"No space left on device"
    orders = [
        ("/f", KEY, "thin:4999", errno.EINVAL, "the file has 5000 bytes, more than 4999"),
        ("/f", KEY, "thin:x", errno.EINVAL, "'x'"),
        ("/f", KEY, "thick", errno.EINVAL, "'thick' is not thin, lv, thin:SIZE or lv:SIZE"),
        ("/f", KEY, "lv", errno.EOPNOTSUPP, "Operation not supported"),
        ("/d", KEY, "thin", errno.EOPNOTSUPP, "Operation not supported"),
        ("/fifo", KEY, "thin", errno.EOPNOTSUPP, "Operation not supported"),
        ("/mapped", KEY, "thin", errno.EEXIST, "File exists"),
        ("/mapped", "clone", "5a" * 16, errno.EINVAL, "there is no file"),
        ("/mapped", "clone", "x", errno.EINVAL, "'x' is not GFID or GFID:SIZE"),
        ("/f", "clone", gfid, errno.EINVAL, "that file is not mapped"),
        ("/mapped", "snapshot", f"{gfid}:{1 << 62}", errno.EFBIG, "File too large"),
        ("/mapped", "merge", "1", errno.EINVAL, "that is no snapshot"),
    ]
    for path, key, value, number, why in orders:
        refused(brick, pool, partial(client.setxattr, path, key, value.encode()), number, why)
    refused(brick, pool, partial(client.removexattr, "/f", KEY), errno.ENODATA, None)
    ballast = fill(pool.parent)
    map_big = partial(client.setxattr, "/big", KEY, b"thin")
    refused(brick, pool, map_big, errno.ENOSPC, full)
    clone = partial(client.setxattr, "/mapped", "clone", gfid.encode())
    refused(brick, pool, clone, errno.ENOSPC, full)
    ballast.unlink()
    away = pool.with_suffix(".away")
    pool.rename(away)
    refused(brick, away, map_big, errno.ENODEV, f"there is no directory {pool}")
    away.rename(pool)
    assert read(client, "/f") == b"x" * 5000
    assert read(client, "/big") == b"y" * 8 * MIB
    assert read(client, "/mapped") == b"z" * MIB
    assert client.stat("/empty").st_size == 0
    map_big()
    client.setxattr("/mapped", "clone", gfid.encode())
    assert read(client, "/empty") == b"z" * MIB


def refused(
    brick: Brick, pool: Path, order: Callable[[], object], number: int, why: str | None
) -> None:
    before, there = said(brick), devices(pool)
    refuses(number, order)
    lines = said(brick)[len(before) :]
    assert len(lines) == (why is not None), lines
    assert why is None or why in lines[0]
    assert devices(pool) == there


def test_a_pool_that_fills_up(brick: Brick, client: Client, pool: Path) -> None:
    """What is on its way then is lost, and whoever asks for it is told; the next is refused."""
    write(client, "/f", b"x" * MIB)
    client.setxattr("/f", KEY, b"thin:60MB")
    with client.open("/f") as file:
        file.fsync()
        file.pwrite(b"X", 0)  # there is room
        fill(pool.parent)
        file.pwrite(b"y" * MIB, 20 * MIB)
        refuses(errno.EIO, file.fsync)
        refuses(errno.ENOSPC, lambda: file.pwrite(b"z" * MIB, 30 * MIB))
        file.pwrite(b"xx", 0)
        file.discard(20 * MIB, MIB)
        file.fsync()
        assert file.pread(MIB, 0).value == b"x" * MIB
        assert file.pread(MIB, 20 * MIB).value == bytes(MIB)
    assert len(said(brick)) == 1
    assert brick.log_text().count("the pool is full") == 1


@pytest.mark.parametrize("first", ["fsync", "lseek", "O_DSYNC"])
def test_each_handle_is_told_of_what_was_lost(
    brick: Brick, client: Client, pool: Path, first: str
) -> None:
    """Once, as of a plain file; whoever was told before, and of whatever he had asked for."""
    write(client, "/f", b"x" * MIB)
    client.setxattr("/f", KEY, b"thin:60MB")
    with contextlib.ExitStack() as stack:
        one, other, third, synced = (
            stack.enter_context(client.open("/f", os.O_RDWR | flags))
            for flags in (0, 0, 0, os.O_DSYNC)
        )
        rewrite = partial(synced.pwrite, b"x" * 4096, 0)
        rewrite()
        ballast = fill(pool.parent)
        for number, each in enumerate([one, other], 1):
            each.pwrite(LOST, number * 20 * MIB)
        if first == "lseek":
            refuses(errno.EIO, lambda: third.lseek(0, os.SEEK_DATA))
        elif first == "O_DSYNC":
            refuses(errno.EIO, rewrite)
        refuses(errno.EIO, one.fsync)
        ballast.unlink()
        with client.open("/f") as late:
            late.fsync()
        refuses(errno.EIO, other.fsync)
        refuses(errno.EIO, third.fdatasync)
        if first != "O_DSYNC":
            refuses(errno.EIO, rewrite)
        for each in one, other, third, synced:
            rewrite()
            each.fsync()
    assert len(said(brick)) == 1


@pytest.mark.parametrize("bd_options", [{"map": "*.1=thin:50MB"}])
def test_who_has_no_handle_is_told_of_what_was_lost(
    brick: Brick, client: Client, connect: Connect, backend: Path, pool: Path
) -> None:
    """features/shard opens no shard: its fds are anonymous."""
    shards = connect(brick, inserts=[("features/shard", {"shard-block-size": "64MB"})])
    with shards.creat("/f") as file:
        rewrite = partial(file.pwrite, b"x" * 4096, 64 * MIB)
        rewrite()  # what a fsync of features/shard is about
        path = f"/.shard/{gfid_of(backend / 'f')}.1"
        with client.open(path) as shard:
            fill(pool.parent)
            with client.find(path) as unopened:
                unopened.write(LOST, 20 * MIB)
            refuses(errno.EIO, shard.fsync)
            refuses(errno.EIO, file.fsync)
            rewrite()
            file.fsync()


def forget_what_was_read(*images: Path) -> None:
    """Have the kernel's caches of loop devices empty."""
    for image in images:
        for device in stores.devices_of(image):
            with device.open("rb") as file:
                fcntl.ioctl(file, _BLKFLSBUF)


def test_a_device_that_fails(brick: Brick, client: Client, pool: Path) -> None:
    """The pool's file system has gone down: all that asks for the device fails."""
    for path in "/f", "/g":
        write(client, path, b"x" * 4 * MIB)
        client.setxattr(path, KEY, b"thin")
    write(client, "/plain", b"plain")
    write(client, "/empty", b"")
    names = [each.name for each in devices(pool)]
    with client.open("/f") as file, client.open("/plain") as plain:
        file.fsync()
        forget_what_was_read(pool / names[0], pool / names[1])
        number = os.open(pool, os.O_RDONLY)
        fcntl.ioctl(number, _SHUTDOWN, struct.pack("I", _NO_FLUSH))
        os.close(number)
        before = said(brick)
        put = f"f:{os.O_RDWR | os.O_SYNC}:0=".encode() + bytes(4096)  # whole: nothing is read

        def write_and_sync() -> None:
            file.pwrite(b"y", 2 * MIB)
            file.fsync()

        for call in (
            write_and_sync,
            lambda: file.pread(MIB, 3 * MIB),
            lambda: file.discard(0, MIB),
            lambda: file.zerofill(0, MIB),
            lambda: file.fallocate(0, 8 * MIB),
            lambda: file.ftruncate(64 * MIB),
            lambda: file.lseek(0, os.SEEK_DATA),
            lambda: file.fsetxattr("user.do", b"rchecksum"),
            lambda: file.fsetxattr("user.do", b"copy_file_range"),
            lambda: client.setxattr("/", "user.put", put),
        ):
            refuses(errno.EIO, call)
            refuses(errno.EIO, call)
        lines = said(brick)[len(before) :]
        assert len(lines) == 1, lines
        (line,) = lines
        assert any(name in line for name in names)
        assert "Input/output error" in line
        refuses(errno.EIO, lambda: client.setxattr("/plain", KEY, b"thin"))
        assert "is not mapped to thin: Input/output error" in said(brick)[-1]
        refuses(errno.EIO, lambda: client.removexattr("/f", KEY))
        assert "is not unmapped: Input/output error" in said(brick)[-1]
        assert plain.pread(10, 0).value == b"plain"
        assert file.fstat().st_size == 4 * MIB
        assert len(said(brick)) == len(before) + 3
        # What is cut needs no device: what it has beyond the end is wiped when the file grows.
        client.open("/f", os.O_RDWR | os.O_TRUNC).close()
        assert file.fstat().st_size == 0
        assert "space is not given back" in said(brick)[-1]
    client.unlink("/g")
    write(client, "/plain", b"PLAIN")
    assert read(client, "/plain") == b"PLAIN"


def test_a_device_that_goes_while_it_is_open(
    brick: Brick,
    client: Client,
    connect: Connect,
    make_bd: Callable[..., Brick],
    pool: Path,
    backend: Path,
) -> None:
    """Who has it open keeps it; afterwards it is missing."""
    for path in "/f", "/g":
        write(client, path, path.encode() * MIB)
        client.setxattr(path, KEY, b"thin")
    with client.open("/f") as file:
        (image,) = pool.glob(f"*{gfid_of(backend / 'f')}")
        (device,) = stores.devices_of(image)
        with device.open("rb") as number:
            fcntl.ioctl(number, _LOOP_CLR_FD)
        image.unlink()
        forget_what_was_read(image)
        file.pwrite(b"F", 3 * MIB)
        file.fsync()
        assert file.pread(2, 0).value == b"/f"
    assert said(brick) == []
    client.close()
    brick.stop()
    with serving(make_bd(backend)) as again:
        there = connect(again)
        with there.open("/f") as file:
            for _ in range(3):
                refuses(errno.EIO, lambda: file.pread(1, 0))
                refuses(errno.EIO, lambda: file.pwrite(b"x", 0))
                refuses(errno.EIO, lambda: there.truncate("/f", 0))
                for opens in there.open, there.creat:
                    refuses(errno.EIO, partial(opens, "/f", os.O_RDWR | os.O_TRUNC))
        (line,) = said(again)
        assert image.name in line
        assert "is missing" in line
        assert read(there, "/g", 10) == b"/g" * 5
        assert there.stat("/f").st_size == 3 * MIB + 1


def test_a_device_that_is_shorter_than_its_file(
    brick: Brick,
    client: Client,
    connect: Connect,
    make_bd: Callable[..., Brick],
    pool: Path,
    backend: Path,
) -> None:
    """The power was cut when the brick's disk had the new size, and the pool's had not yet."""
    write(client, "/f", b"x" * MIB)
    client.setxattr("/f", KEY, b"thin")
    client.truncate("/f", 20 * MIB)
    client.close()
    brick.stop()
    (image,) = devices(pool)
    assert image.stat().st_size == 20 * MIB
    os.truncate(image, 4 * MIB)
    with serving(make_bd(backend)) as again, connect(again) as there, there.open("/f") as file:
        assert file.pread(20 * MIB, 0).value == b"x" * MIB + bytes(19 * MIB)
        file.pwrite(b"end", 20 * MIB - 3)
        file.fsync()
        assert file.pread(3, 20 * MIB - 3).value == b"end"
