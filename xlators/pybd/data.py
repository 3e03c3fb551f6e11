"""Fops on a mapped file's bytes: they go to its device."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Awaitable, Callable
from typing import Any

from glupy import PASS, IoBuffer, Pass, fops, keys, linux
from glupy.answers import checksums, counts
from glupy.constants import MDATA_ATIME
from glupy.views import Dict, Fd, Frame, Iobref, Loc, Vector
from pybd.base import ATTEMPTS, LATER, on_fd
from pybd.device import Device, failed
from pybd.files import PLAIN, File
from pybd.inodes import file_of, is_pointer, may_be_mapped
from pybd.mapping import THIN
from pybd.ranges import MOST
from pybd.sizes import Sizes

SYNC = os.O_SYNC | os.O_DSYNC
_COPY_AT_A_TIME = 1 << 20
_COPY_AT_ONCE = 16 << 20


def check_readable(fd: Fd) -> None:
    """EBADF if the fd was not opened for reading."""
    if fd.flags & os.O_ACCMODE == os.O_WRONLY and not fd.anonymous:
        raise failed(errno.EBADF)


def check_writable(fd: Fd) -> None:
    """EBADF if the fd was not opened for writing."""
    if fd.flags & os.O_ACCMODE == os.O_RDONLY and not fd.anonymous:
        raise failed(errno.EBADF)


def check_aligned(fd: Fd, device: Device, offset: int, length: int) -> None:
    """EINVAL for what the kernel would not take of an fd with O_DIRECT."""
    if (offset | length) % device.sector and fd.flags & os.O_DIRECT:
        raise failed(errno.EINVAL)


class Data(Sizes):
    """Fops on bytes."""

    def open(
        self, frame: Frame, loc: Loc, flags: int, fd: Fd, xdata: Dict | None
    ) -> Pass | Awaitable[fops.Open]:
        """Have posix open the stub, and note that the fd's release is of interest."""
        inode = loc.inode
        file = file_of(inode)
        if file is not None:
            fd.ctx = file.reported
            if flags & os.O_TRUNC:
                return self._open_truncated(frame, file, loc, flags, fd, xdata)
        elif flags & os.O_TRUNC and (inode is None or inode.ctx is not PLAIN):
            return self._open_unknown(frame, loc, flags, fd, xdata)
        return PASS

    async def _open_unknown(
        self, frame: Frame, loc: Loc, flags: int, fd: Fd, xdata: Dict | None
    ) -> fops.Open:
        inode = loc.inode
        file = await self.learn(inode.anonymous_fd()) if inode is not None else None
        if file is not None:
            fd.ctx = file.reported
            return await self._open_truncated(frame, file, loc, flags, fd, xdata)
        return await self.child.open(loc, flags, fd, xdata)

    async def _open_truncated(
        self, frame: Frame, file: File, loc: Loc, flags: int, fd: Fd, xdata: Dict | None
    ) -> fops.Open:
        async with self.held(loc.inode, file):
            if not file.mapped:
                return await self.child.open(loc, flags, fd, xdata)
            self.device(file)  # EIO leaves the stub as long as it is
            async with self.cutting(fd.inode, file):
                with self.changes(file):
                    reply = await self.child.open(loc, flags, fd, xdata)
            self.touch(frame, file)
            await self.emptied(file, fd)
        return reply

    @on_fd
    def readv(
        self,
        frame: Frame,
        file: File,
        fd: Fd,
        size: int,
        offset: int,
        flags: int,
        xdata: Dict | None,
    ) -> Any:
        """Read; ENOENT beside a successful reply says that the end of the file was reached."""
        device = file.device
        if device is None:
            return LATER
        if offset < 0 or not size:
            raise failed(errno.EINVAL)
        check_readable(fd)
        if offset + size > MOST:
            raise failed(errno.EINVAL)
        end = file.size
        if offset < end:
            check_aligned(fd, device, offset, size)
        wanted = min(size, max(end - offset, 0))
        iobuf: IoBuffer
        if wanted:
            iobuf = linux.read_device(device.number, wanted, offset)
            if iobuf.length < wanted <= file.size - offset:
                raise failed(errno.EIO)  # its next page cannot be read: that is no end of the file
        else:
            iobuf = IoBuffer(1)
            iobuf.length = 0
        if frame.flags & MDATA_ATIME:
            self.touch(frame, file, MDATA_ATIME)
        at_end = errno.ENOENT if offset + iobuf.length >= end else 0
        return fops.Readv(iobuf, 1, self.shown(file), None, None, iobuf.length, at_end)

    @on_fd
    def writev(
        self,
        frame: Frame,
        file: File,
        fd: Fd,
        vector: Vector,
        count: int,
        offset: int,
        flags: int,
        iobref: Iobref | None,
        xdata: Dict | None,
    ) -> Any:
        """Write; what reaches beyond the end of the file makes it grow."""
        length = vector.nbytes
        if offset < 0:
            raise failed(errno.EINVAL)
        check_writable(fd)
        if offset + length > MOST:
            raise failed(errno.EINVAL)
        if file.device is not None:
            check_aligned(fd, file.device, offset, length)
        if (
            fd.flags & os.O_APPEND
            or offset + length > file.size
            or (xdata is not None and _is_protected(xdata))
        ):
            return self._write_serialized(
                frame,
                file,
                fd,
                length,
                offset,
                flags,
                xdata,
                lambda number, at: linux.pwritev(number, vector, at),
            )
        alone = xdata is not None and keys.UPDATE_ATOMIC in xdata
        with file.gate.alone() if alone else file.gate:
            device = file.device
            if device is None or file.moving or offset + length > file.size:
                return LATER
            self.check_room(device, offset, length)
            before = self.shown(file)
            if file.written is not None:
                file.written.append((offset, offset + length))
            done = linux.pwritev(device.number, vector, offset)
            synced = (flags | fd.flags) & SYNC
            if synced:
                self.sync(file, device, fd)
            elif alone:  # shard counts blocks by the attributes, and they come with the bytes
                device.sync()
            self.touch(frame, file)
            after = self.shown(file)
        at_end = offset == file.size
        reply = fops.Writev(before, after, counts(xdata, fd.inode, at_end), done)
        return self.with_size(file, fd, reply) if synced and file.unsaved else reply

    async def _write_serialized(
        self,
        frame: Frame,
        file: File,
        fd: Fd,
        length: int,
        offset: int,
        flags: int,
        xdata: Dict | None,
        write: Callable[[int, int], int],
    ) -> Any:
        """Write while no other write of this kind is: the file may have to grow, or rebalance is at
        work. ``write`` gets the device and the offset."""
        async with file.resizing:
            device = file.device
            if device is None or file.moving or file.merging:
                return LATER
            if xdata is not None:
                await self._check_protection(file, fd, xdata)
            append = bool(fd.flags & os.O_APPEND)
            at_end = append or offset == file.size
            if append:
                offset = file.size
            if offset + length > MOST:
                raise failed(errno.EFBIG)
            self.check_room(device, offset, length)
            old, blocks = file.size, self.blocks(file)
            end = offset + length if length else old
            if end > old:
                self.make_room(file, device, offset, end)
            before = self.shown(file)
            self.show(file, before, size=old, blocks=blocks)
            alone = xdata is not None and keys.UPDATE_ATOMIC in xdata
            async with self.growing(file, fd, end) as grown:
                with file.gate.alone() if alone else contextlib.nullcontext():
                    if alone and file.kind == THIN:
                        self.show(file, before, size=old)  # as it is when nobody else writes
                    done = write(device.number, offset)
                    if done:
                        grown(offset + done)
                    if (flags | fd.flags) & SYNC:
                        self.sync(file, device, fd)
                    elif alone:
                        device.sync()
                    self.touch(frame, file)
                    after = self.shown(file)
            if done < length and end > old:
                after = self.shown(file)  # its stub was cut
            if (flags | fd.flags) & SYNC:
                await self.sync_size(file, fd)
        return fops.Writev(before, after, counts(xdata, fd.inode, at_end), done)

    async def _check_protection(self, file: File, fd: Fd, xdata: Dict) -> None:
        """Rebalance's own copying is refused (EBUSY) once clients change the file, too; those
        mark it. It has its mapping before its data comes."""
        if keys.PROTECT_WRITES in xdata:
            await self._mark(file, fd, xdata.get_bytes(keys.PROTECT_WRITES) or b"")
        elif keys.AVOID_OVERWRITE in xdata:
            try:
                await self.child.fgetxattr(fd, keys.PROTECT_WRITES)
            except OSError as error:
                if error.errno == errno.ENODATA:
                    return
            raise failed(errno.EBUSY)

    async def protect(self, frame: Frame, file: File, fd: Fd) -> None:
        """Mark a file that a rebalance moves here before a client changes it in another way than by
        a write, with which DHT asks for that: ``resizing`` is held."""
        if not is_moved_here(frame, file):
            return
        try:
            await self.child.fgetxattr(fd, keys.DHT_LINKTO)
        except OSError as error:
            if error.errno == errno.ENODATA:
                return  # a client's own mode
            raise
        await self._mark(file, fd, b"1")

    async def _mark(self, file: File, fd: Fd, value: bytes) -> None:
        internal = Dict({keys.INTERNAL_FOP: 1})  # not what a reserve is for
        try:
            with self.changes(file):
                await self.child.fsetxattr(fd, Dict({keys.PROTECT_WRITES: value}), 0, internal)
        except OSError:
            raise failed(errno.EBUSY) from None

    async def truncate(
        self, frame: Frame, loc: Loc, offset: int, xdata: Dict | None
    ) -> fops.Truncate:
        """Set the size of a file."""
        inode = loc.inode
        if inode is None or inode.ctx is PLAIN:
            return await self.child.truncate(loc, offset, xdata)
        return await self._truncate(  # type: ignore[no-any-return]
            frame,
            inode.anonymous_fd(),
            offset,
            lambda: self.child.truncate(loc, offset, xdata),
        )

    def ftruncate(
        self, frame: Frame, fd: Fd, offset: int, xdata: Dict | None
    ) -> Pass | Awaitable[fops.Ftruncate]:
        """Set the size of an open file."""
        if fd.inode.ctx is PLAIN:
            return PASS
        return self._truncate(frame, fd, offset, lambda: self.child.ftruncate(fd, offset, xdata))

    async def _truncate(
        self, frame: Frame, fd: Fd, size: int, wind: Callable[[], Awaitable[Any]]
    ) -> Any:
        while True:
            file = await self.learn(fd)
            if file is None:
                return await wind()
            async with file.resizing:
                if file.moving or file.merging or not file.mapped:
                    continue
                device = self.device(file)
                old, blocks = file.size, self.blocks(file)
                if not fd.anonymous and fd.flags & os.O_ACCMODE == os.O_RDONLY:
                    raise failed(errno.EINVAL)  # ftruncate(2)
                await self.protect(frame, file, fd)
                if old < size:
                    with self.telling(file):
                        self.make_room(file, device, size, size)
                file.unsaved = True
                async with self.cutting(fd.inode, file):
                    with self.changes(file) as change:
                        reply = await wind()
                        change(reply.postbuf)
                if size < old:
                    self.trim(file, device, size)
                else:
                    with file.gate.alone():
                        file.size = size
                self.show(file, reply.prebuf, size=old, blocks=blocks)
                self.touch(frame, file)
                self.show(file, reply.postbuf)
                if fd.anonymous:  # no release of it will come
                    with contextlib.suppress(OSError):
                        await self._store(None, file, fd)
            if not size and frame.pid == keys.PID_REBALANCE and is_pointer(reply.postbuf.mode):
                # It has given up, or has moved the file: what is left is DHT's pointer.
                with contextlib.suppress(OSError):
                    await self.unmap_file(fd.inode, file)
            return reply

    def flush(self, frame: Frame, fd: Fd, xdata: Dict | None) -> Pass | Awaitable[fops.Flush]:
        """A client closes the file: store its times."""
        file = file_of(fd.inode)
        if file is None or file.times.taken() is None:
            return PASS
        return self._flush(frame, file, fd, xdata)

    async def _flush(self, frame: Frame, file: File, fd: Fd, xdata: Dict | None) -> fops.Flush:
        with contextlib.suppress(OSError):
            await self._store(frame, file, fd)
        return await self.child.flush(fd, xdata)

    async def _store(self, frame: Frame | None, file: File, fd: Fd) -> None:
        await self.store_times(
            file, lambda iatt, valid: self.child.fsetattr(fd, iatt, valid), frame
        )

    async def with_size(self, file: File, fd: Fd, reply: Any) -> Any:
        """Return a reply once the file's size is on the disk, too."""
        async with file.resizing:
            await self.sync_size(file, fd)
        return reply

    @on_fd
    async def fsync(
        self, frame: Frame, file: File, fd: Fd, datasync: int, xdata: Dict | None
    ) -> Any:
        """Have the device's bytes and the stub's size and times on the disk."""
        device = file.device
        if device is None:
            return LATER
        self.sync(file, device, fd)
        await self._store(frame, file, fd)
        reply = await self.child.fsync(fd, datasync, xdata)
        now = self.shown(file)  # C posix tells of none if it syncs several files at once
        return reply._replace(prebuf=now, postbuf=now)

    @on_fd
    async def rchecksum(
        self, frame: Frame, file: File, fd: Fd, offset: int, len: int, xdata: Dict | None
    ) -> Any:
        """Return checksums of the device's bytes, of the kind that posix says it makes."""
        device = file.device
        if device is None:
            return LATER
        reply = await self.child.rchecksum(fd, offset, len, xdata)
        if offset < file.size:
            check_aligned(fd, device, offset, len)
        wanted = min(len, max(file.size - offset, 0))
        data = b"".join(_pieces(device.number, offset, wanted))
        answers = reply.xdata
        if answers is not None and keys.BUF_HAS_ZEROES in answers:
            answers = answers.copy()
            answers.set_uint(keys.BUF_HAS_ZEROES, int(not any(data)))
        fips = answers is not None and keys.FIPS_RCHECKSUM in answers
        weak, strong = checksums(data, fips=fips)
        return fops.Rchecksum(weak, strong, answers)

    def copy_file_range(
        self,
        frame: Frame,
        fd_in: Fd | None,
        off_in: int,
        fd_out: Fd | None,
        off_out: int,
        len: int,
        flags: int,
        xdata: Dict | None,
    ) -> Pass | Awaitable[fops.CopyFileRange]:
        """Copy inside the brick, between plain and mapped files each way; maybe less than asked."""
        if fd_in is None or fd_out is None:
            return PASS
        if not (may_be_mapped(fd_in.inode) and may_be_mapped(fd_out.inode)):
            return PASS
        if fd_in.inode.ctx is PLAIN and fd_out.inode.ctx is PLAIN:
            return PASS
        return self._copy(frame, fd_in, off_in, fd_out, off_out, len, flags, xdata)

    async def _copy(
        self,
        frame: Frame,
        fd_in: Fd,
        off_in: int,
        fd_out: Fd,
        off_out: int,
        length: int,
        flags: int,
        xdata: Dict | None,
    ) -> fops.CopyFileRange:
        source, target = await self.opened(fd_in), await self.learn(fd_out)
        if source is None and target is None:
            return await self.child.copy_file_range(
                fd_in, off_in, fd_out, off_out, length, flags, xdata
            )
        # In the order of the kernel's generic_copy_file_checks (fs/read_write.c).
        if flags:
            raise failed(errno.EINVAL)
        check_readable(fd_in)
        check_writable(fd_out)
        if fd_out.flags & os.O_APPEND:
            raise failed(errno.EBADF)
        if off_out < 0:
            raise failed(errno.EOVERFLOW)
        if off_in < 0:
            raise failed(errno.EINVAL)
        if source is not None:
            length = min(length, max(source.size - off_in, 0))
        if source is target and off_in < off_out + length and off_out < off_in + length:
            raise failed(errno.EINVAL)
        if source is not None and source.device is not None:
            check_aligned(fd_in, source.device, off_in, length)
        first: Any = None
        last: Any = None
        done, length = 0, min(length, _COPY_AT_ONCE)
        while done < length:
            wanted = min(length - done, _COPY_AT_A_TIME)
            try:
                data = await self._copy_from(fd_in, off_in + done, wanted)
                if not data:
                    break
                last = await self._copy_to(frame, fd_out, off_out + done, data, xdata)
            except OSError:
                if done:
                    break  # who asks for the rest is told
                raise
            first = first or last
            if not last.op_ret:
                break
            done += last.op_ret
        stbuf = (await self._attributes(fd_in)).copy()
        if first is None:
            before = after = (await self._attributes(fd_out)).copy()
        else:
            before, after = first.prebuf, last.postbuf
        return fops.CopyFileRange(
            stbuf, before, after, counts(xdata, fd_out.inode, is_append=False), done
        )

    # It may be mapped, or unmapped, while it is copied: each piece is of what it is then.

    async def _copy_from(self, fd: Fd, offset: int, length: int) -> bytes:
        file = await self.opened(fd)
        if file is not None:
            wanted = min(length, max(file.size - offset, 0))
            device = self.device(file)  # open as long as we have it
            with self.telling(file):
                return b"".join(_pieces(device.number, offset, wanted))
        reply = await self.child.readv(fd, length, offset, 0)
        return bytes(reply.vector) if isinstance(reply.vector, Vector) else b""

    async def _copy_to(
        self, frame: Frame, fd: Fd, offset: int, data: bytes, xdata: Dict | None
    ) -> Any:
        for _ in range(ATTEMPTS):
            file = await self.opened(fd)
            if file is None:
                return await self.child.writev(fd, data, 1, offset, 0, None, xdata)
            with self.telling(file):
                reply = await self._write_serialized(
                    frame,
                    file,
                    fd,
                    len(data),
                    offset,
                    0,
                    xdata,
                    lambda number, at: os.pwrite(number, data, at),
                )
            if reply is not LATER:
                return reply
        raise failed(errno.EIO)

    async def _attributes(self, fd: Fd) -> Any:
        file = await self.learn(fd)
        if file is not None and file.stub is not None:
            return self.shown(file)
        return (await self.child.fstat(fd)).buf


def _pieces(number: int, offset: int, length: int) -> list[bytes]:
    found = []
    while length > 0:
        data = os.pread(number, min(length, _COPY_AT_A_TIME), offset)
        if not data:
            break
        found.append(data)
        offset += len(data)
        length -= len(data)
    return found


def _is_protected(xdata: Dict) -> bool:
    """Say whether rebalance has set a write apart from those of clients."""
    return keys.PROTECT_WRITES in xdata or keys.AVOID_OVERWRITE in xdata


def is_moved_here(frame: Frame, file: File) -> bool:
    """Say whether it may be a file that a rebalance moves here, and that a client changes."""
    return file.stub is not None and is_pointer(file.stub.mode) and frame.pid >= 0
