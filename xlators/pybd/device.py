"""A block device that is open, and what the kernel does with it: ioctls and fallocate(2).

Bytes go through the kernel's cache of the device, so any offset and length will do. Sources: the
kernel's block/ioctl.c and block/fops.c.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import mmap
import os
import struct
from collections.abc import Callable
from typing import ClassVar, NamedTuple

from glupy import linux
from pybd.ranges import Range, not_zero, plan
from pybd.syncing import SharedSync

# linux/fs.h
_BLKSSZGET = 0x1268
_BLKDISCARD = 0x1277
_BLKZEROOUT = 0x127F
_BLKGETSIZE64 = 0x80081272

_PUNCH = linux.FALLOC_FL_PUNCH_HOLE | linux.FALLOC_FL_KEEP_SIZE
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EINVAL)
_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)

_Rung = Callable[["Device", int, int], None]


class Failure(NamedTuple):
    """A sync that has failed: which of all, of whatever device, and its errno."""

    number: int
    errno: int


_numbers = itertools.count(1)


class Device:
    """An open block device. It closes when this object goes: whoever uses it keeps it.

    ``granule`` is what a discard begins and ends at multiples of, ``unit`` what it gets space by,
    in bytes; ``discards_to_zeros`` says that what was discarded is promised to read as zeros. Where
    it is not, or where a discard is not to be had, the next way to zeros is taken; once that has
    done it, what was not supported is not tried again:

    1. BLKDISCARD, if it promises zeros;
    2. fallocate(PUNCH_HOLE): zeros by the device, which gives space back if it can do so safely
       (never with BLKZEROOUT, which asks for allocated zeros);
    3. BLKZEROOUT;
    4. written zeros.

    ``lbprz`` is for SCSI disks, and says whether they promise that what is unmapped reads as zeros.
    There PUNCH_HOLE frees nothing that only UNMAP would, and BLKDISCARD may leave something out. So
    with that promise it is BLKDISCARD, then zeros for what it has left; without it nothing frees.
    ``granule`` is whole pages then: of a part of one that the disk has left the kernel has zeros.

    ``counted`` is an open file whose blocks are the device's; -1: only ``blocks()`` tells.
    ``failure`` is the last one of a sync.

    Safe on any thread.
    """

    counted = -1
    failure = Failure(0, 0)

    def __init__(
        self,
        number: int,
        *,
        granule: int = 0,
        unit: int = 0,
        discards_to_zeros: bool = False,
        lbprz: bool | None = None,
    ) -> None:
        self.number = number
        self._syncing = SharedSync()
        self.sector: int = struct.unpack("i", fcntl.ioctl(number, _BLKSSZGET, bytes(4)))[0]
        self.granule = max(granule, self.sector)
        self.unit = max(unit, self.granule)
        self.size = 0
        self.measure()
        # Functions, not methods of ours: those would keep us, and us open.
        self._freeing: list[_Rung] = [Device._punch]
        self._zeroing: list[_Rung] = [Device._blkzeroout, Device._write_zeros]
        if discards_to_zeros:
            self._freeing.insert(0, Device._blkdiscard)
        elif lbprz is not None:
            self._freeing = [Device._discard_and_wipe] if lbprz else []

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close it before it goes by itself: for who has it alone. Closing twice is fine."""
        number, self.number = self.number, -1
        if number >= 0:
            with contextlib.suppress(OSError):
                os.close(number)

    @property
    def frees(self) -> bool:
        """Whether a discard gives space back, as far as it is known yet."""
        return bool(self._freeing)

    def measure(self) -> None:
        """The device was resized: see how large it is now."""
        self.size = struct.unpack("Q", fcntl.ioctl(self.number, _BLKGETSIZE64, bytes(8)))[0]

    def blocks(self) -> int:
        """Return the blocks of 512 bytes that the pool holds for it. All of it, unless thin."""
        return self.size // 512

    def has_room(self, offset: int, length: int) -> bool:
        """Say whether a range has its space already, so that writing to it takes none."""
        return True

    allocates: ClassVar[bool] = False
    """Whether a range can be given space before it is written."""

    def allocate(self, offset: int, length: int) -> None:
        """Give a range space. EOPNOTSUPP where the pool cannot."""
        raise failed(errno.EOPNOTSUPP)

    def seek(self, offset: int, whence: int) -> int:
        """Return where the next data (SEEK_DATA) or hole begins, from an offset inside the device.

        A device that cannot tell is all data. ENXIO: there is none.
        """
        return offset if whence == os.SEEK_DATA else self.size

    # ---- zeros ----

    def discard(self, offset: int, length: int, size: int) -> None:
        """Have a range of a file of ``size`` bytes read as zeros, and give its space back."""
        todo = plan(offset, length, size, self.granule, self.size, self.unit)
        for edge in todo.edges:
            self.wipe(*edge)
        if todo.discard:
            self._climb([self._freeing, self._zeroing], *todo.discard)

    def clear(self, first: int, behind: int) -> None:
        """The same for what is beyond the file, or about to be: nobody else uses it meanwhile."""
        self.discard(first, behind - first, behind)

    def zero(self, first: int, behind: int) -> None:
        """Have a range read as zeros, and keep or take space for it."""
        todo = plan(first, behind - first, behind, self.sector, behind)
        for edge in todo.edges:
            self._write_zeros(*edge)
        if todo.discard:
            self._climb([self._zeroing], *todo.discard)

    def _climb(self, ladders: list[list[_Rung]], first: int, behind: int) -> None:
        unsupported: list[tuple[list[_Rung], _Rung]] = []
        for ladder in ladders:
            for rung in list(ladder):
                try:
                    rung(self, first, behind)
                except OSError as error:
                    if error.errno not in _UNSUPPORTED or rung is Device._write_zeros:
                        raise  # a volume that has failed supports nothing as long as it has
                    unsupported.append((ladder, rung))
                    continue
                for old, below in unsupported:
                    with contextlib.suppress(ValueError):  # another thread was first
                        old.remove(below)
                return
        raise failed(errno.EIO)

    def _blkdiscard(self, first: int, behind: int) -> None:
        fcntl.ioctl(self.number, _BLKDISCARD, struct.pack("QQ", first, behind - first))

    def _discard_and_wipe(self, first: int, behind: int) -> None:
        self._blkdiscard(first, behind)
        self.wipe(first, behind)

    def _punch(self, first: int, behind: int) -> None:
        linux.fallocate(self.number, _PUNCH, first, behind - first)

    def _blkzeroout(self, first: int, behind: int) -> None:
        fcntl.ioctl(self.number, _BLKZEROOUT, struct.pack("QQ", first, behind - first))

    def wipe(self, first: int, behind: int) -> None:
        """Write zeros where there are none: what has no space gets none, what has it keeps it."""
        at = first
        while at < behind:
            data = os.pread(self.number, min(_CHUNK, behind - at), at)
            if not data:
                raise failed(errno.EIO)
            for start, end in not_zero(data, at):
                self._write_zeros(start, end)
            at += len(data)

    def _write_zeros(self, first: int, behind: int) -> None:
        with mmap.mmap(-1, min(_CHUNK, behind - first)) as zeros, memoryview(zeros) as view:
            at = first
            while at < behind:
                at += os.pwrite(self.number, view[: behind - at], at)

    # ---- durability ----

    def sync(self) -> None:
        """Have what was written on the device. fsync(2): EIO or ENOSPC if some of it was lost.

        The kernel says that once to us all, who share one open file: ``failure`` keeps it, and who
        comes while another one is told fails, too.
        """
        known = self.failure
        self._syncing.run(self._sync)
        if self.failure is not known:  # another one was told
            raise failed(self.failure.errno)

    def _sync(self) -> None:
        try:
            os.fdatasync(self.number)  # of a device it is the same as fsync
        except OSError as error:
            self.failure = Failure(next(_numbers), error.errno or errno.EIO)
            raise


def pwrite_all(number: int, data: bytes, offset: int) -> None:
    """Write all of it. Of a part the kernel says that it was, and the next time why not all."""
    done = 0
    with memoryview(data) as view:
        while done < len(data):
            done += os.pwrite(number, view[done:], offset + done)


def has_data(data: bytes) -> bool:
    """Say whether there is anything but zeros in a piece of at most 1 MiB."""
    return data != _ZEROS[: len(data)]


def failed(number: int) -> OSError:
    """Return the error of an errno."""
    return OSError(number, os.strerror(number))


def copy(source: Device, target: Device, pieces: list[Range]) -> None:
    """Copy pieces of one device to another, where they have the same places; zeros as holes."""
    for first, behind in pieces:
        at = first
        while at < behind:
            data = os.pread(source.number, min(_CHUNK, behind - at), at)
            if not data:
                break
            if has_data(data):
                pwrite_all(target.number, data, at)
            else:
                target.discard(at, len(data), target.size)
            at += len(data)


def data_ranges(device: Device, first: int, size: int) -> list[Range]:
    """Return the pieces of a device from ``first`` up to ``size`` that may hold data."""
    found: list[Range] = []
    at = first
    while at < size:
        try:
            start = device.seek(at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        if start >= size:
            break
        at = min(device.seek(start, os.SEEK_HOLE), size)
        found.append((start, at))
    return found
