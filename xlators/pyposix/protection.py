"""A file that a rebalance moves here, and that clients change meanwhile.

They change where it is first, then here, and mark the file that they do. From then on the
rebalance's own writes are refused, or what it has read before would undo the change, and it gives
up the move. DHT marks in writes alone, so discards, zerofills and truncates do it here. That is
done in the file's gate, and a rebalance's write has it alone.
"""

from __future__ import annotations

import contextlib
import errno
import os

from glupy import keys
from glupy.views import Dict, Frame, Iatt
from pyposix import xattrs
from pyposix.iatt import is_linkto
from pyposix.xattrs import Target


def check(number: int, xdata: Dict) -> None:
    """Before a write: mark the file, or refuse a rebalance's own, as xdata asks."""
    if keys.PROTECT_WRITES in xdata:
        _mark(number, xdata.get_bytes(keys.PROTECT_WRITES) or b"")
    elif keys.AVOID_OVERWRITE in xdata and xattrs.find(number, keys.PROTECT_WRITES) is not None:
        raise _busy()


def protect(frame: Frame, target: Target, iatt: Iatt) -> bool:
    """Before another change: mark the file, if it is moved here. Say whether it is."""
    moved = is_linkto(iatt) and frame.pid >= 0 and xattrs.find(target, keys.DHT_LINKTO) is not None
    if moved:
        _mark(target, b"1")
    return moved


def clean(path: bytes, iatt: Iatt) -> None:
    """Before a rebalance fills a file: take away the mark, and what was written here since the last
    one gave up. Where the file that it moves has holes nothing is copied over that. The bytes of a
    mapped file are user/pybd's."""
    is_moved = is_linkto(iatt) and xattrs.find(path, keys.DHT_LINKTO) is not None
    if is_moved and xattrs.find(path, keys.BD) is None:
        os.truncate(path, 0)
    with contextlib.suppress(OSError):
        xattrs.remove(path, keys.PROTECT_WRITES)


def _mark(target: Target, value: bytes) -> None:
    try:
        xattrs.put(target, keys.PROTECT_WRITES, value)
    except OSError:
        raise _busy() from None


def _busy() -> OSError:
    return OSError(errno.EBUSY, os.strerror(errno.EBUSY))
