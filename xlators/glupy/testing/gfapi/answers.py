"""What calls return: replies, attributes and errors as Python has them, of C's."""

import concurrent.futures
import errno
import os
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar

from glupy.testing._gfapi import ffi, lib

T = TypeVar("T")
StrPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
CData = Any  # a C object: types stop at the extension

GFID_SIZE = 16
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


class Settable(TypedDict, total=False):
    """What a setattr may set: times are nanoseconds, and one goes without the other."""

    mode: int
    uid: int
    gid: int
    atime: int
    mtime: int


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


def gfid_of(pointer: CData) -> bytes:
    """The 16 bytes of a glfs_object."""
    buffer = ffi.new("unsigned char[]", GFID_SIZE)
    check(lib.glfs_h_extract_handle(pointer, buffer, GFID_SIZE))
    return bytes(ffi.buffer(buffer))


def entry(dirent: Any, stat: os.stat_result | None) -> Entry:
    name = os.fsdecode(ffi.string(dirent.d_name))
    return Entry(name, dirent.d_ino, dirent.d_type, dirent.d_off, stat)


def on_its_own_thread(call: Callable[[], T]) -> T:
    """What a call returns that would leave something behind on its thread."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


def timespecs(atime: int, mtime: int) -> CData:
    return ffi.new("struct timespec[2]", [divmod(atime, 10**9), divmod(mtime, 10**9)])


def flock(type: int, start: int, length: int) -> Any:
    lock = ffi.new("struct flock *")
    lock.l_type, lock.l_whence, lock.l_start, lock.l_len = type, os.SEEK_SET, start, length
    return lock


def iovecs(buffers: Sequence[CData], lengths: Sequence[int]) -> CData:
    return ffi.new("struct iovec[]", list(zip(buffers, lengths, strict=True)))


def glfs_stat(wanted: Settable) -> CData:
    """The struct glfs_stat that says what to set."""
    stat = ffi.new("struct glfs_stat *")
    for name, value in wanted.items():
        stat.glfs_st_mask |= getattr(lib, f"GLFS_STAT_{name.upper()}")
        setattr(stat, f"glfs_st_{name}", _as_field(name, value))
    return stat


def stat_and_valid(wanted: Settable) -> tuple[CData, int]:
    """The struct stat that has what to set, and the bits that say what that is."""
    stat, valid = ffi.new("struct stat *"), 0
    for name, value in wanted.items():
        valid |= getattr(lib, f"GFAPI_SET_ATTR_{name.upper()}")
        setattr(stat, f"st_{_TIMES.get(name, name)}", _as_field(name, value))
    return stat, valid


_TIMES = {"atime": "atim", "mtime": "mtim"}


def _as_field(name: str, value: Any) -> Any:
    return divmod(value, 10**9) if name in _TIMES else value


def statvfs_result(call: Callable[[CData], int], path: StrPath) -> os.statvfs_result:
    """What a call puts into a struct statvfs."""
    v = ffi.new("struct statvfs *")
    check(call(v), path)
    sizes = v.f_bsize, v.f_frsize, v.f_blocks, v.f_bfree, v.f_bavail
    files = v.f_files, v.f_ffree, v.f_favail
    return os.statvfs_result((*sizes, *files, v.f_flag, v.f_namemax, v.f_fsid))


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
