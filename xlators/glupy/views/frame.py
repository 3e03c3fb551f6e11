"""Who asks: the credentials and the circumstances of a fop."""

from __future__ import annotations

from glupy._bridge import ffi, lib
from glupy.views.base import View, text


class Client(View):
    """``client_t``: the connection that a fop came through."""

    __slots__ = ()

    @property
    def uid(self) -> str | None:
        """GlusterFS's name for the connection: host, process, time, volume."""
        return text(lib.glupy_client_uid(self.c))

    @property
    def opversion(self) -> int:
        """The client's operating version."""
        return int(self.c.opversion)


class Frame(View):
    """The call stack's root (``frame->root``): what the whole fop has in common.

    Readable as long as the handler runs; once it has waited, for a reply or asleep, what is read is
    a copy, since the stack may belong to other translators meanwhile. Writing (before the first
    wind) changes it for all translators below.
    """

    __slots__ = ()

    @property
    def uid(self) -> int:
        """User id of the caller."""
        return int(self.c.uid)

    @uid.setter
    def uid(self, value: int) -> None:
        self.c.uid = value

    @property
    def gid(self) -> int:
        """Group id of the caller."""
        return int(self.c.gid)

    @gid.setter
    def gid(self, value: int) -> None:
        self.c.gid = value

    @property
    def pid(self) -> int:
        """Process id on the client; negative for GlusterFS's own (heal, rebalance, …)."""
        return int(self.c.pid)

    @pid.setter
    def pid(self, value: int) -> None:
        self.c.pid = value

    @property
    def groups(self) -> tuple[int, ...]:
        """The caller's groups."""
        c = self.c
        return tuple(c.groups[0 : c.ngrps]) if c.groups and c.ngrps else ()

    @property
    def lk_owner(self) -> bytes:
        """The owner of locks."""
        owner = self.c.lk_owner
        if not owner:
            return b""
        return bytes(ffi.buffer(owner.data, owner.len))

    @property
    def client(self) -> Client | None:
        """The connection; None where there is no server."""
        c = self.c.client
        return Client(c, self._scope, self._owner) if c else None

    @property
    def flags(self) -> int:
        """``MDATA_*``: which times this fop sets, for ``trusted.glusterfs.mdata``."""
        return int(self.c.flags)

    @flags.setter
    def flags(self, value: int) -> None:
        self.c.flags = value

    @property
    def ctime(self) -> tuple[int, int]:
        """When the client made the fop: seconds, nanoseconds. Zero without features/utime."""
        when = self.c.ctime
        return when.tv_sec, when.tv_nsec

    @ctime.setter
    def ctime(self, value: tuple[int, int]) -> None:
        self.c.ctime.tv_sec, self.c.ctime.tv_nsec = value

    @property
    def unique(self) -> int:
        """A number for the fop, unique in its process."""
        return int(self.c.unique)

    @property
    def op(self) -> int:
        """The number of the fop that the client made."""
        return int(self.c.op)

    def __repr__(self) -> str:
        return f"Frame({self.unique}, uid={self.uid}, gid={self.gid}, pid={self.pid})"
