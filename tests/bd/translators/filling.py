"""A rebalance looks a file up before it fills it, and has the marks of clients taken away."""

from glupy import Dict, Frame, Loc, Translator, fops, keys


class Filling(Translator):
    """Each lookup is one of those."""

    async def lookup(self, frame: Frame, loc: Loc, xdata: Dict | None) -> fops.Lookup:
        asked = xdata.copy() if xdata is not None else Dict()
        asked.set_int(keys.CLEAN_WRITE_PROTECTION, 1)
        return await self.child.lookup(loc, asked)
