"""The parts of pybd that need no brick."""

import errno
import itertools
import os
import sys
import threading
import time
import types
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from mmap import PAGESIZE
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glupy import OptionError, linux, loading
from glupy._bridge import ffi
from glupy.constants import GF_SET_ATTR_MTIME, MDATA_ATIME, MDATA_MTIME
from glupy.views import Frame, Iatt
from pybd import identity, mapping, pools
from pybd.device import data_ranges
from pybd.files import File, Files, Times
from pybd.identity import Identity
from pybd.mapping import Mapping
from pybd.pools.loop import LoopDevice, LoopPool
from pybd.ranges import not_zero, plan, rounded_up, union
from pybd.rules import Rules
from pybd.syncing import SharedSync

KIB, MIB = 1 << 10, 1 << 20


# ---- what is discarded and what is zeroed ----

near = st.sampled_from([0, 512, 4096, 65536, 131072]).flatmap(
    lambda base: st.integers(-3, 3).map(lambda delta: max(0, base + delta))
)
granules = st.sampled_from([512, 4096, 65536])


@given(near, near, near, granules, st.sampled_from([1, 8]))
def test_a_plan(offset: int, length: int, size: int, granule: int, units: int) -> None:
    """Every byte of the range that the file has reads as zero then, and no other of the file's."""
    unit = granule * units
    room = rounded_up(max(size, 1), 4096)
    todo = plan(offset, length, size, granule, room, unit)
    pieces = [*todo.edges, *([todo.discard] if todo.discard else [])]
    done = bytearray(b"\1" * max(room, offset + length))
    for first, behind in pieces:
        assert 0 <= first < behind <= room
        assert not any(done[n] == 0 for n in (first, behind - 1)), "a byte twice"
        done[first:behind] = bytes(behind - first)
    for at in {0, offset - 1, offset, offset + length - 1, offset + length, size - 1, size // 2}:
        if 0 <= at < size:
            assert done[at] == (0 if offset <= at < offset + length else 1)
    if todo.discard:
        first, behind = todo.discard
        assert first % granule == behind % granule == 0
        assert behind <= max(size, 1) + unit
    for first, behind in todo.edges:  # inside one granule
        assert first // granule == (behind - 1) // granule
    if offset >= size or not length:
        assert pieces == []


@given(near, st.lists(near, max_size=9), near)
def test_what_is_not_zero(at: int, bytes_set: list[int], length: int) -> None:
    """Whole pages and no others, but for the ends; pages that follow each other are one piece."""
    data = bytearray(length)
    for each in bytes_set:
        if each < length:
            data[each] = 1
    pages = {(at + n) // PAGESIZE for n, value in enumerate(data) if value}
    pieces = not_zero(bytes(data), at)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(pieces))
    for first, behind in pieces:
        assert at <= first < behind <= at + length
        assert first == at or first % PAGESIZE == 0
        assert behind == at + length or behind % PAGESIZE == 0
    found = {
        page
        for first, behind in pieces
        for page in range(first // PAGESIZE, -(-behind // PAGESIZE))
    }
    assert found == pages


def test_a_discard_to_the_end_takes_the_last_unit() -> None:
    assert plan(0, 10_000, 10_000, 512, 65536, 4096).discard == (0, 12288)
    assert plan(0, 9_999, 10_000, 512, 65536, 4096) == ((0, 9728), ((9728, 9999),))
    assert plan(0, 10_000, 10_000, 512, 10240, 4096).discard == (0, 10240)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=8), st.integers(0, 70))
def test_what_ranges_cover(ranges: list[tuple[int, int]], size: int) -> None:
    pieces = [(first, first + length) for first, length in ranges]
    found = union(pieces, size)
    covered = {at for first, behind in pieces for at in range(first, min(behind, size))}
    assert [at for piece in found for at in range(*piece)] == sorted(covered)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(found))


# ---- words ----


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("thin", ("thin", None)),
        ("lv\0", ("lv", None)),
        ("thin:10GB", ("thin", 10 << 30)),
        ("lv:3MB", ("lv", 3 * MIB)),
        ("thin:4096", ("thin", 4096)),
    ],
)
def test_a_mapping(text: str, found: tuple[str, int | None]) -> None:
    assert mapping.parse(text) == Mapping(*found)
    assert mapping.parse(str(Mapping(*found))) == Mapping(*found)


def test_a_mapping_of_a_file_that_is_merged() -> None:
    merging = Mapping("thin", 4096, mapping.Merging(bytes(range(16)), 3 * MIB))
    assert mapping.stored(str(merging)) == merging
    assert mapping.stored("thin:4096") == Mapping("thin", 4096)
    no_clients = mapping.parse, str(merging)
    for parse, text in no_clients, (mapping.stored, "thin:4096,merge=x"):
        with pytest.raises(OSError) as caught:
            parse(text)
        assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("text", ["", "thick", "thin:", "thin:x", "thin:1:2", ":1", "thin:-1"])
def test_what_is_no_mapping(text: str) -> None:
    with pytest.raises(OSError) as caught:
        mapping.parse(text)
    assert caught.value.errno == errno.EINVAL


def test_rules() -> None:
    rules = Rules.parse("*.img=thin:1MB  a?=lv *=thin")
    assert rules.find("x.img") == Mapping("thin", MIB)
    assert rules.find("ab") == Mapping("lv", None)
    assert rules.find("abc") == Mapping("thin", None)
    assert not Rules.parse(None)
    for wrong in "x", "=thin", "*.img=tape", "a=thin:":
        with pytest.raises(OptionError, match="option map"):
            Rules.parse(wrong)


names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(st.uuids(), st.uuids(), names | st.just("\udcff"))
def test_whose_a_device_is(volume: uuid.UUID, gfid: uuid.UUID, folder: str) -> None:
    one = Identity(str(volume), f"/{folder}")
    other = Identity(str(volume), f"/{folder}-copied")
    for half, name in (False, one.name(gfid.bytes)), (True, one.half(gfid.bytes)):
        assert identity.parse(name) == (one.brick, gfid.bytes, half)
    assert one.name(gfid.bytes) != other.name(gfid.bytes)
    assert one.tag != other.tag
    assert all(c.isascii() and (c.isalnum() or c in "_+.-/=!:&#") for c in one.tag)
    assert len(one.tag) < 1024


def test_names_of_others() -> None:
    for name in "", "x", "glupy.0123.x", f"glupy.{'0' * 16}.{'g' * 36}":
        assert identity.parse(name) is None


@pytest.mark.parametrize(
    "spec", ["", "loop", "loop:", "tape:x", "loop:relative", "lvm:a b", "lvm:/x"]
)
def test_what_is_no_pool(spec: str) -> None:
    with pytest.raises(OptionError, match="option pool"):
        pools.find(spec)


def test_a_device_has_its_tag_before_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A brick that is killed between the two would leave a device that is nobody's."""
    names: list[list[Path]] = []
    setxattr = os.setxattr

    def watched(*arguments: Any) -> None:
        names.append(list(tmp_path.iterdir()))
        setxattr(*arguments)

    monkeypatch.setattr(os, "setxattr", watched)
    pool = LoopPool(str(tmp_path), sector_size=512)
    pool.make("device", 1 << 20, "thin", "mine")
    assert names == [[]]
    known = pool.find("device")
    assert known is not None and known.tag == "mine"
    with pytest.raises(FileExistsError):
        pool.make("device", 1 << 20, "thin", "mine")


def test_a_pool_of_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point in the group ``glupy.pools``."""

    class Mine:
        def __init__(self, where: str, *, sector_size: int) -> None:
            self.said = where, sector_size

    module = types.ModuleType("a_package_with_a_pool")
    monkeypatch.setattr(module, "Mine", Mine, raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    registered = {"mine": f"{module.__name__}:Mine"}
    monkeypatch.setattr(loading, "registrations", lambda group: registered)
    found: Any = pools.find("mine:there", sector_size=4096)
    assert found.said == ("there", 4096)
    with pytest.raises(OptionError, match="'loop:/' is not one of mine:"):
        pools.find("loop:/")


# ---- what is remembered ----


def taken(times: Times) -> list[tuple[int, int]]:
    """atime, mtime and ctime that are to be stored."""
    found = times.taken()
    if found is None:
        return []
    names = "atime", "mtime", "ctime"
    return [(getattr(found, f"ia_{each}"), getattr(found, f"ia_{each}_nsec")) for each in names]


def test_times_never_go_back_but_by_hand() -> None:
    times = Times()
    assert times.taken() is None
    frame = Frame(ffi.new("call_stack_t *"))

    def touch(seconds: int, flags: int) -> None:
        frame.ctime = seconds, 0
        linux.touch(times.c, frame, flags)

    touch(5, MDATA_MTIME)
    touch(3, MDATA_MTIME | MDATA_ATIME)
    iatt = Iatt()
    iatt.ia_mtime, iatt.ia_atime, iatt.ia_ctime = 4, 9, 1
    linux.show_over(iatt, iatt, 1000, times.c, blocks=9)
    assert (iatt.ia_mtime, iatt.ia_atime, iatt.ia_ctime) == (5, 9, 5)
    assert (iatt.ia_size, iatt.ia_blocks) == (1000, 2)
    assert taken(times) == [(3, 0), (5, 0), (5, 0)]
    first = times.taken()
    touch(6, MDATA_MTIME)
    times.stored(first)
    assert taken(times) == [(0, 0), (6, 0), (6, 0)]
    times.stored(times.taken())
    assert times.taken() is None
    iatt = Iatt()  # read before the stub was told
    linux.show_over(iatt, iatt, 1000, times.c)
    assert (iatt.ia_mtime, iatt.ia_atime, iatt.ia_ctime) == (6, 3, 6)
    times.replaced(GF_SET_ATTR_MTIME)
    iatt = Iatt()
    linux.show_over(iatt, iatt, 1000, times.c)
    assert (iatt.ia_mtime, iatt.ia_atime, iatt.ia_ctime) == (0, 3, 6)
    assert times.taken() is None
    touch(4, MDATA_MTIME)
    assert taken(times)[1] == (4, 0)


def test_times_are_in_order_with_those_of_files(tmp_path: Path) -> None:
    """Since Linux 6.13 a file's times are finer than the clock that user space can read."""
    times, frame, file = Times(), Frame(ffi.new("call_stack_t *")), tmp_path / "file"
    frame.pid = 1
    last = 0
    for _ in range(1000):
        file.touch()
        before = file.stat().st_mtime_ns
        linux.touch(times.c, frame, MDATA_MTIME)
        seconds, more = taken(times)[1]
        assert last <= before <= (last := seconds * 1_000_000_000 + more)


@pytest.mark.parametrize("kind", ["call_stack_t *", "struct glupy_caller *"])
def test_times_that_a_fop_sets(kind: str) -> None:
    frame, times = Frame(ffi.new(kind)), Times()
    frame.pid = -1  # GlusterFS's own
    linux.touch(times.c, frame, MDATA_MTIME)
    assert times.taken() is None
    frame.pid, before = 1, time.time() - 1
    linux.touch(times.c, frame, MDATA_MTIME)  # no time of the client's: now
    atime, mtime, ctime = taken(times)
    assert atime == (0, 0)
    assert mtime == ctime
    assert before <= ctime[0] <= time.time()
    frame.ctime, frame.flags = (ctime[0] + 9, 7), MDATA_ATIME
    linux.touch(times.c, frame, MDATA_MTIME)  # the client says which
    assert taken(times) == [(ctime[0] + 9, 7), mtime, (ctime[0] + 9, 7)]


def attributes(ctime: int) -> Iatt:
    iatt = Iatt()
    iatt.ia_ctime, iatt.ia_nlink = ctime, ctime
    return iatt


def test_attributes_that_changed_while_somebody_looked() -> None:
    file = File(bytes(16), "thin")
    since = file.looking()
    change = file.changing()
    file.seen(attributes(1), since)
    assert not file.fresh
    file.changed(attributes(2), change)
    file.seen(attributes(1), since)
    assert file.stub is not None and file.stub.ia_nlink == 2


@pytest.mark.parametrize("stored_first", [True, False])
def test_attributes_of_fops_that_overlap(stored_first: bool) -> None:
    """Of two changes the last reply need not be of what posix did last."""
    file = File(bytes(16), "thin")

    def known() -> tuple[bool, int]:
        return file.fresh, file.stub.ia_nlink if file.stub is not None else 0

    file.seen(attributes(1), file.looking())
    assert known() == (True, 1)
    if stored_first:
        store, unlink = file.changing(), file.changing()
    else:
        unlink, store = file.changing(), file.changing()
    file.changed(None, unlink)
    file.seen(attributes(3), file.looking())  # for the next fop's reply: after the unlink
    assert known() == (False, 3)
    file.changed(attributes(2), store)
    assert known() == (False, 3)
    file.seen(attributes(3), file.looking())
    assert known() == (True, 3)


def test_one_file_for_a_gfid() -> None:
    files = Files()
    one = files.of(bytes(16), "thin")
    assert files.of(bytes(16), "lv") is one
    files.drop(one)
    assert files.of(bytes(16), "lv") is not one


# ---- the pool of loop files ----


@pytest.fixture
def pool(tmp_path: Path) -> LoopPool:
    return LoopPool(str(tmp_path))


def test_a_pool_of_loop_files(pool: LoopPool, tmp_path: Path) -> None:
    pool.make("a", 8 * MIB, "thin", "tag")
    assert pool.find("a") == ("a", "tag", 8 * MIB)
    assert pool.find("b") is None
    with pytest.raises(FileExistsError):
        pool.make("a", MIB, "thin", "other")
    assert pool.blocks("a") == 0
    pool.rename("a", "b")
    pool.resize("b", 4 * MIB)
    assert pool.devices() == [("b", "tag", 4 * MIB)]
    pool.make("c", MIB, "thin", "tag")
    with pytest.raises(FileExistsError):
        pool.rename("c", "b")
    pool.remove("c")
    pool.remove("c")
    room = pool.room()
    assert 0 < room.free < room.size
    assert room.st_dev == tmp_path.stat().st_dev


def test_a_loop_device(pool: LoopPool) -> None:
    pool.make("a", 4 * MIB, "thin", "tag")
    device = pool.open("a")
    assert (device.size, device.sector) == (4 * MIB, 512)
    os.pwrite(device.number, b"x" * MIB, MIB)
    assert data_ranges(device, 0, 4 * MIB) == [(MIB, 2 * MIB)]
    assert device.blocks() >= 2048
    device.discard(MIB + 100, MIB - 200, 4 * MIB)
    assert os.pread(device.number, MIB, MIB) == b"x" * 100 + bytes(MIB - 200) + b"x" * 100
    device.sync()
    assert device.blocks() <= 24
    device.zero(0, 512 * KIB + 1)
    device.sync()
    assert device.blocks() >= 1024
    pool.resize("a", 8 * MIB)
    device.measure()
    assert device.size == 8 * MIB
    assert device.frees


def test_syncs_are_shared() -> None:
    """Who comes while one is under way shares the next."""
    shared, runs, go_on = SharedSync(), [], threading.Event()
    begun = threading.Semaphore(0)

    def sync() -> None:
        runs.append(1)
        begun.release()
        assert go_on.wait(10)

    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(shared.run, sync)
        assert begun.acquire(timeout=10)
        others = [threads.submit(shared.run, sync) for _ in range(7)]
        deadline = time.monotonic() + 10
        while shared._asked < 8:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        go_on.set()
        for each in (first, *others):
            each.result()
    assert len(runs) == 2


def test_a_sync_that_fails_is_not_shared() -> None:
    shared = SharedSync()

    def fail() -> None:
        raise OSError(errno.EIO, "lost")

    with pytest.raises(OSError, match="lost"):
        shared.run(fail)
    runs: list[int] = []
    shared.run(lambda: runs.append(1))
    assert runs == [1]


Ways = dict[str, int]
"""The ways to zeros that a device has, and the errno that each fails with; 0: it does not."""


def asked(device: LoopDevice, freeing: Ways, zeroing: Ways, times: int = 2) -> list[str]:
    """What is asked of a device that has only these when it is to discard something."""
    found = []

    def way(name: str, number: int) -> Callable[..., None]:
        def take(*_: object) -> None:
            found.append(name)
            if number:
                raise OSError(number, os.strerror(number))

        return take

    device._freeing, device._zeroing = (
        [way(*each) for each in ways.items()] for ways in (freeing, zeroing)
    )
    for _ in range(times):
        try:
            device.discard(0, MIB, MIB)
        except OSError as error:
            found.append(errno.errorcode[error.errno or 0])
    return found


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EINVAL])
def test_a_way_to_zeros_that_is_not_supported_is_not_tried_again(
    pool: LoopPool, number: int
) -> None:
    pool.make("a", MIB, "thin", "tag")
    device = pool.open("a")
    assert asked(device, {"a": number, "b": 0}, {"c": 0}) == ["a", "b", "b"]
    assert device.frees
    assert asked(device, {"a": number, "b": number}, {"c": 0}) == ["a", "b", "c", "c"]
    assert not device.frees


def test_a_way_to_zeros_that_fails_is_tried_again(pool: LoopPool) -> None:
    """So are those before it that say they are not supported: they may say so as it has failed."""
    pool.make("a", MIB, "thin", "tag")
    device = pool.open("a")
    assert asked(device, {"a": errno.EIO, "b": 0}, {}) == ["a", "EIO"] * 2
    both = {"a": errno.EOPNOTSUPP, "b": errno.EIO}
    assert asked(device, both, {"c": 0}) == ["a", "b", "EIO"] * 2
    assert asked(device, {"a": errno.EOPNOTSUPP}, {"c": errno.EINVAL}) == ["a", "c", "EIO"] * 2
    assert device.frees


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_the_sectors_of_a_loop_device(tmp_path: Path, sector_size: int) -> None:
    pool = LoopPool(str(tmp_path), sector_size=sector_size)
    pool.make("a", MIB, "thin", "tag")
    assert pool.open("a").sector == sector_size


def test_a_closed_device_is_detached(pool: LoopPool, tmp_path: Path) -> None:
    pool.make("a", MIB, "thin", "tag")
    for _ in range(3):  # each can be opened at once when the one before is gone
        device = pool.open("a")
        os.pwrite(device.number, b"x", 0)
        del device
    backing = [
        each.read_text().strip() for each in Path("/sys/block").glob("loop*/loop/backing_file")
    ]
    assert str(tmp_path / "a") not in backing


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_a_sector_size_that_is_none(tmp_path: Path, size: int) -> None:
    with pytest.raises(OptionError, match="sector-size"):
        LoopPool(str(tmp_path), sector_size=size)


def test_no_pool(tmp_path: Path) -> None:
    pool = LoopPool(str(tmp_path / "missing"))
    for call in (
        pool.check,
        pool.devices,
        pool.room,
        lambda: pool.make("a", MIB, "thin", "tag"),
        lambda: pool.find("a"),
    ):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.ENODEV
