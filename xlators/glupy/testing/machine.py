"""A Hypothesis state machine for the fops on a file's data, against a model in bytes.

It writes, reads, discards, allocates, zeroes, truncates and seeks through any gfapi client, at
offsets around block boundaries, and checks after every step that

- the contents are the model's, to the byte, and so is the size;
- a refused call changed nothing;
- the attributes before and after a fop fit the model before and after it;
- the blocks in use are those that must be, and not more than may be: what was discarded is gone;
- SEEK_DATA and SEEK_HOLE hide no data and report no hole as data.

    def test_machine(client):
        run(lambda: FopMachine(client, "/file"), examples=100)
"""

import errno
import os
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar, cast

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from glupy.testing.gfapi import Client, File, Reply

T = TypeVar("T")

KIB, MIB = 1 << 10, 1 << 20
BOUNDARIES = (0, 512, 4 * KIB, 8 * KIB, 64 * KIB, 128 * KIB, MIB)
READ_SIZE = 256 * KIB
REPLY_TIMEOUT = 30.0


class DataFile(Protocol):
    """The part of `File` that the machine uses."""

    def close(self) -> None: ...
    def fstat(self) -> os.stat_result: ...
    def pread(self, length: int, offset: int) -> Reply[bytes]: ...
    def pwrite(self, data: bytes, offset: int) -> Reply[int]: ...
    def pwrite_async(self, data: bytes, offset: int) -> Future[Reply[int]]: ...
    def discard(self, offset: int, length: int) -> None: ...
    def discard_async(self, offset: int, length: int) -> Future[Reply[int]]: ...
    def fallocate(self, offset: int, length: int, *, keep_size: bool = False) -> None: ...
    def zerofill(self, offset: int, length: int) -> None: ...
    def zerofill_async(self, offset: int, length: int) -> Future[Reply[int]]: ...
    def ftruncate(self, length: int) -> Reply[int]: ...
    def ftruncate_async(self, length: int) -> Future[Reply[int]]: ...
    def fsync(self) -> Reply[int]: ...
    def fdatasync(self) -> Reply[int]: ...
    def lseek(self, offset: int, whence: int) -> int: ...


class Origin(StrEnum):
    """What a `Place` is counted from."""

    START = "start of the file"
    END = "end of the file"
    LAST = "last range that was allocated"


class Place(NamedTuple):
    """An offset near a boundary."""

    origin: Origin
    boundary: int
    delta: int

    def offset(self, model: "Model") -> int:
        origin = {Origin.START: 0, Origin.END: model.size, Origin.LAST: model.last}[self.origin]
        return max(0, origin + self.boundary + self.delta)


deltas = st.integers(-1, 1)
places = st.builds(Place, st.just(Origin.START), st.sampled_from(BOUNDARIES), deltas) | st.builds(
    Place, st.sampled_from(Origin), st.sampled_from((0, 4 * KIB, -4 * KIB)), deltas
)
lengths = st.builds(
    lambda boundary, delta: max(1, boundary + delta),
    st.sampled_from(BOUNDARIES),
    deltas,
)


@dataclass
class Model:
    """What a file should be: its bytes, and which of its blocks are in use.

    `must` are the blocks that are in use for sure, `may` those that can be; the rest are holes.
    The difference is what file systems are free to do past the end of a file. `last` is where
    something was allocated last. `delayed`: what was written is only seen in use after a fsync.
    """

    block_size: int
    metadata_blocks: int
    data: bytearray
    must: set[int]
    may: set[int]
    last: int = 0
    delayed: bool = False

    @property
    def size(self) -> int:
        return len(self.data)

    def touched(self, offset: int, end: int) -> set[int]:
        """The blocks with a byte in this range."""
        if offset >= end:
            return set()
        return set(range(offset // self.block_size, -(-end // self.block_size)))

    def inside(self, offset: int, end: int) -> set[int]:
        """The blocks wholly in this range."""
        return set(range(-(-offset // self.block_size), end // self.block_size))

    def put(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        self.grow(end)
        self.data[offset:end] = data
        self.allocate(offset, end)

    def grow(self, size: int) -> None:
        self.data.extend(bytes(max(0, size - self.size)))

    def allocate(self, offset: int, end: int) -> None:
        self.last = offset
        self.must |= self.touched(offset, end)
        self.may |= self.touched(offset, end)

    def discard(self, offset: int, end: int) -> None:
        last = min(end, self.size)
        if offset < last:
            self.data[offset:last] = bytes(last - offset)
        freed = self.inside(offset, end)
        self.must -= freed
        self.may -= {block for block in freed if block * self.block_size < self.size}
        if end >= self.size:  # all that the last block has: freed or zeroed
            self.must -= {
                block for block in self.touched(offset, end) if block * self.block_size >= offset
            }

    def truncate(self, size: int) -> None:
        if size > self.size:
            self.grow(size)
            return
        shrunk = size < self.size
        del self.data[size:]
        beyond = {block for block in self.may if block * self.block_size >= size}
        self.must -= beyond
        if shrunk:
            self.may -= beyond

    def is_zero(self, offset: int, end: int) -> bool:
        return not any(self.data[offset:end])

    def check(
        self, stat: os.stat_result | None, when: str, *, synced: bool = False, capped: bool = True
    ) -> None:
        """Compare attributes that came through GlusterFS with what this file should have.

        Unless they are not ``capped``, or may not be: then as they come from a file system."""
        assert stat is not None, f"no attributes {when}"
        # No iatt has more blocks than its size needs: iatt_from_stat cuts off what is allocated
        # past the end of a file.
        hidden = self.delayed and not synced
        self._check(stat, when, ceiling=-(-self.size // 512), hidden=hidden, capped=capped)

    def check_backend(self, path: Path) -> None:
        """Compare the attributes of the file on the brick."""
        self._check(path.stat(), "on the brick", ceiling=None, hidden=False)

    def _check(
        self,
        stat: os.stat_result,
        when: str,
        *,
        ceiling: int | None,
        hidden: bool,
        capped: bool = True,
    ) -> None:
        assert stat.st_size == self.size, f"{when}: size {stat.st_size}, not {self.size}"
        sectors = self.block_size // 512
        least = 0 if hidden else len(self.must) * sectors
        most = (len(self.may) + self.metadata_blocks) * sectors
        if ceiling is not None:
            least, most = min(least, ceiling), min(most, ceiling) if capped else most
        assert least <= stat.st_blocks <= most, (
            f"{when}: {stat.st_blocks} blocks of 512 bytes, not {least} to {most}"
        )


class FopMachine(RuleBasedStateMachine):
    """The machine; one instance is one example, on a new file at `path` (in the volume's root).

    `backend` is the brick's folder, if it is on this machine: only there can be seen what is
    allocated past the end of a file. `wrap` may put something between the machine and the file.
    `metadata_blocks` is how many blocks the file system may use for a file besides its data
    (ext4: one for extents, one for extended attributes). `without_pre` are the fops (discard,
    zerofill) that the leaf is known to answer without the attributes before them. `prepare` may do
    something with the new file first. `block_size` is what a discard frees at least, the volume's
    own unless told otherwise; `delayed` as in `Model`; `allocates` says whether fallocate does.
    """

    def __init__(
        self,
        client: Client,
        path: str,
        *,
        backend: Path | None = None,
        wrap: Callable[[File], DataFile] = lambda file: file,
        metadata_blocks: int = 2,
        without_pre: Collection[str] = (),
        prepare: Callable[[Client, str], None] = lambda client, path: None,
        block_size: int | None = None,
        delayed: bool = False,
        allocates: bool = True,
    ) -> None:
        super().__init__()
        self.client, self.path, self.wrap = client, path, wrap
        self.backend = backend and backend / path.strip("/")
        self.without_pre = without_pre
        self.writes = 0
        self.checked = True
        self.allocates = allocates
        block_size = block_size or client.statvfs().f_bsize
        self.model = Model(block_size, metadata_blocks, bytearray(), set(), set(), delayed=delayed)
        self.file: DataFile = wrap(client.creat(path, os.O_RDWR | os.O_EXCL))
        prepare(client, path)

    def teardown(self) -> None:
        self.file.close()
        self.client.unlink(self.path)

    @rule(place=places, length=lengths, later=st.booleans())
    def write(self, place: Place, length: int, later: bool) -> None:
        offset, data = place.offset(self.model), self._pattern(length)
        self.model.check(self.file.fstat(), "before write")
        if later:
            reply = self.file.pwrite_async(data, offset).result(REPLY_TIMEOUT)
        else:
            reply = self.file.pwrite(data, offset)
        assert reply.value == length, "short write"
        self._replied(reply, lambda model: model.put(offset, data), "write")

    @rule(place=places, length=lengths)
    def read(self, place: Place, length: int) -> None:
        offset = place.offset(self.model)
        reply = self.file.pread(length, offset)
        assert reply.value == self.model.data[offset : offset + length]
        self.model.check(reply.post, "after read")

    @rule(place=places, length=lengths, later=st.booleans())
    def discard(self, place: Place, length: int, later: bool) -> None:
        offset = place.offset(self.model)

        def change(model: Model) -> None:
            model.discard(offset, offset + length)

        if later:
            reply = self.file.discard_async(offset, length).result(REPLY_TIMEOUT)
            self._replied(reply, change, "discard")
        else:
            self.file.discard(offset, length)
            self._done(change)
        for block in sorted(self.model.inside(offset, min(offset + length, self.model.size)))[:1]:
            self._seek(block * self.model.block_size)

    @rule(place=places, length=lengths, keep_size=st.booleans())
    def fallocate(self, place: Place, length: int, keep_size: bool) -> None:
        offset = place.offset(self.model)

        def change(model: Model) -> None:
            if not keep_size:
                model.grow(offset + length)
            if self.allocates:
                model.allocate(offset, offset + length)

        grows = not keep_size and offset + length > self.model.size
        try:
            self.file.fallocate(offset, length, keep_size=keep_size)
        except OSError as error:
            assert error.errno == errno.EOPNOTSUPP and not self.allocates and not grows, error
        else:
            assert self.allocates or grows, "fallocate succeeded without allocating"
            self._done(change)

    @rule(place=places, length=lengths, later=st.booleans())
    def zerofill(self, place: Place, length: int, later: bool) -> None:
        offset = place.offset(self.model)

        def change(model: Model) -> None:
            model.put(offset, bytes(length))

        if later:
            reply = self.file.zerofill_async(offset, length).result(REPLY_TIMEOUT)
            self._replied(reply, change, "zerofill")
        else:
            self.file.zerofill(offset, length)
            self._done(change)

    @rule(place=places, later=st.booleans())
    def truncate(self, place: Place, later: bool) -> None:
        size = place.offset(self.model)
        if later:
            reply = self.file.ftruncate_async(size).result(REPLY_TIMEOUT)
        else:
            reply = self.file.ftruncate(size)
        self._replied(reply, lambda model: model.truncate(size), "truncate")

    @rule(place=places)
    def seek(self, place: Place) -> None:
        self._seek(place.offset(self.model))

    @rule(data_only=st.booleans())
    def sync(self, data_only: bool) -> None:
        reply = self.file.fdatasync() if data_only else self.file.fsync()
        self._replied(reply, lambda model: None, "fsync")
        self.model.check(self.file.fstat(), "after fsync", synced=True)

    @rule()
    def reopen(self) -> None:
        self.file.close()
        self.file = self.wrap(self.client.open(self.path))
        self.checked = False

    @rule(place=places)
    def refused(self, place: Place) -> None:
        """A range without a length is nothing to discard or to allocate."""
        offset = place.offset(self.model)
        for call in (
            lambda: self.file.discard(offset, 0),
            lambda: self.file.discard_async(offset, 0).result(REPLY_TIMEOUT),
            lambda: self.file.fallocate(offset, 0),
        ):
            try:
                call()
            except OSError as error:
                assert error.errno == errno.EINVAL, error
            else:
                raise AssertionError("a length of 0 was accepted")
        self.checked = False

    @invariant()
    def holds(self) -> None:
        """The whole file is the model's, after each rule that could have changed it."""
        if self.checked:
            return
        self.model.check(self.file.fstat(), "fstat")
        if self.backend:
            self.model.check_backend(self.backend)
        for offset in range(0, self.model.size + 1, READ_SIZE):
            got = self.file.pread(READ_SIZE, offset).value
            expected = self.model.data[offset : offset + READ_SIZE]
            assert got == expected, _difference(got, expected, offset)
        self.checked = True

    def _replied(self, reply: Reply[int], change: Callable[[Model], None], what: str) -> None:
        if what in self.without_pre:
            assert reply.pre is None, f"attributes before {what}, which this leaf has not"
        else:
            self.model.check(reply.pre, f"before {what}")
        self._done(change)
        self.model.check(reply.post, f"after {what}")
        now = self.file.fstat()
        pre, post = reply.pre or now, reply.post
        assert post is not None and post.st_mtime_ns >= pre.st_mtime_ns
        assert post.st_ino == pre.st_ino
        assert post.st_mtime_ns == now.st_mtime_ns, f"after {what}: mtime is not the file's"
        assert post.st_ctime_ns == now.st_ctime_ns, f"after {what}: ctime is not the file's"

    def _done(self, change: Callable[[Model], None]) -> None:
        change(self.model)
        self.checked = False

    def _pattern(self, length: int) -> bytes:
        """Bytes that are never zero, and differ from write to write and from byte to byte."""
        self.writes += 1
        period = bytes((self.writes + n) % 251 + 1 for n in range(251))
        return (period * (length // 251 + 1))[:length]

    def _seek(self, offset: int) -> None:
        model = self.model
        data = self._sought(offset, os.SEEK_DATA)
        hole = self._sought(offset, os.SEEK_HOLE)
        if offset >= model.size:
            assert data is None and hole is None, "found something past the end"
            return
        assert model.is_zero(offset, model.size if data is None else data), "SEEK_DATA hid data"
        if data is not None:
            assert offset <= data < model.size
            assert data // model.block_size in model.may, "SEEK_DATA found a hole"
        assert hole is not None and offset <= hole <= model.size
        assert model.touched(offset, hole) <= model.may, "SEEK_HOLE passed over a hole"
        block_end = (hole // model.block_size + 1) * model.block_size
        assert model.is_zero(hole, block_end), "SEEK_HOLE found data"

    def _sought(self, offset: int, whence: int) -> int | None:
        try:
            return self.file.lseek(offset, whence)
        except OSError as error:
            assert error.errno == errno.ENXIO, error
            return None


def run(
    machine: Callable[[], FopMachine], *, examples: int, steps: int = 30, shrink: bool = True
) -> None:
    """Run a machine as a test: raises what its first failing (and smallest) example raises.

    Without `shrink` the first failing example is good enough, and is not remembered for the next
    run: for a machine that is expected to fail."""
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    if not shrink:
        chosen = settings(chosen, phases=[Phase.generate], database=None)
    # any callable will do, whatever the annotation says
    run_state_machine_as_test(cast("type[RuleBasedStateMachine]", machine), settings=chosen)


def _difference(got: bytes, expected: bytes | bytearray, offset: int) -> str:
    if len(got) != len(expected):
        return f"{len(got)} bytes at {offset}, not {len(expected)}"
    pairs = zip(got, expected, strict=True)
    first = next(n for n, (one, other) in enumerate(pairs) if one != other)
    return f"byte {offset + first} is {got[first]:#04x}, not {expected[first]:#04x}"
