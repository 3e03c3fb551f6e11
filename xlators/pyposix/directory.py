"""Fops on directories: opendir, readdir, readdirp, fsyncdir."""

from __future__ import annotations

import errno
import os

from glupy import fops, keys, linux
from glupy.answers import number_in
from glupy.views import Dict, Dirent, Fd, Frame, Gfid, Loc
from glupy.views.base import encoded
from pyposix import ancestry, cloudsync
from pyposix.brick import Brick
from pyposix.files import OpenFile

_ROOT = bytes(Gfid.ROOT)


class Directories(Brick):
    """Fops on directories."""

    def opendir(self, frame: Frame, loc: Loc, fd: Fd, xdata: Dict | None) -> fops.Opendir:
        """Open a directory."""
        path, file = self._locate(loc)
        number = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        fd.ctx = OpenFile(file, number, os.O_RDONLY)
        self._metadata.touch(frame, file, number)
        return fops.Opendir(fd)

    def fsyncdir(self, frame: Frame, fd: Fd, datasync: int, xdata: Dict | None) -> fops.Fsyncdir:
        """Have the names in a directory on the disk (fsync(2)): of a rename nothing else does."""
        opened = self._opened(fd)
        if opened.number >= 0:  # an anonymous fd may be of a symbolic link
            (os.fdatasync if datasync else os.fsync)(opened.number)
        return fops.Fsyncdir()

    def readdir(
        self, frame: Frame, fd: Fd, size: int, offset: int, xdata: Dict | None
    ) -> fops.Readdir:
        """List entries from ``offset`` on; ENOENT beside them says that they were the last."""
        entries, count, at_end = self._read(fd, size, offset, xdata)
        return fops.Readdir(entries, None, count, errno.ENOENT if at_end else 0)

    def readdirp(
        self, frame: Frame, fd: Fd, size: int, offset: int, xdata: Dict | None
    ) -> fops.Readdirp:
        """The same with attributes, inodes, and what xdata asks for, of each.

        Or the directories above a file, of whatever kind, if xdata asks for its ancestry.
        """
        if xdata is not None and keys.ANCESTRY_DENTRY in xdata:
            above = ancestry.entries(self, fd.inode, xdata)
            return fops.Readdirp(above, None, len(above))
        entries, count, at_end = self._read(fd, size, offset, xdata)
        path = self._handles.directory(fd.inode.gfid).rstrip(b"/") + b"/"
        linux.fill_entries(entries, fd.inode, path, with_times=self._metadata.enabled)
        if xdata is not None:
            entries.answer(lambda entry: self._answers(entry, path, xdata))
        return fops.Readdirp(entries, None, count, errno.ENOENT if at_end else 0)

    def _read(self, fd: Fd, size: int, offset: int, xdata: Dict | None) -> linux.Listing:
        opened = self._opened(fd)
        number = opened.number
        if number < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        hidden = encoded(keys.HIDDEN) if fd.inode.gfid == _ROOT else None
        files_only = bool(number_in(xdata, keys.SKIP_DIRECTORIES))
        try:
            with opened.lock:  # the position is the fd's, and an anonymous fd is everybody's
                return linux.list_directory(
                    number, offset, size, hidden=hidden, files_only=files_only
                )
        except NotADirectoryError:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None

    def _answers(self, entry: Dirent, path: bytes, xdata: Dict) -> Dict | None:
        iatt = entry.d_stat
        if iatt is None or not iatt.c.ia_type:
            return None  # gone in the meantime; the client looks it up by its name
        path += encoded(entry.d_name)
        cloudsync.show_size(xdata, path, iatt)
        return self._requests.answer(xdata, path, entry.inode, iatt)
