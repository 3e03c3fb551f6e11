"""Mapping a file to a device and back.

What says that a file is mapped is its xattr, set or removed by one system call. A device has its
name's half form (``identity.half``) before and after that moment, so whenever the brick is killed
the xattr alone says what such a device is: the file's, or nobody's. That holds when the power goes,
too: what the xattr says is on the disk before the device gets its name, or is removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import AsyncIterator, Callable, Iterator

from glupy import Loc, sleep
from glupy.views import Fd, Iatt, Inode, Vector
from pybd import device as devices
from pybd import mapping
from pybd.device import Device, failed
from pybd.files import File
from pybd.inodes import REGULAR, set_mapped, set_plain, set_unknown
from pybd.mapping import Mapping
from pybd.ranges import Range, rounded_up
from pybd.sizes import Sizes
from pybd.stub import AT_A_TIME, Stub

SETTLED_AFTER = 0.02  # seconds: more than the file system's clock ticks in
# Translators above keep the size of such a file in an xattr of their own.
_SIZED_ABOVE = "trusted.ec.size", "trusted.glusterfs.shard.file-size"


class AlreadyMapped(OSError):
    """EEXIST: the file is mapped, or on its way."""

    def __init__(self) -> None:
        super().__init__(errno.EEXIST, os.strerror(errno.EEXIST))


class Undecided(OSError):
    """EIO: the xattr says that a file is mapped, though that has failed. Its device has to stay."""

    def __init__(self) -> None:
        super().__init__(errno.EIO, "the xattr that maps it could not be taken back")


class Moving(Sizes):
    """Maps and unmaps. What it does to a file, it does while ``resizing`` is held."""

    @contextlib.asynccontextmanager
    async def arriving(self, file: File | None) -> AsyncIterator[File]:
        """In this block an added file is mapped, or not after all: who finds its gfid waits for it.

        The stub need not be there yet. EEXIST for None: it is mapped, or on its way.
        """
        if file is None:
            raise AlreadyMapped
        async with file.resizing:
            try:
                yield file
            finally:
                if not file.mapped:
                    self.files.drop(file)
                file.moving = False

    async def map_file(
        self, inode: Inode, gfid: bytes, wanted: Mapping, *, keeps_size: bool = False
    ) -> None:
        """Map a regular file, and move its data to the device.

        The file's size is then the one that is given, unless ``keeps_size``: then that is only how
        large the device is at first. EEXIST if it is mapped, EINVAL for a size that would cut off
        data, EOPNOTSUPP if it is no regular file or the pool has no such devices, ENODEV without a
        pool, ENOSPC without space.
        """
        async with self.arriving(self.files.add(gfid, wanted.kind)) as file:
            await self.map_arriving(inode, file, wanted, keeps_size=keeps_size)

    async def map_arriving(
        self, inode: Inode, file: File, wanted: Mapping, *, keeps_size: bool
    ) -> None:
        """Map a file that is ``arriving``, as ``map_file`` does."""
        stub = Stub(
            self.child,
            Loc(inode=inode, gfid=file.gfid),
            inode.anonymous_fd() if inode.gfid else None,
        )
        if await stub.has(mapping.KEY):
            raise AlreadyMapped
        before = await stub.stat()
        if before.c.ia_type != REGULAR or wanted.kind not in self.pool.kinds:
            raise failed(errno.EOPNOTSUPP)
        file.seen(before, file.looking())
        with self._marked(inode, file):
            await self._move_in(stub, file, before, wanted, keeps_size)

    @contextlib.contextmanager
    def _marked(self, inode: Inode, file: File) -> Iterator[None]:
        """Inside, who has an inode of this file waits; afterwards he knows what it has become."""
        set_mapped(inode, file)
        self._tell_linked(file)
        try:
            yield
        except Undecided:
            set_unknown(inode)
            raise
        except BaseException:
            if not file.mapped:
                set_plain(inode)
            raise
        finally:
            if file.mapped:
                self._tell_linked(file)

    def _tell_linked(self, file: File) -> None:
        """The inode at hand may not be the one that others have of the file."""
        root = self.root
        linked = root.find(file.gfid) if root is not None else None
        if linked is not None and linked.ctx is not file:
            set_mapped(linked, file)

    async def _move_in(
        self, stub: Stub, file: File, before: Iatt, wanted: Mapping, keeps_size: bool
    ) -> None:
        if stub.is_open:
            await stub.drop(mapping.ORIGIN)  # of a snapshot that was killed
        if wanted.size is not None and not keeps_size:
            for key in _SIZED_ABOVE:
                keeps_size = keeps_size or await stub.has(key)
        half, name = self.identity.half(file.gfid), self.identity.name(file.gfid)
        self.pool.check()
        if self.pool.find(name) is not None:
            raise OSError(errno.EEXIST, f"there is a device {name} already")
        self.pool.remove(half)  # of an attempt that was killed
        old = before.ia_size
        size = _size(old, None if keeps_size else wanted.size)
        room = rounded_up(max(size, wanted.size or 0, 1), self.pool.extent)
        self.pool.make(half, room, wanted.kind, self.identity.tag)
        with self._half(half) as opened:
            device = opened()
            if not self.pool.fresh_is_zero:
                device.clear(0, device.size)
            seen, marks = before, self.marks(file.gfid)
            while True:
                if old:
                    self._check_free(wanted.kind, [each async for each in stub.data(old)])
                    await self._copy_in(stub, device, old)
                device.sync()
                # What was on its way to the file when we came may arrive late.
                if stub.is_open:  # to a new file nothing was
                    await sleep(SETTLED_AFTER)
                now, marks_now = await stub.stat(), self.marks(file.gfid)
                if _same(seen, now) and marks == marks_now:
                    break
                seen, marks, old = now, marks_now, now.ia_size
                size = _size(old, None if keeps_size else wanted.size)
                device.clear(0, device.size)
                if size > device.size:
                    room = rounded_up(size, self.pool.extent)
                    self.grow(half, device, device.size, room)
            await self._commit(stub, file, Mapping(wanted.kind, room), seen, size)
        # It is mapped. What the stub has left nobody reads: it goes now, or when it is unmapped.
        file.device = device
        file.size = size
        file.mapped = True
        with contextlib.suppress(OSError):
            await self.empty(stub, old)
        if old or size != old:
            with contextlib.suppress(OSError):
                await stub.set_times(seen)
        await self._look(stub, file)

    async def _look(self, stub: Stub, file: File) -> None:
        """Learn the stub's attributes; failing that, who wants them next does."""
        with self.changes(file) as change, contextlib.suppress(OSError):
            change(await stub.stat())

    def _check_free(self, kind: str, data: list[Range]) -> None:
        """ENOSPC if the pool has no room for what is to be copied, and its reserve.

        Without this the kernel would find out when it writes, and that is EIO.
        """
        if kind == mapping.THIN:  # a thick one has its space
            self.check_free(sum(behind - first for first, behind in data))

    async def empty(self, stub: Stub, size: int) -> None:
        """Have a stub be a hole."""
        if size:
            async for first, behind in stub.data(size):
                await self.child.discard(stub.fd, first, behind - first)

    @contextlib.contextmanager
    def _half(self, name: str) -> Iterator[Callable[[], Device]]:
        """What is done with a device that has just been made; it goes again if that fails. Open it
        by what this yields."""
        opened: list[Device] = []

        def open_it() -> Device:
            opened.append(self.pool.open(name))
            return opened[-1]

        try:
            yield open_it
        except BaseException as error:
            for device in opened:
                device.close()  # so that it can go
            if not isinstance(error, Undecided):
                try:
                    self.pool.remove(name)
                except OSError as left:
                    self.log.warning("device %s is left for later: %s", name, left.strerror)
            raise

    async def _commit(
        self, stub: Stub, file: File, mapped: Mapping, before: Iatt, size: int
    ) -> None:
        """Say that a file is mapped, and give it its size and its device a name. If that fails, it
        is not, and is as it was before."""
        old = before.ia_size
        half, name = self.identity.half(file.gfid), self.identity.name(file.gfid)
        try:
            if size > old:
                await stub.truncate(size)
            try:
                await stub.set(mapping.KEY, str(mapped))
                self.sync_stub(file.gfid)
                self.pool.rename(half, name)
            except BaseException:
                # Each may have had its effect.
                try:
                    await stub.drop(mapping.KEY)
                    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                        self.sync_stub(file.gfid)
                except OSError as error:
                    raise Undecided from error
                with contextlib.suppress(OSError):
                    if self.pool.find(half) is None:
                        self.pool.rename(name, half)
                raise
        except BaseException:
            if size > old:
                with contextlib.suppress(OSError):
                    await stub.truncate(old)
                    await stub.set_times(before)
            raise

    async def _copy_in(self, stub: Stub, device: Device, size: int) -> None:
        async for first, behind in stub.data(size):
            at = first
            while at < behind:
                wanted = min(AT_A_TIME, behind - at)
                reply = await self.child.readv(stub.fd, wanted, at, 0)
                vector = reply.vector
                data = bytes(vector) if isinstance(vector, Vector) else b""
                if not data:
                    break
                devices.pwrite_all(device.number, data, at)
                at += len(data)

    async def unmap_file(self, inode: Inode, file: File) -> None:
        """Make a mapped file plain again, with its data. ENODATA if it is not mapped."""
        fd = inode.anonymous_fd()
        stub = Stub(self.child, Loc(inode=inode, gfid=file.gfid), fd)
        async with self.held(inode, file):
            if not file.mapped:
                raise failed(errno.ENODATA)
            device = self.device(file)
            with file.gate.alone():  # who is inside ends first
                file.moving = True
            half, name = self.identity.half(file.gfid), self.identity.name(file.gfid)
            try:
                before = self.shown(file)
                self.pool.remove(half)  # of an attempt that was killed
                # What was there before it was mapped, or a kill has left of another attempt.
                await self.empty(stub, file.size)
                try:
                    for first, behind in devices.data_ranges(device, 0, file.size):
                        await self._copy_out(fd, device, first, behind)
                    await self.child.fsync(fd, 0)
                    self.pool.rename(name, half)
                    await self._unsay(stub)
                except Undecided:
                    # Both have all of it: what the xattr says to who looks next is right.
                    self._leave(file)
                    set_unknown(inode)
                    raise
                except BaseException:
                    with contextlib.suppress(OSError):
                        if self.pool.find(name) is None:
                            self.pool.rename(half, name)
                    with contextlib.suppress(OSError):
                        await self.child.discard(fd, 0, file.size)
                    raise
                del device
                self._leave(file)
                set_plain(inode)
                with contextlib.suppress(OSError):
                    await stub.remove(mapping.ORIGIN)
                with contextlib.suppress(OSError):
                    await stub.set_times(before)
            finally:
                file.moving = False
            self.give_up(file.gfid)

    async def _unsay(self, stub: Stub) -> None:
        """Have the xattr say that a file is mapped no more. What fails may have had its effect."""
        try:
            await stub.remove(mapping.KEY)
        except OSError:
            try:
                is_mapped = await stub.has(mapping.KEY)
            except OSError as error:
                raise Undecided from error
            if is_mapped:
                raise

    def _leave(self, file: File) -> None:
        """A file is no longer the device's."""
        self.unmappings += 1
        file.mapped = False
        file.device = None
        self.files.drop(file)

    async def _copy_out(self, fd: Fd, device: Device, first: int, behind: int) -> None:
        at = first
        while at < behind:
            data = os.pread(device.number, min(AT_A_TIME, behind - at), at)
            if not data:
                return
            if not devices.has_data(data):
                at += len(data)
                continue
            # Of a full disk a part may be written: the next try says so.
            done = (await self.child.writev(fd, data, 1, at, 0, None)).op_ret
            if not done:
                raise failed(errno.ENOSPC)
            at += done


def _size(old: int, wanted: int | None) -> int:
    """Return the size of a file that had ``old`` bytes."""
    if wanted is None:
        return old
    if wanted < old:
        raise OSError(errno.EINVAL, f"the file has {old} bytes, more than {wanted}")
    return wanted


def _same(one: Iatt, other: Iatt) -> bool:
    return (one.ia_size, one.ia_mtime, one.ia_mtime_nsec) == (
        other.ia_size,
        other.ia_mtime,
        other.ia_mtime_nsec,
    )
