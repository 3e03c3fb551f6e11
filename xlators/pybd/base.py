"""What all fops share: which file is mapped, as long as somebody knows it, and the way of a data
fop to its device."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import AsyncIterator, Callable
from types import CoroutineType
from typing import Any, NamedTuple

from glupy import PASS
from glupy.views import Fd, Frame, Iatt, Inode, Loc
from pybd import mapping
from pybd.device import failed
from pybd.files import PLAIN, File
from pybd.inodes import (
    REGULAR,
    file_of,
    is_of,
    may_be_mapped,
    set_mapped,
    set_plain,
    set_unknown,
)
from pybd.mapping import KEY
from pybd.shown import Shown

ATTEMPTS = 100
"""How often it is asked anew what a file is, while that changes."""


class Seen(NamedTuple):
    """How far changes were when somebody began to look at a file."""

    changes: int
    """Those of the file; -1 if it was not known."""
    unmappings: int
    """Of any file."""


class Base(Shown):
    """Knows which files are mapped."""

    async def settle(self, inode: Inode, file: File) -> None:
        """End a merge into a file that was begun."""
        raise NotImplementedError

    async def unmap_file(self, inode: Inode, file: File) -> None:
        """Make a mapped file plain again, with its data."""
        raise NotImplementedError

    def note(
        self, inode: Inode | None, iatt: Iatt, value: bytes | None, since: Seen
    ) -> File | None:
        """What a reply tells of an inode: its attributes, and what its xattr says (None: nothing).

        ``since`` is what ``looking`` said before the fop.
        """
        if inode is None or iatt.c.ia_type != REGULAR or self.is_arbiter:
            return None
        if not is_of(inode, iatt.ia_gfid):
            return self._note_other(iatt, value, since)
        known = file_of(inode)
        if known is not None:
            # Only this process maps and unmaps: what we remember counts.
            known.seen(iatt, since.changes)
            return known if known.mapped else None
        if value is not None and since.unmappings != self.unmappings:
            set_unknown(inode)  # that may have been this file
            return None
        if value is None:
            other = self.files.find(iatt.ia_gfid)
            if other is None:
                if inode.ctx is not PLAIN:
                    set_plain(inode)
                return None
            file = other  # on its way to a device
        else:
            found = self._stored_as(iatt, value)
            if found is None:
                set_plain(inode)
                return None
            file = found
        set_mapped(inode, file)
        file.seen(iatt, since.changes)
        return file if file.mapped else None

    def _note_other(self, iatt: Iatt, value: bytes | None, since: Seen) -> File | None:
        """The same of a file that has come to the name of the one that was asked for."""
        file = self.files.find(iatt.ia_gfid)
        if file is None and value is not None and since.unmappings == self.unmappings:
            file = self._stored_as(iatt, value)
        if file is None:
            return None
        file.seen(iatt, -1)
        return file if file.mapped and not file.merging else None

    def _stored_as(self, iatt: Iatt, value: bytes) -> File | None:
        """Remember a file with this xattr; None if that is no mapping."""
        try:
            stored = mapping.stored(os.fsdecode(value))
        except OSError:
            self.say_once(
                iatt.ia_gfid.hex(), "%s: its xattr says %r: not mapped", iatt.ia_gfid, value
            )
            return None
        file = self.files.of(iatt.ia_gfid, stored.kind)
        file.merging = file.merging or stored.merging is not None
        return file

    def looking(self, inode: Inode | None) -> Seen:
        """Return what ``note`` wants: how far changes are when somebody begins to look."""
        known = file_of(inode)
        return Seen(known.looking() if known is not None else -1, self.unmappings)

    async def learn(self, fd: Fd) -> File | None:
        """Return the mapped file of an fd, None if it is plain, by asking posix if need be."""
        inode = fd.inode
        if not may_be_mapped(inode):
            return None
        for _ in range(ATTEMPTS):
            known = inode.ctx
            if known is PLAIN:
                return None
            if known is None:
                unsure = Seen(-1, self.unmappings)
                value = await self._stored(fd)
                reply = await self.child.fstat(fd)
                assert reply.buf is not None
                self.note(inode, reply.buf, value, unsure)
                if reply.buf.c.ia_type != REGULAR or self.is_arbiter:
                    return None
                continue
            file: File = known
            if file.moving:
                async with file.resizing:
                    continue
            if not file.mapped:
                if inode.ctx is file:
                    del inode.ctx
                continue
            if file.merging:
                await self.settle(inode, file)
            if not file.fresh:
                since = file.looking()
                reply = await self.child.fstat(fd)
                assert reply.buf is not None
                file.seen(reply.buf, since)
            return file
        raise failed(errno.EIO)

    async def opened(self, fd: Fd) -> File | None:
        """Return the mapped file of an fd once its device is open, None if it is plain. EIO without
        a device."""
        for _ in range(ATTEMPTS):
            file = await self.learn(fd)
            if file is None:
                return None
            try:
                self.device(file)
            except OSError:
                if file.mapped:
                    raise
                continue  # unmapped this very moment
            return file
        raise failed(errno.EIO)

    @contextlib.asynccontextmanager
    async def held(self, inode: Inode | None, file: File) -> AsyncIterator[None]:
        """Inside, a file's size and mapping stay as they are, and no merge into it is half done."""
        while True:
            async with file.resizing:
                if not (file.mapped and file.merging):
                    yield
                    return
            assert inode is not None  # a file is one of an inode
            await self.settle(inode, file)

    async def _stored(self, fd: Fd) -> bytes | None:
        """Return the xattr that says whether a file is mapped."""
        try:
            reply = await self.child.fgetxattr(fd, KEY)
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                return None
            raise
        return None if reply.dict is None else reply.dict.get_bytes(KEY)

    # ---- until nobody knows it any more ----

    def forget(self, inode: Inode) -> None:
        """The last that GlusterFS knows of a file: store its times, close its device.

        But an inode that a lookup had for itself, and never linked, may go while it is in use.
        """
        file = inode.ctx
        if not isinstance(file, File):
            return
        if file.gone:
            if inode.gfid == file.gfid:
                self.spawn(self.reclaim(file))
        elif (taken := file.times.taken()) is not None:
            gfid, fresh = file.gfid, inode.new()
            self._store_late(file, Loc(inode=fresh, gfid=gfid), taken)

    def release(self, fd: Fd) -> None:
        """A mapped file is closed: store its times; or remove its device, if it has no name."""
        inode = fd.inode
        file = inode.ctx
        if not isinstance(file, File):
            return
        if file.gone:
            if inode.active_fd_count == 0:
                self.spawn(self.reclaim(file))
        elif (taken := file.times.taken()) is not None:
            self._store_late(file, Loc(inode=inode.ref(), gfid=file.gfid), taken)

    def _store_late(self, file: File, loc: Loc, taken: Any) -> None:
        async def store() -> None:
            with contextlib.suppress(OSError):  # removed meanwhile
                await self.store_times(
                    file, lambda iatt, valid: self.child.setattr(loc, iatt, valid)
                )

        self.spawn(store(), ctime=(taken.ia_ctime, taken.ia_ctime_nsec))

    async def reclaim(self, file: File) -> None:
        """The last name of a file is gone, and nobody uses it: remove its device."""
        raise NotImplementedError


LATER = object()
"""What a ``core`` returns, or its coroutine, if the file is no longer what it was."""


def on_fd(
    core: Callable[..., Any],
) -> Callable[..., Any]:
    """Make a handler of a data fop on an fd: of a plain file it passes, of a mapped one ``core``
    (self, frame, file, fd, …) answers, at once if all is known.

    ``core`` may return a coroutine, or ``LATER`` if the mapping changes meanwhile. That a device
    has failed is EIO to the client, and one line in the log.
    """
    name = core.__name__

    @functools.wraps(core)
    def handler(self: Base, frame: Frame, fd: Fd, *arguments: Any) -> Any:
        inode = fd.inode
        file = inode.ctx
        if file is PLAIN or not may_be_mapped(inode):
            return PASS
        if file is not None and file.ready:
            try:
                answer = core(self, frame, file, fd, *arguments)
            except OSError as error:
                raise self.told(file, error) from None
            if isinstance(answer, CoroutineType):
                return _finished(self, frame, fd, arguments, file, answer)
            if answer is not LATER:
                return answer
        return _later(self, frame, fd, arguments)

    async def _finished(
        self: Base, frame: Frame, fd: Fd, arguments: tuple[Any, ...], file: File, answer: Any
    ) -> Any:
        with self.telling(file):
            answer = await answer
        return answer if answer is not LATER else await _later(self, frame, fd, arguments)

    async def _later(self: Base, frame: Frame, fd: Fd, arguments: tuple[Any, ...]) -> Any:
        for _ in range(ATTEMPTS):
            file = await self.opened(fd)
            if file is None:
                return await getattr(self.child, name)(fd, *arguments)
            with self.telling(file):
                answer = core(self, frame, file, fd, *arguments)
                if isinstance(answer, CoroutineType):
                    answer = await answer
            if answer is not LATER:
                return answer
        raise failed(errno.EIO)

    return handler
