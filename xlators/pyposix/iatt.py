"""Attributes as GlusterFS shows them: the kernel's, with the gfid and what follows from it."""

from __future__ import annotations

import os
import stat
import time
from typing import Any, NamedTuple

from glupy import linux
from glupy.enums import FileType
from glupy.views import Iatt, IoBuffer, Vector
from pyposix.files import File, Files, OpenFile
from pyposix.metadata import Metadata
from pyposix.xattrs import Target

DIRECTORY = int(FileType.IFDIR)
REGULAR = int(FileType.IFREG)
SYMLINK = int(FileType.IFLNK)

_NOFOLLOW = linux.AT_SYMLINK_NOFOLLOW
KEPT = 1.0
"""Seconds for which the kernel keeps what it was asked for in its memory."""
_ABSOLUTE = -1  # the paths are, so no directory fd is looked at


def is_linkto(iatt: Iatt) -> bool:
    """Say whether it looks like a link file of DHT, which has the sticky bit alone."""
    return stat.S_IMODE(iatt.mode) == stat.S_ISVTX


def _is_seen(file: File | None) -> bool:
    """Say whether the kernel must have a file in its memory still, so that to look at it takes no
    time: whoever asks keeps the GIL, and a disk that hangs would stop all of the process."""
    if file is None or file.shown is None:
        return False
    return time.monotonic() - file.looked_at < KEPT


class Looked(NamedTuple):
    """What was seen at a path: an errno, or attributes and which file that is (None: no gfid)."""

    error: int
    iatt: Iatt
    file: File | None
    parent: Iatt

    def check(self) -> tuple[Iatt, File | None]:
        """Raise OSError if there was nothing to be seen."""
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        return self.iatt, self.file


class Stats:
    """Reads attributes. All raise OSError.

    The link count leaves out the handle, the inode number derives from the gfid, the times are the
    client's if the file has such.
    """

    def __init__(self, files: Files, metadata: Metadata) -> None:
        self._files = files
        self._metadata = metadata

    def of_fd(self, number: int, file: File) -> Iatt:
        """Return the attributes of an open file."""
        shown = file.shown
        if shown is None:
            shown = self.shown(file, number)
        return linux.fstat(number, file.gfid, shown)

    def of_path(self, path: bytes, file: File) -> Iatt:
        """Return the attributes of the file at a path that is known to be ``file``."""
        seen = _is_seen(file)
        shown = file.shown
        if shown is None:
            shown = self.shown(file, path)
        iatt = linux.fstatat(_ABSOLUTE, path, _NOFOLLOW, file.gfid, shown, seen=seen)
        file.looked_at = time.monotonic()
        return iatt

    def look(self, path: bytes, expected: File | None = None) -> tuple[Iatt, File | None]:
        """Return the attributes of whatever is at a path, and which file that is.

        The file is None, and its gfid NULL, if it has no gfid. To expect the right one saves time.
        """
        iatt = linux.look(path, seen=_is_seen(expected))
        return iatt, self._whose(iatt, path, expected)

    def look_in(
        self, path: bytes, folder: bytes, parent: File, expected: File | None = None
    ) -> Looked:
        """The same, with what may be wrong there, and the attributes of the directory it is in.

        Raises only what is wrong with the directory.
        """
        times = parent.shown
        if times is None:
            times = self.shown(parent, folder)
        seen = _is_seen(expected)
        error, iatt, beside = linux.look_in(path, folder, parent.gfid, times, seen=seen)
        file = None if error else self._whose(iatt, path, expected)
        return Looked(error, iatt, file, beside)

    def _whose(self, iatt: Iatt, path: bytes, expected: File | None) -> File | None:
        """Return which file that is, by its gfid, and show its times."""
        gfid = iatt.ia_gfid
        if expected is not None and expected.gfid == gfid:
            file = expected
        elif gfid:
            file = self._files[gfid]
        else:
            return None
        file.looked_at = time.monotonic()
        shown = self.shown(file, path)
        if shown:
            linux.show_times(iatt, shown)
        return file

    def pread(self, opened: OpenFile, size: int, offset: int) -> tuple[IoBuffer, Iatt]:
        """Read, and return the attributes after that; the buffer's length is what was read."""
        number, file = opened.number, opened.file
        shown = self.shown(file, number)
        return linux.pread_before(number, size, offset, file.gfid, shown, aligned=opened.direct)

    def pwritev(self, opened: OpenFile, vector: Vector, offset: int) -> tuple[Iatt, Iatt, int]:
        """Write; return the attributes before and after, and the bytes written, maybe not all."""
        number, file = opened.number, opened.file
        shown = self.shown(file, number)
        return linux.pwritev_between(number, vector, offset, file.gfid, shown)

    def fallocate(self, opened: OpenFile, mode: int, offset: int, length: int) -> tuple[Iatt, Iatt]:
        """fallocate(2); return the attributes before and after."""
        number, file = opened.number, opened.file
        shown = self.shown(file, number)
        return linux.fallocate_between(number, mode, offset, length, file.gfid, shown)

    def shown(self, file: File, target: Target) -> Any:
        """Return the times that are shown of a file, as ``linux`` takes them."""
        shown = file.shown
        return self._metadata.shown(file, target) if shown is None else shown
