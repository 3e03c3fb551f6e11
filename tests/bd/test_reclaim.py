"""Files that posix purges by itself: their devices go too, and the pool has its blocks back."""

import contextlib
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from glupy import stores
from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect
from glupy.testing.waiting import wait_until

from .conftest import KEY, MIB
from .mapped import LEAVES, devices, inserted, read, write

LANDFILL = inserted("landfill:Landfill")
TWINS = inserted("twins:Twins")
SOON = {"janitor-sleep-duration": "1"}

pytestmark = [
    pytest.mark.parametrize("leaf", LEAVES),
    pytest.mark.parametrize("bd_options", [{"reclaim-interval": "1"}]),
]


def blocks(pool: Path) -> int:
    """What all devices of a pool have, with those that have no name any more."""
    os.sync()
    found = os.statvfs(pool)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def make_mapped(client: Client, *paths: str) -> None:
    for path in paths:
        write(client, path, path.encode() * MIB)
        client.setxattr(path, KEY, b"thin")


def test_a_tree_in_the_landfill(
    make_bd: Callable[..., Brick], connect: Connect, pool: Path, brick_dir: Path
) -> None:
    brick = make_bd(above=[LANDFILL], options=SOON)
    client = connect(brick)
    client.mkdir("/d")
    client.mkdir("/d/below")
    make_mapped(client, "/kept")
    before = blocks(pool)
    make_mapped(client, "/d/f", "/d/below/g", "/d/open", "/d/linked")
    client.link("/d/linked", "/linked")
    with client.open("/d/open") as file:
        client.rmdir("/d")
        hidden = brick_dir / "brick-0" / ".glusterfs"
        wait_until(lambda: not list((hidden / "landfill").iterdir()))
        wait_until(lambda: len(devices(pool)) == 3)
        assert file.pread(7, 0).value == b"/d/open"
    wait_until(lambda: len(devices(pool)) == 2)
    assert read(client, "/linked", 9) == b"/d/linked"
    client.unlink("/linked")
    wait_until(lambda: len(devices(pool)) == 1)
    wait_until(lambda: blocks(pool) <= before + MIB)
    assert read(client, "/kept", 5) == b"/kept"


def test_a_second_inode_goes_while_a_file_without_a_name_is_open(
    make_bd: Callable[..., Brick], connect: Connect, pool: Path
) -> None:
    client = connect(make_bd(above=[TWINS]))
    make_mapped(client, "/f")
    with client.open("/f") as file:
        client.unlink("/f")
        for _ in range(3):  # the first lets go of the inode, and of its device with that
            file.fsync()
            time.sleep(0.1)
        assert file.pread(2, 0).value == b"/f"
        assert len(devices(pool)) == 1
    wait_until(lambda: not devices(pool))


@pytest.mark.allow_log(r"unlink of gfid handle failed", r"has no handle in .glusterfs; it is kept")
def test_a_name_of_a_file_that_has_lost_its_handle(
    make_bd: Callable[..., Brick], connect: Connect, backend: Path, pool: Path
) -> None:
    """As on a brick that was restored without .glusterfs: posix finds it by its names only."""
    client = connect(make_bd(backend))
    make_mapped(client, "/f")
    client.link("/f", "/g")
    gfid = str(uuid.UUID(bytes=os.getxattr(backend / "f", "trusted.gfid")))
    handle = backend / ".glusterfs" / gfid[:2] / gfid[2:4] / gfid
    handle.unlink()
    client.unlink("/f")
    time.sleep(0.5)
    assert len(devices(pool)) == 1
    handle.hardlink_to(backend / "g")
    assert read(client, "/g", 2) == b"/f"


# What a client has asked when its brick goes.
@pytest.mark.allow_log(
    r"forced unwinding frame",
    r"remote operation failed",
    r"error=Transport endpoint is not connected",
)
def test_a_kill_while_a_file_without_a_name_is_open(
    make_bd: Callable[..., Brick], connect: Connect, pool: Path, backend: Path, brick: Brick
) -> None:
    client = connect(brick)
    make_mapped(client, "/kept")
    before = blocks(pool)
    make_mapped(client, "/f")
    file = client.open("/f")
    file.pwrite(b"F", 0)
    client.unlink("/f")
    assert list((backend / ".glusterfs" / "unlink").iterdir())
    brick.kill()
    with contextlib.suppress(OSError):
        client.close()
    there = connect(make_bd(backend))
    wait_until(lambda: len(devices(pool)) == 1)
    wait_until(lambda: blocks(pool) <= before + MIB)
    assert read(there, "/kept", 5) == b"/kept"


@pytest.mark.allow_log(r"posix")
def test_a_brick_whose_file_system_has_gone_keeps_its_devices(
    make_bd: Callable[..., Brick], connect: Connect, pool: Path, backend: Path
) -> None:
    """All files seem to be gone, until posix looks at its health."""
    brick = make_bd(backend)
    client = connect(brick)
    make_mapped(client, "/f")
    client.close()
    brick.stop()
    brick = make_bd(backend)
    with connect(brick) as client:
        stores.run("mount", "-t", "tmpfs", "tmpfs", backend)
        try:
            client.access("/", os.R_OK)
            wait_until(lambda: "is left for later: No such device" in brick.log.read_text())
        finally:
            stores.run("umount", backend)
        assert len(devices(pool)) == 1
        assert read(client, "/f", 2) == b"/f"
