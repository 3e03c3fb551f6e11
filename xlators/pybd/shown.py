"""The attributes of a mapped file: its own size, blocks and times, the rest is the stub's."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from glupy import keys, linux
from glupy.constants import (
    GF_SET_ATTR_ATIME,
    GF_SET_ATTR_MTIME,
    MDATA_CTIME,
    MDATA_MTIME,
)
from glupy.views import Dict, Frame, Iatt
from pybd.backing import Backing
from pybd.files import File

MODIFIED = MDATA_MTIME | MDATA_CTIME
_ATTRIBUTES = keys.PRESTAT, keys.POSTSTAT, keys.DHT_IATT


class Shown(Backing):
    """Corrects what posix says of mapped files."""

    def shown(self, file: File) -> Iatt:
        """Return the attributes of a file as clients are to see them."""
        stub, device = file.stub, file.device
        assert stub is not None
        iatt = Iatt()
        if device is not None and device.counted >= 0:
            linux.show_over(iatt, stub, file.size, file.times.c, fd=device.counted)
        else:
            linux.show_over(iatt, stub, file.size, file.times.c, blocks=self.blocks(file))
        return iatt

    def show(
        self, file: File, iatt: Iatt | None, *, size: int | None = None, blocks: int | None = None
    ) -> None:
        """Make of a stub's attributes those of the file: its size, blocks and times."""
        if iatt is None or not file.mapped:
            return
        if size is None:
            size = file.size
        if blocks is None:
            blocks = self.blocks(file)
        linux.show_over(iatt, iatt, size, file.times.c, blocks=blocks)

    def shown_in(
        self, file: File, xdata: Dict | None, change: Callable[[Iatt], None] = lambda iatt: None
    ) -> Dict | None:
        """Make of attributes of the stub in a reply's xdata those of the file; ``change`` gets
        those of afterwards."""
        shown = Dict()
        for key in _ATTRIBUTES:
            if xdata is not None and key in xdata and isinstance(value := xdata[key], Iatt):
                if key != keys.PRESTAT:
                    change(value)
                self.show(file, value)
                shown[key] = value
        if xdata is None or not len(shown):
            return xdata
        xdata = xdata.copy()
        xdata.update(shown)
        return xdata

    def touch(self, frame: Frame, file: File, flags: int = MODIFIED) -> None:
        """Set the times that a fop sets; the stub is told of them later."""
        linux.touch(file.times.c, frame, flags)

    async def store_times(
        self, file: File, wind: Callable[[Iatt, int], Awaitable[Any]], frame: Frame | None = None
    ) -> None:
        """Have the stub keep the times of its file. ``frame``: nothing was awaited in it yet."""
        if file.times.taken() is None:
            return
        async with file.storing:
            taken = file.times.taken()
            if taken is None:
                return
            iatt, valid = Iatt(), 0
            c = iatt.c
            if taken.ia_atime:
                c.ia_atime, c.ia_atime_nsec = taken.ia_atime, taken.ia_atime_nsec
                valid |= GF_SET_ATTR_ATIME
            if taken.ia_mtime:
                c.ia_mtime, c.ia_mtime_nsec = taken.ia_mtime, taken.ia_mtime_nsec
                valid |= GF_SET_ATTR_MTIME
            if frame is not None and not frame.ctime[0]:
                frame.ctime = taken.ia_ctime, taken.ia_ctime_nsec
            with self.changes(file) as change:
                reply = await wind(iatt, valid)
                change(reply.postop_stbuf)
            file.times.stored(taken)

    @contextlib.contextmanager
    def changes(self, file: File) -> Iterator[Callable[[Iatt | None], None]]:
        """Inside, the stub's attributes change; call what this yields with them afterwards."""
        after: list[Iatt | None] = [None]

        def change(iatt: Iatt | None) -> None:
            after[0] = iatt

        since = file.changing()
        try:
            yield change
        finally:
            file.changed(after[0], since)
