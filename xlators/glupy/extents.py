"""Where a file has blocks, and allocating more of them so that a failure leaves none behind."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Iterator

from glupy import linux

# linux/fiemap.h
_FS_IOC_FIEMAP = 0xC020660B
_FIEMAP = struct.Struct("=QQLLLL")  # start, length, flags, mapped, room, reserved
_EXTENT = struct.Struct("=QQQ32x")  # logical, physical, length, …
_ROOM = 64

_KEEP = linux.FALLOC_FL_KEEP_SIZE
_PUNCH = linux.FALLOC_FL_KEEP_SIZE | linux.FALLOC_FL_PUNCH_HOLE
_ZERO = linux.FALLOC_FL_KEEP_SIZE | linux.FALLOC_FL_ZERO_RANGE
_END = 1 << 62
_MOST = 1 << 63
_ZEROS_AT_A_TIME = 64 * 1024
_UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP)

Range = tuple[int, int]
"""First byte, and the byte behind the last."""


def mapped(number: int, start: int, end: int) -> list[Range]:
    """Return the parts of a range that have blocks, preallocated or not yet on the disk too.

    They begin and end where extents do, maybe outside of the range. EOPNOTSUPP where the file
    system cannot tell.
    """
    found: list[Range] = []
    while start < end:
        request = bytearray(_FIEMAP.size + _ROOM * _EXTENT.size)
        _FIEMAP.pack_into(request, 0, start, end - start, 0, 0, _ROOM, 0)
        fcntl.ioctl(number, _FS_IOC_FIEMAP, request)
        count = _FIEMAP.unpack_from(request)[3]
        for index in range(count):
            logical, _, size = _EXTENT.unpack_from(request, _FIEMAP.size + index * _EXTENT.size)
            start = logical + size
            found.append((logical, start))
        if count < _ROOM:
            break
    return found


def gaps(ranges: list[Range], start: int, end: int) -> Iterator[Range]:
    """Return what of a range is between the ranges of a sorted list."""
    for first, behind in ranges:
        if first >= end:
            break
        if first > start:
            yield start, first
        start = max(start, behind)
    if start < end:
        yield start, end


def allocate(number: int, offset: int, length: int, *, keep_size: bool) -> None:
    """Give a range blocks; if that fails, everything is as it was. Nobody else may write then."""
    with _undone(number, offset, length):
        linux.fallocate(number, _KEEP, offset, length)
        if not keep_size:
            _grow(number, offset + length)


def zero(number: int, offset: int, length: int) -> None:
    """Have a range read as zeros, and give it blocks, past the end too.

    By the file system if it can do that, else by writing zeros. If it fails, no blocks are left
    behind, size and bytes are what they were; nobody else may write then.
    """
    with _undone(number, offset, length):
        has_blocks = False
        status = os.fstat(number)
        try:
            # The kernel refuses at once what it cannot round up to blocks.
            if offset < status.st_size and offset + length <= _MOST - status.st_blksize:
                # ext4 zeroes what has blocks before it finds that there are no more for the rest.
                linux.fallocate(number, _KEEP, offset, length)
                has_blocks = True
            linux.fallocate(number, _ZERO, offset, length)
        except OSError as error:
            # Nor does it undo what it zeroed if there is no block for its list of extents. To
            # write, none is needed.
            if error.errno not in _UNSUPPORTED and not (has_blocks and error.errno == errno.ENOSPC):
                raise
            _write_zeros(number, offset, length)
        _grow(number, offset + length)


def _grow(number: int, size: int) -> None:
    """The last thing to be done: then there is no size to take back."""
    if os.fstat(number).st_size < size:
        os.ftruncate(number, size)


def _write_zeros(number: int, offset: int, length: int) -> None:
    zeros = mmap.mmap(-1, _ZEROS_AT_A_TIME)  # aligned, for O_DIRECT
    end = offset + length
    while offset < end:
        offset += os.pwrite(number, memoryview(zeros)[: end - offset], offset)


@contextlib.contextmanager
def _undone(number: int, offset: int, length: int) -> Iterator[None]:
    """If what is done inside fails, take back the blocks and the size that it left."""
    before = os.fstat(number)
    block, size = before.st_blksize, before.st_size
    start, end = offset // block * block, -(-(offset + length) // block) * block
    try:
        inside = mapped(number, start, end) if offset >= 0 and length > 0 else []
        behind = mapped(number, size, _END) if end > size else []
    except OSError:
        # No FIEMAP: tmpfs, which undoes a failure by itself.
        yield
        return
    try:
        yield
    except OSError:
        with contextlib.suppress(OSError):
            if os.fstat(number).st_blocks != before.st_blocks:
                # The block in which the file ends goes as a whole, or not at all.
                tail = -(-size // block) * block
                for first, last in gaps(inside, start, min(end, tail)):
                    linux.fallocate(number, _PUNCH, first, last - first)
            if os.fstat(number).st_blocks != before.st_blocks or os.fstat(number).st_size != size:
                # ext4 punches nothing past the end. Truncating takes all that is there: what was
                # there before is given back.
                os.ftruncate(number, size)
                for first, last in behind:
                    linux.fallocate(number, _KEEP, max(first, size), last - max(first, size))
        raise
