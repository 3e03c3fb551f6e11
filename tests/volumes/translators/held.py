"""A brick that keeps a rebalance waiting."""

from pathlib import Path

from glupy import Dict, Fd, Frame, Option, Translator, Vector, fops, keys, sleep
from glupy.options import path
from glupy.views import Iobref


class Held(Translator):
    """Has a rebalance wait before it writes what it has read of a file: there is a file then in
    ``folder`` with the gfid as its name, and it waits until that goes."""

    options = (Option("folder", path),)

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
        if frame.pid < 0 and xdata is not None and keys.AVOID_OVERWRITE in xdata:
            await self._hold(fd.inode.gfid.hex())
        return await self.child.writev(fd, vector, count, offset, flags, iobref, xdata)

    async def _hold(self, name: str) -> None:
        held = Path(self.option("folder")) / name
        if held.parent.is_dir():
            held.touch()
        while held.exists():
            await sleep(0.02)
