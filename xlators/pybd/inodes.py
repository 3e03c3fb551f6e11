"""What is remembered of an inode: that it is a mapped file, or plain."""

from __future__ import annotations

import stat

from glupy.enums import FileType
from glupy.views import Inode
from pybd.files import PLAIN, File

REGULAR = int(FileType.IFREG)
_UNKNOWN = int(FileType.INVAL)


def file_of(inode: Inode | None) -> File | None:
    """Return the file that an inode is known to be, if that is mapped or on its way."""
    file = inode.ctx if inode is not None else None
    return file if isinstance(file, File) and (file.mapped or file.moving) else None


def is_of(inode: Inode, gfid: bytes) -> bool:
    """Say whether an inode is that file's, or not linked yet. Who goes by a name may bring another
    one's: the name has a new file by now. A file that has lost its gfid C posix tells of as zero.
    """
    linked = inode.gfid
    return not linked or linked == gfid or not any(gfid)


def set_plain(inode: Inode) -> None:
    """A file is not mapped: from now on its data passes us by."""
    inode.ctx = PLAIN
    inode.passes = True


def set_mapped(inode: Inode, file: File) -> None:
    """A file is mapped, or about to be: ask us."""
    if inode.passes:
        inode.passes = False
    inode.ctx = file


def set_unknown(inode: Inode) -> None:
    """Whether a file is mapped is to be asked again."""
    if inode.passes:
        inode.passes = False
    if inode.ctx is not None:
        del inode.ctx


def may_be_mapped(inode: Inode) -> bool:
    """Say whether it is a regular file, or not known yet what it is."""
    return inode.c.ia_type in (REGULAR, _UNKNOWN)


def is_pointer(mode: int) -> bool:
    """Say whether it is DHT's pointer to where the file is, or the file is on its way here."""
    return stat.S_IMODE(mode) == stat.S_ISVTX
