"""Attributes of a file (struct iatt) and of a file system (struct statvfs)."""

from __future__ import annotations

from typing import Any

from glupy._bridge import ffi, lib
from glupy.enums import FileType
from glupy.views.base import ALWAYS, View, field, gfid_of, store_gfid

_IATT = ffi.typeof("struct iatt *")
_STATVFS = ffi.typeof("struct statvfs *")


class Iatt(View):
    """``struct iatt`` (iatt.h): the attributes that fops carry. ``Iatt()`` makes one, all zero."""

    __slots__ = ()

    def __init__(self, c: Any = None, scope: Any = ALWAYS, owner: Any = None) -> None:
        self._c = ffi.new(_IATT) if c is None else c
        self._scope = scope
        self._owner = owner

    ia_flags = field("ia_flags", "Which members are valid (IATT_*).")
    ia_ino = field("ia_ino", "Inode number, derived from the gfid.")
    ia_dev = field("ia_dev", "Device number of the file system.")
    ia_rdev = field("ia_rdev", "Device number, of a device file.")
    ia_size = field("ia_size", "Size in bytes.")
    ia_nlink = field("ia_nlink", "Hard links, that of .glusterfs not counted.")
    ia_uid = field("ia_uid", "Owner.")
    ia_gid = field("ia_gid", "Group.")
    ia_blksize = field("ia_blksize", "Preferred block size in bytes.")
    ia_blocks = field("ia_blocks", "Allocated blocks of 512 bytes.")
    ia_atime = field("ia_atime", "Last access, seconds.")
    ia_mtime = field("ia_mtime", "Last modification, seconds.")
    ia_ctime = field("ia_ctime", "Last change, seconds.")
    ia_btime = field("ia_btime", "Creation, seconds; 0 where unknown.")
    ia_atime_nsec = field("ia_atime_nsec", "Nanoseconds of ia_atime.")
    ia_mtime_nsec = field("ia_mtime_nsec", "Nanoseconds of ia_mtime.")
    ia_ctime_nsec = field("ia_ctime_nsec", "Nanoseconds of ia_ctime.")
    ia_btime_nsec = field("ia_btime_nsec", "Nanoseconds of ia_btime.")
    ia_attributes = field("ia_attributes", "STATX_ATTR_* flags.")
    ia_attributes_mask = field("ia_attributes_mask", "Which of ia_attributes are known.")

    @property
    def ia_gfid(self) -> Any:
        """The file's gfid."""
        return gfid_of(self.c.ia_gfid)

    @ia_gfid.setter
    def ia_gfid(self, value: bytes) -> None:
        store_gfid(self.c.ia_gfid, value)

    @property
    def ia_type(self) -> FileType:
        """What kind of file it is."""
        return FileType(self.c.ia_type)

    @ia_type.setter
    def ia_type(self, value: int) -> None:
        self.c.ia_type = value

    @property
    def mode(self) -> int:
        """Type and permissions together, as ``st_mode`` has them (ia_type and ia_prot)."""
        return int(lib.quick_iatt_mode(self.c))

    @mode.setter
    def mode(self, value: int) -> None:
        lib.quick_iatt_set_mode(self.c, value)

    def copy(self) -> Iatt:
        """Return a copy of its own, valid for ever."""
        copy = Iatt()
        copy._c[0] = self.c[0]
        return copy

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Iatt):
            return NotImplemented
        return bytes(ffi.buffer(self.c)) == bytes(ffi.buffer(other.c))

    __hash__ = None  # type: ignore[assignment]  # compared by value, and writable

    def __repr__(self) -> str:
        return (
            f"Iatt({self.ia_gfid}, mode=0{self.mode:o}, size={self.ia_size}, "
            f"blocks={self.ia_blocks})"
        )


class Statvfs(View):
    """``struct statvfs`` (statvfs(3)). ``Statvfs()`` makes one, all zero."""

    __slots__ = ()

    def __init__(self, c: Any = None, scope: Any = ALWAYS, owner: Any = None) -> None:
        self._c = ffi.new(_STATVFS) if c is None else c
        self._scope = scope
        self._owner = owner

    f_bsize = field("f_bsize", "Preferred block size in bytes.")
    f_frsize = field("f_frsize", "Fragment size in bytes: the unit of the three below.")
    f_blocks = field("f_blocks", "Size of the file system.")
    f_bfree = field("f_bfree", "Free.")
    f_bavail = field("f_bavail", "Free for ordinary users.")
    f_files = field("f_files", "Inodes.")
    f_ffree = field("f_ffree", "Free inodes.")
    f_favail = field("f_favail", "Free inodes for ordinary users.")
    f_fsid = field("f_fsid", "File system id.")
    f_flag = field("f_flag", "Mount flags.")
    f_namemax = field("f_namemax", "Longest file name in bytes.")
