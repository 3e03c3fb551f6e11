"""Locks and leases: struct gf_flock, struct gf_lease, and lists of locks to migrate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from glupy._bridge import ffi, lib
from glupy.views.base import ALWAYS, NULL, View, encoded, field, text


class Flock(View):
    """``struct gf_flock``: a POSIX lock or a lock on a range of an inode. ``Flock()`` makes one."""

    __slots__ = ()

    def __init__(self, c: Any = None, scope: Any = ALWAYS, owner: Any = None) -> None:
        super().__init__(ffi.new("struct gf_flock *") if c is None else c, scope, owner)

    l_type = field("l_type", "F_RDLCK, F_WRLCK or F_UNLCK of fcntl(2).")
    l_whence = field("l_whence", "SEEK_SET, SEEK_CUR or SEEK_END.")
    l_start = field("l_start", "First byte.")
    l_len = field("l_len", "Length in bytes; 0 is up to the end.")
    l_pid = field("l_pid", "Process that holds the lock.")

    @property
    def l_owner(self) -> bytes:
        """The owner of the lock."""
        owner = self.c.l_owner
        return bytes(ffi.buffer(owner.data, owner.len))

    @l_owner.setter
    def l_owner(self, value: bytes) -> None:
        owner = self.c.l_owner
        if len(value) > len(owner.data):
            raise ValueError(f"the owner of a lock has at most {len(owner.data)} bytes")
        ffi.memmove(owner.data, value, len(value))
        owner.len = len(value)


class Lease(View):
    """``struct gf_lease``. ``Lease()`` makes one."""

    __slots__ = ()

    def __init__(self, c: Any = None, scope: Any = ALWAYS, owner: Any = None) -> None:
        super().__init__(ffi.new("struct gf_lease *") if c is None else c, scope, owner)

    cmd = field("cmd", "GF_GET_LEASE (1), GF_SET_LEASE (2) or GF_UNLK_LEASE (3).")
    lease_type = field("lease_type", "0, GF_RD_LEASE (1) or GF_RW_LEASE (2).")
    lease_flags = field("lease_flags", "Flags.")

    @property
    def lease_id(self) -> bytes:
        """16 bytes."""
        return bytes(ffi.buffer(self.c.lease_id))

    @lease_id.setter
    def lease_id(self, value: bytes) -> None:
        if len(value) != 16:
            raise ValueError("a lease id has 16 bytes")
        ffi.memmove(self.c.lease_id, value, 16)


class Lock(NamedTuple):
    """One lock of ``getactivelk`` and ``setactivelk``: the lock, its client, its flags."""

    flock: Flock
    client_uid: str | None = None
    lk_flags: int = 0


class Locks(View, Sequence[Lock]):
    """The locks of a reply or an argument, as a sequence."""

    __slots__ = ()

    def _all(self) -> list[Lock]:
        head, found = self.c, []
        lock = lib.glupy_lock_next(head, head)
        while lock:
            flock = Flock(ffi.addressof(lock, "flock"), self._scope, self)
            found.append(Lock(flock, text(lock.client_uid), lock.lk_flags))
            lock = lib.glupy_lock_next(head, lock)
        return found

    def __len__(self) -> int:
        return len(self._all())

    def __getitem__(self, index: Any) -> Any:
        return self._all()[index]

    def __iter__(self) -> Iterator[Lock]:
        return iter(self._all())

    def __repr__(self) -> str:
        return f"Locks({self._all()})"

    __eq__ = View.__eq__
    __hash__ = View.__hash__


def to_c(locks: Locks | Iterable[Lock] | None) -> Any:
    """Return the locks as a C list, valid as long as the returned pointer."""
    if locks is None:
        return NULL
    if isinstance(locks, Locks):
        return locks.c
    head = ffi.gc(lib.glupy_locks_new(), lib.glupy_locks_free)
    for lock in locks:
        c = lib.glupy_lock_add(head, NULL if lock.client_uid is None else encoded(lock.client_uid))
        if not c:
            raise MemoryError
        c.flock = lock.flock.c[0]
        c.lk_flags = lock.lk_flags
    return head
