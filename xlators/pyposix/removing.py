"""Fops that take names away: unlink, rmdir, rename."""

from __future__ import annotations

import contextlib
import errno
import functools
import os

from glupy import fops, keys, linux, timers
from glupy.answers import number_in
from glupy.constants import GD_OP_VERSION_MAX
from glupy.views import Dict, Frame, Gfid, Iatt, Inode, Loc
from pyposix import xattrs
from pyposix.brick import Brick
from pyposix.files import File
from pyposix.iatt import DIRECTORY, REGULAR, is_linkto

# features/simple-quota, new in 11, counts by it.
_TELLS_WHAT_IT_REPLACED = GD_OP_VERSION_MAX >= 110000


class Removing(Brick):
    """Fops that take names away."""

    def unlink(self, frame: Frame, loc: Loc, xflags: int, xdata: Dict | None) -> fops.Unlink:
        """Remove a name. A file that is open outlives its last one, until it is closed."""
        path, folder, name, parent = self._entry(loc)
        inode = loc.inode
        looked = self._stats.look_in(path, folder, parent, loc.ctx)
        buf, file = looked.check()
        self._check_unlink(inode, path, buf, xdata)
        last = buf.ia_nlink <= 1
        if not last:
            self._gfid2path.remove(path, parent.gfid, name)
            if file is not None:
                self._link_counts.remove(file, path, parent.gfid)
        number = -1
        asked = xdata is not None and keys.DHT_IATT in xdata
        background = self.option("background-unlink")
        if (asked or background) and buf.c.ia_type == REGULAR:
            number = os.open(path, os.O_RDONLY)
        handle = orphan = None
        # Of one link alone none is the handle: that is missing, or another file's.
        if buf.ia_nlink == 1 and file is not None:
            handle = self._handles.path(file.gfid)
            if _is_open(inode, file):
                orphan = self._handles.orphan(file.gfid)
        times = self._stats.shown(parent, folder)
        try:
            if orphan and file is not None:
                file.orphan = True  # before it is one: whoever opens it meanwhile finds it
            try:
                postparent = linux.remove(path, handle, orphan, folder, parent.gfid, times)
            except OSError:
                if orphan and file is not None:
                    file.orphan = os.path.lexists(orphan)
                if not last and buf.c.ia_type != DIRECTORY and os.path.lexists(path):
                    self._gfid2path.add(path, parent.gfid, name)
                    if file is not None:
                        self._link_counts.add(file, path, parent.gfid)
                raise
            if orphan and file is not None and inode is not None:
                self._bury_closed(inode, file)
            if not last and file is not None:
                self._metadata.touch(frame, file, self._handles.path(file.gfid))
            answers = None
            if xdata is not None:
                # As C posix counts: by then the handle has gone, or, of an open file, was moved.
                links = 0 if last and not orphan else buf.ia_nlink
                answers = self._unlinked(xdata, buf, links)
                if keys.GET_BLOCK_COUNT in xdata:
                    answers.set_uint(keys.GET_BLOCK_COUNT, buf.ia_blocks, 64)
            if answers is not None and asked and number >= 0 and file is not None:
                after = self._stats.of_fd(number, file)
                answers[keys.DHT_IATT] = answers[keys.POSTSTAT] = after
        finally:
            if number >= 0 and background:  # its blocks are freed when the client has its answer
                timers.call_soon(functools.partial(os.close, number))
            elif number >= 0:
                os.close(number)
        self._metadata.touch_parent(frame, parent, folder, postparent)
        return fops.Unlink(looked.parent, postparent, answers)

    def _check_unlink(
        self, inode: Inode | None, path: bytes, buf: Iatt, xdata: Dict | None
    ) -> None:
        """DHT: EBUSY for a file that is open, or that is no link file (any more)."""
        if xdata is None:
            return
        if inode is not None and inode.fd_count and number_in(xdata, keys.UNLINK_NOT_OPEN):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        if number_in(xdata, keys.UNLINK_ONLY_LINKTO) and not (
            is_linkto(buf) and xattrs.find(path, keys.DHT_LINKTO)
        ):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    def _unlinked(self, xdata: Dict | None, buf: Iatt, links: int) -> Dict:
        answers = Dict()
        if xdata is not None:
            if keys.GET_LINK_COUNT in xdata:
                answers.set_uint(keys.GET_LINK_COUNT, links)
            if keys.REQUEST_LINK_COUNT in xdata:
                answers.set_uint(keys.RESPONSE_LINK_COUNT, buf.ia_nlink)
        return answers

    def rmdir(self, frame: Frame, loc: Loc, xflags: int, xdata: Dict | None) -> fops.Rmdir:
        """Remove an empty directory; with flags a whole tree, which goes to the landfill."""
        path, folder, name, parent = self._entry(loc)
        looked = self._stats.look_in(path, folder, parent)
        _, file = looked.check()
        with contextlib.nullcontext() if file is None else file.renames:
            if xflags:
                os.rename(path, self._handles.in_landfill(file.gfid if file else Gfid.random()))
            else:
                os.rmdir(path)
            if file is not None and self._handles.leads_to(file.gfid, parent.gfid, name):
                self._handles.remove(file.gfid)
        postparent = self._stats.of_path(folder, parent)
        self._metadata.touch_parent(frame, parent, folder, postparent)
        return fops.Rmdir(looked.parent, postparent)

    # ---- rename ----

    def rename(self, frame: Frame, oldloc: Loc, newloc: Loc, xdata: Dict | None) -> fops.Rename:
        """Rename; what had the new name loses it, as with unlink or rmdir."""
        old_path, old_folder, old_name, old_parent = self._entry(oldloc)
        new_path, new_folder, new_name, new_parent = self._entry(newloc)
        preold = self._stats.of_path(old_folder, old_parent)
        prenew = self._stats.of_path(new_folder, new_parent)
        old, file = self._stats.look(old_path, oldloc.ctx)
        victim: Iatt | None
        try:
            victim, lost = self._stats.look(new_path)
        except FileNotFoundError:
            victim, lost = None, None
        self._check_victim(newloc, victim)
        is_directory = old.c.ia_type == DIRECTORY
        # Two names of one file: rename(2) leaves both.
        same = file is not None and lost is not None and file.gfid == lost.gfid
        with contextlib.nullcontext() if file is None else file.renames:
            if is_directory and file is not None:
                self._handles.rename_directory(
                    file.gfid, old_path, new_path, new_parent.gfid, new_name
                )
            else:
                os.rename(old_path, new_path)
                if file is not None and not same:
                    self._gfid2path.remove(new_path, old_parent.gfid, old_name)
                    self._gfid2path.add(new_path, new_parent.gfid, new_name)
                    self._link_counts.remove(file, new_path, old_parent.gfid)
                    self._link_counts.add(file, new_path, new_parent.gfid)
        if victim is not None and lost is not None and not same:
            self._victim_gone(newloc, victim, lost, new_parent.gfid, new_name)
        if file is None:
            buf = self._stats.look(new_path)[0]
        else:
            buf = self._stats.of_path(new_path, file)
            self._metadata.touch(frame, file, new_path, buf)
        postold = self._stats.of_path(old_folder, old_parent)
        self._metadata.touch_parent(frame, old_parent, old_folder, postold)
        postnew = self._stats.of_path(new_folder, new_parent)
        self._metadata.touch_parent(frame, new_parent, new_folder, postnew)
        answers = Dict()
        if victim is not None:
            answers = self._unlinked(xdata, victim, victim.ia_nlink)
            if _TELLS_WHAT_IT_REPLACED:
                answers.set_int(keys.GET_BLOCK_COUNT, victim.ia_blocks, 64)
        return fops.Rename(buf, preold, postold, prenew, postnew, answers)

    def _check_victim(self, newloc: Loc, victim: Iatt | None) -> None:
        """A directory that the client does not expect there is not overwritten."""
        if victim is not None and victim.c.ia_type == DIRECTORY:
            inode = newloc.inode
            if inode is None or inode.gfid != victim.ia_gfid:
                raise FileExistsError

    def _victim_gone(
        self, newloc: Loc, victim: Iatt, lost: File, parent: bytes, name: bytes
    ) -> None:
        """What had the new name has lost it: its handle follows the last name.

        While it has others its ctime stays as it was, as with C posix (and not with unlink): each
        brick of cluster/disperse must have the same mdata, or it heals nothing.
        """
        if victim.c.ia_type == DIRECTORY:
            self._handles.remove(lost.gfid)
        elif victim.ia_nlink > 1:
            self._gfid2path.remove(self._handles.path(lost.gfid), parent, name)
            self._link_counts.remove(lost, self._handles.path(lost.gfid), parent)
        elif (inode := newloc.inode) is not None and _is_open(inode, lost):
            lost.orphan = True
            with contextlib.suppress(FileNotFoundError):
                self._handles.keep_orphan(lost.gfid)
            self._bury_closed(inode, lost)
        else:
            self._handles.remove(lost.gfid)

    def _bury_closed(self, inode: Inode, file: File) -> None:
        """Whoever closed it while it became an orphan found none."""
        if not inode.active_fd_count:
            self._bury(file)


def _is_open(inode: Inode | None, file: File) -> bool:
    return inode is not None and inode.fd_count > 0 and inode.gfid == file.gfid
