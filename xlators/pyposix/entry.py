"""Fops on names: lookup, create, mknod, mkdir, symlink, link, unlink, rmdir, rename; and put."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from dataclasses import dataclass

from glupy import FopError, fops
from glupy.constants import GF_SERVER_PID_TRASH
from glupy.views import Dict, Fd, Frame, Gfid, Iatt, Inode, Iobref, Loc, Vector
from glupy.views.base import encoded
from pyposix import keys, xattrs
from pyposix.brick import Brick
from pyposix.data import write_all
from pyposix.files import File, OpenFile
from pyposix.gfid2path import MOST_LINKS
from pyposix.iatt import DIRECTORY, REGULAR

FRESH_SECONDS = 1.0
"""A file without a gfid that is younger is still being created."""

_CREATE_ONLY = os.O_CREAT | os.O_EXCL


@dataclass(slots=True)
class _New:
    """An entry that a fop makes: where, for whom, and how far that has come."""

    loc: Loc
    path: bytes
    parent_path: bytes
    name: bytes
    parent: File
    preparent: Iatt
    gid: int
    gfid: bytes
    made: bool = False  # from here on, what failed is undone
    handled: bool = False


class Entries(Brick):
    """Fops on names."""

    # ---- lookup ----

    def lookup(self, frame: Frame, loc: Loc, xdata: Dict | None) -> fops.Lookup:
        """Find a file by its name, or by its gfid alone.

        A named one that has no gfid yet gets the one that comes in xdata; an old brick's files too.
        """
        if not loc.name or not (loc.pargfid or loc.parent is not None):
            return self._lookup_gfid(loc, xdata)
        path, parent_path, name = self._entry(loc)
        inode = loc.inode
        try:
            buf, file = self._stats.look(path)
            if inode is not None and not inode.gfid and xdata is not None:
                healed = self._heal(loc, path, name, buf, file, xdata)
                if healed is not file:
                    file = healed
                    buf = self._stats.of_path(path, file)
        except OSError as error:
            raise FopError(
                error.errno or errno.EIO, postparent=self._postparent(loc, parent_path)
            ) from None
        if file is None and not self._asked(xdata, keys.GFIDLESS_LOOKUP):
            raise OSError(errno.ENODATA, "no gfid")
        postparent = self._postparent(loc, parent_path)
        return self._found(inode, path, buf, file, xdata, postparent)

    def _lookup_gfid(self, loc: Loc, xdata: Dict | None) -> fops.Lookup:
        path, file = self._locate(loc)
        try:
            buf = self._stats.of_path(path, file)
        except OSError as error:
            if error.errno == errno.ENOENT:
                if self._asked(xdata, keys.UNLINKED_LOOKUP):
                    buf = self._stats.of_path(self._handles.orphan(file.gfid), file)
                    buf.ia_nlink = 0
                    return fops.Lookup(loc.inode, buf, None, Iatt())
                self._handles.remove_stale(file.gfid)
            raise FopError(error.errno or errno.EIO, postparent=Iatt()) from None
        return self._found(loc.inode, path, buf, file, xdata, Iatt())

    def _found(
        self,
        inode: Inode | None,
        path: bytes,
        buf: Iatt,
        file: File | None,
        xdata: Dict | None,
        postparent: Iatt,
    ) -> fops.Lookup:
        gfid = bytes(16) if file is None else file.gfid
        if inode is not None and file is not None:
            self._remembered(inode, gfid)
        answers = self._requests.answer(xdata, path, inode, buf)
        if self._asked(xdata, keys.CLEAN_WRITE_PROTECTION):
            with contextlib.suppress(OSError):
                xattrs.remove(path, keys.PROTECT_WRITES)
        return fops.Lookup(inode, buf, answers, postparent)

    def _postparent(self, loc: Loc, parent_path: bytes) -> Iatt:
        """Return the directory's attributes; without the directory the lookup's handle is stale."""
        try:
            return self._stats.of_path(parent_path, self._parent(loc))
        except FileNotFoundError:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE)) from None

    def _heal(
        self, loc: Loc, path: bytes, name: bytes, buf: Iatt, file: File | None, xdata: Dict
    ) -> File:
        """Give a file its gfid, if it has none, and its handle, if that is missing."""
        if file is None:
            changed = buf.ia_ctime + buf.ia_ctime_nsec / 1e9
            if time.time() - changed < FRESH_SECONDS:
                raise FileNotFoundError
            wanted = _gfid(xdata)
            if wanted is None:
                raise OSError(errno.ENODATA, "no gfid")
            xattrs.put(path, keys.GFID, wanted, os.XATTR_CREATE)
            file = self._files[wanted]
        try:
            self._handles.add(file.gfid, path, loc.directory(), name, buf.mode)
        except OSError as error:
            self.log.warning("%s: no handle for it: %s", loc.path, error)
        return file

    # ---- making ----

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
        with self._making(frame, loc, xdata) as new:
            existed = os.path.lexists(new.path)
            if not existed:
                self._check_layout(new, xdata)
            how = (flags | os.O_CREAT if flags else _CREATE_ONLY | os.O_RDWR) | self._direct
            number = os.open(new.path, how, self._file_mode(mode))
            opened = OpenFile(self._files[new.gfid], number, flags)
            try:
                if existed:
                    self._adopt(new, number)
                    opened.file = self._files[new.gfid]
                else:
                    new.made = bool(how & os.O_EXCL)
                    os.fchown(number, frame.uid, new.gid)
                    self._finish(new, number, stat.S_IFREG, xdata)
                file = self._tie(new)
                if not existed:
                    self._metadata.begin(file)
                buf = self._stats.of_fd(number, file)
                self._metadata.touch(frame, file, number, buf)
                return opened, buf, new, self._made_in(frame, new)
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
        with self._making(frame, loc, xdata) as new:
            linked = self._asked(xdata, keys.INTERNAL_FOP) and self._link_existing(new)
            if not linked:
                real_mode = self._file_mode(mode)
                try:
                    os.mknod(new.path, real_mode, rdev)
                except FileExistsError:
                    if not self._asked(xdata, keys.FORCE_REPLACE):
                        raise
                    self._unlink_linkto(new)
                    os.mknod(new.path, real_mode, rdev)
                new.made = True
                os.chown(new.path, frame.uid, new.gid, follow_symlinks=False)
            buf, postparent = self._made(frame, new, mode, xdata, linked=linked)
            return fops.Mknod(loc.inode, buf, new.preparent, postparent)

    def mkdir(
        self, frame: Frame, loc: Loc, mode: int, umask: int, xdata: Dict | None
    ) -> fops.Mkdir:
        """Make a directory."""
        with self._making(frame, loc, xdata) as new:
            self._check_gfid_is_free(frame, new)
            self._check_layout(new, xdata)
            mask, forced = self.option("create-directory-mask"), self.option("force-directory-mode")
            real_mode = _masked(mode, mask, forced)
            os.mkdir(new.path, real_mode)
            new.made = True
            os.chown(new.path, frame.uid, new.gid)
            buf, postparent = self._made(frame, new, stat.S_IFDIR, xdata)
            return fops.Mkdir(loc.inode, buf, new.preparent, postparent)

    def symlink(
        self, frame: Frame, linkname: str, loc: Loc, umask: int, xdata: Dict | None
    ) -> fops.Symlink:
        """Make a symbolic link."""
        with self._making(frame, loc, xdata) as new:
            os.symlink(encoded(linkname), new.path)
            new.made = True
            os.chown(new.path, frame.uid, new.gid, follow_symlinks=False)
            buf, postparent = self._made(frame, new, stat.S_IFLNK, xdata)
            return fops.Symlink(loc.inode, buf, new.preparent, postparent)

    def link(self, frame: Frame, oldloc: Loc, newloc: Loc, xdata: Dict | None) -> fops.Link:
        """Make another name of a file."""
        self._reserve.check(frame, xdata)
        old_path, file = self._locate(oldloc)
        most = self.option("max-hardlinks")
        if most and self._stats.of_path(old_path, file).ia_nlink >= most:
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        path, parent_path, name = self._entry(newloc)
        parent = self._parent(newloc)
        preparent = self._stats.of_path(parent_path, parent)
        new = _New(newloc, path, parent_path, name, parent, preparent, 0, file.gfid)
        try:
            os.link(old_path, path, follow_symlinks=False)
        except FileExistsError:
            if not self._asked(xdata, keys.FORCE_REPLACE):
                raise
            self._unlink_linkto(new)
            os.link(old_path, path, follow_symlinks=False)
        buf = self._stats.of_path(path, file)
        self._metadata.touch(frame, file, path, buf)
        if buf.ia_nlink <= MOST_LINKS:
            self._gfid2path.add(path, parent.gfid, name)
        return fops.Link(oldloc.inode, buf, preparent, self._made_in(frame, new))

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

    @contextlib.contextmanager
    def _making(self, frame: Frame, loc: Loc, xdata: Dict | None):  # type: ignore[no-untyped-def]
        """Begin a new entry; undo what was made of it if what follows fails."""
        gfid = None if xdata is None else _gfid(xdata)
        if gfid is None:
            if frame.pid != GF_SERVER_PID_TRASH:
                raise OSError(errno.EINVAL, "no gfid for the new file")
            gfid = Gfid.random()
        self._reserve.check(frame, xdata)
        path, parent_path, name = self._entry(loc)
        parent = self._parent(loc)
        preparent = self._stats.of_path(parent_path, parent)
        gid = preparent.ia_gid if preparent.mode & stat.S_ISGID else frame.gid
        new = _New(loc, path, parent_path, name, parent, preparent, gid, bytes(gfid))
        try:
            yield new
        except BaseException:
            with contextlib.suppress(OSError):
                if new.handled:
                    self._handles.remove(new.gfid)
                if new.made:
                    if stat.S_ISDIR(os.lstat(new.path).st_mode):
                        os.rmdir(new.path)
                    else:
                        os.unlink(new.path)
            raise

    def _made(
        self, frame: Frame, new: _New, mode: int, xdata: Dict | None, *, linked: bool = False
    ) -> tuple[Iatt, Iatt]:
        """Give what was made at a path all that a file of GlusterFS has; return attributes."""
        self._finish(new, new.path, mode, xdata, linked=linked)
        file = self._tie(new)
        if not linked:
            self._metadata.begin(file)
        buf = self._stats.of_path(new.path, file)
        self._metadata.touch(frame, file, new.path, buf)
        return buf, self._made_in(frame, new)

    def _made_in(self, frame: Frame, new: _New) -> Iatt:
        postparent = self._stats.of_path(new.parent_path, new.parent)
        self._metadata.touch_parent(frame, new.parent, new.parent_path, postparent)
        return postparent

    def _finish(
        self,
        new: _New,
        target: xattrs.Target,
        mode: int,
        xdata: Dict | None,
        *,
        linked: bool = False,
    ) -> None:
        directory = stat.S_ISDIR(mode)
        if not directory:
            self._gfid2path.add(target, new.parent.gfid, new.name)
        if xdata is not None:
            self._store_given(new, target, xdata)
        if not linked:
            xattrs.put(target, keys.GFID, new.gfid, os.XATTR_CREATE)
            self._handles.add(new.gfid, new.path, new.parent.gfid, new.name, mode)
            new.handled = True

    def _store_given(self, new: _New, target: xattrs.Target, xdata: Dict) -> None:
        """Store the xattrs that come with a new file: ACLs, and what translators above keep."""
        for key in xdata:
            if not key.startswith(keys.NAMESPACES) or key in _NOT_GIVEN:
                continue
            if key.startswith(keys.GFID2PATH_PREFIX):
                continue
            acl = key in (keys.ACL_ACCESS, keys.ACL_DEFAULT)
            try:
                value = xdata.get_bytes(key) or b""
                xattrs.put(target, key, value, 0 if acl else os.XATTR_CREATE)
            except FileExistsError:
                pass
            except OSError as error:
                self.log.error("%s: xattr %s was not stored: %s", new.loc.path, key, error)

    def _tie(self, new: _New) -> File:
        inode = new.loc.inode
        return self._files[new.gfid] if inode is None else self._remembered(inode, new.gfid)

    def _adopt(self, new: _New, number: int) -> None:
        """A file was there already: it keeps its gfid, and gets what it lacks."""
        found = xattrs.find(number, keys.GFID)
        if found is None:
            xattrs.put(number, keys.GFID, new.gfid, os.XATTR_CREATE)
        else:
            new.gfid = found
        self._handles.add(new.gfid, new.path, new.parent.gfid, new.name, stat.S_IFREG)

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
        if xattrs.get(new.parent_path, key) != expected:
            failed = Dict()
            failed.set_int(keys.PREOP_FAILED, 1)
            raise FopError(errno.EIO, xdata=failed)

    def _check_gfid_is_free(self, frame: Frame, new: _New) -> None:
        """A directory that heals or renames elsewhere brings a gfid that has a handle already."""
        handle = self._handles.path(new.gfid)
        if not os.path.isdir(handle):
            return
        if frame.pid != keys.PID_SELF_HEALD:
            self.log.warning("mkdir %s: its gfid is another directory's already", new.loc.path)
        if not self._handles.leads_to(new.gfid, new.parent.gfid, new.name):
            self._handles.remove(new.gfid)

    def _link_existing(self, new: _New) -> bool:
        """Make the new entry a link of the file that has its gfid, if there is one."""
        handle = self._handles.path(new.gfid)
        try:
            os.link(handle, new.path, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError:
            file = self._files[new.gfid]
            with file.lock:
                if not file.orphan:
                    return False
                os.link(self._handles.orphan(new.gfid), new.path)
                os.rename(self._handles.orphan(new.gfid), handle)
                file.orphan = False
        return True

    def _unlink_linkto(self, new: _New) -> None:
        """Remove a stale link file of DHT that is in the way; EEXIST if it is anything else."""
        try:
            buf, file = self._stats.look(new.path)
        except FileNotFoundError:
            return
        if not _is_linkto(buf):
            raise FileExistsError
        os.unlink(new.path)
        if file is not None and buf.ia_nlink == 1:
            self._handles.remove(file.gfid)

    def _file_mode(self, mode: int) -> int:
        return _masked(mode, self.option("create-mask"), self.option("force-create-mode"))

    # ---- removing ----

    def unlink(self, frame: Frame, loc: Loc, xflags: int, xdata: Dict | None) -> fops.Unlink:
        """Remove a name. A file that is open outlives its last one, until it is closed."""
        path, parent_path, name = self._entry(loc)
        parent = self._parent(loc)
        preparent = self._stats.of_path(parent_path, parent)
        buf, file = self._stats.look(path)
        self._check_unlink(loc, path, buf, xdata)
        last = buf.ia_nlink <= 1
        if not last:
            self._gfid2path.remove(path, parent.gfid, name)
        number = -1
        if buf.c.ia_type == REGULAR and self._asked(xdata, keys.DHT_IATT):
            number = os.open(path, os.O_RDONLY)
        try:
            os.unlink(path)
            if file is not None:
                self._name_gone(frame, file, loc.inode, last)
            answers = self._unlinked(xdata, buf)
            if number >= 0 and file is not None:
                after = self._stats.of_fd(number, file)
                answers[keys.DHT_IATT] = answers[keys.POSTSTAT] = after
        finally:
            if number >= 0:
                os.close(number)
        postparent = self._stats.of_path(parent_path, parent)
        self._metadata.touch_parent(frame, parent, parent_path, postparent)
        return fops.Unlink(preparent, postparent, answers)

    def _check_unlink(self, loc: Loc, path: bytes, buf: Iatt, xdata: Dict | None) -> None:
        """DHT: EBUSY for a file that is open, or that is no link file (any more)."""
        if xdata is None:
            return
        inode = loc.inode
        if xdata.get(keys.UNLINK_NOT_OPEN) and inode is not None and inode.fd_count:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        if xdata.get(keys.UNLINK_ONLY_LINKTO) and not (
            _is_linkto(buf) and xattrs.find(path, keys.DHT_LINKTO)
        ):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    def _name_gone(self, frame: Frame, file: File, inode: Inode | None, last: bool) -> None:
        """A name of the file was removed: its handle follows the last one."""
        if not last:
            self._metadata.touch(frame, file, self._handles.path(file.gfid))
        elif inode is not None and inode.gfid == file.gfid and inode.fd_count:
            file.orphan = True
            with contextlib.suppress(FileNotFoundError):
                self._handles.keep_orphan(file.gfid)
        else:
            self._handles.remove(file.gfid)

    def _unlinked(self, xdata: Dict | None, buf: Iatt) -> Dict:
        answers = Dict()
        if xdata is not None:
            if keys.GET_BLOCK_COUNT in xdata:
                answers.set_uint(keys.GET_BLOCK_COUNT, buf.ia_blocks, 64)
            if keys.GET_LINK_COUNT in xdata:
                answers.set_uint(keys.GET_LINK_COUNT, buf.ia_nlink)
            if keys.REQUEST_LINK_COUNT in xdata:
                answers.set_uint(keys.RESPONSE_LINK_COUNT, buf.ia_nlink)
        return answers

    def rmdir(self, frame: Frame, loc: Loc, xflags: int, xdata: Dict | None) -> fops.Rmdir:
        """Remove an empty directory; with flags a whole tree, which goes to the landfill."""
        path, parent_path, name = self._entry(loc)
        parent = self._parent(loc)
        preparent = self._stats.of_path(parent_path, parent)
        _, file = self._stats.look(path)
        if xflags:
            os.rename(path, self._handles.in_landfill(file.gfid if file else Gfid.random()))
        else:
            os.rmdir(path)
        if file is not None and self._handles.leads_to(file.gfid, parent.gfid, name):
            self._handles.remove(file.gfid)
        postparent = self._stats.of_path(parent_path, parent)
        self._metadata.touch_parent(frame, parent, parent_path, postparent)
        return fops.Rmdir(preparent, postparent)

    # ---- rename ----

    def rename(self, frame: Frame, oldloc: Loc, newloc: Loc, xdata: Dict | None) -> fops.Rename:
        """Rename; what had the new name loses it, as with unlink or rmdir."""
        old_path, old_parent_path, old_name = self._entry(oldloc)
        new_path, new_parent_path, new_name = self._entry(newloc)
        old_parent, new_parent = self._parent(oldloc), self._parent(newloc)
        preold = self._stats.of_path(old_parent_path, old_parent)
        prenew = self._stats.of_path(new_parent_path, new_parent)
        old, file = self._stats.look(old_path)
        victim: Iatt | None
        try:
            victim, lost = self._stats.look(new_path)
        except FileNotFoundError:
            victim, lost = None, None
        self._check_victim(newloc, victim)
        os.rename(old_path, new_path)
        # Two names of one file: rename(2) has left both.
        if file is None or file is not lost:
            if victim is not None and lost is not None:
                self._victim_gone(frame, newloc, victim, lost, new_parent.gfid, new_name)
            if file is not None and old.c.ia_type == DIRECTORY:
                self._handles.move_directory(file.gfid, new_parent.gfid, new_name)
            elif file is not None:
                self._gfid2path.remove(new_path, old_parent.gfid, old_name)
                self._gfid2path.add(new_path, new_parent.gfid, new_name)
        if file is None:
            buf = self._stats.look(new_path)[0]
        else:
            buf = self._stats.of_path(new_path, file)
            self._metadata.touch(frame, file, new_path, buf)
        postold = self._stats.of_path(old_parent_path, old_parent)
        self._metadata.touch_parent(frame, old_parent, old_parent_path, postold)
        postnew = self._stats.of_path(new_parent_path, new_parent)
        self._metadata.touch_parent(frame, new_parent, new_parent_path, postnew)
        answers = Dict() if victim is None else self._unlinked(xdata, victim)
        return fops.Rename(buf, preold, postold, prenew, postnew, answers)

    def _check_victim(self, newloc: Loc, victim: Iatt | None) -> None:
        """A directory that the client does not expect there is not overwritten."""
        if victim is not None and victim.c.ia_type == DIRECTORY:
            inode = newloc.inode
            if inode is None or inode.gfid != victim.ia_gfid:
                raise FileExistsError

    def _victim_gone(
        self, frame: Frame, newloc: Loc, victim: Iatt, lost: File, parent: bytes, name: bytes
    ) -> None:
        if victim.c.ia_type == DIRECTORY:
            self._handles.remove(lost.gfid)
            return
        last = victim.ia_nlink <= 1
        if not last:
            self._gfid2path.remove(self._handles.path(lost.gfid), parent, name)
        self._name_gone(frame, lost, newloc.inode, last)


_NOT_GIVEN = frozenset([keys.GFID, keys.VOLUME_ID, keys.MDATA])


def _gfid(xdata: Dict) -> bytes | None:
    """Return the gfid that the client chose for a new file."""
    found = xdata.get_bytes(keys.GFID_REQ)
    return found if found is not None and len(found) == 16 and any(found) else None


def _masked(mode: int, mask: int, forced: int) -> int:
    """Apply the options on modes to a mode: only its permissions are masked."""
    return (mode & ~0o777) | (mode & mask & 0o777) | forced


def _is_linkto(buf: Iatt) -> bool:
    """Say whether it looks like a link file of DHT: a regular file with the sticky bit alone."""
    return stat.S_ISREG(buf.mode) and stat.S_IMODE(buf.mode) == stat.S_ISVTX
