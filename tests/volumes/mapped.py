"""What tests of mapped files in volumes do, and what must be true of bricks and their pool."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import uuid
from pathlib import Path

from glupy import stores
from glupy.testing.volumes import Volume
from glupy.testing.waiting import wait_until

from .copies import Copy, copies, differences

KEY = "user.glusterfs.bd"
MIB = 1 << 20


def change(path: Path, seed: int, times: int = 40) -> None:
    """Write and discard at random places inside a file."""
    chance = random.Random(seed)
    size = path.stat().st_size
    with path.open("r+b", buffering=0) as file:
        for _ in range(times):
            offset = chance.randrange(size - 100_000)
            length = chance.choice([1, 511, 4096, 5000, 65536, 100_000])
            if chance.random() < 0.5:
                os.pwrite(file.fileno(), chance.randbytes(length), offset)
            else:
                words = "--punch-hole", "--offset", str(offset), "--length", str(length)
                stores.run("fallocate", *words, path)
        os.fsync(file.fileno())


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def devices(pool: Path) -> dict[str, list[Path]]:
    """The devices of each file, by gfid."""
    found: dict[str, list[Path]] = {}
    for path in sorted(pool.iterdir()):
        found.setdefault(path.name.rpartition(".")[2], []).append(path)
    return found


def make_image(folder: Path, name: str = "image", size: int = 16 * MIB) -> Path:
    path = folder / name
    path.write_bytes(random.Random(name).randbytes(size // 2))
    os.setxattr(path, KEY, f"thin:{size}".encode())
    assert path.stat().st_size == size
    return path


def no_device_is_left(pool: Path) -> None:
    wait_until(lambda: not devices(pool), f"an empty {pool}")


def gfid(path: Path) -> str:
    """The gfid of a file on a brick, as the names of devices and handles have it."""
    return str(uuid.UUID(bytes=os.getxattr(path, "trusted.gfid")))


def mapped_files(brick: Path) -> dict[str, Path]:
    """The files of a brick that are mapped, by gfid; one name of each: heal's own if it has no
    other."""
    paths = (path for path in brick.rglob("*") if ".glusterfs" not in path.parts)
    mapped = (path for path in paths if not path.is_symlink() and KEY in os.listxattr(path))
    return {gfid(path): path for path in sorted(mapped, key=_is_anybodys)}


def _is_anybodys(path: Path) -> bool:
    return not any(part.startswith(".glusterfs-anonymous-inode-") for part in path.parts)


def owner(device: Path) -> tuple[str, str]:
    """The directory of the brick that a device's tag tells of, and the gfid in its name."""
    tag = os.getxattr(device, "user.glupy.brick").decode()
    return tag.partition(":")[2], device.name.split(".", 2)[2]


def check_devices(volume: Volume, pool: Path) -> None:
    """Each mapped file of each brick has one device, which is that brick's; there are no others."""
    expected = sorted((str(brick), each) for brick in volume.bricks for each in mapped_files(brick))
    assert sorted(map(owner, pool.iterdir())) == expected
    prefixes = {(path.name.split(".")[1], owner(path)[0]) for path in pool.iterdir()}
    assert len(prefixes) == len(dict(prefixes)) == len({brick for _, brick in prefixes})


def flush(pool: Path) -> None:
    """Have the files of a pool what was written to their devices: a loop device has a cache."""
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # it goes meanwhile
            if Path(backing.read_text().strip()).parent == pool:
                number = os.open(f"/dev/{backing.parts[3]}", os.O_RDONLY)
                os.fsync(number)
                os.close(number)
    stores.run("sync", "--file-system", pool)


def whole_copies(brick: Path, pool: Path) -> dict[str, Copy]:
    """What a brick has, with the bytes of mapped files as their devices have them.

    Whether a file is mapped is each brick's own: a plain one that has got a name which fits option
    ``map``, while a brick was away, is plain there, or mapped there only (docs/pybd.md).
    """
    own = {each: path for path in pool.iterdir() for b, each in [owner(path)] if b == str(brick)}
    found = copies(brick, data=True)
    for name, copy in found.items():
        if KEY in copy.xattrs:
            assert copy.size is not None
            data = own[gfid(brick / name)].read_bytes()
            assert not any(data[copy.size :]), f"{name}: bytes beyond its end"
            contents = hashlib.sha256(data[: copy.size]).hexdigest()
            xattrs = {key: value for key, value in copy.xattrs.items() if key != KEY}
            found[name] = copy._replace(contents=contents, xattrs=xattrs)
    return found


def heal(volume: Volume, pool: Path) -> None:
    """Heal until nothing is listed and all bricks have the same, on devices of their own."""

    def unequal() -> list[str]:
        flush(pool)
        first, *others = (whole_copies(brick, pool) for brick in volume.bricks)
        return [line for other in others for line in differences(first, other)]

    def healed() -> bool:
        volume.heal()
        try:
            return not unequal()
        except AssertionError:
            return False

    try:
        wait_until(healed, "equal copies")
    except AssertionError:
        assert unequal() == []
        raise
    check_devices(volume, pool)


def room(pool: Path, file: Path) -> list[int]:
    """The blocks that each brick's device of a file has."""
    flush(pool)
    number = gfid(file)
    return [path.stat().st_blocks for path in pool.iterdir() if owner(path)[1] == number]
