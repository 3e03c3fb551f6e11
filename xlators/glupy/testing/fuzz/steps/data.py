"""Calls on the bytes of open files."""

import abc
import errno
import os
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from glupy.testing.fuzz.model import FileModel, Handle, VolumeModel, pattern
from glupy.testing.fuzz.side import Side
from glupy.testing.fuzz.steps import base
from glupy.testing.fuzz.steps.base import OnHandle, Plan, Step, touched_by_truncate
from glupy.testing.gfapi import Reply


def _refused(opened: Handle, length: int) -> int:
    """Why a range is refused, whatever is in it; 0 if it is not."""
    if not length:
        return errno.EINVAL
    return 0 if opened.writes else errno.EBADF


class OnRange(OnHandle):
    """A call on a range, which can be answered ``later``: it is waited for all the same."""

    offset: int
    length: int

    @abc.abstractmethod
    def start(self, side: Side) -> Future[Reply[Any]]:
        """Make the call, to be answered later."""


@dataclass(frozen=True)
class Fstat(OnHandle):
    modifies = False

    handle: int

    def plan(self, volume: VolumeModel) -> Plan:
        return Plan(file=self.opened(volume).file)

    def call(self, side: Side) -> Any:
        return Reply(None, None, side.files[self.handle].fstat())


@dataclass(frozen=True)
class Read(OnRange):
    """pread; in ``pieces`` by preadv; ``later``: asynchronous, in pieces too."""

    modifies = False

    handle: int
    offset: int
    length: int
    pieces: int = 1
    later: bool = False

    def plan(self, volume: VolumeModel) -> Plan:
        opened = self.opened(volume)
        if not opened.reads:
            return Plan(errno.EBADF)
        data = bytes(opened.file.data[self.offset : self.offset + self.length])
        file = opened.file
        return Plan(value=data, file=file, change=partial(file.look_at, self.offset))

    def call(self, side: Side) -> Any:
        file = side.files[self.handle]
        if self.pieces > 1:
            size = max(1, -(-self.length // self.pieces))
            sizes = [min(size, self.length - at) for at in range(0, self.length, size)]
            if not self.later:
                return b"".join(file.preadv(sizes, self.offset))
            value, pre, post = file.preadv_async(sizes, self.offset).result(base.PATIENCE)
            return Reply(b"".join(value), pre, post)
        if self.later:
            return self.start(side).result(base.PATIENCE)
        return file.pread(self.length, self.offset)

    def start(self, side: Side) -> Future[Reply[bytes]]:
        return side.files[self.handle].pread_async(self.length, self.offset)


@dataclass(frozen=True)
class Write(OnRange):
    """pwrite of ``pattern(seed, length)``; in ``pieces`` by pwritev; ``later``: asynchronous."""

    takes_space = True

    handle: int
    offset: int
    length: int
    seed: int
    pieces: int = 1
    later: bool = False

    def plan(self, volume: VolumeModel) -> Plan:
        opened = self.opened(volume)
        if not opened.writes:
            return Plan(errno.EBADF)
        file, data = opened.file, pattern(self.seed, self.length)
        offset = file.size if opened.flags & os.O_APPEND else self.offset
        return Plan(
            value=self.length,
            file=file,
            change=lambda: file.put(offset, data),
            touches=(file,),
        )

    def call(self, side: Side) -> Any:
        file, data = side.files[self.handle], pattern(self.seed, self.length)
        if self.pieces > 1:
            size = max(1, -(-self.length // self.pieces))
            pieces = [data[at : at + size] for at in range(0, self.length, size)]
            if not self.later:
                return file.pwritev(pieces, self.offset)
            return file.pwritev_async(pieces, self.offset).result(base.PATIENCE)
        if self.later:
            return self.start(side).result(base.PATIENCE)
        return file.pwrite(data, self.offset)

    def start(self, side: Side) -> Future[Reply[int]]:
        return side.files[self.handle].pwrite_async(pattern(self.seed, self.length), self.offset)


@dataclass(frozen=True)
class Discard(OnRange):
    handle: int
    offset: int
    length: int
    later: bool = False

    def plan(self, volume: VolumeModel) -> Plan:
        opened, end = self.opened(volume), self.offset + self.length
        if number := _refused(opened, self.length):
            return Plan(number)
        file = opened.file
        return Plan(
            file=file,
            change=lambda: file.discard(self.offset, end),
            # ext4 sees nothing to do past the end
            touches=(file,) if self.offset < file.size else (),
        )

    def call(self, side: Side) -> Any:
        if self.later:
            return self.start(side).result(base.PATIENCE)
        return side.files[self.handle].discard(self.offset, self.length)

    def start(self, side: Side) -> Future[Reply[int]]:
        return side.files[self.handle].discard_async(self.offset, self.length)


@dataclass(frozen=True)
class Zerofill(OnRange):
    takes_space = True

    handle: int
    offset: int
    length: int
    later: bool = False

    def plan(self, volume: VolumeModel) -> Plan:
        opened = self.opened(volume)
        if number := _refused(opened, self.length):
            return Plan(number)
        file = opened.file
        return Plan(
            file=file,
            change=lambda: file.put(self.offset, bytes(self.length)),
            touches=(file,),
        )

    def call(self, side: Side) -> Any:
        if self.later:
            return self.start(side).result(base.PATIENCE)
        return side.files[self.handle].zerofill(self.offset, self.length)

    def start(self, side: Side) -> Future[Reply[int]]:
        return side.files[self.handle].zerofill_async(self.offset, self.length)


@dataclass(frozen=True)
class Fallocate(OnHandle):
    takes_space = True

    handle: int
    offset: int
    length: int
    keep_size: bool = False

    def plan(self, volume: VolumeModel) -> Plan:
        opened, end = self.opened(volume), self.offset + self.length
        if number := _refused(opened, self.length):
            return Plan(number)
        file, allocates = opened.file, volume.promises.allocates
        grows = not self.keep_size and end > file.size
        if not allocates and not grows:
            return Plan(errno.EOPNOTSUPP)

        def change() -> None:
            if not self.keep_size:
                file.grow(end)
            if allocates:
                file.allocate(self.offset, end)

        return Plan(file=file, change=change, touches=(file,) if grows else (), marks=(file,))

    def call(self, side: Side) -> Any:
        file = side.files[self.handle]
        return file.fallocate(self.offset, self.length, keep_size=self.keep_size)


@dataclass(frozen=True)
class Truncate(OnHandle):
    """ftruncate."""

    handle: int
    size: int
    later: bool = False

    def plan(self, volume: VolumeModel) -> Plan:
        opened = self.opened(volume)
        if not opened.writes:
            return Plan(errno.EINVAL)
        file = opened.file
        return Plan(
            file=file,
            change=lambda: file.truncate(self.size),
            touches=touched_by_truncate(volume, file, self.size),
        )

    def call(self, side: Side) -> Any:
        file = side.files[self.handle]
        if self.later:
            return file.ftruncate_async(self.size).result(base.PATIENCE)
        return file.ftruncate(self.size)


@dataclass(frozen=True)
class Sync(OnHandle):
    """fsync, or fdatasync; ``later``: asynchronous."""

    modifies = False

    handle: int
    data_only: bool = False
    later: bool = False

    def plan(self, volume: VolumeModel) -> Plan:
        return Plan(file=self.opened(volume).file)

    def call(self, side: Side) -> Any:
        file = side.files[self.handle]
        if self.later:
            call = file.fdatasync_async if self.data_only else file.fsync_async
            return call().result(base.PATIENCE)
        return file.fdatasync() if self.data_only else file.fsync()


@dataclass(frozen=True)
class Seek(OnHandle):
    """lseek with SEEK_DATA, or with SEEK_HOLE."""

    modifies = False

    handle: int
    offset: int
    hole: bool

    def plan(self, volume: VolumeModel) -> Plan:
        file = self.opened(volume).file
        if self.offset >= file.size:
            return Plan(errno.ENXIO)
        if not self.hole and file.is_zero(self.offset, file.size):
            # There may be no data any more, or zeros that count as data.
            return Plan(errno=-errno.ENXIO)
        return Plan()

    def call(self, side: Side) -> int:
        whence = os.SEEK_HOLE if self.hole else os.SEEK_DATA
        return side.files[self.handle].lseek(self.offset, whence)

    def wrong(self, file: FileModel, found: int) -> str | None:
        """What is wrong with the answer, or None."""
        if not self.offset <= found <= file.size:
            return f"{found} is not between {self.offset} and {file.size}"
        if self.hole:
            if file.touched(self.offset, found) & ~file.may:
                return f"there is a hole before {found}"
            end = (found // file.block_size + 1) * file.block_size
            return None if file.is_zero(found, end) else f"there is data at {found}"
        if not file.is_zero(self.offset, found):
            return f"there is data before {found}"
        if found == file.size or not file.may >> found // file.block_size & 1:
            return f"there is a hole at {found}"
        return None


@dataclass(frozen=True)
class Copy(Step):
    """copy_file_range from one open file to another, inside the source."""

    takes_space = True

    source: int
    offset: int
    target: int
    target_offset: int
    length: int

    def plan(self, volume: VolumeModel) -> Plan:
        source, target = base.opened(volume, self.source), base.opened(volume, self.target)
        if not source.reads or not target.writes or target.flags & os.O_APPEND:
            return Plan(errno.EBADF)
        data = bytes(source.file.data[self.offset : self.offset + self.length])
        if source.file is target.file:
            first, second = sorted((self.offset, self.target_offset))
            if first + len(data) > second:
                return Plan(errno.EINVAL)  # they overlap
        return Plan(
            value=len(data),
            file=target.file if data else None,
            change=partial(target.file.overwrite, self.target_offset, data),
            touches=(target.file,) if data else (),
        )

    def call(self, side: Side) -> Any:
        source, target = side.files[self.source], side.files[self.target]
        return source.copy_file_range(self.offset, target, self.target_offset, self.length)
