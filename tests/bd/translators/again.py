"""Heal makes one more name of a file by mknod, with the gfid that the file has; a rebalance makes a
file by create."""

from glupy import Dict, Fd, Frame, Gfid, Loc, Translator, fops, keys


def _asked(loc: Loc, xdata: Dict | None) -> Dict:
    asked = xdata.copy() if xdata is not None else Dict()
    _, _, gfid = (loc.name or "").partition("again-")
    if gfid:
        asked[keys.GFID_REQ] = Gfid(bytes.fromhex(gfid))
        asked[keys.INTERNAL_FOP] = 1
    return asked


class Again(Translator):
    """``mknod("again-GFID")`` and ``create`` make a file with that gfid."""

    async def mknod(
        self, frame: Frame, loc: Loc, mode: int, rdev: int, umask: int, xdata: Dict | None
    ) -> fops.Mknod:
        return await self.child.mknod(loc, mode, rdev, umask, _asked(loc, xdata))

    async def create(
        self,
        frame: Frame,
        loc: Loc,
        flags: int,
        mode: int,
        umask: int,
        fd: Fd,
        xdata: Dict | None,
    ) -> fops.Create:
        return await self.child.create(loc, flags, mode, umask, fd, _asked(loc, xdata))
