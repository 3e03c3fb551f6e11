"""Fops on a file's bytes: open, readv, writev, truncate, fsync, copy_file_range, rchecksum."""

from __future__ import annotations

import errno
import os
from collections.abc import Coroutine
from typing import Any

from glupy import fops, keys, linux
from glupy.answers import checksums, counts
from glupy.enums import FileType
from glupy.views import Dict, Fd, Frame, Iatt, Inode, Iobref, IoBuffer, Loc, Vector
from pyposix import cloudsync, protection
from pyposix.batch_fsync import Mode
from pyposix.brick import Brick
from pyposix.files import OpenFile, one_at_a_time
from pyposix.iatt import SYMLINK
from pyposix.reserve import no_space, overwrites

_DEVICES = int(FileType.IFBLK), int(FileType.IFCHR)
_SYNC = os.O_SYNC | os.O_DSYNC


_CREATE_ONLY = os.O_CREAT | os.O_EXCL


class Data(Brick):
    """Fops on a file's bytes."""

    def open(self, frame: Frame, loc: Loc, flags: int, fd: Fd, xdata: Dict | None) -> fops.Open:
        """Open a file by its gfid."""
        inode = loc.inode
        if inode is not None:
            _refuse_device(inode)
        if flags & os.O_CREAT:
            self._reserve.check(frame, xdata)
        path, file = self._locate(loc)
        if inode is not None and inode.c.ia_type == SYMLINK:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        self._refuse_mapped(file, path)
        if flags & _CREATE_ONLY == os.O_CREAT:
            flags &= ~os.O_CREAT  # by its handle nothing is made: it has gone, then
        elif flags & os.O_CREAT:
            os.lstat(path)
        number = os.open(path, flags | self._direct, self.option("force-create-mode"))
        fd.ctx = OpenFile(file, number, flags | self._direct)
        self._metadata.touch(frame, file, number)
        answers = None
        if xdata is not None:
            answers = Dict()
            cloudsync.tell(answers, xdata, number)
        return fops.Open(fd, answers)

    def readv(
        self, frame: Frame, fd: Fd, size: int, offset: int, flags: int, xdata: Dict | None
    ) -> fops.Readv:
        """Read; ENOENT beside a successful reply says that the end of the file was reached."""
        opened = fd.ctx or self._opened(fd)
        number = opened.number
        if not size or offset < 0 or number < 0:
            _refuse_device(fd.inode)
            wrong = errno.EBADF if size and offset >= 0 else errno.EINVAL
            raise OSError(wrong, os.strerror(wrong))
        answers = None if xdata is None else cloudsync.check(xdata, number)
        iobuf, stbuf = self._stats.pread(opened, size, offset)
        self._metadata.touch(frame, opened.file, number, stbuf)
        done = iobuf.length
        self._read_bytes += done
        at_end = errno.ENOENT if offset + done >= stbuf.ia_size else 0
        return fops.Readv(iobuf, 1, stbuf, None, answers, done, at_end)

    def writev(
        self,
        frame: Frame,
        fd: Fd,
        vector: Vector,
        count: int,
        offset: int,
        flags: int,
        iobref: Iobref | None,
        xdata: Dict | None,
    ) -> fops.Writev:
        """Write. Past the reserve only over what is there already."""
        opened = fd.ctx or self._opened(fd)
        number = opened.number
        if number < 0:
            _refuse_device(fd.inode)
        if self._reserve.applies(frame, xdata) and not overwrites(number, offset, vector.nbytes):
            raise no_space()
        if xdata is None:
            with opened.file.gate:
                before, after, done = self._write(frame, opened, vector, offset)
            answers = None
        else:
            append = keys.WRITE_IS_APPEND in xdata
            gate = opened.file.gate
            with (
                one_at_a_time(opened.file, xdata, append=append),
                gate.alone() if keys.AVOID_OVERWRITE in xdata else gate,
            ):
                protection.check(number, xdata)
                looked = cloudsync.is_asked(xdata) and self._stats.of_fd(number, opened.file)
                if looked:
                    cloudsync.check(xdata, number, looked)
                before, after, done = self._write(frame, opened, vector, offset)
                before = looked or before
            at_end = append and (before.ia_size == offset or bool(fd.flags & os.O_APPEND))
            answers = counts(xdata, fd.inode, at_end)
        if flags & _SYNC:
            os.fsync(number)
        return fops.Writev(before, after, answers, done)

    def _write(
        self, frame: Frame, opened: OpenFile, vector: Vector, offset: int
    ) -> tuple[Iatt, Iatt, int]:
        number, file = opened.number, opened.file
        if opened.direct:
            before = self._stats.of_fd(number, file)
            done = _write_aligned(number, vector, offset)
            after = self._stats.of_fd(number, file)
        else:
            before, after, done = self._stats.pwritev(opened, vector, offset)
        self._written_bytes += done
        self._metadata.touch(frame, file, number, after)
        return before, after, done

    def truncate(self, frame: Frame, loc: Loc, offset: int, xdata: Dict | None) -> fops.Truncate:
        """Set the size of a file, found by its gfid."""
        path, file = self._locate(loc)
        self._refuse_mapped(file, path)
        with file.gate:
            before = self._stats.of_path(path, file)
            if before.c.ia_type == SYMLINK:  # which truncate(2) follows
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            answers = cloudsync.check(xdata, path, before)
            protection.protect(frame, path, before)
            os.truncate(path, offset)
            after = self._stats.of_path(path, file)
        self._metadata.touch(frame, file, path, after)
        return fops.Truncate(before, after, answers)

    def ftruncate(self, frame: Frame, fd: Fd, offset: int, xdata: Dict | None) -> fops.Ftruncate:
        """Set the size of an open file."""
        opened = self._opened(fd)
        number, file = opened.number, opened.file
        with file.gate:
            before = self._stats.of_fd(number, file)
            answers = cloudsync.check(xdata, number, before)
            protection.protect(frame, number, before)
            os.ftruncate(number, offset)
            after = self._stats.of_fd(number, file)
        self._metadata.touch(frame, file, number, after)
        return fops.Ftruncate(before, after, answers)

    def fsync(
        self, frame: Frame, fd: Fd, datasync: int, xdata: Dict | None
    ) -> fops.Fsync | Coroutine[Any, Any, fops.Fsync]:
        """Have what was written on the disk; with others' if xdata says that it may wait."""
        opened = self._opened(fd)
        if xdata is not None and keys.BATCH_FSYNC in xdata and self._batches.mode != Mode.NONE:
            return self._fsync_batched(opened, bool(datasync))
        number, file = opened.number, opened.file
        before = self._stats.of_fd(number, file)
        (os.fdatasync if datasync else os.fsync)(number)
        return fops.Fsync(before, self._stats.of_fd(number, file))

    async def _fsync_batched(self, opened: OpenFile, datasync: bool) -> fops.Fsync:
        before = self._stats.of_fd(opened.number, opened.file)
        await self._batches.add(opened, datasync)
        return fops.Fsync(before, self._stats.of_fd(opened.number, opened.file))

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
    ) -> fops.CopyFileRange:
        """Copy inside the brick, as many bytes as the kernel does at once."""
        if fd_in is None or fd_out is None:  # protocol/server knows no such fd
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._reserve.check(frame, xdata)
        _refuse_device(fd_in.inode)
        _refuse_device(fd_out.inode)
        source, target = self._opened(fd_in), self._opened(fd_out)
        with one_at_a_time(target.file, xdata), target.file.gate:
            if xdata is not None:
                protection.check(target.number, xdata)
            before = self._stats.of_fd(target.number, target.file)
            cloudsync.check(xdata, target.number)
            if flags:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            done = os.copy_file_range(source.number, target.number, len, off_in, off_out)
            self._written_bytes += done
            after = self._stats.of_fd(target.number, target.file)
        stbuf = self._stats.of_fd(source.number, source.file)
        self._metadata.touch_copy(
            frame, source.file, source.number, stbuf, target.file, target.number, after
        )
        answers = counts(xdata, fd_out.inode, is_append=False)
        return fops.CopyFileRange(stbuf, before, after, answers, done)

    def rchecksum(
        self,
        frame: Frame,
        fd: Fd,
        offset: int,
        len: int,
        xdata: Dict | None,
    ) -> fops.Rchecksum:
        """Return a weak and a strong checksum of a range, for self-heal to compare replicas."""
        opened = self._opened(fd)
        answers = None if xdata is None else cloudsync.check(xdata, opened.number)
        answers = answers or Dict()
        if len < 0:
            os.pread(opened.number, 0, offset)  # what else is wrong comes first
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        iobuf = IoBuffer(len)
        done = linux.pread(opened.number, iobuf, offset)
        data = iobuf.data[:done]
        if self._asked(xdata, keys.CHECK_ZERO_FILLED):
            answers.set_uint(keys.BUF_HAS_ZEROES, int(not any(data)))
        fips = self.option("fips-mode-rchecksum")
        if fips:
            answers.set_int(keys.FIPS_RCHECKSUM, 1)
        weak, strong = checksums(data, fips=fips)
        self._metadata.touch(frame, opened.file, opened.number)
        return fops.Rchecksum(weak, strong, answers)


def _refuse_device(inode: Inode) -> None:
    """Devices are the client's own: it never reads or writes them through the brick."""
    if inode.c.ia_type in _DEVICES:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def _write_aligned(number: int, vector: Vector, offset: int) -> int:
    """Write for O_DIRECT, as much as the kernel does at once; return how many bytes that was."""
    aligned = IoBuffer(vector.nbytes)  # what comes from the network is not
    at = 0
    for part in vector:
        aligned.data[at : at + len(part)] = part
        at += len(part)
    return os.pwrite(number, aligned.data, offset)


def write_all(opened: OpenFile, vector: Vector, offset: int) -> None:
    """Write all of it."""
    data = b"".join(vector)
    while data:
        done = os.pwrite(opened.number, data, offset)
        data, offset = data[done:], offset + done
