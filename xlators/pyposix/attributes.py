"""Fops on attributes: stat, fstat, setattr, fsetattr, access, readlink."""

from __future__ import annotations

import errno
import os

from glupy import fops
from glupy.constants import (
    GF_SET_ATTR_ATIME,
    GF_SET_ATTR_CTIME,
    GF_SET_ATTR_GID,
    GF_SET_ATTR_MODE,
    GF_SET_ATTR_MTIME,
    GF_SET_ATTR_UID,
)
from glupy.views import Dict, Fd, Frame, Iatt, Loc
from pyposix import cloudsync
from pyposix.brick import Brick
from pyposix.files import File
from pyposix.iatt import DIRECTORY, SYMLINK
from pyposix.xattrs import Target

_OWNERS = GF_SET_ATTR_UID | GF_SET_ATTR_GID
_TIMES = GF_SET_ATTR_ATIME | GF_SET_ATTR_MTIME
_UNCHANGED = -1  # to chown(2), and as an unsigned id from the network


class Attributes(Brick):
    """Fops on attributes."""

    def stat(self, frame: Frame, loc: Loc, xdata: Dict | None) -> fops.Stat:
        """Return the attributes of a file, found by its gfid."""
        path, file = self._locate(loc)
        buf = self._stats.of_path(path, file)
        return fops.Stat(buf, self._requests.looked(xdata, path, loc.inode, buf))

    def fstat(self, frame: Frame, fd: Fd, xdata: Dict | None) -> fops.Fstat:
        """Return the attributes of an open file."""
        opened = self._opened(fd)
        number = opened.number
        buf = self._stats.of_fd(number, opened.file)
        if xdata is None:
            return fops.Fstat(buf)
        return fops.Fstat(buf, self._requests.looked(xdata, number, fd.inode, buf))

    def setattr(
        self, frame: Frame, loc: Loc, stbuf: Iatt, valid: int, xdata: Dict | None
    ) -> fops.Setattr:
        """Change owner, mode and times; ``valid`` says which."""
        path, file = self._locate(loc)
        before = self._stats.of_path(path, file)
        self._change(frame, path, file, before, stbuf, valid)
        after = self._stats.of_path(path, file)
        self._metadata.touch(frame, file, path, after)
        answers = self._requests.answer(xdata, path, loc.inode, after)
        cloudsync.show_size(xdata, path, before, after)
        return fops.Setattr(before, after, answers)

    def fsetattr(
        self, frame: Frame, fd: Fd, stbuf: Iatt, valid: int, xdata: Dict | None
    ) -> fops.Fsetattr:
        """The same of an open file."""
        opened = self._opened(fd)
        number, file = opened.number, opened.file
        before = self._stats.of_fd(number, file)
        self._change(frame, number, file, before, stbuf, valid)
        after = self._stats.of_fd(number, file)
        self._metadata.touch(frame, file, number, after)
        answers = self._requests.answer(xdata, number, fd.inode, after)
        return fops.Fsetattr(before, after, answers)

    def _change(
        self, frame: Frame, target: Target, file: File, before: Iatt, stbuf: Iatt, valid: int
    ) -> None:
        if valid & _OWNERS or not valid:
            # Nothing at all to change still asks whether it might be.
            uid = _owner(stbuf.ia_uid) if valid & GF_SET_ATTR_UID else _UNCHANGED
            gid = _owner(stbuf.ia_gid) if valid & GF_SET_ATTR_GID else _UNCHANGED
            os.chown(target, uid, gid, follow_symlinks=isinstance(target, int))
        kind = before.c.ia_type
        # Linux has no modes of symbolic links: asked to change one, a brick says yes.
        if valid & GF_SET_ATTR_MODE and kind != SYMLINK:
            # As C posix has it: by an fd the options for files count for directories, too.
            by_path = not isinstance(target, int)
            what = "directory-" if kind == DIRECTORY and by_path else ""
            mask = self.option(f"create-{what}mask")
            forced = self.option(f"force-{what or 'create-'}mode")
            mode = stbuf.mode & 0o7777
            os.chmod(target, (mode & ~0o777) | (mode & mask & 0o777) | forced)
        if valid & _TIMES:
            self._set_times(frame, target, file, stbuf, valid)
        if valid & GF_SET_ATTR_CTIME:
            self._metadata.set_times(
                file, target, (stbuf.ia_ctime, stbuf.ia_ctime_nsec), None, None
            )

    def _set_times(self, frame: Frame, target: Target, file: File, stbuf: Iatt, valid: int) -> None:
        status = os.fstat(target) if isinstance(target, int) else os.lstat(target)
        mtime = atime = None
        mtime_ns, atime_ns = status.st_mtime_ns, status.st_atime_ns
        if valid & GF_SET_ATTR_MTIME:
            mtime = _time(stbuf.ia_mtime, stbuf.ia_mtime_nsec)
            mtime_ns = mtime[0] * 1_000_000_000 + mtime[1]
        if valid & GF_SET_ATTR_ATIME:
            atime = _time(stbuf.ia_atime, stbuf.ia_atime_nsec)
            atime_ns = atime[0] * 1_000_000_000 + atime[1]
        os.utime(target, ns=(atime_ns, mtime_ns), follow_symlinks=isinstance(target, int))
        self._metadata.set_times(file, target, frame.ctime, mtime, atime)

    def access(self, frame: Frame, loc: Loc, mask: int, xdata: Dict | None) -> fops.Access:
        """Say whether the brick itself, root, may; the client's rights are checked above."""
        path, _ = self._locate(loc)
        if not os.access(path, mask & 0o7):
            os.stat(path)  # a path that is not there says so
            read_only = mask & os.W_OK and os.statvfs(path).f_flag & os.ST_RDONLY
            number = errno.EROFS if read_only else errno.EACCES
            raise OSError(number, os.strerror(number))
        return fops.Access()

    def readlink(self, frame: Frame, loc: Loc, size: int, xdata: Dict | None) -> fops.Readlink:
        """Return where a symbolic link leads, at most ``size`` bytes of it."""
        if size <= 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        path, file = self._locate(loc)
        buf = self._stats.of_path(path, file)
        target = os.readlink(path)[:size]
        return fops.Readlink(target.decode("utf-8", "surrogateescape"), buf)


def _owner(given: int) -> int:
    return _UNCHANGED if given == 0xFFFF_FFFF else given


def _time(seconds: int, nanoseconds: int) -> tuple[int, int]:
    """Return a time as it is. EINVAL if it has more than a second's nanoseconds: utimensat(2)."""
    if nanoseconds > 999_999_999:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return seconds, nanoseconds
