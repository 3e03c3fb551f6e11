"""Files by their gfid, as NFS-Ganesha uses them: without a path, and without opening them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self, Unpack

from glupy.testing._gfapi import ffi, lib
from glupy.testing.gfapi.answers import (
    CData,
    Entry,
    Settable,
    StrPath,
    check,
    entry,
    failure,
    gfid_of,
    names_in,
    readlink,
    sized,
    stat_and_valid,
    stat_result,
    statvfs_result,
)
from glupy.testing.gfapi.files import Buffer, Directory, File
from glupy.testing.gfapi.leases import Leased

if TYPE_CHECKING:
    from glupy.testing.gfapi.client import Client


class Object(Leased):
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
        return gfid_of(self._where[1])

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

    def statvfs(self) -> os.statvfs_result:
        """Of the file system that it is on."""
        return statvfs_result(lambda buffer: lib.glfs_h_statfs(*self._where, buffer), self.path)

    def setattr(self, **wanted: Unpack[Settable]) -> None:
        """Whatever of its attributes is given; nothing: its ctime alone."""
        check(lib.glfs_h_setattrs(*self._where, *stat_and_valid(wanted)), self.path)

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

    def acl(self, *, default: bool = False) -> str:
        """Its ACL as libacl has it, such as ``u::rw-,u:7:r--,g::r--,m::r--,o::r--``; of a symbolic
        link what it points to, of a file without one its mode."""
        acl = self._acl(lib.glfs_h_acl_get(*self._where, _acl_type(default)))
        form = lib.TEXT_ABBREVIATE | lib.TEXT_NUMERIC_IDS
        text = ffi.gc(lib.acl_to_any_text(acl, ffi.NULL, b",", form), lib.acl_free)
        return str(ffi.string(text).decode())

    def set_acl(self, text: str, *, default: bool = False) -> None:
        """EINVAL: this is no ACL."""
        acl = self._acl(lib.acl_from_text(text.encode()))
        check(lib.glfs_h_acl_set(*self._where, _acl_type(default), acl), self.path)

    def _acl(self, acl: CData) -> CData:
        if acl == ffi.NULL:
            raise failure(self.path)
        return ffi.gc(acl, lib.acl_free)

    def _call_lease(self, lease: CData) -> int:
        return int(lib.glfs_h_lease(*self._where, lease))

    # ---- a directory's names ----

    def readdir(self) -> Iterator[tuple[Entry, Object | None]]:
        """Its entries with their attributes, and the object of each. ``.`` and ``..`` have none,
        nor has what is gone since."""
        wanted = lib.GFAPI_XREADDIRP_STAT | lib.GFAPI_XREADDIRP_HANDLE
        found, more = ffi.new("struct dirent **"), ffi.new("glfs_xreaddirp_stat_t **")
        with self.opendir() as opened:
            where = opened._handle, wanted, more, ffi.NULL, found
            while got := check(lib.glfs_xreaddirplus_r(*where), self.path):
                here = entry(found[0], stat_result(lib.glfs_xreaddirplus_get_stat(more[0])))
                handle = None
                if got & lib.GFAPI_XREADDIRP_HANDLE:
                    handle = lib.glfs_object_copy(lib.glfs_xreaddirplus_get_object(more[0]))
                lib.glfs_free(more[0])
                yield here, None if handle is None else self._found(handle, here.name)

    def find(self, name: str) -> Object:
        """What has this name here."""
        return self._found(lib.glfs_h_lookupat(*self._where, os.fsencode(name), ffi.NULL, 0), name)

    def create(self, name: str, mode: int = 0o644) -> Object:
        """A new file; EEXIST if there is one."""
        named = os.fsencode(name), os.O_CREAT | os.O_EXCL | os.O_RDWR, mode
        return self._found(lib.glfs_h_creat(*self._where, *named, ffi.new("struct stat *")), name)

    def create_open(
        self, name: str, flags: int = os.O_RDWR, mode: int = 0o644
    ) -> tuple[Object, File]:
        """A new file, open, or one that there is; O_EXCL in `flags` insists on creating."""
        opened = ffi.new("glfs_fd_t **")
        named = os.fsencode(name), flags | os.O_CREAT, mode, ffi.new("struct stat *"), opened
        made = self._found(lib.glfs_h_creat_open(*self._where, *named), name)
        return made, File(self.client, opened[0], name)

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


def _acl_type(default: bool) -> int:
    return int(lib.ACL_TYPE_DEFAULT if default else lib.ACL_TYPE_ACCESS)
