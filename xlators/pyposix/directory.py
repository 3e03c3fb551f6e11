"""Fops on directories: opendir, readdir, readdirp, fsyncdir."""

from __future__ import annotations

import contextlib
import errno
import os

from glupy import fops, linux
from glupy.views import Dict, Dirent, Fd, Frame, Gfid, Inode, Loc
from glupy.views.base import encoded
from glupy.views.dirents import DIRENT_BYTES
from pyposix import ancestry, keys
from pyposix.brick import Brick
from pyposix.files import OpenFile

_ROOT = bytes(Gfid.ROOT)
_DOTS = (".", "..")
_KERNEL_BUFFER = 32 * 1024


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
        """The names in a directory are the journal's business."""
        self._opened(fd)
        return fops.Fsyncdir()

    def readdir(
        self, frame: Frame, fd: Fd, size: int, offset: int, xdata: Dict | None
    ) -> fops.Readdir:
        """List entries from ``offset`` on; ENOENT beside them says that they were the last."""
        entries, at_end = self._read(fd, size, offset, xdata)
        return fops.Readdir(entries, None, len(entries), at_end)

    def readdirp(
        self, frame: Frame, fd: Fd, size: int, offset: int, xdata: Dict | None
    ) -> fops.Readdirp:
        """The same with attributes, inodes, and what xdata asks for, of each.

        Or the directories above a file, of whatever kind, if xdata asks for its ancestry.
        """
        if xdata is not None and keys.ANCESTRY_DENTRY in xdata:
            above = ancestry.entries(self, fd.inode, xdata)
            return fops.Readdirp(above, None, len(above))
        entries, at_end = self._read(fd, size, offset, xdata)
        folder = fd.inode
        path = self._handles.directory(folder.gfid).rstrip(b"/") + b"/"
        for entry in entries:
            self._fill(entry, folder, path, xdata)
        return fops.Readdirp(entries, None, len(entries), at_end)

    def _read(self, fd: Fd, size: int, offset: int, xdata: Dict | None) -> tuple[list[Dirent], int]:
        opened = self._opened(fd)
        number = opened.number
        if number < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        at_root = fd.inode.gfid == _ROOT
        files_only = bool(xdata is not None and xdata.get(keys.SKIP_DIRECTORIES))
        found: list[Dirent] = []
        with opened.lock:  # the position is the fd's, and an anonymous fd is everybody's
            with contextlib.suppress(OSError):  # an offset that never was one: as seekdir(3)
                os.lseek(number, offset, os.SEEK_SET)
            while listed := _listed(number):
                for entry in listed:
                    name, kind = entry.name, entry.d_type
                    if at_root and name == keys.HIDDEN:
                        continue
                    if not kind:
                        kind = _kind(number, name)
                    if files_only and kind == _DT_DIR:
                        continue
                    size -= DIRENT_BYTES + len(encoded(name)) + 1
                    if size < 0:
                        return found, 0
                    found.append(Dirent(name, entry.ino, entry.d_off, kind))
        return found, errno.ENOENT

    def _fill(self, entry: Dirent, folder: Inode, folder_path: bytes, xdata: Dict | None) -> None:
        name = entry.d_name
        path = folder_path + encoded(name)
        inode = folder.grep(name) if name not in _DOTS else None
        counted = inode
        try:
            if inode is not None:
                file = self._file(inode, inode.gfid)
                iatt = self._stats.of_path(path, file)
            else:
                iatt, known = self._stats.look(path)
                if known is not None and name not in _DOTS:
                    counted = inode = folder.find(known.gfid) or folder.new()
                elif known is not None and name in _DOTS:
                    counted = folder.find(known.gfid)
        except OSError:
            return  # gone in the meantime; the client looks it up by its name
        entry.d_stat = iatt
        entry.d_ino = iatt.ia_ino
        entry.inode = inode
        entry.dict = self._requests.answer(xdata, path, counted, iatt)


_DT_DIR = 4


def _kind(number: int, name: str) -> int:
    """Return the DT_* of an entry whose file system does not list it: the type bits of its mode."""
    try:
        return os.stat(encoded(name), dir_fd=number, follow_symlinks=False).st_mode >> 12
    except OSError:
        return 0


def _listed(number: int) -> list[linux.Entry]:
    """Return the next entries; none of a directory that was removed."""
    try:
        return linux.getdents(number, _KERNEL_BUFFER)
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None
