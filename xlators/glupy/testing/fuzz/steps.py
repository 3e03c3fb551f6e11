"""The calls that a sequence is made of. Each says what it should do, and does it on a side.

A step has all that it needs in its fields, so a sequence is a list of steps: it can be printed,
stored and done again, on the same target or another.
"""

import dataclasses
import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from glupy.testing.fuzz.model import FileModel, Handle, VolumeModel, pattern
from glupy.testing.fuzz.side import Side
from glupy.testing.gfapi import Reply

PATIENCE = 60.0
"""Seconds that an answer may take."""
NOTHING: Callable[[], object] = object


class Plan(NamedTuple):
    """What a step should do to a model.

    ``errno`` 0: it should succeed, with ``value`` (None: whatever), its reply's attributes being
    those of ``file`` before and after the ``change``. ``touches``: mtime and ctime are set.
    """

    errno: int = 0
    value: object = None
    file: FileModel | None = None
    change: Callable[[], object] = NOTHING
    touches: bool = False


class Step:
    """One call."""

    def plan(self, volume: VolumeModel) -> Plan:
        """What should happen; nothing has yet."""
        raise NotImplementedError

    @property
    def modifies(self) -> bool:
        """It changes a file or a name, if it succeeds: a read-only store refuses it."""
        return not isinstance(self, _LOOKING)

    @property
    def takes_space(self) -> bool:
        """A full store may refuse it."""
        return isinstance(self, _TAKING)

    def call(self, side: Side) -> Any:
        """Do it: what it returned, a `Reply` if attributes came with that. Raises OSError."""
        raise NotImplementedError

    @property
    def fop(self) -> str:
        """Its name, as a reader knows it."""
        return type(self).__name__.lower()

    def arguments(self) -> str:
        """Its arguments, for a reader."""
        shown = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))  # type: ignore[arg-type]
        return ", ".join(
            f"{name} {_flags(value) if name == 'flags' else value}" for name, value in shown
        )


FLAGS = "O_WRONLY", "O_RDWR", "O_APPEND", "O_EXCL", "O_TRUNC", "O_SYNC", "O_DSYNC", "O_DIRECT"
"""The flags of open(2) that steps have, by name."""


def _flags(value: int) -> str:
    names = [name for name in FLAGS if value & getattr(os, name) == getattr(os, name)]
    if "O_SYNC" in names:
        names.remove("O_DSYNC")
    return "|".join(names) or "O_RDONLY"


# ---- names and handles ----


@dataclass(frozen=True)
class Create(Step):
    """creat: make a file, or open the one that has the name."""

    handle: int
    name: str
    flags: int = os.O_RDWR

    def plan(self, volume: VolumeModel) -> Plan:
        there = volume.names.get(self.name)
        if there is not None and self.flags & os.O_EXCL:
            return Plan(errno.EEXIST)

        def change() -> None:
            file = there
            if file is None:
                file = volume.names[self.name] = volume.new_file()
            elif self.flags & os.O_TRUNC:
                file.truncate(0)
            volume.handles[self.handle] = Handle(file, self.flags)

        return Plan(change=change)

    def call(self, side: Side) -> None:
        side.files[self.handle] = side.client(self.handle).creat("/" + self.name, self.flags)


@dataclass(frozen=True)
class Open(Step):
    handle: int
    name: str
    flags: int

    def plan(self, volume: VolumeModel) -> Plan:
        file = volume.names.get(self.name)
        if file is None:
            return Plan(errno.ENOENT)

        def change() -> None:
            if self.flags & os.O_TRUNC:
                file.truncate(0)
            volume.handles[self.handle] = Handle(file, self.flags)

        return Plan(change=change)

    @property
    def modifies(self) -> bool:
        return bool(self.flags & (os.O_ACCMODE | os.O_TRUNC))

    def call(self, side: Side) -> None:
        side.files[self.handle] = side.client(self.handle).open("/" + self.name, self.flags)


@dataclass(frozen=True)
class Close(Step):
    handle: int

    def plan(self, volume: VolumeModel) -> Plan:
        return Plan(change=lambda: volume.handles.pop(self.handle))

    def call(self, side: Side) -> None:
        side.files.pop(self.handle).close()


@dataclass(frozen=True)
class Link(Step):
    client: int
    old: str
    new: str

    def plan(self, volume: VolumeModel) -> Plan:
        file = volume.names.get(self.old)
        if file is None:
            return Plan(errno.ENOENT)
        if self.new in volume.names:
            return Plan(errno.EEXIST)

        def change() -> None:
            volume.names[self.new] = file
            file.links += 1

        return Plan(change=change)

    def call(self, side: Side) -> None:
        side.client(self.client).link("/" + self.old, "/" + self.new)


@dataclass(frozen=True)
class Rename(Step):
    client: int
    old: str
    new: str

    def plan(self, volume: VolumeModel) -> Plan:
        names = volume.names
        file, victim = names.get(self.old), names.get(self.new)
        if file is None:
            return Plan(errno.ENOENT)
        if file is victim:
            return Plan()  # rename(2): two names of one file stay

        def change() -> None:
            if victim is not None:
                volume.remove(self.new)
            names[self.new] = names.pop(self.old)

        return Plan(change=change)

    def call(self, side: Side) -> None:
        side.client(self.client).rename("/" + self.old, "/" + self.new)


@dataclass(frozen=True)
class Unlink(Step):
    client: int
    name: str

    def plan(self, volume: VolumeModel) -> Plan:
        if self.name not in volume.names:
            return Plan(errno.ENOENT)
        return Plan(change=partial(volume.remove, self.name))

    def call(self, side: Side) -> None:
        side.client(self.client).unlink("/" + self.name)


@dataclass(frozen=True)
class Stat(Step):
    client: int
    name: str

    def plan(self, volume: VolumeModel) -> Plan:
        file = volume.names.get(self.name)
        return Plan(errno.ENOENT) if file is None else Plan(file=file)

    def call(self, side: Side) -> Any:
        return Reply(None, None, side.client(self.client).stat("/" + self.name))


@dataclass(frozen=True)
class Wait(Step):
    """Wait until file systems have another time: what changes a file now has a later mtime."""

    def plan(self, volume: VolumeModel) -> Plan:
        def change() -> None:
            volume.waited = coarse_time()

        return Plan(change=change)

    def call(self, side: Side) -> None:
        before = time.time_ns()  # clients' times are as fine as this
        while coarse_time() <= before:
            time.sleep(0.001)


_CLOCK_REALTIME_COARSE = 5  # linux/time.h


def coarse_time() -> int:
    """This machine's time in nanoseconds, as coarse as file systems have it: a few milliseconds."""
    return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)


# ---- bytes ----


class OnHandle(Step):
    """A call on an open file."""

    handle: int

    def opened(self, volume: VolumeModel) -> Handle:
        return volume.handles[self.handle]


def _refused(opened: Handle, length: int) -> int:
    """Why a range is refused, whatever is in it; 0 if it is not."""
    if not length:
        return errno.EINVAL
    return 0 if opened.writes else errno.EBADF


@dataclass(frozen=True)
class Fstat(OnHandle):
    handle: int

    def plan(self, volume: VolumeModel) -> Plan:
        return Plan(file=self.opened(volume).file)

    def call(self, side: Side) -> Any:
        return Reply(None, None, side.files[self.handle].fstat())


@dataclass(frozen=True)
class Read(OnHandle):
    handle: int
    offset: int
    length: int

    def plan(self, volume: VolumeModel) -> Plan:
        opened = self.opened(volume)
        if not opened.reads:
            return Plan(errno.EBADF)
        data = bytes(opened.file.data[self.offset : self.offset + self.length])
        file = opened.file
        return Plan(value=data, file=file, change=partial(file.look_at, self.offset))

    def call(self, side: Side) -> Any:
        return side.files[self.handle].pread(self.length, self.offset)


@dataclass(frozen=True)
class Write(OnHandle):
    """pwrite of ``pattern(seed, length)``; in ``pieces`` by pwritev; ``later``: asynchronous."""

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
            touches=True,
        )

    def call(self, side: Side) -> Any:
        file, data = side.files[self.handle], pattern(self.seed, self.length)
        if self.pieces > 1:
            size = max(1, -(-self.length // self.pieces))
            pieces = [data[at : at + size] for at in range(0, self.length, size)]
            return file.pwritev(pieces, self.offset)
        if self.later:
            return file.pwrite_async(data, self.offset).result(PATIENCE)
        return file.pwrite(data, self.offset)


@dataclass(frozen=True)
class Discard(OnHandle):
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
            touches=self.offset < file.size,  # ext4 sees nothing to do past the end
        )

    def call(self, side: Side) -> Any:
        file = side.files[self.handle]
        if self.later:
            return file.discard_async(self.offset, self.length).result(PATIENCE)
        return file.discard(self.offset, self.length)


@dataclass(frozen=True)
class Zerofill(OnHandle):
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
            touches=True,
        )

    def call(self, side: Side) -> Any:
        file = side.files[self.handle]
        if self.later:
            return file.zerofill_async(self.offset, self.length).result(PATIENCE)
        return file.zerofill(self.offset, self.length)


@dataclass(frozen=True)
class Fallocate(OnHandle):
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

        return Plan(file=file, change=change)

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
            touches=self.size != file.size,
        )

    def call(self, side: Side) -> Any:
        file = side.files[self.handle]
        if self.later:
            return file.ftruncate_async(self.size).result(PATIENCE)
        return file.ftruncate(self.size)


@dataclass(frozen=True)
class TruncatePath(Step):
    client: int
    name: str
    size: int

    def plan(self, volume: VolumeModel) -> Plan:
        file = volume.names.get(self.name)
        if file is None:
            return Plan(errno.ENOENT)
        return Plan(change=lambda: file.truncate(self.size))

    def call(self, side: Side) -> None:
        side.client(self.client).truncate("/" + self.name, self.size)


@dataclass(frozen=True)
class Age(OnHandle):
    """futimens: a long-past mtime, so that the next change shows in it."""

    handle: int

    def plan(self, volume: VolumeModel) -> Plan:
        file = self.opened(volume).file

        def change() -> None:
            file.times = None

        return Plan(change=change)

    def call(self, side: Side) -> None:
        side.files[self.handle].futimens(LONG_AGO, LONG_AGO)


LONG_AGO = 1_000_000_000 * 10**9
"""In nanoseconds: in 2001."""


@dataclass(frozen=True)
class Sync(OnHandle):
    """fsync, or fdatasync."""

    handle: int
    data_only: bool = False

    def plan(self, volume: VolumeModel) -> Plan:
        return Plan(file=self.opened(volume).file)

    def call(self, side: Side) -> Any:
        file = side.files[self.handle]
        return file.fdatasync() if self.data_only else file.fsync()


@dataclass(frozen=True)
class Seek(OnHandle):
    """lseek with SEEK_DATA, or with SEEK_HOLE."""

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

    source: int
    offset: int
    target: int
    target_offset: int
    length: int

    def plan(self, volume: VolumeModel) -> Plan:
        source, target = volume.handles[self.source], volume.handles[self.target]
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
            touches=bool(data),
        )

    def call(self, side: Side) -> Any:
        source, target = side.files[self.source], side.files[self.target]
        return source.copy_file_range(self.offset, target, self.target_offset, self.length)


# ---- xattrs ----


@dataclass(frozen=True)
class Setxattr(Step):
    client: int
    name: str
    key: str
    value: bytes
    flags: int = 0

    def plan(self, volume: VolumeModel) -> Plan:
        file = volume.names.get(self.name)
        if file is None:
            return Plan(errno.ENOENT)
        if self.flags & os.XATTR_CREATE and self.key in file.xattrs:
            return Plan(errno.EEXIST)
        if self.flags & os.XATTR_REPLACE and self.key not in file.xattrs:
            return Plan(errno.ENODATA)
        return Plan(change=lambda: file.xattrs.__setitem__(self.key, self.value))

    def call(self, side: Side) -> None:
        client = side.client(self.client)
        client.setxattr("/" + self.name, self.key, self.value, self.flags)

    def arguments(self) -> str:
        how = {0: "", os.XATTR_CREATE: ", XATTR_CREATE", os.XATTR_REPLACE: ", XATTR_REPLACE"}
        return f"name {self.name}, {self.key}={self.value!r}{how[self.flags]}"


@dataclass(frozen=True)
class Getxattr(Step):
    client: int
    name: str
    key: str

    def plan(self, volume: VolumeModel) -> Plan:
        file = volume.names.get(self.name)
        if file is None:
            return Plan(errno.ENOENT)
        if self.key not in file.xattrs:
            return Plan(errno.ENODATA)
        return Plan(value=file.xattrs[self.key])

    def call(self, side: Side) -> bytes:
        return side.client(self.client).getxattr("/" + self.name, self.key)


@dataclass(frozen=True)
class Removexattr(Step):
    client: int
    name: str
    key: str

    def plan(self, volume: VolumeModel) -> Plan:
        file = volume.names.get(self.name)
        if file is None:
            return Plan(errno.ENOENT)
        if self.key not in file.xattrs:
            return Plan(errno.ENODATA)
        return Plan(change=lambda: file.xattrs.pop(self.key))

    def call(self, side: Side) -> None:
        side.client(self.client).removexattr("/" + self.name, self.key)


# ---- trouble ----


@dataclass(frozen=True)
class Kill(Step):
    """SIGKILL for a brick: the first, where others have the same; else all of them."""

    def plan(self, volume: VolumeModel) -> Plan:
        return Plan()

    def call(self, side: Side) -> None:
        side.trouble.kill()


@dataclass(frozen=True)
class Start(Step):
    """What was killed is started again, and clients can use it."""

    def plan(self, volume: VolumeModel) -> Plan:
        return Plan()

    def call(self, side: Side) -> None:
        side.trouble.start()
        deadline = time.monotonic() + PATIENCE
        while not side.answers():
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.01)


@dataclass(frozen=True)
class Inject(Step):
    """The next call fails with this errno if it comes to this fop, on the bricks of `Kill`."""

    fop_name: str
    number: int = errno.EIO

    def plan(self, volume: VolumeModel) -> Plan:
        return Plan()

    def call(self, side: Side) -> None:
        side.trouble.inject(self.fop_name, self.number)

    def arguments(self) -> str:
        return f"{errno.errorcode[self.number]} for {self.fop_name}"


@dataclass(frozen=True)
class AsInternal(Step):
    """From here on calls are a GlusterFS process's, as those of heal are: no reserve binds them."""

    on: bool

    def plan(self, volume: VolumeModel) -> Plan:
        return Plan()

    def call(self, side: Side) -> None:
        side.trouble.be_internal(self.on)


_TROUBLE = Kill, Start, Inject, AsInternal
_TAKING = Create, Link, Rename, Write, Zerofill, Fallocate, Copy, Setxattr
_LOOKING = Close, Stat, Wait, Fstat, Read, Sync, Seek, Getxattr, *_TROUBLE
