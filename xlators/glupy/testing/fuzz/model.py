"""What a volume should be after a sequence of fops: its names, the files' bytes and their space."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from stat import S_IMODE, S_ISREG
from typing import Any, NamedTuple

PERIOD = 251
"""A prime, so that no block of a pattern is like another."""
_BYTES = bytes(n % PERIOD + 1 for n in range(4 << 20))
_ZEROS = bytes(4 << 20)


def pattern(seed: int, length: int) -> bytes:
    """Bytes that are never zero, and differ from seed to seed and from byte to byte."""
    start = seed % PERIOD
    if start + length <= len(_BYTES):
        return _BYTES[start : start + length]
    whole = _BYTES * (length // len(_BYTES) + 2)
    return whole[start : start + length]


@dataclass(frozen=True)
class Promises:
    """What of a target may be asserted; ``why`` says for each thing that is not, by its name, and
    for what else is not done there.

    ``block_size``: what a discard frees at least, in bytes; 0: the file system's own.
    ``metadata_blocks``: how many of them a file may use beside its data. ``blocks``: st_blocks are
    the file's allocation, ``capped`` by its size. ``delayed``: only after a fsync. ``allocates``:
    fallocate allocates. ``thick``: a file has all of its blocks from the start. ``attributes``:
    replies carry attributes before and after; but those of ``without_pre`` (fops) only those after.
    ``read_ends``: a read ends where the file does, or else zeros may follow. ``discard_ends``: so
    does a discard, or else the file grows to where that ends. ``appends``: O_APPEND works, and
    ``truncating_opens``: O_TRUNC does; ``append_discards``: by a handle with O_APPEND a discard is
    of the range that it says. ``empty_ranges``: fops on ranges without a length come back,
    ``far_fallocates``: so do those of ranges that begin past the end. ``checked_flags``: what a
    handle may not do is refused. ``seeks``: lseek finds data and holes. ``times``: what changes a
    file sets its mtime and ctime, by this machine's clock. ``growing_times``: so does a truncate
    that makes one longer, ``cutting_times``: one that cuts behind ``cuts_within``. ``set_times``: a
    time that a client sets is told, though it be an earlier one. ``lasting_times``: times outlive
    the brick's process, though nothing has ``stored`` them. ``steady``: which of the two stay
    as the last reply told them, as long as nothing changes the file. ``handles``: a file's handle
    in ``.glusterfs`` goes with its last name.
    ``same_names``: a rename from one name of a file to another does nothing. ``links_again``: a
    file can be linked to a name that a rename took from it. ``nameless``: the
    attributes of an open file can be set when it has no name any more, and ``unlinked``: it can be
    used at all, ``replaced``: so can one whose name another has taken; ``failed_setattrs``: an
    attempt may fail without harm. ``links``: st_nlink is the number of a file's names.
    ``new_rights``: a new file has the mode that is asked for, and its maker's owner and group.
    ``old_sizes``: fops whose replies may have a size from before the last write (and where there
    are no ``new_rights``, a mode and an owner from before they changed), ``old_times``:
    times from before themselves. ``copies``: copy_file_range works, ``source_offsets``: from an
    offset, too, not from a file's beginning only; and ``copy_errnos``: says why it does not.
    ``wrong_sizes``: a truncate that shortens a file to one of those cuts off too much, or leaves
    some. ``cuts_within``: so does one from one range of so many bytes into another; 0: none does.
    ``unsupported``: fops that may be refused with EOPNOTSUPP. ``refused_when_full``: fops that a
    full store may refuse, beside those that take space. ``refused_times``: what it refuses has set
    no times. ``refused_when_readonly``: the same of a store that is read-only, beside those that
    change something; ``failed_handles``: one by which it has refused a change is as good as before.
    ``together``: two calls can be made at once.
    """

    block_size: int = 0
    metadata_blocks: int = 2
    blocks: bool = True
    capped: bool = True
    delayed: bool = False
    allocates: bool = True
    thick: bool = False
    attributes: bool = True
    without_pre: frozenset[str] = frozenset()
    read_ends: bool = True
    discard_ends: bool = True
    appends: bool = True
    truncating_opens: bool = True
    append_discards: bool = True
    empty_ranges: bool = True
    far_fallocates: bool = True
    checked_flags: bool = True
    seeks: bool = True
    times: frozenset[str] = frozenset({"mtime", "ctime"})
    growing_times: bool = True
    cutting_times: bool = True
    set_times: bool = True
    lasting_times: bool = True
    steady: frozenset[str] = frozenset({"mtime", "ctime"})
    handles: bool = True
    same_names: bool = True
    links_again: bool = True
    nameless: bool = True
    unlinked: bool = True
    replaced: bool = True
    failed_setattrs: bool = True
    links: bool = True
    new_rights: bool = True
    old_sizes: frozenset[str] = frozenset()
    old_times: frozenset[str] = frozenset()
    copies: bool = True
    source_offsets: bool = True
    copy_errnos: bool = True
    wrong_sizes: frozenset[int] = frozenset()
    cuts_within: int = 0
    unsupported: frozenset[str] = frozenset()
    refused_when_full: frozenset[str] = frozenset()
    refused_when_readonly: frozenset[str] = frozenset()
    failed_handles: bool = True
    refused_times: bool = True
    together: bool = True
    why: dict[str, str] = field(default_factory=dict)

    def but(self, **given: tuple[Any, str]) -> "Promises":
        """The same, but for what is given: its value, and why."""
        values = {name: value for name, (value, _) in given.items()}
        return replace(self, **values).because(**{name: why for name, (_, why) in given.items()})

    def because(self, **why: str) -> "Promises":
        """The same, with more to say on what is not asserted."""
        return replace(self, why=self.why | why)

    def meet(self, other: "Promises") -> "Promises":
        """What both promise."""
        both: dict[str, Any] = {}
        for each in fields(self):
            ours, theirs = getattr(self, each.name), getattr(other, each.name)
            if each.name in ("times", "steady"):
                both[each.name] = ours & theirs
            elif isinstance(ours, frozenset) or each.name in ("why", "delayed", "thick"):
                both[each.name] = ours | theirs
            elif isinstance(ours, bool):
                both[each.name] = ours and theirs
            else:
                both[each.name] = max(ours, theirs)
        return Promises(**both)


class Rights(NamedTuple):
    """Who may do what with a file."""

    mode: int
    uid: int
    gid: int

    def __str__(self) -> str:
        return f"mode {self.mode:#o} of {self.uid}:{self.gid}"


NEW_FILE = Rights(0o644, 0, 0)


@dataclass(eq=False)
class FileModel:
    """One file: its bytes, which of its blocks are in use, its names and xattrs.

    ``must`` are the blocks that are in use for sure, ``may`` those that can be (bit n is block n);
    the rest are holes. The difference is what file systems are free to do past the end of a file.
    ``last`` is where something happened last. ``times``: mtime and ctime as the last reply told
    them, unless they may have changed; ``since``: what they are not before, ``until``: not after.
    ``stored``: a fsync or a close came after the last change, without a fop that failed.
    ``taken``: names that others took from it, by a rename.
    ``inode`` is its number, and ``rights``: None until they were told. ``handle`` is its path in
    ``.glusterfs``, known where a brick is on this machine.
    """

    promises: Promises
    block_size: int
    data: bytearray = field(default_factory=bytearray)
    must: int = 0
    may: int = 0
    last: int = 0
    links: int = 1
    taken: set[str] = field(default_factory=set)
    xattrs: dict[str, bytes] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)
    since: dict[str, int] = field(default_factory=dict)
    until: dict[str, int] = field(default_factory=dict)
    stored: bool = True
    inode: int | None = None
    handle: str | None = None
    rights: Rights | None = None

    @property
    def size(self) -> int:
        return len(self.data)

    # ---- what happens to it ----

    def look_at(self, offset: int) -> None:
        """Something happens there: the next thing may, too."""
        self.last = offset

    def put(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        self.grow(end)
        self.data[offset:end] = data
        self.allocate(offset, end)

    def overwrite(self, offset: int, data: bytes) -> None:
        """Bytes came in by a copy, which may share or skip space: of that nothing is known."""
        if not data:
            return
        end = offset + len(data)
        self.grow(end)
        self.data[offset:end] = data
        touched = self.touched(offset, end)
        self.must &= ~touched
        self.may |= touched
        self._have_all()

    def grow(self, size: int) -> None:
        self.data.extend(bytes(max(0, size - self.size)))
        self._have_all()

    def allocate(self, offset: int, end: int) -> None:
        self.last = offset
        touched = self.touched(offset, end)
        self.must |= touched
        self.may |= touched
        self._have_all()

    def discard(self, offset: int, end: int) -> None:
        self.last = offset
        if not self.promises.discard_ends:
            self.grow(end)
        last = min(end, self.size)
        if offset < last:
            self.data[offset:last] = bytes(last - offset)
        freed = self.inside(offset, end)
        self.must &= ~freed
        self.may &= ~(freed & self.touched(0, self.size))
        if end >= self.size:  # all that the last block has: freed or zeroed
            self.must &= ~self.beginning(offset, self.touched(offset, end))
        self._have_all()

    def truncate(self, size: int) -> None:
        if size > self.size:
            self.grow(size)
            return
        shrunk = size < self.size
        del self.data[size:]
        beyond = self.beginning(size, self.may)
        self.must &= ~beyond
        if shrunk:
            self.may &= ~beyond
        self._have_all()

    def _have_all(self) -> None:
        if self.promises.thick:
            self.must = self.may = self.touched(0, self.size)

    def forget_times(self, *names: str) -> None:
        """These may be others now."""
        for name in names:
            self.times.pop(name, None)
            self.until.pop(name, None)

    # ---- what there is ----

    def touched(self, offset: int, end: int) -> int:
        """The blocks with a byte in this range."""
        return _bits(offset // self.block_size, -(-end // self.block_size)) if offset < end else 0

    def inside(self, offset: int, end: int) -> int:
        """The blocks wholly in this range."""
        return _bits(-(-offset // self.block_size), end // self.block_size)

    def beginning(self, offset: int, blocks: int) -> int:
        """Those of the blocks that begin at this offset or after it."""
        first = -(-offset // self.block_size)
        return blocks >> first << first

    def is_zero(self, offset: int, end: int) -> bool:
        with memoryview(self.data)[offset:end] as part:
            return _ZEROS.startswith(part) if len(part) <= len(_ZEROS) else not any(part)

    def check(self, stat: os.stat_result, when: str, *, synced: bool = False) -> str | None:
        """What is wrong with attributes that came through the target; None if nothing is.

        No iatt has more blocks than its size needs (iatt_from_stat cuts off what is allocated
        past the end of a file), unless they come from a file system (not ``capped``)."""
        hidden = self.promises.delayed and not synced
        return self._check(stat, when, ceiling=-(-self.size // 512), hidden=hidden)

    def check_rights(self, stat: os.stat_result, when: str) -> str | None:
        """What is wrong with its mode and owner; None if nothing is."""
        rights = Rights(S_IMODE(stat.st_mode), stat.st_uid, stat.st_gid)
        if self.rights is None:
            self.rights = rights
        return None if rights == self.rights else f"{when}: {rights}, not {self.rights}"

    def check_inode(self, stat: os.stat_result, when: str) -> str | None:
        """Whether it is another file, or none: what is wrong, or None."""
        if not S_ISREG(stat.st_mode):
            return f"{when}: mode {stat.st_mode:#o} is no file's"
        if self.inode is None:
            self.inode = stat.st_ino
        return (
            None if stat.st_ino == self.inode else f"{when}: inode {stat.st_ino}, not {self.inode}"
        )

    def check_backend(self, stat: os.stat_result) -> str | None:
        """What is wrong with the attributes that the file has on a brick."""
        if wrong := self.check_rights(stat, "on the brick"):
            return wrong
        return self._check(stat, "on the brick", ceiling=None, hidden=False)

    def _check(
        self, stat: os.stat_result, when: str, *, ceiling: int | None, hidden: bool
    ) -> str | None:
        if stat.st_size != self.size:
            return f"{when}: size {stat.st_size}, not {self.size}"
        sectors = self.block_size // 512
        least = 0 if hidden else self.must.bit_count() * sectors
        most = (self.may.bit_count() + self.promises.metadata_blocks) * sectors
        if ceiling is not None:
            least = min(least, ceiling)
            most = min(most, ceiling) if self.promises.capped else most
        if least <= stat.st_blocks <= most:
            return None
        return f"{when}: {stat.st_blocks} blocks of 512 bytes, not {least} to {most}"


def _bits(first: int, behind: int) -> int:
    return (1 << behind) - (1 << first) if first < behind else 0


@dataclass(eq=False)
class Handle:
    """An open file, the flags of its open(2), and whether a change by it has failed."""

    file: FileModel
    flags: int
    failed: bool = False

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
        self.gone: list[FileModel] = []
        """Files that have had a name."""
        self.handles: dict[int, Handle] = {}
        self.waited = 0
        """The time, in nanoseconds, up to which `Wait` has waited."""

    def new_file(self) -> FileModel:
        """A file that nobody has written to yet."""
        rights = NEW_FILE if self.promises.new_rights else None
        return FileModel(self.promises, self.block_size, rights=rights)

    def remove(self, name: str) -> None:
        """A name goes, and with the last one the file."""
        file = self.names.pop(name)
        file.links -= 1
        if not file.links:
            self.gone.append(file)

    def files(self) -> Iterator[tuple[str | int, FileModel]]:
        """Each file that can be reached, once: by a name, or else by a handle."""
        places: list[tuple[str | int, FileModel]] = [*self.names.items()]
        places += [(number, handle.file) for number, handle in self.handles.items()]
        seen: set[int] = set()
        for where, file in places:
            if id(file) not in seen:
                seen.add(id(file))
                yield where, file
