"""Files by their gfid, as NFS-Ganesha uses them: without a path, and without opening them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from glupy.testing._gfapi import ffi, lib
from glupy.testing.gfapi.answers import (
    CData,
    StrPath,
    check,
    failure,
    names_in,
    readlink,
    sized,
    stat_result,
)
from glupy.testing.gfapi.files import Buffer, Directory, File

if TYPE_CHECKING:
    from glupy.testing.gfapi.client import Client

GFID_SIZE = 16


class Object:
    """A file or directory that is known by its gfid (libgfapi's ``glfs_object``).

    Made by `Client.find`, `Client.by_gfid` and the methods here that say so. It stays the same
    file whatever its names become. A name (``name``) is one in this directory, never a path.
    """

    def __init__(self, client: Client, pointer: CData, path: StrPath) -> None:
        if pointer == ffi.NULL:
            raise failure(path)
        self.client, self.path = client, path
        self._pointer: CData | None = pointer
        client._open.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget it. Closing twice is fine."""
        pointer, self._pointer = self._pointer, None
        if pointer is not None:
            self.client._open.discard(self)
            check(lib.glfs_h_close(pointer), self.path)

    @property
    def _where(self) -> tuple[CData, CData]:
        if self._pointer is None:
            raise ValueError("this object is closed")
        return self.client._handle, self._pointer

    @property
    def gfid(self) -> bytes:
        """Its 16 bytes."""
        buffer = ffi.new("unsigned char[]", GFID_SIZE)
        check(lib.glfs_h_extract_handle(self._where[1], buffer, GFID_SIZE), self.path)
        return bytes(ffi.buffer(buffer))

    # ---- itself ----

    def stat(self) -> os.stat_result:
        """The fop stat."""
        buffer = ffi.new("struct stat *")
        check(lib.glfs_h_stat(*self._where, buffer), self.path)
        return stat_result(buffer)

    def look(self) -> os.stat_result:
        """The fop lookup of its gfid alone."""
        buffer = ffi.new("struct stat *")
        check(lib.glfs_h_getattrs(*self._where, buffer), self.path)
        return stat_result(buffer)

    def access(self, mode: int) -> None:
        """Raises OSError with EACCES if `mode` (R_OK, W_OK, X_OK) is refused."""
        check(lib.glfs_h_access(*self._where, mode), self.path)

    def read(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes, by an anonymous fd."""
        buffer = ffi.new("char[]", length)
        got = check(lib.glfs_h_anonymous_read(*self._where, buffer, length, offset), self.path)
        return bytes(ffi.buffer(buffer, got))

    def write(self, data: Buffer, offset: int) -> int:
        """Write by an anonymous fd: returns the number of bytes written."""
        source = ffi.from_buffer(data)
        done = lib.glfs_h_anonymous_write(*self._where, source, len(source), offset)
        return check(int(ffi.cast("ssize_t", done)), self.path)

    def truncate(self, length: int) -> None:
        check(lib.glfs_h_truncate(*self._where, length), self.path)

    def open(self, flags: int = os.O_RDWR) -> File:
        return File(self.client, lib.glfs_h_open(*self._where, flags), self.path)

    def opendir(self) -> Directory:
        return Directory(self.client, lib.glfs_h_opendir(*self._where), self.path)

    def readlink(self) -> str:
        return readlink(lambda *buffer: lib.glfs_h_readlink(*self._where, *buffer), self.path)

    def getxattr(self, name: str) -> bytes:
        where = *self._where, os.fsencode(name)
        return sized(lambda *buffer: lib.glfs_h_getxattrs(*where, *buffer), self.path)

    def listxattr(self) -> list[str]:
        where = *self._where, ffi.NULL
        return names_in(sized(lambda *buffer: lib.glfs_h_getxattrs(*where, *buffer), self.path))

    def setxattr(self, name: str, value: bytes, flags: int = 0) -> None:
        """`flags`: 0, os.XATTR_CREATE or os.XATTR_REPLACE."""
        where = *self._where, os.fsencode(name)
        check(lib.glfs_h_setxattrs(*where, value, len(value), flags), self.path)

    def removexattr(self, name: str) -> None:
        check(lib.glfs_h_removexattrs(*self._where, os.fsencode(name)), self.path)

    # ---- a directory's names ----

    def find(self, name: str) -> Object:
        """What has this name here."""
        return self._found(lib.glfs_h_lookupat(*self._where, os.fsencode(name), ffi.NULL, 0), name)

    def create(self, name: str, mode: int = 0o644) -> Object:
        """A new file; EEXIST if there is one."""
        named = os.fsencode(name), os.O_CREAT | os.O_EXCL | os.O_RDWR, mode
        return self._found(lib.glfs_h_creat(*self._where, *named, ffi.new("struct stat *")), name)

    def mkdir(self, name: str, mode: int = 0o755) -> Object:
        named = os.fsencode(name), mode, ffi.new("struct stat *")
        return self._found(lib.glfs_h_mkdir(*self._where, *named), name)

    def mknod(self, name: str, mode: int, device: int = 0) -> Object:
        named = os.fsencode(name), mode, device, ffi.new("struct stat *")
        return self._found(lib.glfs_h_mknod(*self._where, *named), name)

    def symlink(self, target: str, name: str) -> Object:
        named = os.fsencode(name), os.fsencode(target), ffi.new("struct stat *")
        return self._found(lib.glfs_h_symlink(*self._where, *named), name)

    def link(self, target: Object, name: str) -> None:
        """One more name for `target`, here."""
        client, here = self._where
        check(lib.glfs_h_link(client, target._where[1], here, os.fsencode(name)), name)

    def unlink(self, name: str) -> None:
        """A file's name goes, or an empty directory's."""
        check(lib.glfs_h_unlink(*self._where, os.fsencode(name)), name)

    def rename(self, name: str, directory: Object, new: str) -> None:
        there = directory._where[1]
        check(lib.glfs_h_rename(*self._where, os.fsencode(name), there, os.fsencode(new)), name)

    def _found(self, pointer: CData, name: str) -> Object:
        return Object(self.client, pointer, name)
