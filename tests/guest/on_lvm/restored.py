"""A brick whose store is a snapshot of another brick's, taken by LVM."""

import contextlib
import errno
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from glupy import stores
from glupy.testing.pytest_plugin import Connect, MakeBrick
from glupy.testing.waiting import wait_until

from .volumes import GROUP, KEY, MIB, REFUSED, THIN, THIN_POOL, command, read, refuses, write

COMPLAINT = r"is missing, or was never this brick's"


@pytest.fixture
def thin_store(group: str, tmp_path: Path) -> Iterator[Path]:
    """A file system on a thin volume."""
    command("lvcreate", "--thinpool", THIN_POOL, "--virtualsize", "40m", "--name", "store", group)
    stores.make_file_system(Path("/dev", group, "store"))
    with mounted("store", tmp_path) as folder:
        yield folder


@contextlib.contextmanager
def mounted(name: str, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / name
    folder.mkdir()
    with stores.mounted(Path("/dev", GROUP, name), folder):
        yield folder


def devices() -> str:
    """All that LVM says of the devices of mapped files."""
    return command("lvs", "--noheadings", "-o", "lv_name,lv_tags,lv_size", "-S", "lv_name=~glupy")


@pytest.mark.long
@pytest.mark.expect_log(COMPLAINT)
@pytest.mark.allow_log(*REFUSED)
def test_a_restored_snapshot(
    thin_store: Path, make_brick: MakeBrick, connect: Connect, tmp_path: Path
) -> None:
    """Its mapped files are EIO, and one line each; what it removes, the other one keeps."""
    inserts = [("user/pybd", {"pool": THIN, "reclaim-interval": "1"})]
    (thin_store / "brick").mkdir()
    first = make_brick(thin_store / "brick", inserts=inserts)
    client = connect(first)
    for name in "/f", "/removed", "/plain":
        write(client, name, name.encode() * MIB)
    for name in "/f", "/removed":
        client.setxattr(name, KEY, b"thin")
    os.sync()
    command("lvcreate", "--snapshot", "-kn", "--name", "restored", f"{GROUP}/store")
    before = devices()
    with mounted("restored", tmp_path) as folder:
        second = make_brick(folder / "brick", inserts=inserts)
        there = connect(second)
        assert read(there, "/plain") == b"/plain" * MIB
        with there.open("/f") as file:
            for _ in range(2):
                refuses(errno.EIO, lambda: file.pread(10, 0))
                refuses(errno.EIO, lambda: file.pwrite(b"new", 0))
                refuses(errno.EIO, lambda: file.discard(0, MIB))
                refuses(errno.EIO, lambda: file.ftruncate(0))
        there.unlink("/removed")
        write(there, "/new", b"new")
        there.setxattr("/new", KEY, b"thin")
        assert len(devices().splitlines()) == 3
        there.unlink("/new")
        wait_until(lambda: devices() == before)
        time.sleep(2.5)  # it has looked through the pool since
        assert devices() == before
        assert len(re.findall(COMPLAINT, second.log.read_text())) == 1
        there.close()
        second.stop()
    command("lvremove", "--yes", f"{GROUP}/restored")
    for name in "/f", "/removed":
        assert read(client, name) == name.encode() * MIB
        with client.open(name) as file:
            file.pwrite(b"kept", 0)
            file.fsync()
    client.close()
    first.stop()
