"""What is remembered: of a file as long as GlusterFS has an inode of it, of an fd while open."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any, Final
from weakref import WeakValueDictionary

from glupy.gate import Gate
from pyposix.metadata import Times


class File:
    """One file. There is one of these for a gfid, however many inodes GlusterFS has of it.

    It is an inode's context. ``times`` are those of its mdata xattr, None if it has none; ``shown``
    is the same for ``linux.fstat``, and None until the xattr was read. ``lock`` protects both, and
    whoever reads an xattr and writes it back. ``orphan`` says that its last name is gone while it
    was open: it lives in .glusterfs/unlink. ``handle`` is the path of its handle, once it was asked
    for. ``mapped``: its bytes are on a block device (user/pybd); None until that was asked.
    """

    __slots__ = (
        "__weakref__",
        "gate",
        "gfid",
        "handle",
        "lock",
        "mapped",
        "orphan",
        "shown",
        "times",
    )

    def __init__(self, gfid: bytes) -> None:
        self.gfid: Final = gfid
        self.handle: bytes | None = None
        self.times: Times | None = None
        self.shown: Any = None
        self.lock: Final = threading.Lock()
        self.gate: Final = Gate()
        self.orphan = False
        self.mapped: bool | None = None


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
