"""Mapped files of replicas on one pool: each brick in turn is healed from the others."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from glupy import stores
from glupy.testing.volumes import Volume
from glupy.testing.waiting import wait_until
from glupy_tools import gluster

from .conftest import MakeVolume
from .leaves import PARTING
from .load import Files, Image, mounted_file, tree, unlike
from .mapped import KEY, MIB, gfid, heal, mapped_files, no_device_is_left, owner, room

pytestmark = [
    pytest.mark.allow_log(
        *PARTING,
        r"server_first_lookup|first lookup on root failed",
        # what was taken off a brick that runs, and what goes while it is healed, on C posix
        r"posix_open\] .* gfid-handle .*No such file or directory",
    ),
    pytest.mark.parametrize(
        "leaf",
        [
            "mixed",
            pytest.param("posix", marks=pytest.mark.long),
            pytest.param("pyposix", marks=pytest.mark.long),
        ],
    ),
]
RULES = {"user.xlator.pybd.map": '"n*[05]=thin *.new=thin"'}


@pytest.mark.expect_log(r"is missing, or was never this brick's")
@pytest.mark.allow_log(r"Input/output error", r"errno=5")
def test_each_brick_is_healed(
    make_volume: MakeVolume, pool: Path, tmp_path: Path, leaf: str
) -> None:
    """After it was away, with a device lost meanwhile. Each has the whole load of the others'."""
    volume = make_volume(3, "replica", "3", leaf=leaf, options=RULES)
    files = Files(tmp_path / "model", leaf, appends=True)
    image = Image(leaf, zerofill=False, past_end=True, size=4 * MIB)
    with volume.mounted(tmp_path / "mnt") as mnt:
        (mnt / "files").mkdir()
        files.change(mnt / "files", 12)
        with mounted_file(mnt / "image") as file:
            image.change(file, 10)
        os.setxattr(mnt / "image", KEY, b"thin")
        (mnt / "lost").write_bytes(b"lost" * MIB)
        os.setxattr(mnt / "lost", KEY, b"thin:20MB")
        for brick in volume.bricks:
            for name in "gone", "replaced", "moved", "unmapped", "late":
                (mnt / name).write_bytes(name.encode() * 1000)
                if name != "late":
                    os.setxattr(mnt / name, KEY, b"thin:2MB")
            volume.kill(brick)
            lost = {owner(path): path for path in pool.iterdir()}[str(brick), gfid(brick / "lost")]
            lost.unlink()
            files.change(mnt / "files", 12, keeps_links=True)
            with mounted_file(mnt / "image") as file:
                image.change(file, 30)
            os.setxattr(mnt / "late", KEY, b"thin:3MB")
            os.removexattr(mnt / "unmapped", KEY)
            (mnt / "gone").unlink()
            (mnt / "moved").rename(mnt / "replaced")
            (mnt / "made.new").write_bytes(b"made" * 1000)
            volume.start_bricks()
            volume.heal()
            bring_back(volume, brick, mnt)
            heal(volume, pool)
            names = {path.name for path in mapped_files(brick).values()}
            assert names >= {"image", "lost", "late", "replaced", "made.new"}
            # docs/pybd.md: what was unmapped while it was away is unmapped once more
            assert "unmapped" in names
            with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
                os.removexattr(mnt / "unmapped", KEY)
            heal(volume, pool)
            assert KEY not in os.listxattr(brick / "unmapped")
            for name in "late", "replaced", "unmapped", "made.new":
                (mnt / name).unlink()
        holes = 16 * MIB // 512
        assert max(room(pool, brick / "lost")) < 20 * MIB // 512 - holes // 2
    with volume.mounted(tmp_path / "mnt") as mnt:
        found, expected = tree(mnt / "files"), tree(files.model)
        assert found == expected, unlike(found, expected)
        assert (mnt / "image").read_bytes() == image.data
        with mounted_file(mnt / "lost") as file:
            file.discard(0, 20 * MIB)
            file.fsync()
        assert max(room(pool, volume.bricks[0] / "lost")) <= 16
        stores.run("rm", "-r", *mnt.iterdir())
        no_device_is_left(pool)


def bring_back(volume: Volume, brick: Path, mnt: Path) -> None:
    """The others serve a file whose device a brick has lost; docs/pybd.md says how it is healed."""
    wait_until(lambda: len(set(gluster.clients(volume.name).values())) == 1, "clients everywhere")
    with mounted_file(mnt / "lost") as file:
        file.pwrite(brick.name.encode() * 4096, 4 * MIB)
        file.fsync()
    stub = brick / "lost"
    number = gfid(stub)
    stub.unlink()
    (brick / ".glusterfs" / number[:2] / number[2:4] / number).unlink()

    def is_back() -> bool:
        volume.heal(full=True)
        return stub.exists() and KEY in os.listxattr(stub)

    wait_until(is_back, "the file")
