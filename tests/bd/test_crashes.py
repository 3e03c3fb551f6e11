"""The brick is killed while a file is mapped, resized, copied, unmapped or removed.

Whenever that is, the file is mapped or not, with its data; and the pool has the devices of the
mapped files and no others, once the next brick has looked through it.
"""

import contextlib
import errno
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick
from glupy.testing.pytest_plugin import Connect
from glupy.testing.waiting import wait_until

from .conftest import KEY, MIB
from .mapped import devices, read, refuses, write

# What a client has asked when its brick goes.
pytestmark = pytest.mark.allow_log(
    r"forced unwinding frame",
    r"remote operation failed",
    r"error=Transport endpoint is not connected",
)

DATA = random.Random(0).randbytes(2 * MIB)
TAIL = b"the end"
SIZE = 6 * MIB
LONGEST = 0.12
"""Seconds that an operation takes at most: the kill comes before that."""


class Machine:
    """One brick after the other over the same directory and pool."""

    def __init__(self, make: Callable[..., Brick], connect: Connect, folder: Path, pool: Path):
        self._make, self._connect = make, connect
        self.folder, self.pool = folder, pool
        self.interrupted = 0
        """Of the operations those that the client had no answer to."""
        self.start()

    def start(self) -> None:
        self.brick = self._make(self.folder)
        self.client: Client = self._connect(self.brick)

    def killed_during(self, operation: Callable[[Client], object], after: float) -> None:
        """Kill the brick that many seconds after the operation has begun, and start the next."""

        def operate() -> None:
            try:
                operation(self.client)
            except OSError as error:
                failures.append(error.errno)

        failures: list[int | None] = []
        thread = threading.Thread(target=operate)
        thread.start()
        time.sleep(after)
        self.brick.kill()
        thread.join()
        assert failures in ([], [errno.ENOTCONN])
        self.interrupted += len(failures)
        with contextlib.suppress(OSError):
            self.client.close()
        self.start()

    def mapped(self) -> list[str]:
        """The gfids of the files whose xattr says that they are mapped."""
        found = []
        for path in self.folder.iterdir():
            if path.is_file() and KEY in os.listxattr(path):
                found.append(os.getxattr(path, "trusted.gfid").hex())
        return sorted(found)

    def check(self) -> None:
        """Each mapped file has its device, and nobody else has one."""

        def settled() -> bool:
            names = [each.name for each in devices(self.pool)]
            owners = sorted(name.rpartition(".")[2].replace("-", "") for name in names)
            return owners == self.mapped()

        with contextlib.suppress(FileNotFoundError):
            self.client.stat("/f")
        try:
            wait_until(settled)
        except AssertionError:
            names = [each.name for each in devices(self.pool)]
            raise AssertionError(f"devices {names}, mapped {self.mapped()}") from None


@pytest.fixture
def machine(
    make_bd: Callable[..., Brick], connect: Connect, brick_dir: Path, pool: Path
) -> Iterator[Machine]:
    folder = brick_dir / "brick"
    folder.mkdir()
    yield Machine(make_bd, connect, folder, pool)


def prepared(machine: Machine, *, mapped: bool) -> None:
    client = machine.client
    with contextlib.suppress(FileNotFoundError):
        client.unlink("/f")
    write(client, "/f", DATA)
    write(client, "/f", TAIL, SIZE - len(TAIL))
    if mapped:
        client.setxattr("/f", KEY, b"thin")


def is_whole(data: bytes) -> bool:
    return data == DATA + bytes(SIZE - len(DATA) - len(TAIL)) + TAIL


def mapping(machine: Machine, after: float) -> None:
    prepared(machine, mapped=False)
    machine.killed_during(lambda client: client.setxattr("/f", KEY, b"thin"), after)
    assert is_whole(read(machine.client, "/f"))


def unmapping(machine: Machine, after: float) -> None:
    prepared(machine, mapped=True)
    machine.killed_during(lambda client: client.removexattr("/f", KEY), after)
    assert is_whole(read(machine.client, "/f"))


def growing(machine: Machine, after: float) -> None:
    prepared(machine, mapped=True)
    machine.killed_during(lambda client: client.truncate("/f", 2 * SIZE), after)
    data = read(machine.client, "/f", 3 * SIZE)
    assert is_whole(data[:SIZE])
    assert data[SIZE:] in (b"", bytes(SIZE))


def shrinking(machine: Machine, after: float) -> None:
    prepared(machine, mapped=True)
    machine.killed_during(lambda client: client.truncate("/f", MIB), after)
    data = read(machine.client, "/f")
    assert is_whole(data) or data == DATA[:MIB]
    if len(data) == MIB:
        # What is left behind the end is not seen again.
        machine.client.truncate("/f", SIZE)
        assert read(machine.client, "/f") == DATA[:MIB] + bytes(SIZE - MIB)


def target(machine: Machine) -> bytes:
    """The gfid of an empty file for a copy."""
    with contextlib.suppress(FileNotFoundError):
        machine.client.unlink("/copy")
    write(machine.client, "/copy", b"")
    return os.getxattr(machine.folder / "copy", "trusted.gfid").hex().encode()


def copying(machine: Machine, after: float, order: str) -> None:
    prepared(machine, mapped=True)
    gfid = target(machine)
    machine.killed_during(lambda client: client.setxattr("/f", order, gfid), after)
    assert is_whole(read(machine.client, "/f"))
    copy = read(machine.client, "/copy")
    if KEY in os.listxattr(machine.folder / "copy"):
        assert is_whole(copy)
    else:
        assert not any(copy)


def cloning(machine: Machine, after: float) -> None:
    copying(machine, after, "clone")


def snapshotting(machine: Machine, after: float) -> None:
    copying(machine, after, "snapshot")


def merging(machine: Machine, after: float) -> None:
    prepared(machine, mapped=True)
    machine.client.setxattr("/f", "snapshot", target(machine))
    machine.client.truncate("/f", MIB)
    # Of all operations the shortest.
    machine.killed_during(lambda client: client.setxattr("/copy", "merge", b"1"), after / 4)
    machine.check()  # until the next brick has ended it
    data = read(machine.client, "/f")
    if (machine.folder / "copy").exists():
        assert data == DATA[:MIB]
        assert is_whole(read(machine.client, "/copy"))
    else:
        assert is_whole(data)


def removing(machine: Machine, after: float) -> None:
    prepared(machine, mapped=True)
    machine.killed_during(lambda client: client.unlink("/f"), after)
    if (machine.folder / "f").exists():
        assert is_whole(read(machine.client, "/f"))
    else:
        refuses(2, lambda: machine.client.stat("/f"))


OPERATIONS = [mapping, unmapping, growing, shrinking, cloning, snapshotting, merging, removing]


def kill(machine: Machine, operation: Callable[[Machine, float], None], times: int) -> None:
    chance = random.Random(operation.__name__)
    for _ in range(times):
        operation(machine, chance.random() ** 2 * LONGEST)
        machine.check()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_kill(machine: Machine, operation: Callable[[Machine, float], None]) -> None:
    kill(machine, operation, 5)


@pytest.mark.long
@pytest.mark.parametrize("leaf", ["posix", "pyposix"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_kill_often(
    machine: Machine,
    operation: Callable[[Machine, float], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    kill(machine, operation, 50)
    with capsys.disabled():
        print(f"\n{operation.__name__}: {machine.interrupted} of 50 had no answer")
    assert machine.interrupted >= 10


def test_a_rename_that_outlives_a_killed_brick(
    make_brick: Callable[..., Brick], connect: Connect, pool: Path
) -> None:
    """lvrename goes on without it, and may end when the next brick has opened the device."""
    bd = "user/pybd", {"pool": f"loop:{pool}", "reclaim-interval": "1"}
    brick = make_brick(inserts=[bd])
    client = connect(brick)
    with client.creat("/f") as file:
        file.pwrite(b"x" * MIB, 0)
    client.setxattr("/f", KEY, b"thin")
    with client.open("/f") as file:
        (device,) = pool.glob("glupy.*")
        half = device.with_name(f"{device.name}.half")
        device.rename(half)
        wait_until(lambda: device.exists() and not half.exists())
        half.touch()  # made and not used: another attempt's
        for key in os.listxattr(device):
            os.setxattr(half, key, os.getxattr(device, key))
        wait_until(lambda: not half.exists())
        assert file.pread(MIB, 0).value == b"x" * MIB
    client.truncate("/f", 2 * MIB)
    client.unlink("/f")
    wait_until(lambda: list(pool.glob("glupy.*")) == [])
