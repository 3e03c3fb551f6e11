"""A reply that is late: in the meantime others see what it tells of."""

from glupy import Frame, Loc, Translator, fops, sleep
from glupy.views import Dict


class Late(Translator):
    """Keeps the reply of a mknod back for a second."""

    async def mknod(
        self, frame: Frame, loc: Loc, mode: int, rdev: int, umask: int, xdata: Dict | None
    ) -> fops.Mknod:
        reply = await self.child.mknod(loc, mode, rdev, umask, xdata)
        await sleep(1)
        return reply
