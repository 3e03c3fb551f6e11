"""What may happen to a recipe: bricks die, the store is full or read-only, fops fail.

Each is a setting of whole sequences, so that these are repeatable: `posix` looks at how full its
disk is every 5 s only.
"""

import contextlib
import errno
import os
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from glupy import linux, stores
from glupy.testing import failing, gfapi
from glupy.testing.fuzz import steps
from glupy.testing.fuzz.model import FileModel
from glupy.testing.fuzz.runner import Ground, Runner
from glupy.testing.processes import Brick

FAULTS = {
    "kill": "bricks die by SIGKILL, and are started again",
    "full": "the store has used its reserve up, and has no more than 1 MiB left",
    "readonly": "the store is read-only, with files in it",
    "io": "fops fail with EIO above the leaf",
}
ROOM = 1 << 20
"""Bytes that are free in a full store: less than a brick's reserve, but GlusterFS's own clients can
use them up."""
ROOM_TO_START = 3 << 20
"""The same for bricks that are to start in it: the 256 folders of handles take 1 MiB."""
BLOCK = 4096
INTERNAL_PID = -3
"""Of a client of GlusterFS's own (glusterfs/common-utils.h: GF_CLIENT_PID_DEFRAG)."""
PATIENCE = 15.0


class FaultError(ValueError):
    """Faults that there are not, or not together."""


def check_faults(faults: Collection[str]) -> None:
    """FaultError, a line, unless these can happen together."""
    for fault in faults:
        if fault not in FAULTS:
            raise FaultError(f"{fault!r} is no fault: {', '.join(FAULTS)} are")
    if {"full", "readonly"} <= set(faults):
        raise FaultError("what is read-only cannot be full, too")


class Troubles:
    """Does to a target what steps want: to these bricks, and by these folders of orders."""

    def __init__(
        self,
        bricks: Sequence[Brick],
        orders: Sequence[Path],
        client: gfapi.Client,
        ballast: "Ballast | None",
    ) -> None:
        self.bricks, self._orders, self._client = bricks, orders, client
        self._ballast = ballast

    def begin(self) -> None:
        if self._ballast is not None:
            self._ballast.adjust()

    def kill(self) -> None:
        for brick in self.bricks:
            brick.kill()

    def start(self) -> None:
        for brick in self.bricks:
            if not brick.is_running:
                brick.start()

    def inject(self, fop: str, number: int) -> None:
        for folder in self._orders:
            failing.order(folder, fop, number)

    def disarm(self) -> None:
        for folder in self._orders:
            failing.clear(folder)

    def be_internal(self, on: bool) -> None:
        self._client.be_internal(INTERNAL_PID if on else 0)


class Ballast:
    """A file that fills the store at ``folder``, but for what a brick needs to start."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / "ballast"
        stores.run("sync", "--file-system", folder)
        # What a file system holds back for itself statvfs does not tell.
        size, more = 0, self._free()
        with self._path.open("wb") as file:
            while more >= BLOCK:
                try:
                    linux.fallocate(file.fileno(), 0, size, more)
                    size += more
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    file.truncate(size)
                    more //= 2
            file.truncate(size - ROOM_TO_START)
        self._wanted = self._free() - ROOM_TO_START + ROOM

    def _free(self) -> int:
        stat = os.statvfs(self._folder)
        return stat.f_bfree * stat.f_frsize

    def adjust(self) -> None:
        """Leave `ROOM`, whatever was used meanwhile: a brick's folders of handles never go."""
        size, more = self._path.stat().st_size, self._free() - self._wanted
        with self._path.open("r+b") as file:
            if more < 0:
                file.truncate(size + more)
            elif more >= BLOCK:
                with contextlib.suppress(OSError):  # what was just freed is not to be had at once
                    linux.fallocate(file.fileno(), 0, size, more)


def wait_until_full(client: gfapi.Client) -> None:
    """Wait until the bricks have noticed: they look at each start, and every 5 s."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            client.creat("/probe").close()
        except OSError as error:
            if error.errno == errno.ENOSPC:
                return
            raise
        client.unlink("/probe")
        time.sleep(0.05)
    raise FaultError("no brick says that it is full")


CONTENTS = (
    *(steps.Create(0, "a"), steps.Write(0, 0, 10_000, 1), steps.Discard(0, 4096, 4096)),
    *(steps.Create(1, "b"), steps.Fallocate(1, 0, 1 << 20)),
    *(steps.Create(2, "c"), steps.Write(2, (1 << 20) - 1, 2, 2)),
    *(steps.Link(0, "c", "d"), steps.Setxattr(0, "a", "user.x", b"1")),
    *(steps.Sync(0), steps.Close(0), steps.Close(1), steps.Close(2)),
)
"""What is in a store before it becomes read-only."""


def make_contents(ground: Ground) -> dict[str, FileModel]:
    """Make files, before the store is read-only; what they are then."""
    faults, ground.faults = ground.faults, frozenset()
    runner = Runner(ground)
    for step in CONTENTS:
        runner.perform(step)
    runner.verify()
    ground.faults = faults
    return runner.volume.names


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The file system there is read-only for as long as the block runs."""
    deadline = time.monotonic() + PATIENCE
    while True:  # until what bricks have closed is closed
        try:
            stores.run("mount", "--options", "remount,ro", folder)
            break
        except stores.StoreError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    try:
        yield
    finally:
        stores.run("mount", "--options", "remount,rw", folder)
