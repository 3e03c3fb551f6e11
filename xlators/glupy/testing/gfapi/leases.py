"""Leases: what a holder may rely on until it is called back (features/leases)."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntFlag

from glupy.testing._gfapi import ffi, lib
from glupy.testing.gfapi.answers import CData, StrPath, T, check, on_its_own_thread

ANYONE = b"anyone"


class LeaseType(IntFlag):
    """READ is shared, WRITE (GlusterFS's RW) is not; NONE: there is no lease."""

    NONE = 0
    READ = 1
    WRITE = 2


class Leased:
    """The leases of an open file or an object. Who has one goes by an id of 1 to 15 bytes: of 16
    (GLFS_LEASE_ID_SIZE) features/leases would compare what is in its memory behind them, too.

    A file that was asked stays open for the brick until its client ends (glfs_lease keeps a
    reference), which stands in the way of leases; an object does not."""

    path: StrPath
    _call_lease: Callable[[CData], int]

    def lease(self) -> LeaseType:
        """What leases there are, whoever has them."""
        return LeaseType(self._lease(lib.GLFS_GET_LEASE, LeaseType.NONE, ANYONE))

    def take_lease(self, type: LeaseType, lease_id: bytes) -> None:
        """Raises OSError EPERM if another lease or an open file is in the way: its holder is
        called back then (`Client.listen`)."""
        self._lease(lib.GLFS_SET_LEASE, type, lease_id)

    def drop_lease(self, type: LeaseType, lease_id: bytes) -> None:
        self._lease(lib.GLFS_UNLK_LEASE, type, lease_id)

    def _lease(self, command: int, type: LeaseType, lease_id: bytes) -> int:
        lease = ffi.new("struct glfs_lease *", (command, type, lease_id))
        check(self._call_lease(lease), self.path)
        return int(lease.lease_type)


def holding(lease_id: bytes, call: Callable[[], T]) -> T:
    """What `call` returns, made as the holder of a lease.

    It is made on a thread of its own, with this process' own credentials: a thread that has an id
    can only change it to 16 zeros, and features/leases takes those for the holder of any lease.
    """

    def as_holder() -> T:
        check(lib.glfs_setfsleaseid(ffi.new("glfs_leaseid_t", lease_id)))
        return call()

    return on_its_own_thread(as_holder)
