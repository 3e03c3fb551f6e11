"""Files that are known by their gfid alone, and the names that a brick has for them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from glupy import Gfid, Loc
from glupy.keys import GFID
from glupy.views import Iatt, Inode
from pybd import mapping
from pybd.base import Base
from pybd.files import File
from pybd.mapping import value_in, with_key

GONE = errno.ENOENT, errno.ESTALE
"""How a lookup fails if there is no such file."""


class ByGfid(Base):
    """Finds them: once a client is there, whose inode table is used."""

    async def _mapped_by_gfid(self, gfid: bytes) -> tuple[Inode, File | None]:
        """Return what a gfid is to this brick, and what is remembered of it; None: it is plain."""
        root = self.root
        assert root is not None, "a client asks"
        inode = root.find(gfid) or root.new()
        try:
            return inode, await self.looked(Loc(inode=inode, gfid=gfid))
        except OSError as error:
            if error.errno in GONE:
                return inode, None
            raise

    async def looked(self, loc: Loc) -> File | None:
        """Look a file up; return what is remembered of it, None if it is plain."""
        inode = loc.inode
        since = self.looking(inode)
        reply = await self.child.lookup(loc, with_key(None))
        if inode is None or reply.buf is None:
            return None
        file = self.note(inode, reply.buf, value_in(reply.xdata), since)
        if file is not None and file.merging:
            await self.settle(inode, file)
        return file

    async def _by_gfid(self, gfid: bytes) -> tuple[Inode, Iatt]:
        root = self.root
        assert root is not None, "a client asks"
        inode = root.find(gfid) or root.new()
        try:
            reply = await self.child.lookup(Loc(inode=inode, gfid=gfid))
        except OSError as error:
            if error.errno in GONE:
                raise OSError(errno.EINVAL, f"there is no file {Gfid(gfid)} here") from None
            raise
        assert reply.buf is not None
        return inode, reply.buf.copy()

    async def _state_of(self, gfid: bytes) -> bool | None:
        """Say whether the file of a gfid is mapped; None if there is no such file."""
        root = self.root
        assert root is not None
        loc = Loc(inode=root.new(), gfid=gfid)
        try:
            reply = await self.child.lookup(loc, with_key(None))
        except OSError as error:
            if error.errno in GONE:
                return None
            raise
        return value_in(reply.xdata) is not None

    async def _names_of(self, gfid: bytes) -> list[Loc]:
        """Return the names of a mapped file, found by a look at all of the brick."""
        found = []
        for path, each in self._mapped_names():
            if each == gfid:
                folder = os.getxattr(path.parent, GFID)
                parent, _ = await self._by_gfid(folder)
                inode = parent.new()
                whole = "/" / path.relative_to(self.identity.directory)
                loc = Loc(
                    path=str(whole), name=path.name, inode=inode, parent=parent, pargfid=folder
                )
                await self.child.lookup(loc)
                found.append(loc)
        return found

    def _mapped_names(self) -> Iterator[tuple[Path, bytes]]:
        """Yield the names of all mapped files that have some on the brick, and their gfids."""
        for folder, folders, names in os.walk(self.identity.directory):
            if folder == self.identity.directory and ".glusterfs" in folders:
                folders.remove(".glusterfs")
            for name in names:
                with contextlib.suppress(OSError):
                    path = Path(folder) / name
                    os.getxattr(path, mapping.KEY, follow_symlinks=False)
                    yield path, os.getxattr(path, GFID, follow_symlinks=False)
