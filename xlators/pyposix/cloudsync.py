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


ASKED = frozenset([keys.CS_STATUS, keys.CS_REPAIR])
"""What a client that uses this has in the xdata of its fops."""


def answer(answers: Dict, xdata: Dict, target: Target, iatt: Iatt) -> None:
    """Add the state of a file, and show its attributes as they were before it was moved."""
    if keys.CS_STATUS in xdata:
        _tell(answers, target, _state(target, iatt.ia_size))
        _show_size(target, iatt)
    elif keys.CS_REPAIR in xdata:
        _tell(answers, target, _repaired(target, iatt.ia_size))


def check(xdata: Dict, target: Target) -> Dict | None:
    """Before a fop on a file's data: return the answer for its xdata, None if nothing was asked.

    Refuse the fop with EIO, and the state, unless the state is LOCAL.
    """
    if keys.CS_STATUS not in xdata and keys.CS_REPAIR not in xdata:
        return None
    size = os.stat(target).st_size
    answers = Dict()
    if keys.CS_STATUS in xdata:
        state = _state(target, size)
        _tell(answers, target, state)
        if state != State.LOCAL:
            raise FopError(errno.EIO, xdata=answers)
    if keys.CS_REPAIR in xdata:
        _tell(answers, target, _repaired(target, size))
    return answers


def moved(path: bytes, before: Iatt, uploaded_at: bytes, remote: bytes) -> Dict:
    """The data is in the cloud: keep what it was like, and truncate the file. Return the state.

    ``uploaded_at`` is the file's mtime when that began, ``remote`` its path in the volume. EINVAL
    if it was changed since, or its data is not here.
    """
    answers = Dict()
    state = _state(path, before.ia_size)
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


def _state(target: Target, size: int) -> State:
    try:
        remote = xattrs.find(target, keys.CS_REMOTE) is not None
        downloading = xattrs.find(target, keys.CS_DOWNLOADING) is not None
    except OSError:
        return State.ERROR
    if remote:
        return State.REPAIR if downloading or size else State.REMOTE
    return State.DOWNLOADING if downloading else State.LOCAL


def _repaired(target: Target, size: int) -> State:
    """Return the state, after what was cut short has been undone: the data is in the cloud."""
    state = _state(target, size)
    if state != State.REPAIR:
        return state
    try:
        if xattrs.find(target, keys.CS_DOWNLOADING) is not None:
            xattrs.remove(target, keys.CS_DOWNLOADING)
        if size:
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
