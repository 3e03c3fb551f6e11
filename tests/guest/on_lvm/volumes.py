"""What the tests of volumes have in common: LVM itself, files on volumes, and their machines."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from glupy.testing.gfapi import Client, File
from glupy.testing.machine import FopMachine, Model

KEY = "user.glusterfs.bd"
KIB, MIB = 1 << 10, 1 << 20
CHUNK = 64 * KIB
EXTENT = 4 * MIB
GROUP, LUN_GROUP = "group-1", "lun"  # device-mapper doubles what LVM puts between names
THIN_POOL = "pool"
THIN_POOL_SIZE = 96 * MIB
THIN, THICK = f"lvm:{GROUP}/{THIN_POOL}", f"lvm:{GROUP}"
PATIENCE = 60.0

# What is refused is logged by the translators around pybd, too.
REFUSED = r"is not mapped to", r"errno=\d+", r"error=", r"error: ", r"remote operation failed"
NOT_FREED = r"its space is not freed"
Open = Callable[..., Client]


def command(*words: str | Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def volumes(group: str = GROUP) -> list[str]:
    """The volumes of a group, but the thin pool."""
    names = command("lvs", "--noheadings", "-o", "lv_name", group).split()
    return sorted(name for name in names if name != THIN_POOL)


def empty(group: str) -> None:
    for name in volumes(group):
        command("lvremove", "--yes", f"{group}/{name}")


def device(of: Path, group: str = GROUP) -> Path:
    """The volume of a file, by the file on the brick."""
    gfid = os.getxattr(of, "trusted.gfid").hex()
    (name,) = (each for each in volumes(group) if each.replace("-", "").endswith(gfid))
    return Path("/dev", group, name)


def held(volume: Path) -> int:
    """Sectors of 512 bytes that a thin volume has of its pool, as dmsetup says."""
    return int(command("dmsetup", "status", volume).split()[3])


def used_of_pool() -> int:
    """Bytes of the thin pool that are in use."""
    (status,) = command("dmsetup", "status", "--target", "thin-pool").splitlines()
    # NAME: START LENGTH thin-pool TRANSACTION METADATA USED/ALL …
    return int(status.split()[6].partition("/")[0]) * CHUNK


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


class Whole(Model):
    """A file on a thick volume has all of its blocks from the start, whatever happens to them."""

    def _has_all(self) -> None:
        self.must = self.touched(0, self.size)
        self.may = set(self.must)

    def grow(self, size: int) -> None:
        super().grow(size)
        self._has_all()

    def allocate(self, offset: int, end: int) -> None:
        self.last = offset

    def discard(self, offset: int, end: int) -> None:
        super().discard(offset, end)
        self._has_all()

    def truncate(self, size: int) -> None:
        super().truncate(size)
        self._has_all()


class Kept:
    """A client whose one file outlives an example, empty: to map a file takes seconds here."""

    def __init__(self, client: Client, path: str, mapping: bytes) -> None:
        self._client = client
        write(client, path, b"")
        client.setxattr(path, KEY, mapping)

    def creat(self, path: str, flags: int) -> File:
        self._client.truncate(path, 0)
        return self._client.open(path)

    def open(self, path: str) -> File:
        return self._client.open(path)

    def unlink(self, path: str) -> None:
        pass


class OnThick(FopMachine):
    def __init__(self, client: Kept) -> None:
        super().__init__(cast(Client, client), "/file", block_size=512, metadata_blocks=0)
        self.model = Whole(512, 0, bytearray(), set(), set())
