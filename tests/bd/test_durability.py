"""What is on the disk when a reply comes, as if the power went at that moment.

A disk is a loop file; a copy of that, mounted, is what the next start would find.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from glupy import stores
from glupy.testing import failing
from glupy.testing.gfapi import Client, File
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect
from glupy.testing.waiting import wait_until

from .conftest import KEY, MIB
from .mapped import LEAVES, ONE_LEAF, REFUSED, devices, refuses, write

SIZE = 32 * MIB
DATA = b"d" * MIB
# The file system commits by itself only after 15 minutes.
OPTIONS = "discard", "commit=900"
UNCHECKED = {"health-check-interval": "0"}
"""Nothing but what is asked for has the file system commit."""
FLAGS = {"posix": os.O_SYNC, "pyposix": os.O_DSYNC}
"""The same to pybd, so each with one leaf."""


class Disks(NamedTuple):
    """That of the brick, and that of its pool: to sync the one is not to sync the other."""

    brick: stores.Store
    pool: stores.Store

    @contextmanager
    def after_a_power_cut(self) -> Iterator[tuple[Path, Path]]:
        """What the next start would find: the brick and the pool."""
        with copied(self.brick) as brick, copied(self.pool) as pool:
            yield brick / "d", pool / "d"

    def served_after_a_power_cut(self) -> bytes:
        """What a brick would serve of the file then: as long as the stub, the device's bytes."""
        with self.after_a_power_cut() as (brick, pool):
            assert KEY in os.listxattr(brick / "f")
            (device,) = devices(pool)
            return device.read_bytes()[: (brick / "f").stat().st_size]


@contextmanager
def copied(disk: stores.Store) -> Iterator[Path]:
    copy, folder = disk.image.with_suffix(".copy"), disk.image.with_suffix(".mnt")
    stores.run("cp", "--sparse=always", disk.image, copy)
    folder.mkdir(exist_ok=True)
    try:
        with stores.loop_device(copy) as device, stores.mounted(device, folder):
            yield folder
    finally:
        copy.unlink()


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Disks]:
    with ExitStack() as stack:
        made = Disks(
            *(
                stack.enter_context(
                    stores.store(tmp_path / name, SIZE, tmp_path / f"{name}.d", options=OPTIONS)
                )
                for name in Disks._fields
            )
        )
        for each in made:
            (each.folder / "d").mkdir()
        yield made


@pytest.fixture
def brick(disks: Disks, make_bd: Callable[..., Brick]) -> Iterator[Brick]:
    brick = make_bd(disks.brick.folder / "d", pool=disks.pool.folder / "d", options=UNCHECKED)
    yield brick
    brick.stop()  # before its disks go


@pytest.fixture
def client(brick: Brick, connect: Connect, disks: Disks) -> Iterator[Client]:
    with connect(brick) as client:
        write(client, "/f", DATA)
        for each in disks:
            sync(each)
        client.setxattr("/f", KEY, b"thin")
        yield client


def sync(disk: stores.Store) -> None:
    """As file systems do by themselves, each in its own time."""
    stores.run("sync", "--file-system", disk.folder)


@contextmanager
def opened(client: Client, flags: int) -> Iterator[tuple[File, File]]:
    with (
        client.open("/f", os.O_RDWR | flags) as file,
        client.open("/f", os.O_RDWR | os.O_APPEND | flags) as appending,
    ):
        yield file, appending


def changes(file: File, appending: File) -> dict[str, Callable[[], object]]:
    return {
        "write": partial(file.pwrite, b"inside", 1000),
        "write at the end": partial(file.pwrite, b"a" * 70_000, MIB - 10_000),
        "append": partial(appending.pwrite, b"appended", 0),
        "discard": partial(file.discard, 4096, 100_000),
        "zerofill": partial(file.zerofill, 200_000, 50_001),
        "zerofill to behind the end": partial(file.zerofill, MIB, MIB + 1),
        "write behind a hole": partial(file.pwrite, b"after a hole", 3 * MIB),
        "fallocate": partial(file.fallocate, 4 * MIB, MIB),
    }


def changes_after_a_truncate(file: File) -> dict[str, Callable[[], object]]:
    """The truncate itself is nothing that such a handle is for."""

    def after(size: int, change: Callable[[], object]) -> None:
        file.ftruncate(size)
        change()

    return {
        "write after a truncate": partial(after, 6 * MIB, partial(file.pwrite, b"new", 5 * MIB)),
        "discard after a truncate": partial(after, 7 * MIB, partial(file.discard, 0, 4096)),
        "zerofill after a truncate": partial(after, 8 * MIB, partial(file.zerofill, 0, 4096)),
    }


INSIDE = "write", "discard", "zerofill"
"""These are of the device alone, whatever the leaf."""
ASKING = "write behind a hole", "fallocate"
"""What the pool's file has there must be known, so all must have reached it."""


@pytest.mark.parametrize("leaf", LEAVES)
def test_what_such_a_handle_has_changed_is_on_the_disk(
    client: Client, disks: Disks, leaf: str
) -> None:
    with opened(client, FLAGS[leaf]) as files:
        each = {**changes(*files), **changes_after_a_truncate(files[0])}
        for name, change in each.items():
            if name in INSIDE and leaf == "pyposix":
                continue
            change()
            assert disks.served_after_a_power_cut() == files[0].pread(8 * MIB, 0).value, name


@pytest.mark.parametrize("leaf", LEAVES)
def test_other_handles_wait_for_no_disk_but_by_fsync(
    client: Client, brick: Brick, disks: Disks, leaf: str
) -> None:
    def traced(change: Callable[[], object]) -> str:
        with brick.strace(["fsync", "fdatasync", "sync_file_range", "syncfs"]) as trace:
            change()
        return trace.read_text()

    with opened(client, 0) as files:
        for name, change in changes(*files).items():
            if name not in ASKING:
                assert "sync" not in traced(change), name
        (files[0].fsync if leaf == "posix" else files[0].fdatasync)()
        assert disks.served_after_a_power_cut() == files[0].pread(8 * MIB, 0).value
    with opened(client, FLAGS[leaf]) as files:
        assert "fdatasync" in traced(changes(*files)["write"])


@pytest.mark.parametrize("leaf", ONE_LEAF)
def test_what_says_that_a_file_is_mapped_is_on_the_disk(client: Client, disks: Disks) -> None:
    """Before anything is written; and before the device goes."""
    assert disks.served_after_a_power_cut() == DATA
    client.removexattr("/f", KEY)
    sync(disks.pool)
    with disks.after_a_power_cut() as (brick, pool):
        assert KEY not in os.listxattr(brick / "f")
        assert (brick / "f").read_bytes() == DATA
        assert devices(pool) == []


@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.parametrize("change", ["rename", "unlink"])
def test_a_device_goes_once_its_file_has_gone_from_the_disk(
    client: Client, disks: Disks, change: str
) -> None:
    """Or a power cut would bring back a file that has lost its bytes."""
    write(client, "/new", b"new")
    if change == "rename":
        client.rename("/new", "/f")
    else:
        client.unlink("/f")
    wait_until(lambda: not devices(disks.pool.folder / "d"))
    with disks.after_a_power_cut() as (brick, _):
        found = (brick / "f").read_bytes() if (brick / "f").exists() else None
    assert found == (b"new" if change == "rename" else None)


@pytest.mark.parametrize("leaf", ONE_LEAF)
@pytest.mark.allow_log(*REFUSED, r"Input/output error")
def test_a_merge_is_on_the_disk(
    make_brick: Callable[..., Brick], connect: Connect, disks: Disks, orders: Path
) -> None:
    """That it was begun, before devices change their names; that it has ended, before one goes."""
    folder = disks.brick.folder / "d"
    fails = "features/glupy", {"module": f"{failing.__name__}:Failing", "orders": str(orders)}
    mapping = "user/pybd", {"pool": f"loop:{disks.pool.folder / 'd'}"}
    brick = make_brick(folder, inserts=[fails, mapping], options=UNCHECKED)
    with ExitStack() as stack:
        stack.callback(brick.stop)
        client = stack.enter_context(connect(brick))
        write(client, "/f", DATA)
        client.setxattr("/f", KEY, b"thin")
        write(client, "/snap", b"")
        gfid = os.getxattr(folder / "snap", "trusted.gfid").hex()
        client.setxattr("/f", "snapshot", f"{gfid}:{2 * MIB}".encode())
        sync(disks.brick)
        failing.order(orders, "truncate", errno.EIO)
        refuses(errno.EIO, partial(client.setxattr, "/snap", "merge", b"1"))
        sync(disks.pool)
        with disks.after_a_power_cut() as (after, pool):
            assert f",merge={gfid}".encode() in os.getxattr(after / "f", KEY)
            assert any(each.name.endswith(".half") for each in devices(pool))
        assert client.stat("/f").st_size == 2 * MIB  # who looks at it ends it
        sync(disks.pool)
        assert disks.served_after_a_power_cut() == DATA + bytes(MIB)
        with disks.after_a_power_cut() as (after, _):
            assert b",merge" not in os.getxattr(after / "f", KEY)
            assert not (after / "snap").exists()
