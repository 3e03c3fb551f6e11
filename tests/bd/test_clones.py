"""A file is written to and discarded in while it is cloned: nobody waits for the copy, and that is
the file as it was at one moment."""

import os
import random
import threading
import time
from pathlib import Path

import pytest

from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect

from .conftest import KEY, MIB
from .mapped import ONE_LEAF, read, write

SIZE = 64 * MIB
BLOCK = 6000
BLOCKS = 200
AT = SIZE // BLOCKS


@pytest.mark.parametrize("leaf", ONE_LEAF)
def test_writes_go_on(client: Client, connect: Connect, brick: Brick, backend: Path) -> None:
    data = random.Random(0).randbytes(MIB)
    with client.creat("/f") as file:
        for at in range(0, SIZE, MIB):
            file.pwrite(data, at)
    client.setxattr("/f", KEY, b"thin")
    write(client, "/copy", b"")
    gfid = os.getxattr(backend / "copy", "trusted.gfid").hex().encode()
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
    try:
        time.sleep(0.1)
        before, since = len(waits), time.monotonic()
        other.setxattr("/f", "clone", gfid)
        took = time.monotonic() - since
        after = len(waits)
    finally:
        ended.set()
        changing.join()
    # If they waited for the copy, that would be nearly all of the time.
    assert max(waits[before : after + 1]) < took / 2
    assert is_a_moment(read(client, "/copy", SIZE), data * (SIZE // MIB), changes)
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
