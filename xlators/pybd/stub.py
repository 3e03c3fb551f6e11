"""The file below a mapped one, or below one that is to be mapped: sparse, of the same size."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from typing import Any

from glupy import Loc
from glupy.constants import GF_SEEK_DATA, GF_SEEK_HOLE, GF_SET_ATTR_ATIME, GF_SET_ATTR_MTIME
from glupy.views import Dict, Fd, Iatt
from pybd import mapping
from pybd.device import failed
from pybd.mapping import Mapping
from pybd.ranges import Range

AT_A_TIME = 1 << 20
"""Bytes that are moved by one fop."""


class Stub:
    """The file below, by its loc; and by an fd where its bytes are wanted too."""

    def __init__(self, child: Any, loc: Loc, fd: Fd | None = None) -> None:
        self._child = child
        self.loc = loc
        self._fd = fd

    @property
    def fd(self) -> Fd:
        """The fd. Of a file that is just being made there is none."""
        if self._fd is None:
            raise failed(errno.EINVAL)
        return self._fd

    @property
    def is_open(self) -> bool:
        """Whether there is an fd."""
        return self._fd is not None

    async def stat(self) -> Iatt:
        """Return its attributes, valid for ever."""
        reply = await self._child.stat(self.loc)
        found: Iatt = reply.buf.copy()
        return found

    async def truncate(self, size: int) -> Iatt:
        """Set its size, and return its attributes."""
        reply = await self._child.truncate(self.loc, size)
        found: Iatt = reply.postbuf
        return found

    async def get(self, key: str) -> str | None:
        """Return the value of an xattr; None without one."""
        try:
            reply = await self._child.getxattr(self.loc, key)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                raise
            return None
        return os.fsdecode(reply.dict.get_bytes(key) or b"")

    async def has(self, key: str) -> bool:
        """Say whether it has an xattr."""
        return await self.get(key) is not None

    async def mapping(self) -> Mapping:
        """Return what its xattr says. EIO if there is none."""
        value = await self.get(mapping.KEY)
        if value is None:
            raise failed(errno.EIO)
        return mapping.stored(value)

    async def set(self, key: str, value: str) -> None:
        """Set an xattr."""
        await self._child.setxattr(self.loc, Dict({key: value.encode()}), 0)

    async def remove(self, key: str) -> None:
        """Remove an xattr."""
        await self._child.removexattr(self.loc, key)

    async def drop(self, key: str) -> None:
        """Remove an xattr, if it has one."""
        if await self.has(key):
            await self.remove(key)

    async def set_times(self, of: Iatt) -> None:
        """Give it the times of modification and access that those attributes have."""
        await self._child.setattr(self.loc, of, GF_SET_ATTR_MTIME | GF_SET_ATTR_ATIME)

    async def data(self, size: int) -> AsyncIterator[Range]:
        """Yield where it has data."""
        at = 0
        while at < size:
            try:
                first = (await self._child.seek(self.fd, at, GF_SEEK_DATA)).offset
                behind = (await self._child.seek(self.fd, first, GF_SEEK_HOLE)).offset
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                first, behind = at, size
            yield first, min(behind, size)
            at = behind
