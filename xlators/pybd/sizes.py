"""How long a file is, its stub and its device, and whether the pool has room for more."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import AsyncIterator, Callable

from glupy import Gfid, Loc
from glupy.views import Fd, Inode
from pybd.base import Base
from pybd.device import Device, data_ranges, failed
from pybd.files import File
from pybd.mapping import THICK
from pybd.ranges import MOST, rounded_up

_ROOM_SECONDS = 5.0  # as often as posix looks


class Sizes(Base):
    """Growing and cutting."""

    def check_room(self, device: Device, offset: int, length: int) -> None:
        """ENOSPC if the pool has not more free than its reserve, and the range has no space yet.

        What is written is only in memory at first: without this a full pool would lose it.
        """
        now = time.monotonic()
        if now >= self._room_until:
            self._room_until = now + _ROOM_SECONDS
            self._measure_room()
        if self._is_short and not device.has_room(offset, length):
            raise failed(errno.ENOSPC)

    def check_free(self, needed: int) -> None:
        """ENOSPC if the pool has no room for so many bytes, and its reserve."""
        room = self.pool.room()
        if (room.free - needed) * 100 < room.size * self.option("reserve"):
            raise failed(errno.ENOSPC)

    def _measure_room(self) -> None:
        try:
            room = self.pool.room()
        except OSError:
            return
        short = room.free * 100 < room.size * self.option("reserve")
        if short != self._is_short:
            self._is_short = short
            if short:
                self.log.warning("the pool is full: %d of %d bytes are free", room.free, room.size)
            else:
                self.log.info("the pool has room again: %d bytes", room.free)

    def make_room(self, file: File, device: Device, start: int, end: int) -> None:
        """The file is to reach to ``end``, with data from ``start`` on: ``resizing`` is held.

        What is between the file's end and ``start`` reads as zeros then.
        """
        before = device.size
        self.grow(self.identity.name(file.gfid), device, file.size, end, start)
        if device.size > before and file.kind == THICK:
            device.sync()  # the file's size may be on the disk before what is written is

    def grow(self, name: str, device: Device, old: int, end: int, start: int | None = None) -> None:
        """Have a device of this name reach to ``end``, and read as zeros from ``old`` to ``start``,
        or to the end, whatever was left there."""
        start = end if start is None else start
        before = device.size
        if end > before:
            size = rounded_up(end, self.pool.extent)
            if size > MOST:
                raise failed(errno.EFBIG)
            self.pool.resize(name, size)
            device.measure()
        if not self.pool.fresh_is_zero:
            try:
                device.clear(old, start)
                if start < device.size > before:
                    # What was there is nobody's, also if what is to be written does not come.
                    device.clear(max(start, before), device.size)
            except OSError:
                if device.size > before:
                    with contextlib.suppress(OSError):
                        self.pool.resize(name, before)
                        device.measure()
                raise
            return
        for first, behind in data_ranges(device, old, min(start, before)):
            device.wipe(first, behind)

    def trim(self, file: File, device: Device, size: int) -> None:
        """Cut a file, and give back what it no longer reaches: ``resizing`` is held."""
        with file.gate.alone():  # who is inside counts on the device's size
            file.size = size
            self._trim(file, device)

    def _trim(self, file: File, device: Device) -> None:
        try:
            if file.size < device.size:
                device.clear(file.size, device.size)
            size = rounded_up(max(file.size, 1), self.pool.extent)
            if size < device.size:
                self.pool.resize(self.identity.name(file.gfid), size)
                device.measure()
        except OSError as error:
            # The file is right without it.
            self.log.warning("%s: space is not given back: %s", Gfid(file.gfid), error)

    async def resize(self, file: File, fd: Fd, size: int) -> None:
        """Have the stub be so long, whatever it was: ``resizing`` is held."""
        await self._resize_stub(file, fd, size)
        with file.gate.alone():  # a discard up to the end takes what is behind that, too
            file.size = size

    async def _resize_stub(self, file: File, fd: Fd, size: int) -> None:
        file.unsaved = True
        with self.changes(file) as change:
            reply = await self.child.ftruncate(fd, size)
            change(reply.postbuf)

    @contextlib.asynccontextmanager
    async def growing(self, file: File, fd: Fd, end: int) -> AsyncIterator[Callable[[int], None]]:
        """Inside, bytes are put behind the file's end, up to this one: ``resizing`` is held.

        What this gives is called with the size to which they are there. Nobody reads or writes
        what is not: who wants to waits for ``resizing``, and loses nothing if it fails. The stub is
        as long first: if that fails no byte of the file has changed.
        """
        old = file.size

        def grown(size: int) -> None:
            file.size = max(file.size, size)

        if end <= old:
            yield grown
            return
        with file.reaching(end):
            await self._resize_stub(file, fd, end)
            try:
                yield grown
            finally:
                if file.size < end:
                    try:
                        await self._resize_stub(file, fd, file.size)
                    except OSError:
                        with file.gate.alone():
                            file.size = end  # as the stub says

    async def sync_size(self, file: File, fd: Fd) -> None:
        """Have a file's size on the disk, as O_SYNC and O_DSYNC ask: ``resizing`` is held."""
        if file.unsaved:
            await self.child.fsync(fd, 1)
            file.unsaved = False

    @contextlib.asynccontextmanager
    async def cutting(self, inode: Inode, file: File) -> AsyncIterator[None]:
        """What is wound inside may cut the stub, and fail all the same: then the file is cut, too.
        ``resizing`` is held."""
        try:
            yield
        except OSError:
            with contextlib.suppress(OSError):
                reply = await self.child.stat(Loc(inode=inode, gfid=file.gfid))
                if reply.buf is not None and reply.buf.ia_size < file.size:
                    self.trim(file, self.device(file), reply.buf.ia_size)
            raise

    async def emptied(self, file: File, fd: Fd) -> None:
        """Posix has cut the stub to nothing; what grew since goes, too: ``resizing`` is held."""
        self.trim(file, self.device(file), 0)
        with self.changes(file) as change:
            after = (await self.child.fstat(fd)).buf
            change(after)
        if after is not None and after.ia_size:
            await self.resize(file, fd, 0)
