"""Fops on a mapped file's blocks, discard before all, and statfs."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from types import CoroutineType
from typing import Any

from glupy import fops, keys
from glupy.constants import GF_SEEK_DATA, GF_SEEK_HOLE
from glupy.views import Dict, Fd, Frame, Loc
from pybd.base import LATER, Base, on_fd
from pybd.data import SYNC, Data, check_writable, is_moved_here
from pybd.device import failed
from pybd.files import File
from pybd.mapping import THIN
from pybd.ranges import MOST

_WHENCE = {GF_SEEK_DATA: os.SEEK_DATA, GF_SEEK_HOLE: os.SEEK_HOLE}


def _check_range(fd: Fd, offset: int, length: int) -> None:
    """What fallocate(2) says of a range: EINVAL, EBADF or EFBIG."""
    if offset < 0 or length <= 0 or length > MOST:
        raise failed(errno.EINVAL)
    check_writable(fd)
    if offset + length > MOST:
        raise failed(errno.EFBIG)


class Space(Data, Base):
    """Fops on blocks."""

    @on_fd
    def discard(
        self, frame: Frame, file: File, fd: Fd, offset: int, len: int, xdata: Dict | None
    ) -> Any:
        """Give the space of a range back; it reads as zeros, at once, and the size stays.

        Any range will do, and it takes no space, so a full pool is no reason to refuse it.
        """
        _check_range(fd, offset, len)
        if is_moved_here(frame, file):
            return self._discard_protected(frame, file, fd, offset, len, xdata)
        return self._discard(frame, file, fd, offset, len, xdata)

    async def _discard_protected(
        self, frame: Frame, file: File, fd: Fd, offset: int, length: int, xdata: Dict | None
    ) -> Any:
        async with file.resizing:
            await self.protect(frame, file, fd)
        answer = self._discard(frame, file, fd, offset, length, xdata)
        return await answer if isinstance(answer, CoroutineType) else answer

    def _discard(
        self, frame: Frame, file: File, fd: Fd, offset: int, length: int, xdata: Dict | None
    ) -> Any:
        alone = xdata is not None and keys.UPDATE_ATOMIC in xdata
        with file.gate.alone() if alone else file.gate:
            device = file.device
            if device is None or file.moving:
                return LATER
            before = self.shown(file)
            if file.written is not None:
                file.written.append((offset, offset + length))
            device.discard(offset, min(length, file.size - offset), file.end)
            if fd.flags & SYNC:
                self.sync(file, device, fd)
            if not device.frees:
                self.say_once(
                    "frees",
                    "the devices of this pool cannot discard: what is discarded is zeroed, but its "
                    "space is not freed",
                )
            self.touch(frame, file)
            after = self.shown(file)
        reply = fops.Discard(before, after)
        return self.with_size(file, fd, reply) if fd.flags & SYNC and file.unsaved else reply

    @on_fd
    def zerofill(
        self, frame: Frame, file: File, fd: Fd, offset: int, len: int, xdata: Dict | None
    ) -> Any:
        """Have a range read as zeros; the file grows if the range is past its end."""
        _check_range(fd, offset, len)
        return self._reach(frame, file, fd, offset, len, xdata, grow=True, zero=True)

    @on_fd
    def fallocate(
        self,
        frame: Frame,
        file: File,
        fd: Fd,
        keep_size: int,
        offset: int,
        len: int,
        xdata: Dict | None,
    ) -> Any:
        """Give a range space, as far as the pool can: loop files can; a thick volume has it.

        A thin volume cannot: EOPNOTSUPP, but for a range that makes the file grow, which it does.
        """
        _check_range(fd, offset, len)
        return self._reach(frame, file, fd, offset, len, xdata, grow=not keep_size, zero=False)

    async def _reach(
        self,
        frame: Frame,
        file: File,
        fd: Fd,
        offset: int,
        length: int,
        xdata: Dict | None,
        *,
        grow: bool,
        zero: bool,
    ) -> Any:
        async with file.resizing:
            device = file.device
            if device is None or file.moving or file.merging:
                return LATER
            end = offset + length
            old, blocks = file.size, self.blocks(file)
            grows = grow and end > old
            before = self.shown(file)
            self.show(file, before, size=old, blocks=blocks)
            if zero:
                await self.protect(frame, file, fd)
                self.check_room(device, offset, length)
                end = end if grow else min(end, old)
                if grows:
                    self.make_room(file, device, offset, end)
                alone = xdata is not None and keys.UPDATE_ATOMIC in xdata
                async with self.growing(file, fd, end) as grown:
                    with file.gate.alone() if alone else contextlib.nullcontext():
                        if alone and file.kind == THIN:
                            self.show(file, before, size=old)  # as it is when nobody else writes
                        device.zero(offset, end)
                        if fd.flags & SYNC:
                            self.sync(file, device, fd)
                        elif alone:
                            device.sync()
                        grown(end)
                        self.touch(frame, file)
                        after = self.shown(file)
                if fd.flags & SYNC:
                    await self.sync_size(file, fd)
                return fops.Zerofill(before, after)
            with file.reaching(end if grows else old):
                self._allocate(file, device, offset, length, grows=grows)
                if grows:
                    await self.resize(file, fd, end)
            if fd.flags & SYNC:
                self.sync(file, device, fd)
                await self.sync_size(file, fd)
            self.touch(frame, file)
            return fops.Fallocate(before, self.shown(file))

    def _allocate(self, file: File, device: Any, offset: int, length: int, *, grows: bool) -> None:
        end = offset + length
        if grows:
            self.make_room(file, device, end, end)
        if file.kind != THIN:
            return
        try:
            if device.allocates:
                self.check_free(length)
            with file.gate.alone():
                device.allocate(offset, length)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP or not grows:
                raise

    @on_fd
    def seek(
        self, frame: Frame, file: File, fd: Fd, offset: int, what: int, xdata: Dict | None
    ) -> Any:
        """Return where the next data or hole begins, as far as the pool can tell; ENXIO: none."""
        device = file.device
        if device is None:
            return LATER
        whence = _WHENCE.get(what)
        if whence is None:
            raise failed(errno.ENOTSUP)
        size = file.size
        if not 0 <= offset < size:
            raise failed(errno.ENXIO)
        found = device.seek(offset, whence)
        if whence == os.SEEK_HOLE:
            return fops.Seek(min(found, size))
        if found >= size:
            raise failed(errno.ENXIO)
        return fops.Seek(found)

    async def statfs(self, frame: Frame, loc: Loc, xdata: Dict | None) -> fops.Statfs:
        """Add the pool's size and what it has free to the brick's, unless they are one file system.

        Of the pool as large a part as the leaf shows of its own: bricks of a volume that are on one
        file system (shared-brick-count) have one pool. Less the reserve, as far as that is kept.
        """
        reply = await self.child.statfs(loc, xdata)
        buf = reply.buf
        if buf is None:
            return reply
        with contextlib.suppress(OSError):
            room = self.pool.room()
            if room.st_dev and room.st_dev == self._brick_device():
                return reply
            c, unit = buf.c, buf.f_frsize or buf.f_bsize
            part = buf.f_blocks / (os.statvfs(self.identity.directory).f_blocks or 1)
            reserve = self.option("reserve") if THIN in self.pool.kinds else 0
            free = max(room.free - room.size * reserve / 100, 0)
            c.f_blocks += int(part * room.size) // unit
            c.f_bfree += int(part * free) // unit
            c.f_bavail += int(part * free) // unit
        return reply

    def _brick_device(self) -> int:
        return Path(self.identity.directory).stat().st_dev
