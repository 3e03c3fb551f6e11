"""Pools that are missing, volumes that are open, or have lost their files."""

import errno
import os
import re
from pathlib import Path

import pytest

from glupy.testing.pytest_plugin import Connect, MakeBrick
from glupy.testing.waiting import wait_until
from pybd.pools.lvm import LvmPool

from .volumes import (
    CHUNK,
    EXTENT,
    GROUP,
    KEY,
    MIB,
    REFUSED,
    THIN,
    THIN_POOL,
    THIN_POOL_SIZE,
    Open,
    command,
    device,
    read,
    refuses,
    used_of_pool,
    volumes,
    write,
)


@pytest.mark.long
@pytest.mark.parametrize(
    ("pool", "complaint"),
    [
        ("lvm:nothing", 'Volume group "nothing" not found'),
        (f"lvm:{GROUP}/nothing", f"there is no thin pool {GROUP}/nothing"),
    ],
)
@pytest.mark.expect_log(r"mapped files cannot be used")
@pytest.mark.allow_log(*REFUSED)
def test_a_pool_that_is_not_there(
    group: str, in_this_process: Open, tmp_path: Path, pool: str, complaint: str
) -> None:
    client = in_this_process(pool)
    write(client, "/f", b"plain")
    refuses(errno.ENODEV, lambda: client.setxattr("/f", KEY, b"lv"))
    assert read(client, "/f") == b"plain"
    log = (tmp_path / "in-process.log").read_text()
    assert len(re.findall("mapped files cannot be used", log)) == 1
    assert len(re.findall(f"is not mapped to lv: .*{complaint}", log)) == 1


@pytest.mark.long
@pytest.mark.parametrize("kind", ["thin", pytest.param("lv", marks=pytest.mark.long)])
def test_a_volume_that_is_open(group: str, kind: str) -> None:
    """It is renamed and resized, as pybd does."""
    pool = LvmPool(f"{group}/{THIN_POOL}")
    pool.check()
    assert pool.extent == EXTENT
    tag = ":/a-b/=25_x"
    pool.make("a-b.half", 5 * MIB, kind, tag)
    found = pool.find("a-b.half")
    assert found == ("a-b.half", tag, 8 * MIB)
    volume = pool.open("a-b.half")
    os.pwrite(volume.number, b"kept", 0)
    volume.sync()
    pool.rename("a-b.half", "a-b")
    assert pool.find("a-b.half") is None
    blocks = 8 * MIB // 512 if kind == "lv" else CHUNK // 512
    assert volume.blocks() == pool.blocks("a-b") == blocks
    for size in 12 * MIB, 4 * MIB:
        pool.resize("a-b", size)
        volume.measure()
        assert volume.size == size
    assert os.pread(volume.number, 4, 0) == b"kept"
    pool.make("other", MIB, kind, "")
    with pytest.raises(FileExistsError):
        pool.rename("other", "a-b")
    with pytest.raises(FileExistsError):
        pool.make("other", MIB, kind, "")
    assert {each.name: each.tag for each in pool.devices()} == {"a-b": tag, "other": ""}
    refuses(errno.EBUSY, lambda: pool.remove("a-b"))
    del volume
    command("lvchange", "--activate", "n", f"{group}/a-b")
    assert pool.blocks("a-b") == (4 * MIB // 512 if kind == "lv" else 0)
    assert os.pread(pool.open("a-b").number, 4, 0) == b"kept"
    for name in "a-b", "other", "nothing":
        pool.remove(name)
    assert pool.devices() == []
    refuses(errno.ENOENT, lambda: pool.open("nothing"))
    room = pool.room()
    assert (room.size, room.free) == (THIN_POOL_SIZE, THIN_POOL_SIZE - used_of_pool())


@pytest.mark.long
@pytest.mark.expect_log(r"belongs to :/somewhere/else, not to this brick")
@pytest.mark.expect_log(r"its file is not mapped to it; it is kept")
@pytest.mark.allow_log(*REFUSED)
def test_volumes_that_have_lost_their_files(
    group: str, in_this_process: Open, make_brick: MakeBrick, connect: Connect, brick_dir: Path
) -> None:
    """Killed between the xattr and the volume's name; never mapped; purged; taken off; another's.

    As in tests/bd, where it is files of a loop pool.
    """
    client = in_this_process(THIN)
    names = "pending", "half", "purged", "unmapped", "another"
    for name in names:
        write(client, f"/{name}", name.encode())
        client.setxattr(f"/{name}", KEY, b"thin")
    client.close()
    devices = {name: device(brick_dir / name).name for name in names}
    for name in "pending", "half":
        command("lvrename", group, devices[name], f"{devices[name]}.half")
    for name in "half", "unmapped":
        os.removexattr(brick_dir / name, KEY)
    (brick_dir / "purged").unlink()
    gfid = devices["purged"].rpartition(".")[2]
    (brick_dir / ".glusterfs" / gfid[:2] / gfid[2:4] / gfid).unlink()
    tag = command("lvs", "--noheadings", "-o", "lv_tags", f"{group}/{devices['another']}").strip()
    change = ("--deltag", tag, "--addtag", "glupy.brick=:/somewhere/else")
    command("lvchange", *change, f"{group}/{devices['another']}")

    brick = make_brick(brick_dir, inserts=[("user/pybd", {"pool": THIN})])
    again = connect(brick)
    left = sorted(devices[name] for name in ("pending", "unmapped", "another"))
    wait_until(lambda: volumes() == left)
    assert read(again, "/pending") == b"pending"
    refuses(errno.EIO, lambda: read(again, "/another"))
    again.unlink("/another")
    again.unlink("/pending")
    wait_until(lambda: volumes() == sorted(devices[name] for name in ("unmapped", "another")))
    again.close()
    brick.stop()
