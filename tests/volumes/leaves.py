"""Volumes whose leaf `glupy volume` has chosen, and a load on a volume."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from glupy import stores
from glupy.testing.gfapi import Client
from glupy.testing.logs import LogChecker
from glupy.testing.statedump import Statedump
from glupy.testing.volumes import Glusterd, Volume

KIB, MIB = 1 << 10, 1 << 20
PATIENCE = 60.0
_numbers = itertools.count()

# What a brick says of clients that go, and a client of bricks that do.
PARTING = (
    r"Transport endpoint is not connected|forced unwinding frame|rpcsvc_submit_generic",
    r"Failed to get fd context for a non-anonymous fd",
)


def glupy(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """What the command says, however it ends."""
    command = [sys.executable, "-m", "glupy_tools", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@contextlib.contextmanager
def volume_on(
    leaf: str,
    glusterd: Glusterd,
    store: stores.Store,
    logs: LogChecker,
    bricks: int,
    *kind: str,
    options: dict[str, str] | None = None,
) -> Iterator[Volume]:
    """A started volume with so many bricks on that leaf, for as long as the block runs."""
    name = f"{leaf}-{next(_numbers)}"
    folder = store.folder / name
    paths = [folder / str(number) for number in range(bricks)]
    with contextlib.ExitStack() as undo:
        undo.callback(stores.run, "rm", "-rf", folder)
        volume = glusterd.create(name, paths, *kind, options=options, start=False)
        undo.callback(glusterd.gluster, "volume", "delete", name)
        undo.callback(glusterd.gluster, "volume", "stop", name, "force")
        logs.watch(*map(volume.log, paths))
        if leaf != "posix":
            done = glupy("volume", "use", name, "--leaf", leaf)
            assert done.returncode == 0, done
        volume.start()
        yield volume


@contextlib.contextmanager
def client_of(volume: Volume, glusterd: Glusterd, log: Path) -> Iterator[Client]:
    """A gfapi client of a volume."""
    with Client.of_volume(volume.name, glusterd.host, log=log, background_fini=True) as client:
        yield client


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for it, but not for ever."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"no sign of this: {what}"
        time.sleep(0.05)


def dumped(folder: Path, pid: int) -> Statedump:
    """The last statedump that a process was told to write to a folder; it goes from there."""

    def dumps() -> list[Path]:
        return sorted(folder.glob(f"*.{pid}.dump.*"))

    wait_until(dumps, f"a statedump of process {pid}")
    found = dumps()
    dump = Statedump.parse(found[-1].read_text(errors="replace"))
    for path in found:
        path.unlink()
    return dump


class Load(threading.Thread):
    """Writes, reads and discards in a file, and makes, moves, lists and removes others, until it
    is ended or a call fails. What is read must be what was written."""

    SIZE = 4 * MIB

    def __init__(self, client: Client, name: str) -> None:
        super().__init__()
        self.client = client
        self._path = f"/{name}"
        self._chance = random.Random(name)
        self._expected = bytearray(self.SIZE)
        self._uncertain = slice(0, 0)
        self._ended = threading.Event()
        self._between_calls = threading.Lock()
        self.rounds = 0
        self.discards = 0
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            with self.client.creat(self._path, os.O_RDWR | os.O_TRUNC) as self._file:
                self._file.ftruncate(self.SIZE)
                while not self._ended.is_set():
                    with self._between_calls:
                        self._round()
                    self.rounds += 1
                    time.sleep(0.001)  # a lock is not fair
        except BaseException as error:
            self._error = error

    def _round(self) -> None:
        offset = self._chance.randrange(self.SIZE)
        length = min(self._chance.choice([1, 511, 4096, 5000, 100_000]), self.SIZE - offset)
        place = slice(offset, offset + length)
        match self._chance.choice(["write", "discard", "read", "names"]):
            case "write":
                data = self._chance.randbytes(length)
                self._uncertain = place
                self._file.pwrite(data, offset)
                self._expected[place] = data
            case "discard":
                self._uncertain = place
                self._file.discard(offset, length)
                self._expected[place] = bytes(length)
                self.discards += 1
            case "read":
                assert self._file.pread(length, offset).value == self._expected[place]
            case "names":
                self._move(self._chance.randbytes(1000))
        self._uncertain = slice(0, 0)

    def _move(self, data: bytes) -> None:
        folder = f"{self._path}-folder"
        self.client.mkdir(folder)
        with self.client.creat(f"{folder}/first") as file:
            file.pwrite(data, 0)
        self.client.rename(f"{folder}/first", f"{folder}/second")
        self.client.readdir(folder)  # without names on a brick that has just gone
        with self.client.open(f"{folder}/second", os.O_RDONLY) as file:
            assert file.pread(len(data) + 1, 0).value == data
        self.client.unlink(f"{folder}/second")
        self.client.rmdir(folder)

    def go_on(self, rounds: int = 50) -> None:
        """Wait until it has done more."""
        before = self.rounds

        def has_done_more() -> bool:
            self.raise_error()
            return self.rounds >= before + rounds

        wait_until(has_done_more, f"{rounds} more rounds")

    def raise_error(self) -> None:
        """Raise what ended it, if anything did."""
        if self._error is not None:
            raise self._error

    def paused(self) -> threading.Lock:
        """No call is on its way while this is held."""
        return self._between_calls

    def check(self, client: Client) -> None:
        """The file is what the calls have made of it; the one that failed may be done, or not."""
        with client.open(self._path, os.O_RDONLY) as file:
            found = bytearray(file.pread(self.SIZE + 1, 0).value)
        assert len(found) == self.SIZE
        found[self._uncertain] = self._expected[self._uncertain]
        assert found == self._expected

    def __enter__(self) -> Load:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()
