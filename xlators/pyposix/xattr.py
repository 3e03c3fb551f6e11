"""Fops on xattrs: setxattr, getxattr, removexattr and their fd forms."""

from __future__ import annotations

import errno
import os
import re

from glupy import FopError, fops, keys
from glupy.answers import number_in
from glupy.views import Dict, Fd, Frame, Iatt, Inode, Loc, Mdata
from glupy.views.base import encoded
from pyposix import acl_text, cloudsync, gfid2path, replies, virtual_xattr, xattrs
from pyposix.brick import Brick
from pyposix.files import File
from pyposix.iatt import is_linkto
from pyposix.metadata import Times
from pyposix.xattrs import Target

# What geo-replication keeps, shown to nobody but itself.
_GEOREP = re.compile(
    r".*\.glusterfs\.(.*\.(stime|xtime|entry_stime)|lockinfo|volume-mark\..*)", re.DOTALL
)
_OWN = frozenset([keys.GFID, keys.VOLUME_ID])
_NOT_STORED = _OWN | {keys.IOSTATS_DUMP}
_IGNORED = ("glusterfs.internal-ctx", keys.FORCE_REPLACE)
# What DHT makes equal on all bricks when it heals a directory, besides user.*.
_HEALED = frozenset([keys.ACL_ACCESS, keys.ACL_DEFAULT])


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
        uploaded_at = dict.get_bytes(keys.CS_UPLOADED)
        if uploaded_at is not None:
            remote = encoded((loc.path or "").removeprefix("/"))
            with file.gate.alone():
                before = self._stats.of_path(path, file)  # now that nobody writes any more
                return fops.Setxattr(cloudsync.moved(path, before, uploaded_at, remote))
        self._store(file, path, dict, flags, before)
        if number_in(xdata, keys.SYNC_BACKEND_XATTRS):
            _remove_others(path, dict)
        self._metadata.touch(frame, file, path)
        answers = replies.attributes(before, self._stats.of_path(path, file))
        _add_stored_acls(answers, path, dict)
        return fops.Setxattr(answers)

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
        try:
            self._store(file, number, dict, flags, before)
        except OSError as error:
            answers = replies.attributes(before, self._stats.of_fd(number, file))
            raise FopError(error.errno or errno.EIO, xdata=answers) from None
        self._metadata.touch(frame, file, number)
        if self._asked(xdata, keys.DURABLE_OP):
            os.fsync(number)
        after = self._stats.of_fd(number, file)
        return fops.Fsetxattr(replies.attributes(before, after))

    def _store(self, file: File, target: Target, given: Dict, flags: int, before: Iatt) -> None:
        file.mapped = None
        linkto = is_linkto(before)  # of DHT: the file itself is on another brick
        by_path = isinstance(target, bytes)
        not_stored = _NOT_STORED if by_path else _OWN
        for name in given:
            if name in not_stored or (by_path and name.startswith(_IGNORED)):
                continue
            if name in keys.PATHINFO:
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            if gfid2path.is_key(name):
                raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
            is_text = by_path and acl_text.is_key(name)
            if linkto and (is_text or name.startswith(keys.ACL_ACCESS)):
                continue
            value = given.get_bytes(name) or b""
            if is_text and isinstance(target, bytes):
                acl_text.put(target, name, value, before.c.ia_type)
            elif name == keys.MDATA:
                self._metadata.merge_stored(file, target, value)
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
            made = virtual_xattr.answer(self, name, path, inode, loc.path)
            if made is not None:
                return fops.Getxattr(made, self._asked_beside(xdata, path, inode, buf))
        found = self._get(frame, path, name)
        return fops.Getxattr(found, self._asked_beside(xdata, path, inode, buf))

    def fgetxattr(
        self, frame: Frame, fd: Fd, name: str | None, xdata: Dict | None
    ) -> fops.Fgetxattr:
        """The same of an open file."""
        opened = self._opened(fd)
        number, inode = opened.number, fd.inode
        made = virtual_xattr.answer_of_fd(self, name, number, inode) if name else None
        found = self._get(frame, number, name) if made is None else made
        buf = self._stats.of_fd(number, opened.file)
        return fops.Fgetxattr(found, self._asked_beside(xdata, number, inode, buf))

    def _asked_beside(
        self, xdata: Dict | None, target: Target, inode: Inode | None, buf: Iatt
    ) -> Dict | None:
        return self._requests.answer(xdata, target, inode, buf, data=False)

    def _get(self, frame: Frame, target: Target, name: str | None) -> Dict:
        found = Dict()
        pid = frame.pid
        if name is not None:
            if target == -1:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
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
        file.mapped = None
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


def _remove_others(path: bytes, given: Dict) -> None:
    """Remove those of the healed xattrs that are not given."""
    for name in xattrs.names(path):
        if (name.startswith("user.") or name in _HEALED) and name not in given:
            xattrs.remove(path, name)


def _add_stored_acls(answers: Dict, path: bytes, given: Dict) -> None:
    """ACLs were set from text: tell features/access-control above what it is to go by."""
    for name, stored in acl_text.STORED.items():
        if name in given:
            value = xattrs.find(path, stored)
            if value is not None:
                answers[stored] = value


def _is_hidden(name: str, pid: int, *, asked: bool) -> bool:
    """Say whether an xattr is not shown; ``asked`` for by its name, or listed."""
    if gfid2path.is_key(name) or (name == keys.MDATA and pid >= 0):
        return True
    if asked and pid == keys.PID_GSYNCD:
        return False
    return _GEOREP.fullmatch(name) is not None
