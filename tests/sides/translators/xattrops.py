"""An xattrop that counts wrongly, but only where somebody else counts meanwhile."""

from __future__ import annotations

from typing import Any

from glupy import FopError, Translator, fops
from glupy.views import Dict, Frame, Loc
from pyposix.xattrop import combine


class XattropIsNotAtomic(Translator):
    """It reads, and then it writes."""

    async def xattrop(self, frame: Frame, loc: Loc, optype: int, xattr: Dict, xdata: Any) -> Any:
        sums = {}
        for name in xattr:
            try:
                found = (await self.child.getxattr(loc, name)).dict
            except FopError:  # ENODATA
                found = None
            old = found.get_bytes(name) if found else None
            sums[name] = combine(optype, old or b"", xattr.get_bytes(name) or b"")
        await self.child.setxattr(loc, Dict(sums), 0)
        return fops.Xattrop(Dict(sums))
