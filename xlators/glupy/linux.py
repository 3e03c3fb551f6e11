"""The system calls that a storage translator needs and ``os`` does not have, or not as needed.

Each raises ``OSError`` with the kernel's errno. The GIL is not held while the kernel works, except
where that has all in memory.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from glupy._bridge import ffi, lib
from glupy.errors import os_error
from glupy.views.base import NULL, encoded, encoded_name
from glupy.views.data import ALIGNMENT, IoBuffer, Vector
from glupy.views.dict import Mdata
from glupy.views.dirents import Dirents
from glupy.views.frame import Frame
from glupy.views.iatt import Iatt, Statvfs
from glupy.views.inode import Inode

FALLOC_FL_KEEP_SIZE: int = lib.FALLOC_FL_KEEP_SIZE
FALLOC_FL_PUNCH_HOLE: int = lib.FALLOC_FL_PUNCH_HOLE
FALLOC_FL_ZERO_RANGE: int = lib.FALLOC_FL_ZERO_RANGE
AT_SYMLINK_NOFOLLOW: int = lib.AT_SYMLINK_NOFOLLOW
AT_EMPTY_PATH: int = lib.AT_EMPTY_PATH


# To copy as much takes no longer than to give the GIL to another thread.
_SMALL = 64 * 1024


def _failed() -> OSError:
    return os_error(ffi.errno)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2); ``mode`` is 0 or FALLOC_FL_* flags, offset and length are bytes."""
    if lib.fallocate(fd, mode, offset, length):
        raise _failed()


def times(mdata: Mdata | None = None) -> Any:
    """Return times as ``fstat`` and ``fstatat`` take them: a ``struct mdata_iatt`` to be kept."""
    return ffi.new("struct mdata_iatt *", mdata)


def touch(times: Any, frame: Frame, flags: int) -> None:
    """Have ``times`` become those of a fop, none of them earlier than before.

    The time is the client's (``frame.ctime``), or else now, as file systems have it: not before
    any time that they have shown, and later ones are not before it. ``flags`` (``MDATA_*``) are the
    times that it sets, unless the client says which (``frame.flags``); with any of them ctime is
    set. A fop of GlusterFS's own (pid < 0: heal, rebalance) changes nothing.
    """
    c = frame.c  # the stack's root, or once something was awaited a copy, of another type
    when = c.ctime
    lib.quick_touch(times, c.pid, c.flags, when.tv_sec, when.tv_nsec, flags)


def show_over(
    iatt: Iatt, stub: Iatt, size: int, times: Any, *, blocks: int = 0, fd: int = -1
) -> None:
    """Fill attributes of a file whose bytes are elsewhere than in its ``stub``.

    They are the stub's but for the size (bytes), the ``blocks`` (of 512 bytes; those of the open
    ``fd`` if it is not -1; no more than the size has), and those of the ``times`` that are later
    than the stub's (zero: none). ``iatt`` may be the stub itself.
    """
    if lib.quick_show_over(iatt._c, stub._c, size, blocks, fd, times):
        raise _failed()


def fstat(fd: int, gfid: bytes | None = None, times: Any = NULL) -> Iatt:
    """fstat(2), as an Iatt.

    With a gfid it is as a brick shows it: with that gfid, the inode number that follows from it,
    and one link less, that of .glusterfs. ``times`` replace the file system's own.
    """
    iatt = Iatt()
    if lib.quick_fstat(fd, iatt._c, gfid or NULL, times):
        raise _failed()
    return iatt


# What was looked at not long ago is in the kernel's memory: ``seen`` says so. It takes no longer
# then than to give the GIL to another thread, and whoever asks need not wait for it.


def fstatat(
    dirfd: int,
    path: str | bytes,
    flags: int = 0,
    gfid: bytes | None = None,
    times: Any = NULL,
    *,
    seen: bool = False,
) -> Iatt:
    """fstatat(2), as an Iatt; ``flags`` are AT_*. ``gfid`` and ``times`` as for ``fstat``."""
    iatt = Iatt()
    call = lib.quick_fstatat if seen else lib.glupy_fstatat
    if call(dirfd, encoded(path), flags, iatt._c, gfid or NULL, times):
        raise _failed()
    return iatt


def look(path: bytes, *, seen: bool = False) -> Iatt:
    """lstat(2), as an Iatt with the gfid that xattr ``trusted.gfid`` says, as a brick shows it.

    Without the xattr the gfid is NULL, and the inode number all ones. A link is missing even so.
    """
    iatt = Iatt()
    call = lib.quick_look if seen else lib.glupy_look
    if call(path, iatt._c):
        raise _failed()
    return iatt


def look_in(
    path: bytes, folder: bytes, gfid: bytes, times: Any, *, seen: bool = False
) -> tuple[int, Iatt, Iatt]:
    """``look`` at a path and ``fstatat`` of the directory it is in, that one's gfid and times.

    Return the errno of looking (0: none) and both, the directory's last; raise for the directory.
    """
    iatt, parent = Iatt(), Iatt()
    call = lib.quick_look_in if seen else lib.glupy_look_in
    error: int = call(path, iatt._c, folder, parent._c, gfid, times)
    if error < 0:
        raise _failed()
    return error, iatt, parent


def show_times(iatt: Iatt, times: Any) -> None:
    """Show ``times`` in an Iatt, instead of the file system's own."""
    lib.quick_show_times(iatt._c, times)


def create(path: bytes, flags: int, mode: int, uid: int, gid: int) -> int:
    """open(2) and fchown(2): make a file for its owner and return its number.

    ``flags`` are os.O_*. If it cannot be given to its owner, it is not there (with O_EXCL).
    """
    number: int = lib.glupy_create(path, flags, mode, uid, gid)
    if number < 0:
        raise _failed()
    return number


def same(one: bytes, other: bytes, *, follow: bool = False) -> bool:
    """Say whether two paths are one file. Symlinks are not followed, or ``one`` alone is."""
    found: int = lib.glupy_same(one, other, follow)
    if found < 0:
        raise _failed()
    return bool(found)


def link_handle(path: bytes, handle: bytes, target: bytes | None = None, number: int = -1) -> None:
    """Make sure that ``handle`` is a hard link of the file at ``path``; its folder is made too.

    Of the open file ``number``, if that is given: the path may be another's by now (ENOENT if the
    file has no name any more).

    A directory's is a symbolic link to ``target``. ESTALE if the handle is another file's.
    """
    if lib.glupy_link_handle(number, path, handle, target or NULL):
        raise _failed()


def admit(
    number: int,
    path: bytes,
    gfid: bytes,
    handle: bytes,
    target: bytes | None,
    record: tuple[bytes, bytes] | None,
    folder: bytes,
    parent_gfid: bytes,
    parent_times: Any,
) -> tuple[int, Iatt, Iatt]:
    """Give a new file (open as ``number``, or -1) what a file of a brick has.

    That is an xattr that records its name (``record``: key and value), the xattr ``trusted.gfid``,
    and a handle, as ``link_handle`` makes it. Return the errno of the record, which is not missed
    (0: none), and the attributes of the file and of its folder. What fails leaves no handle.
    """
    iatt, parent = Iatt(), Iatt()
    key, value = record or (NULL, NULL)
    error: int = lib.glupy_admit(
        number,
        path,
        gfid,
        handle,
        target or NULL,
        key,
        value,
        iatt._c,
        folder,
        parent._c,
        parent_gfid,
        parent_times,
    )
    if error < 0:
        raise _failed()
    return error, iatt, parent


def remove(
    path: bytes,
    handle: bytes | None,
    orphan: bytes | None,
    folder: bytes,
    parent_gfid: bytes,
    parent_times: Any,
) -> Iatt:
    """unlink(2) a name, and return the attributes of the folder it was in.

    If it was the last one ``handle`` is given: that is removed too, or renamed to ``orphan``; it is
    no error if it is missing.
    """
    parent = Iatt()
    if lib.glupy_remove(
        path, handle or NULL, orphan or NULL, folder, parent._c, parent_gfid, parent_times
    ):
        raise _failed()
    return parent


def fallocate_between(
    fd: int, mode: int, offset: int, length: int, gfid: bytes, times: Any
) -> tuple[Iatt, Iatt]:
    """``fstat``, ``fallocate`` and ``fstat`` in one call; return what both fstat say.

    The same as three calls, but other threads of Python get in between once, not three times.
    """
    before, after = Iatt(), Iatt()
    if lib.glupy_fallocate_between(fd, mode, offset, length, before._c, after._c, gfid, times):
        raise _failed()
    return before, after


def pwritev_between(
    fd: int, vector: Vector, offset: int, gfid: bytes, times: Any
) -> tuple[Iatt, Iatt, int]:
    """``fstat``, ``pwritev`` and ``fstat`` in one call; return what all three say, that last."""
    before, after = Iatt(), Iatt()
    done: int = lib.glupy_pwritev_between(
        fd, vector.c, vector._count, offset, before._c, after._c, gfid, times
    )
    if done < 0:
        raise _failed()
    return before, after, done


def pread_before(
    fd: int, size: int, offset: int, gfid: bytes, times: Any, *, aligned: bool = False
) -> tuple[IoBuffer, Iatt]:
    """``pread`` into a new buffer and ``fstat`` in one call; the buffer's length is what was read.

    ``aligned``: for O_DIRECT, to 4096 bytes.
    """
    after, c = Iatt(), NULL
    if size <= _SMALL and not aligned:
        c = lib.quick_cached_pread_before(fd, size, offset, after._c, gfid, times)
    if not c:
        c = lib.glupy_pread_before(
            fd, size, ALIGNMENT if aligned else 0, offset, after._c, gfid, times
        )
    if not c:
        raise _failed()
    return _around(c, size), after


def _around(c: Any, size: int) -> IoBuffer:
    """Return a buffer that C has made."""
    iobuf = IoBuffer.__new__(IoBuffer)
    iobuf._c = ffi.gc(c, lib.quick_buffer_free)
    iobuf.size = size
    return iobuf


def read_device(fd: int, size: int, offset: int) -> IoBuffer:
    """``pread`` of a block device into a new buffer, whose length is what was read."""
    if size <= _SMALL:
        c = lib.quick_cached_read(fd, size, offset)
        if c:
            return _around(c, size)
    iobuf = IoBuffer(size)
    iobuf.length = pread(fd, iobuf, offset)
    return iobuf


class Listing(NamedTuple):
    """Entries of a directory, how many there are, and whether no others follow."""

    entries: Dirents
    length: int
    at_end: bool


def list_directory(
    fd: int, offset: int, room: int, *, hidden: bytes | None = None, files_only: bool = False
) -> Listing:
    """getdents64(2) from an offset on (0, or an entry's ``d_off``), as a reply of readdir.

    Each entry takes ``DIRENT_BYTES``, its name and a NUL of ``room`` bytes; those that have no room
    any more are left. An entry called ``hidden`` is left out, and so are directories, with
    ``files_only``. The fd's position is moved: whoever shares it waits meanwhile.
    """
    entries, end = Dirents.empty(), ffi.new("int *")
    count = lib.glupy_list(fd, offset, room, hidden or NULL, files_only, entries._c, end)
    if count < 0:
        raise _failed()
    return Listing(entries, count, bool(end[0]))


def fill_entries(entries: Dirents, folder: Inode, path: bytes, *, with_times: bool) -> None:
    """Make of a reply of readdir one of readdirp: ``look`` at each entry, and give it its inode.

    ``path`` is the directory's, with a slash behind it; ``with_times`` shows those of xattr
    ``trusted.glusterfs.mdata``. An entry that GlusterFS has an inode of is taken to be that file;
    what cannot be seen stays without attributes and inode. ``.`` and ``..`` get none that is new.
    """
    lib.glupy_fill_entries(entries._c, folder.c, path, with_times)


def pread(fd: int, iobuf: IoBuffer, offset: int) -> int:
    """pread(2) into a buffer of GlusterFS's own; return the bytes read, and set its ``length``."""
    done: int = lib.glupy_pread(fd, iobuf._c, iobuf.size, offset)
    if done < 0:
        raise _failed()
    return done


def pwritev(fd: int, vector: Vector, offset: int) -> int:
    """pwritev(2) of a fop's vector, without a copy; return the bytes written, maybe not all."""
    done: int = lib.pwritev(fd, vector.c, vector._count, offset)
    if done < 0:
        raise _failed()
    return done


def syncfs(fd: int) -> None:
    """syncfs(2): have all of the fd's file system on the disk."""
    if lib.syncfs(fd):
        raise _failed()


def matches(pattern: str, name: str) -> bool:
    """fnmatch(3) without flags, of the names of xattrs."""
    return bool(lib.quick_matches(encoded_name(pattern), encoded_name(name)))


def acl_text(target: int | bytes, default: bool) -> str:
    """Return the ACL of an open fd, or of a path (followed), as text: ``u::rw-,u:7:r--,…``.

    That of the mode if there is none; empty if it is a ``default`` one, which only directories
    have and which needs a path.
    """
    if isinstance(target, int):
        acl = lib.acl_get_fd(target)
    else:
        acl = lib.acl_get_file(target, _acl_type(default))
    with _acl(acl):
        form = lib.TEXT_ABBREVIATE | lib.TEXT_NUMERIC_IDS
        c = lib.acl_to_any_text(acl, NULL, b",", form)
        if not c:
            raise _failed()
        try:
            return str(ffi.string(c).decode())
        finally:
            lib.acl_free(c)


def set_acl_text(path: bytes, default: bool, text: bytes) -> None:
    """Set the ACL of a path (followed). EINVAL for what is no ACL."""
    acl = lib.acl_from_text(text)
    with _acl(acl):
        if lib.acl_set_file(path, _acl_type(default), acl):
            raise _failed()


def _acl_type(default: bool) -> int:
    return int(lib.ACL_TYPE_DEFAULT if default else lib.ACL_TYPE_ACCESS)


@contextlib.contextmanager
def _acl(acl: Any) -> Iterator[None]:
    if not acl:
        raise _failed()
    try:
        yield
    finally:
        lib.acl_free(acl)


def lseek(fd: int, offset: int, whence: int) -> int:
    """lseek(2); ``whence`` may be os.SEEK_DATA and os.SEEK_HOLE (ENXIO past the last)."""
    return os.lseek(fd, offset, whence)


def statvfs(path: str | bytes) -> Statvfs:
    """statvfs(3)."""
    found = Statvfs()
    if lib.statvfs(encoded(path), found._c):
        raise _failed()
    return found
