"""Fops that make names: create, mknod, mkdir, symlink, link; and put."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from typing import Self

from glupy import FopError, fops, keys, linux
from glupy.constants import EVENT_POSIX_SAME_GFID, GF_SERVER_PID_TRASH
from glupy.views import Dict, Fd, Frame, Gfid, Iatt, Iobref, Loc, Vector
from glupy.views.base import encoded
from pyposix import acl_text, xattrs
from pyposix.brick import Brick, Entry, is_directory_handle
from pyposix.data import write_all
from pyposix.files import File, OpenFile
from pyposix.gfid2path import MOST_LINKS
from pyposix.handles import Handles
from pyposix.iatt import is_linkto
from pyposix.xattrs import gfid_req

_CREATE_ONLY = os.O_CREAT | os.O_EXCL
_NOT_GIVEN = frozenset([keys.GFID, keys.VOLUME_ID, keys.MDATA, *keys.PATHINFO])


@dataclass(slots=True)
class _New:
    """An entry that a fop makes: where, for whom, and how far that has come.

    In a ``with``: what was made of it is undone if what follows fails, unless the name is another
    file's by now.
    """

    loc: Loc
    entry: Entry
    preparent: Iatt
    gid: int
    gfid: bytes
    handles: Handles
    existed: bool = False
    made: bool = False
    handled: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        if failed is None:
            return
        with contextlib.suppress(OSError):
            if self.handled:
                self.handles.remove(self.gfid)
            if self.made and xattrs.find(self.entry.path, keys.GFID) in (None, self.gfid):
                if stat.S_ISDIR(os.lstat(self.entry.path).st_mode):
                    os.rmdir(self.entry.path)
                else:
                    os.unlink(self.entry.path)


class Making(Brick):
    """Fops that make names."""

    def create(
        self,
        frame: Frame,
        loc: Loc,
        flags: int,
        mode: int,
        umask: int,
        fd: Fd,
        xdata: Dict | None,
    ) -> fops.Create:
        """Make a file and open it; open it if it is there and ``flags`` do not exclude that."""
        opened, buf, new, postparent = self._create(frame, loc, flags, mode, xdata)
        fd.ctx = opened
        return fops.Create(fd, loc.inode, buf, new.preparent, postparent, xdata)

    def _create(
        self, frame: Frame, loc: Loc, flags: int, mode: int, xdata: Dict | None
    ) -> tuple[OpenFile, Iatt, _New, Iatt]:
        with self._begin(frame, loc, xdata) as new:
            path, existed = new.entry.path, new.existed
            how = (flags | os.O_CREAT if flags else _CREATE_ONLY | os.O_RDWR) | self._direct
            real_mode = self._file_mode(mode)
            if not existed:
                self._check_layout(new, xdata)
                try:
                    # O_EXCL, or else nobody knows whose file it is if what follows fails.
                    exclusive = how | os.O_EXCL
                    number = linux.create(path, exclusive, real_mode, frame.uid, new.gid)
                    new.made = True
                except FileExistsError:
                    if how & os.O_EXCL:
                        raise
                    existed = True  # somebody was faster
            if existed:
                self._refuse_mapped(self._files[new.gfid], path)
                number = os.open(path, how | os.O_NOFOLLOW, real_mode)
            opened = OpenFile(self._files[new.gfid], number, flags)
            try:
                if existed:
                    file, buf, postparent = self._adopt(new, number, stat.S_IFREG)
                else:
                    file, buf, postparent = self._admit(new, number, stat.S_IFREG, xdata)
                opened.file = file
                self._metadata.touch(frame, file, number, buf)
                self._touch_folder(frame, new, postparent)
                return opened, buf, new, postparent
            except BaseException:
                opened.close()
                raise

    def mknod(
        self,
        frame: Frame,
        loc: Loc,
        mode: int,
        rdev: int,
        umask: int,
        xdata: Dict | None,
    ) -> fops.Mknod:
        """Make a file, device, FIFO or socket; or, for DHT, another link of a file that exists."""
        mode &= 0xFFFF  # the kernel's umode_t: through FUSE S_IFSOCK and S_IFREG come with a sign
        with self._begin(frame, loc, xdata) as new:
            linked = self._asked(xdata, keys.INTERNAL_FOP) and self._link_existing(new)
            target: xattrs.Target = new.entry.path
            if not linked:
                try:
                    target = self._mknod(frame, new, mode, rdev)
                except FileExistsError:
                    if not self._asked(xdata, keys.FORCE_REPLACE):
                        raise
                    self._unlink_linkto(new)
                    target = self._mknod(frame, new, mode, rdev)
            try:
                buf, postparent = self._made(frame, new, mode, xdata, target, linked=linked)
            finally:
                if isinstance(target, int):
                    os.close(target)
            return fops.Mknod(loc.inode, buf, new.preparent, postparent)

    def _mknod(self, frame: Frame, new: _New, mode: int, rdev: int) -> xattrs.Target:
        """Make it. A regular file is open then: another at its name is none of ours."""
        path, real_mode = new.entry.path, self._file_mode(mode)
        if stat.S_ISREG(mode):
            permissions = stat.S_IMODE(real_mode)
            number = linux.create(path, _CREATE_ONLY | os.O_RDWR, permissions, frame.uid, new.gid)
            new.made = True
            return number
        os.mknod(path, real_mode, rdev)
        new.made = True
        os.chown(path, frame.uid, new.gid, follow_symlinks=False)
        return path

    def mkdir(
        self, frame: Frame, loc: Loc, mode: int, umask: int, xdata: Dict | None
    ) -> fops.Mkdir:
        """Make a directory."""
        with self._begin(frame, loc, xdata) as new:
            if new.existed:
                raise FileExistsError
            self._check_gfid_is_free(frame, new)
            self._check_layout(new, xdata)
            mask, forced = self.option("create-directory-mask"), self.option("force-directory-mode")
            real_mode = _masked(mode, mask, forced)
            os.mkdir(new.entry.path, real_mode & 0o7777)
            new.made = True
            os.chown(new.entry.path, frame.uid, new.gid, follow_symlinks=False)
            buf, postparent = self._made(frame, new, stat.S_IFDIR, xdata, new.entry.path)
            return fops.Mkdir(loc.inode, buf, new.preparent, postparent)

    def symlink(
        self, frame: Frame, linkname: str, loc: Loc, umask: int, xdata: Dict | None
    ) -> fops.Symlink:
        """Make a symbolic link."""
        with self._begin(frame, loc, xdata) as new:
            os.symlink(encoded(linkname), new.entry.path)
            new.made = True
            os.chown(new.entry.path, frame.uid, new.gid, follow_symlinks=False)
            buf, postparent = self._made(frame, new, stat.S_IFLNK, xdata, new.entry.path)
            return fops.Symlink(loc.inode, buf, new.preparent, postparent)

    def link(self, frame: Frame, oldloc: Loc, newloc: Loc, xdata: Dict | None) -> fops.Link:
        """Make another name of a file."""
        self._reserve.check(frame, xdata)
        old_path, file = self._locate(oldloc)
        most = self.option("max-hardlinks")
        if most and self._stats.of_path(old_path, file).ia_nlink >= most:
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        entry = self._entry(newloc)
        preparent = self._stats.of_path(entry.folder, entry.parent)
        new = _New(newloc, entry, preparent, 0, file.gfid, self._handles)
        path = entry.path
        with new:
            try:
                os.link(old_path, path, follow_symlinks=False)
            except FileExistsError:
                if not self._asked(xdata, keys.FORCE_REPLACE):
                    raise
                self._unlink_linkto(new)
                os.link(old_path, path, follow_symlinks=False)
            new.made = True
            buf = self._stats.of_path(path, file)
            self._metadata.touch(frame, file, path, buf)
            postparent = self._stats.of_path(entry.folder, entry.parent)
            self._touch_folder(frame, new, postparent)
            self._link_counts.add(file, path, entry.parent.gfid)
        if buf.ia_nlink <= MOST_LINKS:
            self._gfid2path.add(path, entry.parent.gfid, entry.name)
        return fops.Link(oldloc.inode, buf, preparent, postparent)

    def put(
        self,
        frame: Frame,
        loc: Loc,
        mode: int,
        umask: int,
        flags: int,
        vector: Vector,
        count: int,
        offset: int,
        iobref: Iobref | None,
        xattr: Dict | None,
        xdata: Dict | None,
    ) -> fops.Put:
        """Make a file with contents and xattrs."""
        opened, _, new, postparent = self._create(frame, loc, flags, mode, xdata)
        try:
            number, file = opened.number, opened.file
            with file.gate:
                write_all(opened, vector, offset)
            for key in xattr or ():
                if key.startswith(keys.NAMESPACES) and key not in (keys.GFID, keys.VOLUME_ID):
                    xattrs.put(number, key, (xattr and xattr.get_bytes(key)) or b"")
            self._metadata.touch(frame, file, number)
            buf = self._stats.of_fd(number, file)
        finally:
            opened.close()
        return fops.Put(loc.inode, buf, new.preparent, postparent)

    # ---- how things are made ----

    def _begin(self, frame: Frame, loc: Loc, xdata: Dict | None) -> _New:
        """Begin a new entry: for the ``with`` in which it is made."""
        gfid = None if xdata is None else gfid_req(xdata)
        if gfid is None:
            if frame.pid != GF_SERVER_PID_TRASH:
                raise OSError(errno.EINVAL, "no gfid for the new file")
            gfid = bytes(Gfid.random())
        self._reserve.check(frame, xdata)
        entry = self._entry(loc)
        looked = self._stats.look_in(entry.path, entry.folder, entry.parent)
        preparent = looked.parent
        gid = preparent.ia_gid if preparent.mode & stat.S_ISGID else frame.gid
        return _New(loc, entry, preparent, gid, gfid, self._handles, existed=not looked.error)

    def _made(
        self,
        frame: Frame,
        new: _New,
        mode: int,
        xdata: Dict | None,
        target: xattrs.Target,
        *,
        linked: bool = False,
    ) -> tuple[Iatt, Iatt]:
        """Give what was made all that a file of GlusterFS has; return attributes."""
        entry = new.entry
        if linked:
            self._gfid2path.add(entry.path, entry.parent.gfid, entry.name)
            self._link_counts.add(self._files[new.gfid], entry.path, entry.parent.gfid)
            if xdata is not None:
                self._store_given(new, entry.path, xdata)
            file = self._tie(new)
            self._take_times(new, file, entry.path, xdata)
            buf = self._stats.of_path(entry.path, file)
            postparent = self._stats.of_path(entry.folder, entry.parent)
        else:
            file, buf, postparent = self._admit(new, target, mode, xdata)
        self._metadata.touch(frame, file, target, buf)
        self._touch_folder(frame, new, postparent)
        return buf, postparent

    def _admit(
        self, new: _New, target: xattrs.Target, mode: int, xdata: Dict | None
    ) -> tuple[File, Iatt, Iatt]:
        """Give a new file its xattrs and its handle; return it and the attributes afterwards."""
        path, folder, name, parent = new.entry
        if xdata is not None and len(xdata) > 1:  # more than the gfid
            self._store_given(new, target, xdata)
        handles, gfid = self._handles, new.gfid
        if self._link_counts.enabled and not stat.S_ISDIR(mode):
            self._link_counts.add(self._files[gfid], target, parent.gfid)
        record = None if stat.S_ISDIR(mode) else self._gfid2path.record(parent.gfid, name)
        try:
            error, buf, postparent = linux.admit(
                target if isinstance(target, int) else -1,
                path,
                gfid,
                handles.path(gfid),
                handles.target(parent.gfid, name, mode),
                record,
                folder,
                parent.gfid,
                self._stats.shown(parent, folder),
            )
        except FileExistsError:  # who has found it meanwhile has given it his gfid
            return self._adopt(new, target, mode)
        new.handled = True
        if error and record is not None:
            self._gfid2path.unrecorded(record[1], error)
        file = self._tie(new)
        self._metadata.begin(file)
        if self._asked(xdata, keys.MDATA):
            self._take_times(new, file, target, xdata)
            buf = self._buf(new, target, file)
        return file, buf, postparent

    def _buf(self, new: _New, target: xattrs.Target, file: File) -> Iatt:
        if isinstance(target, int):
            return self._stats.of_fd(target, file)
        return self._stats.of_path(new.entry.path, file)

    def _touch_folder(self, frame: Frame, new: _New, postparent: Iatt) -> None:
        self._metadata.touch_parent(frame, new.entry.parent, new.entry.folder, postparent)

    def _store_given(self, new: _New, target: xattrs.Target, xdata: Dict) -> None:
        """Store the xattrs that come with a new file: ACLs, and what translators above keep."""
        for key in xdata:
            is_text = acl_text.is_key(key)
            if key in _NOT_GIVEN or not (is_text or key.startswith(keys.NAMESPACES)):
                continue
            if key.startswith(keys.GFID2PATH_PREFIX):
                continue
            value = xdata.get_bytes(key) or b""
            acl = key in (keys.ACL_ACCESS, keys.ACL_DEFAULT)
            try:
                if is_text:
                    kind = self._stats.look(new.entry.path)[0].c.ia_type
                    acl_text.put(new.entry.path, key, value, kind)
                else:
                    xattrs.put(target, key, value, 0 if acl else os.XATTR_CREATE)
            except FileExistsError:
                pass
            except OSError as error:
                self.log.error("%s: xattr %s was not stored: %s", new.loc.path, key, error)

    def _take_times(self, new: _New, file: File, target: xattrs.Target, xdata: Dict | None) -> None:
        """Heal and rebalance give a file the times that it has elsewhere."""
        value = None if xdata is None else xdata.get_bytes(keys.MDATA)
        if value is not None:
            try:
                self._metadata.merge_stored(file, target, value)
            except OSError as error:
                self.log.error("%s: its times were not stored: %s", new.loc.path, error)

    def _tie(self, new: _New) -> File:
        inode = new.loc.inode
        return self._files[new.gfid] if inode is None else self._remembered(inode, new.gfid)

    def _adopt(self, new: _New, target: xattrs.Target, mode: int) -> tuple[File, Iatt, Iatt]:
        """A file was there already: it keeps its gfid, and gets what it lacks. As ``_admit``."""
        new.made = False
        try:
            xattrs.put(target, keys.GFID, new.gfid, os.XATTR_CREATE)
        except FileExistsError:
            new.gfid = xattrs.get(target, keys.GFID)
        number = target if isinstance(target, int) else -1
        parent, name = new.entry.parent.gfid, new.entry.name
        self._handles.add(new.gfid, new.entry.path, parent, name, mode, number)
        if self._files[new.gfid].orphan:  # its last name has gone meanwhile
            self._handles.remove(new.gfid)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        file = self._tie(new)
        postparent = self._stats.of_path(new.entry.folder, new.entry.parent)
        return file, self._buf(new, target, file), postparent

    def _check_layout(self, new: _New, xdata: Dict | None) -> None:
        """DHT: make nothing in a directory whose layout is not the one that the client knows."""
        if xdata is None or keys.PREOP_PARENT not in xdata:
            return
        key = xdata[keys.PREOP_PARENT]
        del xdata[keys.PREOP_PARENT]
        expected = xdata.get_bytes(key)
        if expected is None:
            return
        del xdata[key]
        stored = None
        with contextlib.suppress(OSError):
            stored = xattrs.get(new.entry.folder, key)
        if stored != expected:
            failed = Dict()
            failed.set_int(keys.PREOP_FAILED, 1)
            raise FopError(errno.EIO, xdata=failed)

    def _check_gfid_is_free(self, frame: Frame, new: _New) -> None:
        """A directory that heals or renames elsewhere brings a gfid that has a handle already."""
        handle = self._handles.path(new.gfid)
        if not os.path.isdir(handle):
            return
        if frame.pid != keys.PID_SELF_HEALD:
            path = new.loc.path or os.fsdecode(new.entry.path)
            self.log.warning("mkdir %s: its gfid is another directory's already", path)
            # By its parent's handle and its name, as C posix tells it.
            place = os.path.normpath(os.path.join(os.path.dirname(handle), os.readlink(handle)))
            gfid = str(Gfid(new.gfid))
            self._tell(EVENT_POSIX_SAME_GFID, gfid=gfid, path=place, newpath=path)
        if not self._handles.leads_to(new.gfid, new.entry.parent.gfid, new.entry.name):
            self._handles.remove(new.gfid)

    def _link_existing(self, new: _New) -> bool:
        """Make the new entry a link of the file that has its gfid, if there is one."""
        handle = self._handles.path(new.gfid)
        if is_directory_handle(handle):
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        try:
            os.link(handle, new.entry.path, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError:
            file = self._files[new.gfid]
            orphan = self._handles.orphan(new.gfid)
            with file.lock:
                if not file.orphan:
                    return False
                try:
                    os.rename(orphan, handle)
                except FileNotFoundError:
                    return False  # its last fd was closed this very moment
                file.orphan = False
                try:
                    os.link(handle, new.entry.path)
                except OSError:
                    os.rename(handle, orphan)
                    file.orphan = True
                    raise
        return True

    def _unlink_linkto(self, new: _New) -> None:
        """Remove a stale link file of DHT that is in the way; EEXIST if it is anything else."""
        try:
            buf, file = self._stats.look(new.entry.path)
        except FileNotFoundError:
            return
        if not is_linkto(buf):
            raise FileExistsError
        os.unlink(new.entry.path)
        if file is not None and buf.ia_nlink == 1:
            self._handles.remove(file.gfid)

    def _file_mode(self, mode: int) -> int:
        return _masked(mode, self.option("create-mask"), self.option("force-create-mode"))


def _masked(mode: int, mask: int, forced: int) -> int:
    """Apply the options on modes to a mode: only its permissions are masked."""
    return (mode & ~0o777) | (mode & mask & 0o777) | forced
