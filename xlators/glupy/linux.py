"""The system calls that a storage translator needs and ``os`` does not have, or not as needed.

Each raises ``OSError`` with the kernel's errno. The GIL is not held while the kernel works.
"""

from __future__ import annotations

import os

from glupy._bridge import ffi, lib
from glupy.errors import os_error
from glupy.views.base import encoded
from glupy.views.data import IoBuffer, Vector
from glupy.views.iatt import Iatt, Statvfs

FALLOC_FL_KEEP_SIZE: int = lib.FALLOC_FL_KEEP_SIZE
FALLOC_FL_PUNCH_HOLE: int = lib.FALLOC_FL_PUNCH_HOLE
FALLOC_FL_ZERO_RANGE: int = lib.FALLOC_FL_ZERO_RANGE
AT_SYMLINK_NOFOLLOW: int = lib.AT_SYMLINK_NOFOLLOW
AT_EMPTY_PATH: int = lib.AT_EMPTY_PATH


def _failed() -> OSError:
    return os_error(ffi.errno)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2); ``mode`` is 0 or FALLOC_FL_* flags, offset and length are bytes."""
    if lib.fallocate(fd, mode, offset, length):
        raise _failed()


def fstat(fd: int) -> Iatt:
    """fstat(2), as an Iatt; its gfid is zero and ``ia_ino`` the file system's own."""
    iatt = Iatt()
    if lib.glupy_fstat(fd, iatt._c):
        raise _failed()
    return iatt


def fstatat(dirfd: int, path: str | bytes, flags: int = 0) -> Iatt:
    """fstatat(2), as an Iatt; ``flags`` are AT_*."""
    iatt = Iatt()
    if lib.glupy_fstatat(dirfd, encoded(path), iatt._c, flags):
        raise _failed()
    return iatt


def pread(fd: int, iobuf: IoBuffer, offset: int) -> int:
    """preadv(2) into a buffer of GlusterFS's own; return the bytes read, and set its ``length``."""
    vector = ffi.new("struct iovec *", (iobuf.address, iobuf.size))
    done: int = lib.preadv(fd, vector, 1, offset)
    if done < 0:
        raise _failed()
    iobuf.length = done
    return done


def pwritev(fd: int, vector: Vector, offset: int) -> int:
    """pwritev(2) of a fop's vector, without a copy; return the bytes written, maybe not all."""
    done: int = lib.pwritev(fd, vector.c, len(vector), offset)
    if done < 0:
        raise _failed()
    return done


def lseek(fd: int, offset: int, whence: int) -> int:
    """lseek(2); ``whence`` may be os.SEEK_DATA and os.SEEK_HOLE (ENXIO past the last)."""
    return os.lseek(fd, offset, whence)


def statvfs(path: str | bytes) -> Statvfs:
    """statvfs(3)."""
    found = Statvfs()
    if lib.statvfs(encoded(path), found._c):
        raise _failed()
    return found


