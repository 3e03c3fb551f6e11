"""Who looks a file up has an inode of his own for a moment: it may go after the file has."""

from glupy import Dict, Frame, Loc, Translator, fops
from glupy.views import Fd, Inode


class Twins(Translator):
    """Files are looked up twice; the second inodes are let go of by a fsync."""

    def init(self) -> None:
        self.twins: list[Inode] = []

    async def lookup(self, frame: Frame, loc: Loc, xdata: Dict | None) -> fops.Lookup:
        reply = await self.child.lookup(loc, xdata)
        if loc.inode is not None and loc.path not in ("/", "/."):
            path, name, parent, pargfid = loc.path, loc.name, loc.parent, loc.pargfid
            twin = loc.inode.new()
            again = Loc(path=path, name=name, inode=twin, parent=parent, pargfid=pargfid)
            await self.child.lookup(again, xdata)
            self.twins.append(twin)
        return reply

    async def fsync(self, frame: Frame, fd: Fd, datasync: int, xdata: Dict | None) -> fops.Fsync:
        self.twins.clear()
        return await self.child.fsync(fd, datasync, xdata)
