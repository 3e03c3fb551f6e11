"""Mapped files in volumes that gluster made: all bricks on one host, on one pool."""

import errno
import hashlib
import os
import random
import stat
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from glupy import stores
from glupy.testing.volumes import Glusterd
from glupy.testing.waiting import wait_until

from .conftest import MakeVolume
from .mapped import (
    KEY,
    MIB,
    change,
    check_devices,
    devices,
    digest,
    make_image,
    mapped_files,
    no_device_is_left,
)

# What bricks say of a neighbour that was killed, and of clients that go.
pytestmark = pytest.mark.allow_log(
    r"Transport endpoint is not connected",
    r"server_first_lookup|first lookup on root failed",
    r"forced unwinding frame",
    # `heal info` ends without closing: the server flushes what features/index had opened for it
    r"Failed to get fd context for a non-anonymous fd",
)


def test_rebalance_moves_mapped_files(make_volume: MakeVolume, pool: Path, tmp_path: Path) -> None:
    """DHT's pointers to them, made by create and mknod, are not mapped, though their names fit."""
    volume = make_volume(2, leaf="pyposix", options={"user.xlator.pybd.map": "*=thin"})
    with volume.mounted(tmp_path / "mnt") as mnt:
        names = [f"image-{number}" for number in range(12)]
        for name in names:
            (mnt / f"was-{name}").write_bytes(random.Random(name).randbytes(3 * MIB))
            (mnt / f"was-{name}").rename(mnt / name)
            change(mnt / name, len(name), 10)
        assert any(path.stat().st_mode & stat.S_ISVTX for path in volume.bricks[0].iterdir())
        assert [len(each) for each in devices(pool).values()] == [1] * len(names)
        expected = {name: digest(mnt / name) for name in names}
        times = {name: (mnt / name).stat().st_mtime_ns for name in names}
        before = {path.name.split(".")[1] for each in devices(pool).values() for path in each}
        volume.add_bricks(volume.bricks[0].with_name("2"))
        volume.rebalance()
        assert {name: digest(mnt / name) for name in names} == expected
    with volume.mounted(tmp_path / "mnt") as mnt:
        assert {name: digest(mnt / name) for name in names} == expected
        assert {name: (mnt / name).stat().st_mtime_ns for name in names} == times
        found = devices(pool)
        assert len(found) == len(names)
        assert all(len(each) == 1 for each in found.values())
        after = {path.name.split(".")[1] for each in found.values() for path in each}
        assert len(after - before) == 1, "nothing was moved to the new brick"
        check_devices(volume, pool)
        for name in names:
            (mnt / name).unlink()
        no_device_is_left(pool)


@pytest.mark.long
@pytest.mark.parametrize("leaf", ["posix", "pyposix"])
def test_what_comes_back_while_it_is_open(
    make_volume: MakeVolume, glusterd: Glusterd, pool: Path, tmp_path: Path, leaf: str
) -> None:
    """The first brick gets a file with the gfid of one that is removed there, and open still."""
    volume = make_volume(1, leaf=leaf)
    first = volume.bricks[0]
    second = first.with_name("2")
    with volume.mounted(tmp_path / "mnt") as mnt, ExitStack() as opened:
        names = [f"image-{number}" for number in range(8)]
        for name in names:
            change(make_image(mnt, name, MIB), len(name), 10)
        expected = {name: digest(mnt / name) for name in names}
        volume.add_bricks(second)
        for name in names:  # after that: a mount opens anew for the new graph
            os.fsync(opened.enter_context((mnt / name).open("r+b")))
        volume.rebalance()
        moved = {path.name for path in mapped_files(second).values()}
        assert moved
        words = "volume", "remove-brick", volume.name, glusterd.brick(second)
        glusterd.gluster(*words, "start")

        def ended() -> bool:
            try:
                status = glusterd.xml(*words, "status").findtext(".//aggregate/statusStr")
            except stores.StoreError:
                return False  # glusterd asked the process that is just ending
            assert status in ("in progress", "completed")
            return status == "completed"

        wait_until(ended, "the way back")
        glusterd.gluster(*words, "commit")
        volume.bricks.remove(second)
        assert {path.name for path in mapped_files(first).values()} == set(names)
        opened.close()
        time.sleep(1)
        assert {name: digest(mnt / name) for name in names} == expected
    with volume.mounted(tmp_path / "mnt") as mnt:
        assert {name: digest(mnt / name) for name in names} == expected
        check_devices(volume, pool)


# Several fops at once make and remove shards: C posix logs what it meets half-way.
@pytest.mark.allow_log(
    r"Failed to get anonymous fd for real_path: .*No such file",
    r"buf->ia_gfid is null for .*/\.shard/",
    r"server4_lookup_cbk\] .*path=/\.shard/.*No data available",
)
def test_shards_are_mapped_by_name(make_volume: MakeVolume, pool: Path, tmp_path: Path) -> None:
    options = {
        "features.shard": "on",
        "features.shard-block-size": "4MB",
        "user.xlator.pybd.map": "*=thin",
    }
    volume = make_volume(3, "replica", "3", options=options)
    with volume.mounted(tmp_path / "mnt") as mnt:
        image = mnt / "image"
        image.write_bytes(random.Random(1).randbytes(18 * MIB))
        change(image, 1)
        expected = digest(image)
        assert len(devices(pool)) == 5
        check_devices(volume, pool)
        # Not beyond the end: under shard a discard makes the file grow (10.3).
        stores.run("fallocate", "--punch-hole", "--offset", "0", "--length", "18MiB", image)
        stores.run("sync", "--file-system", pool)
        blocks = [path.stat().st_blocks for each in devices(pool).values() for path in each]
        assert max(blocks) <= 16, blocks
        assert digest(image) == hashlib.sha256(bytes(18 * MIB)).hexdigest() != expected
        image.unlink()
        no_device_is_left(pool)


# Twice in about twenty runs beside other load the heal did not end, with no fop pending anywhere.
@pytest.mark.long
def test_fragments_are_mapped(make_volume: MakeVolume, pool: Path, tmp_path: Path) -> None:
    volume = make_volume(6, "disperse", "6", "redundancy", "2")
    with volume.mounted(tmp_path / "mnt") as mnt:
        image = mnt / "image"
        image.write_bytes(random.Random(2).randbytes(16 * MIB))
        expected = digest(image)
        os.setxattr(image, KEY, b"thin:64MB")
        assert image.stat().st_size == 16 * MIB
        assert digest(image) == expected
        assert [len(each) for each in devices(pool).values()] == [6]
        change(image, 2)
        for brick in volume.bricks[:2]:
            volume.kill(brick)
        change(image, 3)
        expected = digest(image)
        volume.start_bricks()
        volume.heal()
        for brick in volume.bricks[2:4]:  # so that the healed ones are needed
            volume.kill(brick)
        time.sleep(1)
    with volume.mounted(tmp_path / "mnt") as mnt:
        assert digest(mnt / "image") == expected


@pytest.mark.long
@pytest.mark.expect_log(r"is missing, or was never this brick's")
@pytest.mark.allow_log(r"Input/output error", r"errno=5")
@pytest.mark.parametrize("leaf", ["posix", "pyposix"])
def test_a_volume_of_a_copied_brick_has_none_of_its_devices(
    make_volume: MakeVolume,
    pool: Path,
    tmp_path: Path,
    leaf: str,
) -> None:
    volume = make_volume(1, leaf=leaf)
    (brick,) = volume.bricks
    with volume.mounted(tmp_path / "mnt") as mnt:
        make_image(mnt)
        (mnt / "plain").write_text("plain")
        stores.run("sync")
        copied = make_volume(1, leaf=leaf, start=False)
        (there,) = copied.bricks
        number = os.getxattr(there, "trusted.glusterfs.volume-id")
        stores.run("cp", "-a", f"{brick}/.", there)
        os.setxattr(there, "trusted.glusterfs.volume-id", number)
        copied.start()
        with copied.mounted(tmp_path / "copied") as other:
            assert (other / "plain").read_text() == "plain"
            for _ in range(3):
                with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                    (other / "image").read_bytes()
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                os.truncate(other / "image", MIB)
            (other / "image").unlink()
        assert copied.log(there).read_text().count("was never this brick's") == 1
        change(mnt / "image", 1)
        expected = digest(mnt / "image")
    with volume.mounted(tmp_path / "mnt") as mnt:
        assert digest(mnt / "image") == expected
        assert len(devices(pool)) == 1
