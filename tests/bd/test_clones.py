"""Copies of mapped files: they share what the pool can share; where it cannot, writers go on."""

import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from glupy import stores
from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect
from glupy.testing.waiting import wait_until

from .conftest import KEY, MIB
from .mapped import ONE_LEAF, read, write

SIZE = 64 * MIB
BLOCK = 6000
BLOCKS = 200
AT = SIZE // BLOCKS
COPIES = "first", "second", "third", "fourth", "fifth"


@pytest.mark.parametrize("leaf", ONE_LEAF)
def test_writes_go_on(client: Client, connect: Connect, brick: Brick, backend: Path) -> None:
    """The copy is the file as it was at one moment."""
    data = random.Random(0).randbytes(MIB)
    with client.creat("/f") as file:
        for at in range(0, SIZE, MIB):
            file.pwrite(data, at)
    client.setxattr("/f", KEY, b"thin")
    chance, ended = random.Random(1), threading.Event()
    changes: list[tuple[int, bytes]] = []
    waits: list[float] = []

    def change() -> None:
        with client.open("/f", os.O_RDWR) as file:
            while not ended.is_set():
                at = chance.randrange(BLOCKS) * AT
                number = len(changes)
                new = bytes(BLOCK) if chance.random() < 0.3 else number.to_bytes(8) * (BLOCK // 8)
                changes.append((at, new))
                since = time.monotonic()
                if any(new):
                    file.pwrite(new, at)
                else:
                    file.discard(at, BLOCK)
                waits.append(time.monotonic() - since)

    changing = threading.Thread(target=change)
    other = connect(brick)
    other.stat("/f")
    changing.start()

    def clones(copy: str) -> bool:
        """Clone, and say whether nobody waited for it: that would be nearly all of the time."""
        write(client, f"/{copy}", b"")
        gfid = os.getxattr(backend / copy, "trusted.gfid").hex().encode()
        before, since = len(waits), time.monotonic()
        other.setxattr("/f", "clone", gfid)
        took = time.monotonic() - since
        return max(waits[before : len(waits) + 1], default=took) < took / 2

    try:
        time.sleep(0.1)
        # A busy machine keeps somebody waiting now and then.
        copy = next((copy for copy in COPIES if clones(copy)), None)
    finally:
        ended.set()
        changing.join()
    assert copy is not None
    assert is_a_moment(read(client, f"/{copy}", SIZE), data * (SIZE // MIB), changes)
    assert is_a_moment(read(client, "/f", SIZE), data * (SIZE // MIB), changes)


def is_a_moment(found: bytes, data: bytes, changes: list[tuple[int, bytes]]) -> bool:
    """Whether these are the bytes that there were after some of the changes, and no others."""
    state = bytearray(data)
    wrong = {at for at, _ in changes if found[at : at + BLOCK] != data[at : at + BLOCK]}
    for number in range(len(changes) + 1):
        if not wrong and found == state:
            return True
        if number < len(changes):
            at, new = changes[number]
            state[at : at + BLOCK] = new
            (wrong.discard if found[at : at + BLOCK] == new else wrong.add)(at)
    return False


@pytest.mark.parametrize("kind", ["xfs", pytest.param("btrfs", marks=pytest.mark.long)])
def test_a_pool_that_shares(
    make_bd: Callable[..., Brick], connect: Connect, brick_dir: Path, tmp_path: Path, kind: str
) -> None:
    """Copies take no space in it, and are files of their own; a merge leaves one of them."""
    with stores.store(tmp_path / "small", 320 * MIB, tmp_path / "mnt", kind=kind) as small:
        pool = small.folder / "pool"
        pool.mkdir()
        brick = make_bd(pool=pool)
        client = connect(brick)
        data = random.Random(0).randbytes(16 * MIB)
        write(client, "/f", data)
        client.setxattr("/f", KEY, b"thin")
        before = used(pool)
        for path, order in ("/clone", "clone"), ("/snap", "snapshot"):
            write(client, path, b"")
            gfid = os.getxattr(brick_dir / "brick-0" / path[1:], "trusted.gfid").hex()
            client.setxattr("/f", order, gfid.encode())
        assert used(pool) < before + 4 * MIB
        with client.open("/f") as file, client.open("/clone") as clone:
            file.pwrite(b"file", MIB)
            clone.discard(0, 8 * MIB)
            file.fsync()
            clone.fsync()
        assert read(client, "/f", len(data)) == data[:MIB] + b"file" + data[MIB + 4 :]
        assert read(client, "/clone", len(data)) == bytes(8 * MIB) + data[8 * MIB :]
        assert read(client, "/snap", len(data)) == data
        client.setxattr("/snap", "merge", b"1")
        assert read(client, "/f", len(data)) == data
        wait_until(lambda: len(list(pool.iterdir())) == 2)
        client.close()
        brick.stop()


def used(pool: Path) -> int:
    os.sync()
    found = os.statvfs(pool)
    return (found.f_blocks - found.f_bfree) * found.f_frsize
