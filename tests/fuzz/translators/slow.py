"""A translator that keeps a client waiting."""

from __future__ import annotations

from typing import Any

from glupy import Translator, sleep
from glupy.views import Fd, Frame


class DiscardTakesItsTime(Translator):
    async def discard(self, frame: Frame, fd: Fd, *arguments: Any) -> Any:
        await sleep(2)
        return await self.child.discard(fd, *arguments)
