"""Attributes as GlusterFS shows them: the kernel's, with the gfid and what follows from it."""

from __future__ import annotations

from glupy import linux
from glupy.enums import FileType
from glupy.views import Iatt
from pyposix import keys, xattrs
from pyposix.files import File, Files
from pyposix.metadata import Metadata

DIRECTORY = int(FileType.IFDIR)
REGULAR = int(FileType.IFREG)
SYMLINK = int(FileType.IFLNK)

_NO_INO = 0xFFFF_FFFF_FFFF_FFFF  # what a file without a gfid shows
_NOFOLLOW = linux.AT_SYMLINK_NOFOLLOW
_ABSOLUTE = -1  # the paths are, so no directory fd is looked at


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
            shown = self._metadata.shown(file, number)
        return linux.fstat(number, file.gfid, shown)

    def of_path(self, path: bytes, file: File) -> Iatt:
        """Return the attributes of the file at a path that is known to be ``file``."""
        shown = file.shown
        if shown is None:
            shown = self._metadata.shown(file, path)
        return linux.fstatat(_ABSOLUTE, path, _NOFOLLOW, file.gfid, shown)

    def look(self, path: bytes) -> tuple[Iatt, File | None]:
        """Return the attributes of whatever is at a path, and which file that is.

        The file is None, and its gfid NULL, if it has no gfid.
        """
        gfid = xattrs.find(path, keys.GFID)
        if gfid is not None and len(gfid) == 16:
            file = self._files[gfid]
            return self.of_path(path, file), file
        iatt = linux.fstatat(_ABSOLUTE, path, _NOFOLLOW)
        iatt.c.ia_ino = _NO_INO
        return iatt, None
