"""Files whose data was moved to a cloud: features/cloudsync, ``trusted.glusterfs.cs.*``.

Such a file is empty on the brick; its xattrs say where its data is and how large it was. Clients
ask for the state with each fop; one that needs the data is refused until it is there.
"""

from __future__ import annotations

import contextlib
import errno
import os
from enum import IntFlag

from glupy import FopError, keys
from glupy.views import Dict, Iatt
from pyposix import xattrs
from pyposix.xattrs import Target


class State(IntFlag):
    """Where a file's data is (gf_cs_obj_state)."""

    LOCAL = 1
    REMOTE = 2
    REPAIR = 4  # a download or a truncation was cut short
    DOWNLOADING = 8
    ERROR = 16


def tell(answers: Dict, xdata: Dict, target: Target) -> None:
    """Add the state of a file to the answers of a fop that needs no data."""
    if keys.CS_STATUS in xdata:
        _tell(answers, target, _state(target))
    elif keys.CS_REPAIR in xdata:
        _tell(answers, target, _repaired(target))


def is_asked(xdata: Dict) -> bool:
    """Say whether a client that uses this asks for the state."""
    return keys.CS_STATUS in xdata or keys.CS_REPAIR in xdata


def check(xdata: Dict | None, target: Target, *before: Iatt) -> Dict | None:
    """Before a fop on a file's data: return the answer for its xdata, None if nothing was asked.

    Refuse the fop with EIO, and the state, unless the state is LOCAL. Attributes in ``before`` show
    the size that the file had before it was moved.
    """
    if xdata is None or not is_asked(xdata):
        return None
    answers = Dict()
    if keys.CS_STATUS in xdata:
        state = _state(target)
        _tell(answers, target, state)
        if state != State.LOCAL:
            raise FopError(errno.EIO, xdata=answers)
    if keys.CS_REPAIR in xdata:
        _tell(answers, target, _repaired(target))
    show_size(xdata, target, *before)
    return answers


def moved(path: bytes, before: Iatt, uploaded_at: bytes, remote: bytes) -> Dict:
    """The data is in the cloud: keep what it was like, and truncate the file. Return the state.

    ``uploaded_at`` is the file's mtime when that began, ``remote`` its path in the volume. EINVAL
    if it was changed since, or its data is not here.
    """
    answers = Dict()
    state = _state(path)
    if state != State.LOCAL:
        _tell(answers, path, state)
        raise FopError(errno.EINVAL, xdata=answers)
    if before.ia_mtime > int(uploaded_at.partition(b"\0")[0] or b"0"):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    xattrs.put(path, keys.CS_SIZE, b"%d" % before.ia_size)
    xattrs.put(path, keys.CS_BLOCKS, b"%d" % before.ia_blocks)
    xattrs.put(path, keys.CS_BLOCK_SIZE, b"%d" % before.ia_blksize)
    xattrs.put(path, keys.CS_REMOTE, remote)
    try:
        os.truncate(path, 0)
    except OSError:
        xattrs.remove(path, keys.CS_REMOTE)
        raise
    _tell(answers, path, State.REMOTE)
    return answers


def _state(target: Target) -> State:
    try:
        remote = xattrs.find(target, keys.CS_REMOTE) is not None
        downloading = xattrs.find(target, keys.CS_DOWNLOADING) is not None
        if remote:
            return State.REPAIR if downloading or _size(target) else State.REMOTE
    except OSError:
        return State.ERROR
    return State.DOWNLOADING if downloading else State.LOCAL


def _size(target: Target) -> int:
    return os.stat(target, follow_symlinks=isinstance(target, int)).st_size


def _repaired(target: Target) -> State:
    """Return the state, after what was cut short has been undone: the data is in the cloud."""
    state = _state(target)
    if state != State.REPAIR:
        return state
    try:
        if xattrs.find(target, keys.CS_DOWNLOADING) is not None:
            xattrs.remove(target, keys.CS_DOWNLOADING)
        if _size(target):
            os.truncate(target, 0)
    except OSError:
        return State.ERROR
    return State.REMOTE


def _tell(answers: Dict, target: Target, state: State) -> None:
    answers.set_uint(keys.CS_STATUS, state, 64)
    with contextlib.suppress(OSError):
        remote = xattrs.find(target, keys.CS_REMOTE)
        if remote is not None:
            answers[keys.CS_REMOTE] = remote.decode("utf-8", "surrogateescape")


def show_size(xdata: Dict | None, target: Target, *shown: Iatt) -> None:
    """Show attributes as they were before the file was moved, if its state is asked for."""
    if xdata is not None and keys.CS_STATUS in xdata:
        for iatt in shown:
            _show_size(target, iatt)


def _show_size(target: Target, iatt: Iatt) -> None:
    with contextlib.suppress(OSError, ValueError):
        size = xattrs.find(target, keys.CS_SIZE)
        if size is None:
            return  # then the others are not there either
        iatt.ia_size = int(size)
        block_size = xattrs.find(target, keys.CS_BLOCK_SIZE)
        if block_size is not None:
            iatt.ia_blksize = int(block_size)
        blocks = xattrs.find(target, keys.CS_BLOCKS)
        if blocks is not None:
            iatt.ia_blocks = int(blocks)
