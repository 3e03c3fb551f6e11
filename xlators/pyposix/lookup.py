"""Lookup: by a name, or by a gfid alone; what an old brick's file lacks is given to it here."""

from __future__ import annotations

import errno
import os
import time

from glupy import FopError, fops, keys
from glupy.answers import number_in
from glupy.views import Dict, Frame, Iatt, Inode, Loc
from pyposix import protection, xattrs
from pyposix.brick import Brick, Entry
from pyposix.files import File
from pyposix.iatt import DIRECTORY
from pyposix.xattrs import gfid_req

FRESH_SECONDS = 1.0
"""A file without a gfid that is younger is still being created."""


class Lookup(Brick):
    """The fop on names and gfids that all others begin with."""

    def lookup(self, frame: Frame, loc: Loc, xdata: Dict | None) -> fops.Lookup:
        """Find a file by its name, or by its gfid alone.

        A named one that has no gfid yet gets the one that comes in xdata; an old brick's files too.
        """
        c = loc.c
        if not c.name or not (c.parent or loc.pargfid):
            return self._lookup_gfid(loc, xdata)
        entry = self._entry(loc)
        try:
            looked = self._stats.look_in(entry.path, entry.folder, entry.parent, loc.ctx)
        except FileNotFoundError:
            # Without the directory its handle is stale.
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE)) from None
        inode = loc.inode
        wrong, buf, file, parent = looked
        if wrong:
            return fops.Lookup(inode, None, None, parent, -1, wrong)
        # A new inode: the file may be from before it was a brick's, or have lost its handle. Or who
        # removed another name of it took that for the last one: no link is the handle's.
        lost = file is not None and not buf.ia_nlink
        if xdata is not None and inode is not None and (lost or not inode.gfid):
            if file is None and _is_fresh(buf):
                raise FopError(errno.ENOENT, postparent=parent)
            self._heal(entry, buf, file, xdata)
            if file is None or not buf.ia_nlink:  # its gfid may be new, and its handle: a link more
                buf, file = self._stats.look(entry.path)
        if file is None and not number_in(xdata, keys.GFIDLESS_LOOKUP):
            raise OSError(errno.ENODATA, "no gfid")
        if self._link_counts.enabled and file is not None and buf.c.ia_type != DIRECTORY:
            self._link_counts.ensure(file, entry.path, entry.parent.gfid)
        return self._found(inode, entry.path, buf, file, xdata, parent)

    def _lookup_gfid(self, loc: Loc, xdata: Dict | None) -> fops.Lookup:
        path, file = self._locate(loc)
        try:
            buf = self._stats.of_path(path, file)
        except OSError as error:
            if error.errno == errno.ENOENT:
                if number_in(xdata, keys.UNLINKED_LOOKUP):
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
        if inode is not None and file is not None and inode.ctx is not file:
            self._remembered(inode, file.gfid)
        answers = None
        if xdata is not None and len(xdata):
            answers = self._requests.looked(xdata, path, inode, buf)
            if keys.CLEAN_WRITE_PROTECTION in xdata:
                protection.clean(path, buf)
        return fops.Lookup(inode, buf, answers, postparent)

    def _heal(self, entry: Entry, buf: Iatt, file: File | None, xdata: Dict) -> None:
        """Give a file its gfid, if it has none, and its handle, if that is missing."""
        try:
            if file is None:
                wanted = gfid_req(xdata)
                if wanted is None:
                    return
                xattrs.put(entry.path, keys.GFID, wanted, os.XATTR_CREATE)
                file = self._files[wanted]
            self._handles.ensure(file, entry.path, entry.parent.gfid, entry.name, buf.mode)
        except OSError as error:
            self.log.warning("%r: no gfid or no handle for it: %s", entry.path, error)


def _is_fresh(iatt: Iatt) -> bool:
    changed: float = iatt.ia_ctime + iatt.ia_ctime_nsec / 1e9
    return time.time() - changed < FRESH_SECONDS
