"""Fops on a file's blocks, discard before all, and on the file system's: statfs."""

from __future__ import annotations

import errno
import os

from glupy import FopError, extents, fops, linux
from glupy.constants import GF_SEEK_DATA, GF_SEEK_HOLE
from glupy.views import Dict, Fd, Frame, Loc
from pyposix import cloudsync, protection
from pyposix.brick import Brick
from pyposix.files import OpenFile, one_at_a_time
from pyposix.iatt import is_linkto
from pyposix.reserve import no_space, overwrites

_PUNCH = linux.FALLOC_FL_PUNCH_HOLE | linux.FALLOC_FL_KEEP_SIZE
_WHENCE = {GF_SEEK_DATA: os.SEEK_DATA, GF_SEEK_HOLE: os.SEEK_HOLE}


class Space(Brick):
    """Fops on blocks.

    The kernel judges the arguments: what it says of a length of 0, a directory or a device is what
    the client gets.
    """

    def discard(
        self,
        frame: Frame,
        fd: Fd,
        offset: int,
        len: int,
        xdata: Dict | None,
    ) -> fops.Discard:
        """Give the blocks of a range back; it reads as zeros, at once, and the size stays.

        Any range will do: of blocks that it covers partly, that part is zeroed. It takes no space,
        so it is never refused because the brick is full: neither by the reserve nor by us.
        """
        opened: OpenFile = fd.ctx or self._opened(fd)
        len = _signed(len)
        if xdata is None:
            return self._punch(frame, opened, offset, len)
        with one_at_a_time(opened.file, xdata):
            looked = cloudsync.is_asked(xdata) and self._stats.of_fd(opened.number, opened.file)
            answers = cloudsync.check(xdata, opened.number)
            done = self._punch(frame, opened, offset, len)
        return fops.Discard(looked or done.preop_stbuf, done.postop_stbuf, answers)

    def _punch(self, frame: Frame, opened: OpenFile, offset: int, length: int) -> fops.Discard:
        before, after = self._stats.fallocate(opened, _PUNCH, offset, length)
        if is_linkto(after):
            with opened.file.gate:
                if protection.protect(frame, opened.number, after):
                    # Once more: what a rebalance has written since goes, too.
                    _, after = self._stats.fallocate(opened, _PUNCH, offset, length)
        self._metadata.touch(frame, opened.file, opened.number, after)
        return fops.Discard(before, after)

    def fallocate(
        self,
        frame: Frame,
        fd: Fd,
        keep_size: int,
        offset: int,
        len: int,
        xdata: Dict | None,
    ) -> fops.Fallocate:
        """Give a range blocks, so that writing to it cannot fail for want of space.

        All or nothing: what fails leaves size and blocks as they were.
        """
        self._reserve.check(frame, xdata, ask=True)
        len = _signed(len)
        opened = self._opened(fd)
        number, file = opened.number, opened.file
        with one_at_a_time(file, xdata), file.gate.alone():
            before = self._stats.of_fd(number, file)
            answers = cloudsync.check(xdata, number)
            extents.allocate(number, offset, len, keep_size=bool(keep_size))
            after = self._stats.of_fd(number, file)
        self._metadata.touch(frame, file, number, after)
        return fops.Fallocate(before, after, answers)

    def zerofill(
        self,
        frame: Frame,
        fd: Fd,
        offset: int,
        len: int,
        xdata: Dict | None,
    ) -> fops.Zerofill:
        """Have a range read as zeros, with blocks; the file grows if the range is past its end."""
        opened = self._opened(fd)
        number, file = opened.number, opened.file
        if self._reserve.applies(frame, xdata) and not overwrites(number, offset, len):
            raise no_space()
        with one_at_a_time(file, xdata), file.gate.alone():
            before = self._stats.of_fd(number, file)
            answers = cloudsync.check(xdata, number, before)
            protection.protect(frame, number, before)
            extents.zero(number, offset, len)
            if opened.sync:
                os.fsync(number)
            after = self._stats.of_fd(number, file)
        self._metadata.touch(frame, file, number, after)
        return fops.Zerofill(before, after, answers)

    def seek(self, frame: Frame, fd: Fd, offset: int, what: int, xdata: Dict | None) -> fops.Seek:
        """Return where the next data or the next hole begins; ENXIO if there is none."""
        whence = _WHENCE.get(what)
        if whence is None:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        number = self._opened(fd).number
        answers = cloudsync.check(xdata, number)
        try:
            return fops.Seek(os.lseek(number, offset, whence), answers)
        except OSError as error:
            raise FopError(error.errno or errno.EIO, xdata=answers) from None

    def statfs(self, frame: Frame, loc: Loc, xdata: Dict | None) -> fops.Statfs:
        """Return the size of the file system and what is free, as far as it is for clients."""
        path, _ = self._locate(loc)
        buf = linux.statvfs(path)
        self._reserve.reduce(buf)
        c = buf.c
        shares = self.option("shared-brick-count")  # 0 in volfiles of other hosts' bricks
        shown = self.option("export-statfs-size")
        if shares > 1 or not shown:
            for field in "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail":
                setattr(c, field, getattr(c, field) // max(shares, 1) if shown else 0)
        return fops.Statfs(buf)


def _signed(length: int) -> int:
    """Return a length as the kernel takes it: one that is none is negative, for EINVAL."""
    return length - (1 << 64) if length >> 63 else length
