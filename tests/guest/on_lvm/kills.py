"""The brick is killed while a file on a thin volume is mapped, unmapped, copied or merged.

A command of LVM's goes on without it, and may end after the next brick has looked for what is left:
so that looks often.
"""

import contextlib
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from glupy.testing.gfapi import Client
from glupy.testing.pytest_plugin import Connect, MakeBrick

from .volumes import KEY, MIB, REFUSED, THIN, gfid_of, read, volumes, wait_until, write

DATA, CHANGED = random.Random(4).randbytes(MIB), random.Random(5).randbytes(MIB)
LONGEST = 6.0
"""Seconds that an operation takes about."""


class Machine:
    """One brick after the other over the same directory."""

    def __init__(self, make: MakeBrick, connect: Connect, folder: Path) -> None:
        self._make, self._connect = make, connect
        self.folder = folder
        self.start()

    def start(self) -> None:
        options = {"pool": THIN, "reclaim-interval": "10"}
        self.brick = self._make(self.folder, inserts=[("user/pybd", options)])
        self.client: Client = self._connect(self.brick)

    def end(self) -> None:
        self.client.close()
        self.brick.stop()

    def killed_during(self, operation: Callable[[Client], object]) -> None:
        def operate() -> None:
            with contextlib.suppress(OSError):
                operation(self.client)

        thread = threading.Thread(target=operate)
        thread.start()
        time.sleep(random.uniform(0, LONGEST))
        self.brick.kill()
        thread.join()
        self.client.close()
        self.start()

    def is_mapped(self, name: str) -> bool:
        path = self.folder / name
        return path.exists() and KEY in os.listxattr(path)

    def settled(self) -> None:
        """Wait until each mapped file has its device, and nobody else has one."""
        names = [path.name for path in self.folder.iterdir() if path.is_file()]
        for name in names:
            self.client.stat(f"/{name}")
        owned = [
            os.getxattr(self.folder / name, "trusted.gfid").hex()
            for name in names
            if self.is_mapped(name)
        ]

        def found() -> list[str]:
            return sorted(name.rpartition(".")[2].replace("-", "") for name in volumes())

        wait_until(lambda: found() == sorted(owned))


def mapping(machine: Machine) -> None:
    if machine.is_mapped("f"):
        machine.killed_during(lambda client: client.removexattr("/f", KEY))
    else:
        machine.killed_during(lambda client: client.setxattr("/f", KEY, b"thin"))
    machine.settled()
    assert read(machine.client, "/f") == DATA


def prepared(machine: Machine) -> bytes:
    """A mapped file and an empty one that is to be its copy: the gfid of that."""
    client = machine.client
    with contextlib.suppress(FileNotFoundError):
        client.unlink("/copy")
    if not machine.is_mapped("f"):
        client.setxattr("/f", KEY, b"thin")
    write(client, "/f", DATA)
    return gfid_of(client, machine.folder, "/copy")


def copying(machine: Machine) -> None:
    gfid = prepared(machine)
    machine.killed_during(lambda client: client.setxattr("/f", "snapshot", gfid))
    machine.settled()
    assert read(machine.client, "/f") == DATA
    assert read(machine.client, "/copy") == (DATA if machine.is_mapped("copy") else b"")


def merging(machine: Machine) -> None:
    """It is done, or it is not: whoever looks at the file next ends it."""
    gfid = prepared(machine)
    machine.client.setxattr("/f", "snapshot", gfid)
    write(machine.client, "/f", CHANGED)
    machine.killed_during(lambda client: client.setxattr("/copy", "merge", b"1"))
    client = machine.client
    # What the killed brick has begun goes on without it.
    wait_until(lambda: subprocess.run(["pgrep", "-x", "lvm"], check=False).returncode == 1)
    client.stat("/f")
    machine.settled()
    if (machine.folder / "copy").exists():
        assert read(client, "/f") == CHANGED
        assert read(client, "/copy") == DATA
    else:
        assert read(client, "/f") == DATA


@pytest.mark.parametrize(
    "operation",
    [*(pytest.param(each, marks=pytest.mark.long) for each in (mapping, copying)), merging],
)
@pytest.mark.allow_log(
    *REFUSED,
    r"forced unwinding frame",
    r"its file is not mapped to it",
    r"failed to submit message",
    r"is missing, or was never this brick's",
)
def test_kill(
    operation: Callable[[Machine], None],
    group: str,
    make_brick: MakeBrick,
    connect: Connect,
    brick_dir: Path,
    times: int,
) -> None:
    folder = brick_dir / "brick"
    folder.mkdir()
    machine = Machine(make_brick, connect, folder)
    write(machine.client, "/f", DATA)
    for _ in range(times):
        operation(machine)
    machine.end()
