"""The brick is killed while a mapped file is made one or no longer one, resized, copied, merged or
removed.

A command of LVM's goes on without it, and may end after the next brick has looked for what is left:
so that looks often.
"""

import contextlib
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import product
from pathlib import Path

import pytest

from glupy.testing.gfapi import Client
from glupy.testing.pytest_plugin import Connect, MakeBrick
from glupy.testing.waiting import wait_until

from .volumes import (
    KEY,
    KIB,
    MIB,
    OLD,
    REFUSED,
    THIN,
    device,
    forgotten,
    gfid_of,
    read,
    soil,
    volumes,
    write,
)

pytestmark = pytest.mark.allow_log(
    *REFUSED,
    r"forced unwinding frame",
    r"its file is not mapped to it",
    r"failed to submit message",
    r"is missing, or was never this brick's",
)

DATA, CHANGED = random.Random(4).randbytes(MIB), random.Random(5).randbytes(MIB)
WHOLE = DATA + bytes(MIB) + DATA
"""With a hole, in which nothing that the disk had before may show."""
TAIL_AT = 9 * MIB
"""Beyond two extents: who cuts that off makes the volume shorter."""
LONGEST = 6.0
"""Seconds that an operation takes about."""


def some_time() -> None:
    time.sleep(random.uniform(0, LONGEST))


def lvm_has_ended() -> None:
    """What a killed brick has begun goes on without it."""
    wait_until(lambda: subprocess.run(["pgrep", "-x", "lvm"], check=False).returncode == 1)


class Machine:
    """One brick after the other over the same directory."""

    def __init__(self, make: MakeBrick, connect: Connect, folder: Path, kind: str = "thin") -> None:
        self._make, self._connect = make, connect
        self.folder = folder
        self.kind = kind
        self.start()

    def start(self) -> None:
        options = {"pool": THIN, "reclaim-interval": "10"}
        self.brick = self._make(self.folder, inserts=[("user/pybd", options)])
        self.client: Client = self._connect(self.brick)

    def end(self) -> None:
        self.client.close()
        self.brick.stop()

    def killed_during(
        self, operation: Callable[[Client], object], until: Callable[[], object] = some_time
    ) -> None:
        def operate() -> None:
            with contextlib.suppress(OSError):
                operation(self.client)

        thread = threading.Thread(target=operate)
        thread.start()
        until()
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

    def soil(self) -> None:
        """A thin pool gives out zeros."""
        if self.kind == "lv":
            soil("8")

    def map(self, client: Client) -> None:
        client.setxattr("/f", KEY, self.kind.encode())


def mapping(machine: Machine) -> None:
    if machine.is_mapped("f"):
        machine.client.removexattr("/f", KEY)
    prepared_plain(machine)
    machine.killed_during(machine.map)
    machine.settled()
    assert read(machine.client, "/f") == WHOLE


def unmapping(machine: Machine) -> None:
    prepared(machine)
    machine.killed_during(lambda client: client.removexattr("/f", KEY))
    machine.settled()
    assert read(machine.client, "/f") == WHOLE


def resizing(machine: Machine) -> None:
    """What was cut or grown by a killed brick is as long as it was, and has what was written."""
    prepared(machine, TAIL_AT + MIB)
    before = read(machine.client, "/f")
    assert OLD * KIB not in before
    machine.soil()
    size = random.choice([MIB, TAIL_AT - MIB, TAIL_AT + 5 * MIB])
    machine.killed_during(lambda client: client.truncate("/f", size))
    found = machine.client.stat("/f").st_size
    assert found in (size, TAIL_AT + MIB)
    if found > TAIL_AT + MIB:
        assert read(machine.client, "/f") == before.ljust(found, b"\0")
    has_a_new_tail(machine)
    kept = before[: min(found, TAIL_AT)]
    assert read(machine.client, "/f") == kept.ljust(TAIL_AT, b"\0") + CHANGED
    machine.settled()


def has_a_new_tail(machine: Machine, meanwhile: Callable[[], object] = lambda: None) -> None:
    """What is written and synced now is there when no command of a killed brick's is at work."""

    def write_tail() -> None:
        with machine.client.open("/f") as file:
            file.ftruncate(TAIL_AT + MIB)
            file.pwrite(CHANGED, TAIL_AT)
            file.fsync()

    with ThreadPoolExecutor() as threads:
        writing = threads.submit(write_tail)
        wait([writing], 5)
        meanwhile()
        writing.result()
    lvm_has_ended()
    forgotten(device(machine.folder / "f"))
    with machine.client.open("/f") as file:
        assert file.pread(2 * MIB, TAIL_AT).value == CHANGED


def removing(machine: Machine) -> None:
    prepared(machine)
    machine.killed_during(lambda client: client.unlink("/f"))
    machine.settled()
    if (machine.folder / "f").exists():
        assert read(machine.client, "/f") == WHOLE


def prepared_plain(machine: Machine) -> None:
    with machine.client.creat("/f") as file:
        file.ftruncate(0)
        for at in 0, 2 * MIB:
            file.pwrite(DATA, at)
    machine.soil()


def prepared(machine: Machine, size: int = len(WHOLE)) -> None:
    """A mapped file of this size, on a disk that was used before."""
    if not machine.is_mapped("f"):
        prepared_plain(machine)
        machine.map(machine.client)
    write(machine.client, "/f", DATA)
    machine.client.truncate("/f", size)


def prepared_copy(machine: Machine) -> bytes:
    """An empty file that is to be the copy of a mapped one: its gfid."""
    with contextlib.suppress(FileNotFoundError):
        machine.client.unlink("/copy")
    return gfid_of(machine.client, machine.folder, "/copy")


def copying(machine: Machine) -> None:
    """Of a thick volume the bytes are copied."""
    prepared(machine)
    gfid = prepared_copy(machine)
    machine.soil()
    order = "snapshot" if machine.kind == "thin" else "clone"
    machine.killed_during(lambda client: client.setxattr("/f", order, gfid))
    machine.settled()
    assert read(machine.client, "/f") == WHOLE
    if machine.is_mapped("copy"):
        assert read(machine.client, "/copy") == WHOLE
    else:  # it has got its size before its device
        assert read(machine.client, "/copy").strip(b"\0") == b""


def merging(machine: Machine) -> None:
    """It is done, or it is not: whoever looks at the file next ends it."""
    prepared(machine)
    machine.client.setxattr("/f", "snapshot", prepared_copy(machine))
    write(machine.client, "/f", CHANGED)
    machine.killed_during(lambda client: client.setxattr("/copy", "merge", b"1"))
    client = machine.client
    lvm_has_ended()
    client.stat("/f")
    machine.settled()
    if (machine.folder / "copy").exists():
        assert read(client, "/f") == CHANGED + WHOLE[MIB:]
        assert read(client, "/copy") == WHOLE
    else:
        assert read(client, "/f") == WHOLE


RARE = mapping, unmapping, resizing, removing, copying


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        *(pytest.param(*each, marks=pytest.mark.long) for each in product(RARE, ["thin", "lv"])),
        (merging, "thin"),
    ],
)
def test_kill(
    operation: Callable[[Machine], None],
    kind: str,
    group: str,
    make_brick: MakeBrick,
    connect: Connect,
    brick_dir: Path,
    times: int,
) -> None:
    folder = brick_dir / "brick"
    folder.mkdir()
    machine = Machine(make_brick, connect, folder, kind)
    for _ in range(times):
        operation(machine)
    machine.end()


@pytest.mark.long
def test_a_resize_that_outlives_a_killed_brick(
    group: str,
    make_brick: MakeBrick,
    connect: Connect,
    brick_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """lvresize comes late, and does not cut off what the next brick has written since."""
    begun, go = tmp_path / "begun", tmp_path / "go"
    late = tmp_path / "bin" / "lvm"
    late.parent.mkdir()
    late.write_text(
        f"""#!/bin/sh
        if [ "$1" = lvresize ] && [ ! -e {begun} ]; then
            touch {begun}
            until [ -e {go} ]; do sleep 0.1; done
        fi
        exec {shutil.which("lvm")} "$@"
        """
    )
    late.chmod(0o755)
    monkeypatch.setenv("PATH", f"{late.parent}:{os.environ['PATH']}")
    machine = Machine(make_brick, connect, brick_dir)
    write(machine.client, "/f", DATA)
    machine.client.setxattr("/f", KEY, b"thin:%d" % (TAIL_AT + MIB))
    machine.killed_during(
        lambda client: client.truncate("/f", MIB), lambda: wait_until(begun.exists)
    )
    has_a_new_tail(machine, go.touch)
    machine.end()
