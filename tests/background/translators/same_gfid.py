"""A client that heals directories: all that it makes are one directory, by their gfid."""

from typing import Any

from glupy import Translator
from glupy.views import Frame, Gfid, Loc

GFID = Gfid(bytes(range(16)))


class SameGfid(Translator):
    async def mkdir(self, frame: Frame, loc: Loc, mode: int, umask: int, xdata: Any) -> Any:
        xdata["gfid-req"] = GFID
        return await self.child.mkdir(loc, mode, umask, xdata)
