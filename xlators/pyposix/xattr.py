"""Fops on xattrs: setxattr, getxattr, removexattr and their fd forms."""

from __future__ import annotations

import errno
import fnmatch
import os

from glupy import fops
from glupy.views import Dict, Fd, Frame, Iatt, Inode, Loc, Mdata
from pyposix import gfid2path, keys, replies, virtual_xattr, xattrs
from pyposix.brick import Brick
from pyposix.files import File
from pyposix.metadata import Times
from pyposix.xattrs import Target

# What geo-replication keeps, shown to nobody but itself.
_GEOREP = (
    "*.glusterfs.*.stime",
    "*.glusterfs.*.xtime",
    "*.glusterfs.lockinfo",
    "*.glusterfs.*.entry_stime",
    "*.glusterfs.volume-mark.*",
)
_OWN = frozenset([keys.GFID, keys.VOLUME_ID])
_NOT_STORED = _OWN | {keys.IOSTATS_DUMP}
_IGNORED = ("glusterfs.internal-ctx", keys.FORCE_REPLACE)


class Xattrs(Brick):
    """Fops on xattrs. GlusterFS's own stay as they are: the gfid, the volume's id, names, times."""

    # ---- setting ----

    def setxattr(
        self,
        frame: Frame,
        loc: Loc,
        dict: Dict,
        flags: int,
        xdata: Dict | None,
    ) -> fops.Setxattr:
        """Store xattrs; a lookup of a client may store a file's times that way."""
        self._reserve.check(frame, xdata)
        path, file = self._locate(loc)
        given = dict.get(keys.SET_MDATA)
        if isinstance(given, Mdata):
            self._metadata.merge(file, path, Times.of_mdata(given))
            return fops.Setxattr()
        before = self._stats.of_path(path, file)
        self._store(file, path, dict, flags)
        self._metadata.touch(frame, file, path)
        after = self._stats.of_path(path, file)
        return fops.Setxattr(replies.attributes(before, after))

    def fsetxattr(
        self,
        frame: Frame,
        fd: Fd,
        dict: Dict,
        flags: int,
        xdata: Dict | None,
    ) -> fops.Fsetxattr:
        """The same of an open file."""
        self._reserve.check(frame, xdata)
        opened = self._opened(fd)
        number, file = opened.number, opened.file
        before = self._stats.of_fd(number, file)
        self._store(file, number, dict, flags)
        self._metadata.touch(frame, file, number)
        if self._asked(xdata, keys.DURABLE_OP):
            os.fsync(number)
        after = self._stats.of_fd(number, file)
        return fops.Fsetxattr(replies.attributes(before, after))

    def _store(self, file: File, target: Target, given: Dict, flags: int) -> None:
        for name in given:
            if name in _NOT_STORED or name.startswith(_IGNORED):
                continue
            if name in keys.PATHINFO:
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            if gfid2path.is_key(name):
                raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
            value = given.get_bytes(name) or b""
            if name == keys.MDATA:
                times = Times.decode(value)
                if times is None:
                    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
                self._metadata.merge(file, target, times)
            else:
                xattrs.put(target, name, value, flags)

    # ---- getting ----

    def getxattr(
        self, frame: Frame, loc: Loc, name: str | None, xdata: Dict | None
    ) -> fops.Getxattr:
        """Return one xattr, or all that are for clients; some are made up when asked for."""
        path, file = self._locate(loc)
        inode = loc.inode
        buf = self._stats.of_path(path, file)
        if name and inode is not None:
            made = self._virtual(name, path, inode, loc.path)
            if made is not None:
                found = Dict({name: made})
                answers = self._requests.answer(xdata, path, inode, buf)
                return fops.Getxattr(found, answers)
        found = self._get(frame, path, name)
        return fops.Getxattr(found, self._requests.answer(xdata, path, inode, buf))

    def fgetxattr(
        self, frame: Frame, fd: Fd, name: str | None, xdata: Dict | None
    ) -> fops.Fgetxattr:
        """The same of an open file."""
        opened = self._opened(fd)
        number, inode = opened.number, fd.inode
        if name and name.startswith((keys.REAL_FILENAME, keys.OPEN_FD_COUNT)):
            path = self._handles.directory(inode.gfid)
            made = self._virtual(name, path, inode, None)
            return fops.Fgetxattr(Dict({name: made}) if made is not None else Dict())
        found = self._get(frame, number, name)
        buf = self._stats.of_fd(number, opened.file)
        return fops.Fgetxattr(found, self._requests.answer(xdata, number, inode, buf))

    def _virtual(
        self, name: str, path: bytes, inode: Inode, written: str | None
    ) -> str | bytes | int | None:
        return virtual_xattr.value(self, name, path, inode, written)

    def _get(self, frame: Frame, target: Target, name: str | None) -> Dict:
        found = Dict()
        pid = frame.pid
        if name:
            if _is_hidden(name, pid, asked=True):
                raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
            value = xattrs.get(target, name)
            if name not in _OWN:
                found[name] = value
            return found
        for each in xattrs.names(target):
            if each in _OWN or _is_hidden(each, pid, asked=False):
                continue
            value_or_gone = xattrs.find(target, each)
            if value_or_gone is not None:
                found[each] = value_or_gone
        return found

    # ---- removing ----

    def removexattr(
        self, frame: Frame, loc: Loc, name: str, xdata: Dict | None
    ) -> fops.Removexattr:
        """Remove one xattr; with an empty name, all those that xdata names."""
        path, file = self._locate(loc)
        before = self._stats.of_path(path, file)
        self._remove(file, path, name, xdata)
        self._metadata.touch(frame, file, path)
        after = self._stats.of_path(path, file)
        return fops.Removexattr(replies.attributes(before, after))

    def fremovexattr(
        self, frame: Frame, fd: Fd, name: str, xdata: Dict | None
    ) -> fops.Fremovexattr:
        """The same of an open file."""
        opened = self._opened(fd)
        number, file = opened.number, opened.file
        before: Iatt = self._stats.of_fd(number, file)
        self._remove(file, number, name, xdata)
        self._metadata.touch(frame, file, number)
        after = self._stats.of_fd(number, file)
        return fops.Fremovexattr(replies.attributes(before, after))

    def _remove(self, file: File, target: Target, name: str, xdata: Dict | None) -> None:
        if gfid2path.is_key(name):
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        bulk = not name and xdata is not None
        names = list(xdata) if bulk and xdata is not None else [name]
        if not _OWN.isdisjoint(names):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        try:
            for each in names:
                try:
                    xattrs.remove(target, each)
                except OSError as error:
                    # Removing one may have removed another: an ACL.
                    if not bulk or error.errno != errno.ENODATA:
                        raise
        finally:
            if keys.MDATA in names:
                self._metadata.forget(file)


def _is_hidden(name: str, pid: int, *, asked: bool) -> bool:
    """Say whether an xattr is not shown; ``asked`` for by its name, or listed."""
    if gfid2path.is_key(name) or (name == keys.MDATA and pid >= 0):
        return True
    if asked and pid == keys.PID_GSYNCD:
        return False
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _GEOREP)
