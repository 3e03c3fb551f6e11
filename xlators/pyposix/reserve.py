"""Space that is kept free for GlusterFS's own work (option reserve)."""

from __future__ import annotations

import errno
import os
import time

from glupy import keys
from glupy.views import Dict, Frame, Statvfs

POLL_SECONDS = 5.0
"""The answer to "is it full?" may be that old."""


class Reserve:
    """A share of the file system, or a number of bytes, that clients may not fill."""

    def __init__(self, base: bytes, amount: float) -> None:
        """``amount``: below 100 a percentage, else bytes; 0 reserves nothing."""
        self.amount = amount
        self._base = base
        self._full = False
        self._asked = -POLL_SECONDS

    def blocks(self, blocks: int, block_size: int) -> int:
        """Return how many blocks are kept free of that many."""
        if self.amount < 100:
            return int(blocks * self.amount / 100 + 0.5)
        return -int(-self.amount // block_size) if block_size else 0

    def full(self, *, ask: bool = False) -> bool:
        """Say whether no more than the reserve is free; ``ask`` the file system now."""
        if not self.amount:
            return False
        now = time.monotonic()
        if ask or now - self._asked >= POLL_SECONDS:
            self._asked = now
            found = os.statvfs(self._base)
            if self.amount < 100:
                self._full = found.f_bfree <= found.f_blocks * self.amount / 100
            else:
                self._full = found.f_bfree * found.f_bsize <= self.amount
        return self._full

    def applies(self, frame: Frame, xdata: Dict | None, *, ask: bool = False) -> bool:
        """Say whether this fop may not take space; GlusterFS's own clients and fops always may."""
        return self.full(ask=ask) and frame.pid >= 0 and not (xdata and keys.INTERNAL_FOP in xdata)

    def check(self, frame: Frame, xdata: Dict | None, *, ask: bool = False) -> None:
        """Raise ENOSPC if it applies."""
        if self.applies(frame, xdata, ask=ask):
            raise no_space()

    def reduce(self, found: Statvfs) -> None:
        """Take the reserve out of what statfs shows as free."""
        c = found.c
        c.f_bfree = max(c.f_bfree - self.blocks(c.f_blocks, c.f_bsize), 0)
        c.f_bavail = min(c.f_bavail, c.f_bfree)


def overwrites(number: int, offset: int, length: int) -> bool:
    """Say whether a write stays inside a file without holes, so that it takes no space."""
    status = os.fstat(number)
    return (
        offset + length <= status.st_size and status.st_blocks * status.st_blksize >= status.st_size
    )


def no_space() -> OSError:
    """Return ENOSPC."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
