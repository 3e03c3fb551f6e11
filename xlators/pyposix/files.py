"""What is remembered: of a file as long as GlusterFS has an inode of it, of an fd while open."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Final
from weakref import WeakValueDictionary

from glupy import keys
from glupy.gate import Gate
from glupy.views import Dict
from pyposix.metadata import Times

_NOTHING: AbstractContextManager[object] = contextlib.nullcontext()


class File:
    """One file. There is one of these for a gfid, however many inodes GlusterFS has of it.

    It is an inode's context. ``times`` are those of its mdata xattr, None if it has none; ``shown``
    is the same for ``linux.fstat``, and None until the xattr was read. ``lock`` protects both, and
    xattrs of ours that are read and written back; ``counters`` those that xattrop changes;
    ``renames`` keeps what is recorded of its name in step with the name; ``updates`` has those
    changes of its bytes one at a time whose attributes must not show others of them; the gate lets
    others pass, unless one may have to be undone. ``orphan`` says that its last name is gone while
    it was open: it lives in .glusterfs/unlink. ``handle`` is the path of its handle, once it was
    asked for. ``looked_at``: when it was last looked at by a path, by time.monotonic(). ``mapped``:
    its bytes are on a block device (user/pybd); None until that was asked.
    """

    __slots__ = (
        "__weakref__",
        "counters",
        "gate",
        "gfid",
        "handle",
        "lock",
        "looked_at",
        "mapped",
        "orphan",
        "renames",
        "shown",
        "times",
        "updates",
    )

    def __init__(self, gfid: bytes) -> None:
        self.gfid: Final = gfid
        self.handle: bytes | None = None
        self.looked_at = -math.inf
        self.times: Times | None = None
        self.shown: Any = None
        self.lock: Final = threading.Lock()
        self.counters: Final = threading.Lock()
        self.renames: Final = threading.Lock()
        self.updates: Final = threading.Lock()
        self.gate: Final = Gate()
        self.orphan = False
        self.mapped: bool | None = None


def one_at_a_time(
    file: File, xdata: Dict | None, *, append: bool = False
) -> AbstractContextManager[object]:
    """Keep other updates out that must be atomic, as ``glusterfs.write-update-atomic`` in ``xdata``
    asks, or that append. To be entered before the gate."""
    asked = append or (xdata is not None and keys.UPDATE_ATOMIC in xdata)
    return file.updates if asked else _NOTHING


class Files:
    """All files that are remembered, by gfid."""

    def __init__(self) -> None:
        self._files: WeakValueDictionary[bytes, File] = WeakValueDictionary()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[File]:
        with self._lock:
            return iter(list(self._files.values()))

    def __getitem__(self, gfid: bytes) -> File:
        """Return the file of a gfid; it is remembered as long as somebody holds it."""
        file = self._files.get(gfid)
        if file is None:
            with self._lock:
                file = self._files.setdefault(gfid, File(gfid))
        return file


class OpenFile:
    """The context of an fd: a file that is open, and the number the kernel has for that.

    ``number`` is -1 where an anonymous fd is of something that is not opened for reading or writing
    (a symlink, a device): the kernel says EBADF then. Closed when the fd is released, at the latest
    when this object goes.
    """

    __slots__ = ("direct", "file", "flags", "lock", "number", "sync")

    def __init__(self, file: File, number: int, flags: int) -> None:
        self.file = file
        self.number = number
        self.flags: Final = flags
        self.direct: Final = bool(flags & os.O_DIRECT)
        self.sync: Final = bool(flags & (os.O_SYNC | os.O_DSYNC))
        self.lock: Final = threading.Lock()  # the position in a directory

    def close(self) -> None:
        """Close it; a second time does nothing."""
        number, self.number = self.number, -1
        if number >= 0:
            # What close(2) says is about writes that fsync has told of, or nobody asked about.
            with contextlib.suppress(OSError):
                os.close(number)

    def __del__(self) -> None:
        self.close()
