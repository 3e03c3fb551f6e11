"""A brick that keeps a rebalance waiting, or clients beside it."""

from pathlib import Path

from glupy import Dict, Fd, Frame, Inode, Loc, Option, Translator, Vector, fops, keys, sleep
from glupy.options import path
from glupy.views import Iobref


class Held(Translator):
    """What comes to one of ``moments`` waits: there is a file GFID.MOMENT then in ``folder``, until
    that goes.

    ``mark``: a rebalance tells clients that it moves a file, which it has looked up; ``copy``: it
    writes what it has read; ``mirror``: a client writes where a file is moved to.
    """

    options = (Option("folder", path), Option("moments", str))

    async def writev(
        self,
        frame: Frame,
        fd: Fd,
        vector: Vector,
        count: int,
        offset: int,
        flags: int,
        iobref: Iobref | None,
        xdata: Dict | None,
    ) -> fops.Writev:
        if xdata is not None and keys.AVOID_OVERWRITE in xdata:
            await self._hold("copy", fd.inode)
        if xdata is not None and keys.PROTECT_WRITES in xdata:
            await self._hold("mirror", fd.inode)
        return await self.child.writev(fd, vector, count, offset, flags, iobref, xdata)

    async def setxattr(
        self, frame: Frame, loc: Loc, dict: Dict, flags: int, xdata: Dict | None
    ) -> fops.Setxattr:
        if keys.DHT_LINKTO in dict and loc.inode is not None:
            await self._hold("mark", loc.inode)
        return await self.child.setxattr(loc, dict, flags, xdata)

    async def _hold(self, moment: str, inode: Inode) -> None:
        held = Path(self.option("folder")) / f"{inode.gfid.hex()}.{moment}"
        if held.parent.is_dir() and moment in self.option("moments").split(","):
            held.touch()
        while held.exists():
            await sleep(0.02)
