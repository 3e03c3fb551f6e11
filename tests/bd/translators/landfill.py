"""No client of a test can remove a tree at once, as rmdir with flags does (DHT, heal)."""

from glupy import Dict, Frame, Loc, Translator, fops


class Landfill(Translator):
    """Every rmdir has flags: posix moves the directory into its landfill, whatever is in it."""

    async def rmdir(self, frame: Frame, loc: Loc, xflags: int, xdata: Dict | None) -> fops.Rmdir:
        return await self.child.rmdir(loc, 1, xdata)
