"""What bricks tell a client unasked: features/upcall and features/leases do."""

from __future__ import annotations

import os
import queue
from enum import IntEnum
from typing import NamedTuple

from glupy.testing._gfapi import ffi, lib
from glupy.testing.gfapi.answers import CData, check, gfid_of, stat_result


class Reason(IntEnum):
    """What an upcall is about: what one knows of a file is old; a lease is to be given back."""

    INVALIDATE = lib.GLFS_UPCALL_INODE_INVALIDATE
    RECALL_LEASE = lib.GLFS_UPCALL_RECALL_LEASE


class Upcall(NamedTuple):
    """`flags` (GFAPI_UP_* of glfs-handles.h) say what has changed, `stat` how a file is now; a
    recall has neither."""

    reason: Reason
    gfid: bytes
    flags: int
    stat: os.stat_result | None


Upcalls = queue.SimpleQueue[Upcall]

_listening: dict[int, Upcalls] = {}
"""By client: libgfapi may be about to tell one that does not listen any more."""


def listen(fs: CData) -> Upcalls:
    upcalls = _listening[_number(fs)] = queue.SimpleQueue()
    check(lib.glfs_upcall_register(fs, lib.GLFS_EVENT_ANY, lib.glupy_gfapi_told, fs))
    return upcalls


def unlisten(fs: CData) -> None:
    check(lib.glfs_upcall_unregister(fs, lib.GLFS_EVENT_ANY))
    _listening.pop(_number(fs), None)


def _number(pointer: CData) -> int:
    return int(ffi.cast("uintptr_t", pointer))


def _told(upcall: CData, fs: CData) -> None:
    try:
        if (upcalls := _listening.get(_number(fs))) is not None:
            upcalls.put(_copied(upcall))
    finally:
        lib.glfs_free(upcall)


def _copied(upcall: CData) -> Upcall:
    reason, event = Reason(lib.glfs_upcall_get_reason(upcall)), lib.glfs_upcall_get_event(upcall)
    if reason is Reason.RECALL_LEASE:
        event = ffi.cast("glfs_upcall_lease_t *", event)
        return Upcall(reason, gfid_of(lib.glfs_upcall_lease_get_object(event)), 0, None)
    event = ffi.cast("glfs_upcall_inode_t *", event)
    flags = lib.glfs_upcall_inode_get_flags(event)
    with_stat = flags & lib.GFAPI_INODE_UPDATE_FLAGS
    stat = stat_result(lib.glfs_upcall_inode_get_stat(event)) if with_stat else None
    return Upcall(reason, gfid_of(lib.glfs_upcall_inode_get_object(event)), flags, stat)


ffi.def_extern(name="glupy_gfapi_told")(_told)
