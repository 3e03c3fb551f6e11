"""What a volume should be after a sequence of fops: its names, the files' bytes and their space."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from glupy.testing.machine import Model

PERIOD = 251
"""A prime, so that no block of a pattern is like another."""
_BYTES = bytes(n % PERIOD + 1 for n in range(4 * 1024 * 1024))


def pattern(seed: int, length: int) -> bytes:
    """Bytes that are never zero, and differ from seed to seed and from byte to byte."""
    start = seed % PERIOD
    if start + length <= len(_BYTES):
        return _BYTES[start : start + length]
    whole = _BYTES * (length // len(_BYTES) + 2)
    return whole[start : start + length]


@dataclass(frozen=True)
class Promises:
    """What of a target may be asserted; ``why`` says for each thing that is not, by its name.

    ``block_size``: what a discard frees at least, in bytes; 0: the file system's own.
    ``metadata_blocks``: how many of them a file may use beside its data. ``blocks``: st_blocks are
    the file's allocation, ``capped`` by its size. ``delayed``: only after a fsync. ``allocates``:
    fallocate allocates. ``attributes``: replies carry attributes before and after; but those of
    ``without_pre`` (fops) only those after. ``seeks``: lseek finds data and holes. ``times``: what
    changes a file sets its mtime and ctime, by this machine's clock. ``copies``: copy_file_range
    works, and ``copy_errnos``: says why it does not. ``unsupported``: fops that may be refused with
    EOPNOTSUPP.
    """

    block_size: int = 0
    metadata_blocks: int = 2
    blocks: bool = True
    capped: bool = True
    delayed: bool = False
    allocates: bool = True
    attributes: bool = True
    without_pre: frozenset[str] = frozenset()
    seeks: bool = True
    times: bool = True
    copies: bool = True
    copy_errnos: bool = True
    unsupported: frozenset[str] = frozenset()
    why: dict[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class FileModel(Model):
    """One file: its bytes and space, its names and xattrs."""

    links: int = 1
    xattrs: dict[str, bytes] = field(default_factory=dict)

    def look_at(self, offset: int) -> None:
        """Something happens there: the next thing may, too."""
        self.last = offset

    def discard(self, offset: int, end: int) -> None:
        self.look_at(offset)
        super().discard(offset, end)

    def overwrite(self, offset: int, data: bytes) -> None:
        """Bytes came in by a copy, which may share or skip space: of that nothing is known."""
        if not data:
            return
        end = offset + len(data)
        self.grow(end)
        self.data[offset:end] = data
        touched = self.touched(offset, end)
        self.must -= touched
        self.may |= touched


@dataclass(eq=False)
class Handle:
    """An open file, and the flags of its open(2)."""

    file: FileModel
    flags: int

    @property
    def reads(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_WRONLY

    @property
    def writes(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_RDONLY


class VolumeModel:
    """The root directory of a volume, and who has what open."""

    def __init__(self, promises: Promises, block_size: int) -> None:
        self.promises = promises
        self.block_size = promises.block_size or block_size
        self.names: dict[str, FileModel] = {}
        self.waited = 0
        """The time, in nanoseconds, up to which `Wait` has waited."""
        self.handles: dict[int, Handle] = {}

    def new_file(self) -> FileModel:
        """A file that nobody has written to yet."""
        blocks, delayed = self.promises.metadata_blocks, self.promises.delayed
        return FileModel(self.block_size, blocks, bytearray(), set(), set(), delayed=delayed)

    def files(self) -> Iterator[tuple[str | int, FileModel]]:
        """Each file that can be reached, once: by a name, or else by a handle."""
        places: list[tuple[str | int, FileModel]] = [*self.names.items()]
        places += [(number, handle.file) for number, handle in self.handles.items()]
        seen: set[int] = set()
        for where, file in places:
            if id(file) not in seen:
                seen.add(id(file))
                yield where, file
