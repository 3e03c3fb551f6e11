"""No client sends put as yet."""

from __future__ import annotations

from glupy import Dict, Frame, Translator, fops
from glupy.views import Fd, Loc


class CreateByPut(Translator):
    """A client's create is a put with an xattr, and an open."""

    async def create(
        self, frame: Frame, loc: Loc, flags: int, mode: int, umask: int, fd: Fd, xdata: Dict | None
    ) -> fops.Create:
        what = [b""], 1, 0, None, Dict({"trusted.x": b"1"}), xdata
        made = await self.child.put(loc, mode, umask, flags, *what)
        assert made.buf is not None
        opened = await self.child.open(Loc(inode=loc.inode, gfid=made.buf.ia_gfid), flags, fd)
        return fops.Create(opened.fd, made.inode, made.buf, made.preparent, made.postparent)
