"""What steps can do to a target: kill its bricks, fail its fops, use up its store."""

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from glupy import linux, stores
from glupy.testing import failing, gfapi
from glupy.testing.processes import Brick

ROOM = 1 << 20
"""Bytes that are free in a full store: less than a brick's reserve, but GlusterFS's own clients can
use them up."""
ROOM_TO_START = 3 << 20
"""The same for each brick that is to start in it: the 256 folders of handles take 1 MiB."""
BLOCK = 4096
INTERNAL_PID = -3
"""Of a client of GlusterFS's own (glusterfs/common-utils.h: GF_CLIENT_PID_DEFRAG)."""


class Ballast:
    """A file that fills the store at ``folder``, but for what so many bricks need to start."""

    def __init__(self, folder: Path, bricks: int = 1) -> None:
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
            file.truncate(size - bricks * ROOM_TO_START)
        self._wanted = self._free() - bricks * ROOM_TO_START + ROOM

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


def _place(brick: Brick, how: str) -> str:
    """The translator in which a brick crashed, by the stack that GlusterFS left in its log."""
    if not re.fullmatch("signal SIG(SEGV|ABRT|BUS|ILL|FPE)", how):
        return ""
    _, found, stack = brick.log_text().rpartition("package-string")
    place = re.search(r"/(xlator/[^(\s]+)", stack) if found else None
    return f" in {place[1]}" if place else ""


class Trouble:
    """Does to a target what steps want, by these folders of orders; and tells what bricks do.

    ``victims`` are those of the bricks that are killed; ``folders`` those that bricks and pools are
    in. Without any there is no trouble to make.
    """

    def __init__(
        self,
        bricks: Sequence[Brick] = (),
        victims: Sequence[Brick] = (),
        orders: Sequence[Path] = (),
        client: gfapi.Client | None = None,
        ballast: Ballast | None = None,
        folders: Sequence[Path] = (),
    ) -> None:
        self.bricks, self._victims = bricks, victims
        self._orders, self._client = orders, client
        self._ballast, self._folders = ballast, folders
        self.internal = False
        """Set by `be_internal`."""

    def begin(self) -> None:
        """A sequence begins: a full store is as full as at the last one."""
        if self._ballast is not None:
            self._ballast.adjust()

    def kill(self) -> None:
        """SIGKILL for the victims."""
        for brick in self._victims:
            brick.kill()

    def start(self) -> None:
        """Start the bricks that do not run. Clients find them some seconds later."""
        for brick in self.bricks:
            if brick.ended:
                brick.kill()
            if not brick.is_running:
                brick.start()

    def death(self, patience: float = 0.0) -> str | None:
        """Which brick has ended by itself, and how. ``patience``: seconds that one may take."""
        deadline = time.monotonic() + patience
        while self.bricks:
            for brick in self.bricks:
                if how := brick.ended:
                    return f"{brick.folder.name} ended by itself: {how}{_place(brick, how)}"
            if time.monotonic() >= deadline:
                break
            time.sleep(0.01)
        return None

    def begin_anew(self) -> None:
        """End all bricks, and empty them from below: by fops that was not possible."""
        for brick in self.bricks:
            brick.kill()
        for folder in self._folders:
            for path in folder.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    stores.detach(path)  # if it is a device of a pool
                    path.unlink()

    def inject(self, fop: str, number: int) -> None:
        """The next such fop fails with this errno."""
        for folder in self._orders:
            failing.order(folder, fop, number)

    def disarm(self) -> None:
        """What no fop has met will not happen any more."""
        for folder in self._orders:
            failing.clear(folder)

    def be_internal(self, on: bool) -> None:
        """The client's calls are those of a GlusterFS process from now on, or a user's again."""
        if self._client is not None:
            self.internal = on
            self._client.be_internal(INTERNAL_PID if on else 0)
