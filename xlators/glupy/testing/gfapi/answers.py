"""What calls return: replies, attributes and errors as Python has them, of C's."""

import errno
import os
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from glupy.testing._gfapi import ffi, lib

T = TypeVar("T")
StrPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
CData = Any  # a C object: types stop at the extension

XATTR_SIZE = 64 * 1024  # the kernel's own limit; virtual xattrs may be larger


class Reply(NamedTuple, Generic[T]):
    """What a fop returned, and the attributes of its file before and after it."""

    value: T
    pre: os.stat_result | None
    post: os.stat_result | None


class Copied(NamedTuple):
    """The reply to copy_file_range: `pre` and `post` are the target's attributes."""

    value: int
    source: os.stat_result | None
    pre: os.stat_result | None
    post: os.stat_result | None


class Entry(NamedTuple):
    """One name in a directory. `type` is d_type, `offset` is d_off; `stat` came with readdirp."""

    name: str
    ino: int
    type: int
    offset: int
    stat: os.stat_result | None


class Lock(NamedTuple):
    """A byte-range lock: `type` is F_RDLCK, F_WRLCK or F_UNLCK; length 0 reaches to infinity."""

    type: int
    start: int
    length: int
    pid: int


def failure(*paths: StrPath) -> OSError:
    number = ffi.errno
    named = (paths[0], None, *paths[1:]) if paths else ()
    return OSError(number, os.strerror(number), *named)


def check(ret: int, *paths: StrPath) -> int:
    if ret < 0:
        raise failure(*paths)
    return ret


def sized(call: Callable[[CData, int], int], path: StrPath) -> bytes:
    """The value of a call that fills a buffer, or says how large it must be."""
    size = XATTR_SIZE
    while True:
        buffer = ffi.new("char[]", size)
        got = call(buffer, size)
        if got >= 0:
            return bytes(ffi.buffer(buffer, got))
        if ffi.errno != errno.ERANGE:
            raise failure(path)
        size = check(call(ffi.NULL, 0), path)


def readlink(call: Callable[[CData, int], int], path: StrPath) -> str:
    """The target that a call puts into a buffer."""
    size = os.pathconf("/", "PC_PATH_MAX")
    buffer = ffi.new("char[]", size)
    return os.fsdecode(bytes(ffi.buffer(buffer, check(call(buffer, size), path))))


def names_in(value: bytes) -> list[str]:
    return [os.fsdecode(name) for name in value.split(b"\0") if name]


def timespecs(atime: int, mtime: int) -> CData:
    return ffi.new("struct timespec[2]", [divmod(atime, 10**9), divmod(mtime, 10**9)])


def flock(type: int, start: int, length: int) -> Any:
    lock = ffi.new("struct flock *")
    lock.l_type, lock.l_whence, lock.l_start, lock.l_len = type, os.SEEK_SET, start, length
    return lock


def iovecs(buffers: Sequence[CData], lengths: Sequence[int]) -> CData:
    return ffi.new("struct iovec[]", list(zip(buffers, lengths, strict=True)))


def stat_result(stat: Any) -> os.stat_result:
    device, special = stat.st_dev, stat.st_rdev
    times = stat.st_atim, stat.st_mtim, stat.st_ctim
    return _make_stat_result(stat, "st_", device, special, times)


def attributes(stat: Any) -> os.stat_result | None:
    if stat == ffi.NULL or ~stat.glfs_st_mask & lib.GLFS_STAT_BASIC_STATS:
        return None
    # libgfapi cuts st_dev into halves, but st_rdev as makedev(3) does
    device = stat.glfs_st_dev_major << 32 | stat.glfs_st_dev_minor
    special = os.makedev(stat.glfs_st_rdev_major, stat.glfs_st_rdev_minor)
    times = stat.glfs_st_atime, stat.glfs_st_mtime, stat.glfs_st_ctime
    return _make_stat_result(stat, "glfs_st_", device, special, times)


def _make_stat_result(
    stat: object, prefix: str, device: int, special: int, times: tuple[Any, Any, Any]
) -> os.stat_result:
    def field(name: str) -> int:
        value: int = getattr(stat, prefix + name)
        return value

    named: dict[str, float] = {
        "st_blksize": field("blksize"),
        "st_blocks": field("blocks"),
        "st_rdev": special,
    }
    for name, spec in zip(("atime", "mtime", "ctime"), times, strict=True):
        named[f"st_{name}"] = spec.tv_sec + spec.tv_nsec / 10**9
        named[f"st_{name}_ns"] = spec.tv_sec * 10**9 + spec.tv_nsec
    inode = field("mode"), field("ino"), device, field("nlink")
    owner = field("uid"), field("gid")
    return os.stat_result((*inode, *owner, field("size"), *(t.tv_sec for t in times)), named)
