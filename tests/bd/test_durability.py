"""What is on the disk when a reply comes, as if the power went at that moment.

A disk is a loop file; a copy of that, mounted, is what the next start would find.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from glupy import stores
from glupy.testing.gfapi import Client, File
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect

from .conftest import KEY, MIB
from .mapped import LEAVES, devices, write

pytestmark = pytest.mark.parametrize("leaf", LEAVES)

SIZE = 32 * MIB
DATA = b"d" * MIB
# The file system commits by itself only after 15 minutes.
OPTIONS = "discard", "commit=900"
FLAGS = {"posix": os.O_SYNC, "pyposix": os.O_DSYNC}
"""The same to pybd, so each with one leaf."""


class Disks(NamedTuple):
    """That of the brick, and that of its pool: to sync the one is not to sync the other."""

    brick: stores.Store
    pool: stores.Store

    def after_a_power_cut(self) -> bytes:
        """What a brick would serve of the file then: as long as the stub, the device's bytes."""
        with copied(self.brick) as brick, copied(self.pool) as pool:
            return devices(pool / "d")[0].read_bytes()[: (brick / "d" / "f").stat().st_size]


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
    options = {"health-check-interval": "0"}
    brick = make_bd(disks.brick.folder / "d", pool=disks.pool.folder / "d", options=options)
    yield brick
    brick.stop()  # before its disks go


@pytest.fixture
def client(brick: Brick, connect: Connect, disks: Disks) -> Iterator[Client]:
    with connect(brick) as client:
        write(client, "/f", DATA)
        client.setxattr("/f", KEY, b"thin")
        for each in disks:
            stores.run("sync", "--file-system", each.folder)
        yield client


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


INSIDE = "write", "discard", "zerofill"
"""These are of the device alone, whatever the leaf."""
ASKING = "write behind a hole", "fallocate"
"""What the pool's file has there must be known, so all must have reached it."""


def test_what_such_a_handle_has_changed_is_on_the_disk(
    client: Client, disks: Disks, leaf: str
) -> None:
    with opened(client, FLAGS[leaf]) as files:
        for name, change in changes(*files).items():
            if name in INSIDE and leaf == "pyposix":
                continue
            change()
            assert disks.after_a_power_cut() == files[0].pread(8 * MIB, 0).value, name


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
        assert disks.after_a_power_cut() == files[0].pread(8 * MIB, 0).value
    with opened(client, FLAGS[leaf]) as files:
        assert "fdatasync" in traced(changes(*files)["write"])
