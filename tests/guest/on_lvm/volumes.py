"""What the tests of volumes have in common: LVM itself, files on volumes, and their machines."""

import os
import random
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from glupy.testing.fuzz import DataRules, FileModel, Ground, Promises, Search
from glupy.testing.fuzz.machine import SequenceMachine
from glupy.testing.gfapi import Client

KEY = "user.glusterfs.bd"
KIB, MIB = 1 << 10, 1 << 20
CHUNK = 64 * KIB
EXTENT = 4 * MIB
GROUP, LUN_GROUP = "group-1", "lun"  # device-mapper doubles what LVM puts between names
THIN_POOL = "pool"
THIN_POOL_SIZE = 96 * MIB
THIN, THICK = f"lvm:{GROUP}/{THIN_POOL}", f"lvm:{GROUP}"
OLD = b"\xa5"
"""What a disk has from former use."""
NOT_WIPED = "--yes", "--wipesignatures", "n", "--zero", "n"

# What is refused is logged by the translators around pybd, too.
REFUSED = r"is not mapped to", r"errno=\d+", r"error=", r"error: ", r"remote operation failed"
NOT_FREED = r"its space is not freed"
FAILS = r"device glupy\.\S+: Input/output error"
Open = Callable[..., Client]


def command(*words: str | Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def volumes(group: str = GROUP) -> list[str]:
    """The volumes of a group, but the thin pool."""
    names = command("lvs", "--noheadings", "-o", "lv_name", group).split()
    return sorted(name for name in names if name != THIN_POOL)


def empty(group: str) -> None:
    for name in volumes(group):
        command("lvremove", "--yes", f"{group}/{name}")


def soil(extents: str) -> None:
    """Leave old data where the next thick volumes will be: LVM takes what is free first."""
    command("lvcreate", *NOT_WIPED, "--extents", extents, "--name", "old", GROUP)
    with Path(f"/dev/{GROUP}/old").open("r+b", buffering=0) as volume:
        for at in range(0, volume.seek(0, os.SEEK_END), EXTENT):
            os.pwrite(volume.fileno(), OLD * EXTENT, at)
        os.fsync(volume.fileno())
    command("lvremove", "--yes", f"{GROUP}/old")


def device(of: Path, group: str = GROUP) -> Path:
    """The volume of a file, by the file on the brick."""
    gfid = os.getxattr(of, "trusted.gfid").hex()
    (name,) = (each for each in volumes(group) if each.replace("-", "").endswith(gfid))
    return Path("/dev", group, name)


def forgotten(volume: Path) -> None:
    """What is read of a volume comes from its disk again, not from the kernel's memory."""
    number = os.open(volume, os.O_RDWR)
    try:
        os.fsync(number)
        os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(number)


def held(volume: Path) -> int:
    """Sectors of 512 bytes that a thin volume has of its pool, as dmsetup says."""
    return int(command("dmsetup", "status", volume).split()[3])


def used_of_pool() -> int:
    """Bytes of the thin pool that are in use."""
    (status,) = command("dmsetup", "status", "--target", "thin-pool").splitlines()
    # NAME: START LENGTH thin-pool TRANSACTION METADATA USED/ALL …
    return int(status.split()[6].partition("/")[0]) * CHUNK


def of_pool(client: Client, without: Client) -> tuple[int, int]:
    """Bytes, and those to be had, that statfs tells beyond what it does without pybd."""
    found, other = client.statvfs("/"), without.statvfs("/")
    size, free = found.f_blocks - other.f_blocks, found.f_bavail - other.f_bavail
    return size * found.f_frsize, free * found.f_frsize


def near(one: float, other: float) -> bool:
    """But for what the brick's own file system takes meanwhile."""
    return abs(one - other) < MIB // 4


def write(client: Client, path: str, data: bytes, offset: int = 0) -> None:
    with client.creat(path) as file:
        file.pwrite(data, offset)
        file.fsync()


def read(client: Client, path: str, length: int = 32 * MIB) -> bytes:
    with client.open(path, os.O_RDONLY) as file:
        return file.pread(length, 0).value


def refuses(number: int, call: Callable[[], object]) -> None:
    with pytest.raises(OSError) as caught:
        call()
    assert caught.value.errno == number


def gfid_of(client: Client, folder: Path, path: str) -> bytes:
    write(client, path, b"")
    return os.getxattr(folder / path.strip("/"), "trusted.gfid").hex().encode()


LVM = Promises(
    metadata_blocks=0,
    seeks=False,
    steady=frozenset({"mtime"}),
    copy_errnos=False,
    why={"seeks": "a volume is all data", "ctime": "there is no features/utime"},
)
ON_THIN = replace(LVM, block_size=CHUNK, delayed=True, allocates=False)
ON_THICK = replace(LVM, block_size=512, thick=True)


def search(
    client: Client,
    mapping: bytes,
    promises: Promises,
    examples: int,
    *more: type[SequenceMachine],
) -> None:
    """Look for what is wrong with one file. It outlives a sequence: to map one takes seconds.

    ``more`` are rules beside those of data.
    """
    write(client, "/a", b"")
    client.setxattr("/a", KEY, mapping)
    kept = {"a": FileModel(promises, promises.block_size)}
    ground = Ground([client], promises, promises.block_size, kept=kept)
    seed = random.randrange(1 << 32)
    finding = Search(ground, rules=[*more, DataRules]).run(examples=examples, seed=seed, steps=30)
    assert finding is None, f"seed {seed}: {finding}"
