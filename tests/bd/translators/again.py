"""Heal makes one more name of a file by mknod, with the gfid that the file has."""

from glupy import Dict, Frame, Gfid, Loc, Translator, fops, keys


class Again(Translator):
    """``mknod("again-GFID")`` is such a name."""

    async def mknod(
        self, frame: Frame, loc: Loc, mode: int, rdev: int, umask: int, xdata: Dict | None
    ) -> fops.Mknod:
        asked = xdata.copy() if xdata is not None else Dict()
        _, _, gfid = (loc.name or "").partition("again-")
        if gfid:
            asked[keys.GFID_REQ] = Gfid(bytes.fromhex(gfid))
            asked[keys.INTERNAL_FOP] = 1
        return await self.child.mknod(loc, mode, rdev, umask, asked)
