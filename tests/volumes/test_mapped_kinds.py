"""Mapped files in other types of volumes: sharded, with an arbiter, dispersed."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from .conftest import MakeVolume
from .copies import copies
from .leaves import PARTING
from .load import Image, digest, mounted_file
from .mapped import (
    KEY,
    MIB,
    check_devices,
    flush,
    heal,
    mapped_files,
    no_device_is_left,
    owner,
    whole_copies,
)
from .test_kinds import EAGER_LOCK, HALF_MADE_SHARDS

pytestmark = [
    pytest.mark.allow_log(
        *PARTING,
        r"server_first_lookup|first lookup on root failed",
        # what heal asks for while it goes, on C posix
        r"posix_open\] .* gfid-handle .*No such file or directory",
    ),
    pytest.mark.parametrize("leaf", ["posix", "pyposix"]),
    pytest.mark.long,
]


@HALF_MADE_SHARDS
def test_shards_are_healed(make_volume: MakeVolume, pool: Path, tmp_path: Path, leaf: str) -> None:
    options = {
        "features.shard": "on",
        "features.shard-block-size": "4MB",
        "user.xlator.pybd.map": "*=thin",
    }
    volume = make_volume(3, "replica", "3", leaf=leaf, options=options)
    # Truncates, and discards past the end, are misplaced by stock shard (docs/upstream-defects.md).
    image = Image(leaf, zerofill=False, past_end=False, size=10 * MIB)
    with volume.mounted(tmp_path / "mnt") as mnt:
        with mounted_file(mnt / "image") as file:
            image.change(file, 10, truncates=False)
        for brick in volume.bricks:
            (mnt / "gone").write_bytes(b"gone" * 2 * MIB)
            volume.kill(brick)
            (mnt / "gone").unlink()
            with mounted_file(mnt / "image") as file:
                image.change(file, 40, truncates=False)
                image.append(file, 3 * MIB)  # maybe in a shard that is new
            volume.start_bricks()
            heal(volume, pool)
            shards = -(-len(image.data) // (4 * MIB))
            assert [len(mapped_files(each)) for each in volume.bricks] == [shards] * 3
    with volume.mounted(tmp_path / "mnt") as mnt:
        assert (mnt / "image").read_bytes() == image.data
        (mnt / "image").unlink()
        no_device_is_left(pool)


def test_an_arbiter_has_no_devices(
    make_volume: MakeVolume, pool: Path, tmp_path: Path, leaf: str
) -> None:
    options = {"user.xlator.pybd.map": "*.img=thin"}
    volume = make_volume(3, "replica", "2", "arbiter", "1", leaf=leaf, options=options)
    *with_data, arbiter = volume.bricks
    image = Image(leaf, zerofill=False, past_end=True)

    def check() -> None:
        volume.heal()
        flush(pool)
        owners = sorted(map(owner, pool.iterdir()))
        assert owners == sorted((str(b), each) for b in with_data for each in mapped_files(b))
        one, other = (whole_copies(brick, pool) for brick in with_data)
        assert one == other
        on_arbiter = copies(arbiter, data=True)
        assert on_arbiter.keys() == one.keys()
        assert {copy.contents for copy in on_arbiter.values()} <= {digest(b"")}

    with volume.mounted(tmp_path / "mnt") as mnt:
        with mounted_file(mnt / "first.img") as file:
            image.change(file, 10)
        (mnt / "by-xattr").write_bytes(b"data" * 1000)
        os.setxattr(mnt / "by-xattr", KEY, b"thin:5MB")
        for number, brick in enumerate([arbiter, *with_data]):
            volume.kill(brick)
            with mounted_file(mnt / "first.img") as file:
                image.change(file, 30)
            (mnt / f"{number}.img").write_bytes(b"late" * 1000)
            os.truncate(mnt / "by-xattr", (6 + number) * MIB)
            volume.start_bricks()
            check()
    volume.kill(with_data[0])  # what was healed is read
    with volume.mounted(tmp_path / "mnt") as mnt:
        assert (mnt / "first.img").read_bytes() == image.data
        assert (mnt / "by-xattr").read_bytes() == b"data" * 1000 + bytes(8 * MIB - 4000)
    volume.start_bricks()
    with volume.mounted(tmp_path / "mnt") as mnt:
        for path in mnt.iterdir():
            path.unlink()
        check()
        no_device_is_left(pool)


def test_fragments_are_healed(
    make_volume: MakeVolume, pool: Path, tmp_path: Path, leaf: str
) -> None:
    """A stripe is 1 KiB: a fragment of half of it is on each brick."""
    options = {"user.xlator.pybd.map": "*.img=thin:12MB"}
    volume = make_volume(3, "disperse", "3", "redundancy", "1", leaf=leaf, options=options)
    image = Image(leaf, zerofill=False, past_end=False)
    data = random.Random(leaf).randbytes(2 * MIB)
    with volume.mounted(tmp_path / "mnt") as mnt:
        (mnt / "by-xattr").write_bytes(data)
        os.setxattr(mnt / "by-xattr", KEY, b"thin:40MB")
        assert (mnt / "by-xattr").stat().st_size == len(data)
        (mnt / "first.img").touch()
        sizes = sorted(path.stat().st_size for path in pool.iterdir())
        assert sizes == [12 * MIB] * 3 + [40 * MIB] * 3
        with mounted_file(mnt / "first.img") as file:
            image.change(file, 10)
        for number, brick in enumerate(volume.bricks):
            (mnt / "gone.img").write_bytes(data)
            volume.kill(brick)
            (mnt / "gone.img").unlink()
            (mnt / f"{number}.img").write_bytes(data)
            (mnt / f"{number}").write_bytes(data)
            os.setxattr(mnt / f"{number}", KEY, b"thin")
            with mounted_file(mnt / "first.img") as file:
                image.change(file, 30)
            time.sleep(1 + EAGER_LOCK)
            volume.start_bricks()
            volume.heal()
            check_devices(volume, pool)
            assert len({frozenset(mapped_files(each)) for each in volume.bricks}) == 1
            assert len(mapped_files(brick)) == 4 + 2 * number
    for brick in volume.bricks:
        volume.kill(brick)
        with volume.mounted(tmp_path / "mnt") as mnt:
            assert (mnt / "first.img").read_bytes() == image.data
            assert {(mnt / name).read_bytes() for name in ("by-xattr", "0", "1.img", "2")} == {data}
        volume.start_bricks()
    volume.heal()
    with volume.mounted(tmp_path / "mnt") as mnt:
        for path in mnt.iterdir():
            path.unlink()
        no_device_is_left(pool)
