"""Every type of volume that gluster makes, with pyposix under all bricks or under every other one.

A volume of each lives through the tests of this file in their order, and one load goes on in it:
what was written in one test must be there in the next. Tests of the other cases are `long`.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

import volfiles
from glupy import stores
from glupy.testing import qemu
from glupy.testing.gfapi import Client
from glupy.testing.logs import LogChecker
from glupy.testing.processes import ProcessError
from glupy.testing.volumes import Glusterd, Volume
from glupy.testing.waiting import wait_until
from glupy_tools import gluster, volume_state

from . import filter_log
from .copies import copies, differences, times_differ, told_of
from .leaves import PARTING, client_of, glupy
from .load import BLOCK, MIB, Image, Load, digest, mounted_file, whole

C, PY = "storage/posix", "storage/pyposix"
SECTOR = 512
STRIPE = 4 * SECTOR
"""Of the dispersed volumes here."""

pytestmark = pytest.mark.allow_log(
    *PARTING,
    # what was locked, or open, in a brick that was killed
    r"Matching lock not found for unlock|server4_f?(inode|entry)lk_cbk",
    r"unlock on .* attempted but no matching lock found",
    r"server4_\w+_cbk\] .*{errno=(9|77|116)}",
    # cluster/replicate: a merge of directories sets times of nowhere (docs/upstream-defects.md)
    r"posix_setattr\] .*setattr \(utimes\) on gfid-handle .*Invalid argument",
)
# Several fops at once make shards: C posix logs what it meets half-way.
HALF_MADE_SHARDS = pytest.mark.allow_log(
    r"Failed to get anonymous fd for real_path: .*No such file",
    r"buf->ia_gfid is null for .*/\.shard/",
    r"server4_lookup_cbk\] .*path=/\.shard/.*No data available",
)


class Kind(NamedTuple):
    """A type of volume."""

    words: str
    """gluster's words for it."""
    bricks: int
    group: int = 1
    """How many bricks have the same files: add-brick takes so many."""
    redundancy: int = 0
    """How many bricks of a group may be away."""
    arbiter: bool = False
    """The last brick of a group has no data."""
    fragments: int = 1
    """On how many bricks of a group the data of a file is spread."""
    sharded: bool = False


KINDS = {
    "plain": Kind("", 1),
    "distribute": Kind("", 2),
    "replica": Kind("replica 3", 3, 3, 1),
    "arbiter": Kind("replica 2 arbiter 1", 3, 3, 1, arbiter=True),
    "disperse": Kind("disperse 6 redundancy 2", 6, 6, 2, fragments=4),
    "distributed-replicate": Kind("replica 3", 6, 3, 1),
    "sharded": Kind("replica 3", 3, 3, 1, sharded=True),
}
EAGER_LOCK = 1
"""Seconds for which cluster/disperse keeps a new size to itself: disperse.eager-lock-timeout."""
SHARDING = "features.shard", "on", "features.shard-block-size", "4MB"
PYTHON, MIXED = "python", "mixed"
CASES = [
    f"{kind}-{leaves}"
    for kind in KINDS
    for leaves in (PYTHON, MIXED)
    if (kind, leaves) != ("plain", MIXED)  # it has one brick
]


def cases(*bounded: str, of: Callable[[Kind], object] = lambda kind: True) -> pytest.MarkDecorator:
    """The cases of a test: those whose kind fits; all but `bounded` are long."""
    fitting = [case for case in CASES if of(KINDS[case.rpartition("-")[0]])]
    assert set(bounded) <= set(fitting)
    marked = []
    for case in fitting:
        marks = [] if case in bounded else [pytest.mark.long]
        if KINDS[case.rpartition("-")[0]].sharded:
            marks.append(HALF_MADE_SHARDS)
        marked.append(pytest.param(case, marks=marks))
    return pytest.mark.parametrize("case", marked, indirect=True, scope="module")


class Case:
    """A volume, and the load on it."""

    def __init__(self, name: str, glusterd: Glusterd, volume: Volume, model: Path) -> None:
        self.kind = KINDS[name.rpartition("-")[0]]
        self.volume = volume
        self.glusterd = glusterd
        self.leaves = dict.fromkeys(volume.bricks, PY)
        if name.endswith(MIXED):
            self.leaves |= dict.fromkeys(volume.bricks[::2], C)
        # cluster/disperse has no zerofill, and does not heal a file in which a discard went past
        # the end; under shard that makes it longer, what is appended after a truncate is misplaced,
        # and a truncate may be lost while bricks come back (docs/upstream-defects.md).
        sharded, dispersed = self.kind.sharded, self.kind.fragments > 1
        self.load = Load(
            model,
            name,
            zerofill=not dispersed,
            past_end=not (sharded or dispersed),
            appends=not sharded,
            truncates_healing=not sharded,
        )
        self.logs = dict.fromkeys(map(volume.log, volume.bricks), 0)
        """How much of each brick's log was checked."""

    def groups(self) -> list[list[Path]]:
        """The bricks that have the same files."""
        bricks, size = self.volume.bricks, self.kind.group
        return [bricks[start : start + size] for start in range(0, len(bricks), size)]

    def with_data(self, group: Sequence[Path]) -> Sequence[Path]:
        """Those of a group that have data."""
        return group[:-1] if self.kind.arbiter else group

    @contextmanager
    def clients(self, folder: Path) -> Iterator[tuple[Path, Client]]:
        """A mount and a gfapi client that are new: nothing is in their caches."""
        log = folder / "gfapi.log"
        with ExitStack() as stack:
            # Not two mounts at one place: a client that ends logs for a while.
            mnt = next(path for n in itertools.count() if not (path := folder / f"{n}").exists())
            yield (
                stack.enter_context(self.volume.mounted(mnt)),
                stack.enter_context(client_of(self.volume, self.glusterd, log)),
            )
            self.settle()

    def settle(self) -> None:
        """Have clients of a dispersed volume store what they have not told the bricks yet: who ends
        before leaves sizes as they were (docs/upstream-defects.md)."""
        if self.kind.fragments > 1:
            time.sleep(1 + EAGER_LOCK)

    def connected(self) -> bool:
        """Whether all bricks have all clients."""
        return len(set(gluster.clients(self.volume.name).values())) == 1

    def volfiles(self) -> dict[Path, volfiles.Graph]:
        """The volfiles of its bricks."""
        (volume,) = gluster.volumes(self.volume.name)
        folder = gluster.working_directory() / "vols" / self.volume.name
        return {
            brick.path: volfiles.read(volume_state.volfile(volume, brick, folder))
            for brick in volume.bricks
        }

    def check_leaves(self) -> None:
        """Each brick runs the leaf that was chosen for it, by its volfile and its process."""
        (state,) = volume_state.states(self.volume.name)
        assert state.problem is None
        bricks = {self.glusterd.brick(brick): leaf for brick, leaf in self.leaves.items()}
        expected = {self.glusterd.brick(brick): self.leaves[brick] for brick in self.volume.bricks}
        for brick in state.bricks:
            assert brick.problem is None
            assert brick.asked == brick.volfile == brick.running
        assert {brick.brick: str(brick.running) for brick in state.bricks} == expected, bricks

    def check(self, folder: Path) -> None:
        """All that the load has written is there, for new clients."""
        self.settle()
        with self.clients(folder) as (mnt, client):
            self.load.check(mnt, client)


@pytest.fixture(scope="module")
def case(
    request: pytest.FixtureRequest,
    glusterd: Glusterd,
    store: stores.Store,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Case]:
    name = request.param
    kind = KINDS[name.rpartition("-")[0]]
    folder = store.folder / name
    paths = [folder / str(number) for number in range(kind.bricks)]
    with ExitStack() as undo:
        undo.enter_context(filter_log.kept())
        undo.callback(stores.run, "rm", "-rf", folder)
        volume = glusterd.create(name, paths, *kind.words.split(), start=False)
        undo.callback(glusterd.gluster, "volume", "delete", name)
        undo.callback(volume.stop)
        if kind.sharded:
            volume.set(*SHARDING)
        case = Case(name, glusterd, volume, tmp_path_factory.mktemp("model") / "files")
        stock = case.volfiles()
        use("--leaf", "pyposix", volume=volume)
        others = [glusterd.brick(path) for path, leaf in case.leaves.items() if leaf == C]
        if others:
            words = [word for brick in others for word in ("--brick", brick)]
            use("--leaf", "posix", *words, volume=volume)
        volume.start()
        case.check_leaves()
        check_volfiles(case, stock)
        yield case


def use(*words: str, volume: Volume) -> None:
    done = glupy("volume", "use", volume.name, *words)
    assert done.returncode == 0, done


def check_volfiles(case: Case, stock: dict[Path, volfiles.Graph]) -> None:
    """What glusterd inserts by default is where it was: only the leaf is another one."""
    for brick, graph in case.volfiles().items():
        leaf = next(iter(stock[brick])).name
        changes = [str(change) for change in volfiles.diff(stock[brick], graph)]
        expected = [] if case.leaves[brick] == C else [f"volume '{leaf}': type {C} -> {PY}"]
        assert changes == expected
        assert len(list(graph)) > 15, "these are not glusterd's defaults"


@pytest.fixture(autouse=True)
def logged(case: Case, logs: LogChecker, tmp_path: Path) -> Iterator[None]:
    """What the bricks have logged since the last test is checked."""
    yield
    for log, size in case.logs.items():
        text = log.read_bytes()[size:]
        case.logs[log] += len(text)
        part = tmp_path / log.name
        part.write_bytes(text)
        logs.watch(part)


def check_copies(case: Case) -> None:
    """The bricks of each group have the same; of dispersed files, fragments of the same size."""
    for (
        brick
    ) in case.volume.bricks:  # names that were removed while it was away, until all is healed
        assert not list(brick.glob(".glusterfs-anonymous-inode-*/*"))
    for group in case.groups():
        with_data = case.with_data(group)
        first, *others = (copies(brick, data=case.kind.fragments == 1) for brick in with_data)
        for other in others:
            assert differences(first, other) == []
        if case.kind.arbiter:
            names = copies(group[-1], data=True)
            empty = digest(b"")
            assert {copy.contents for copy in names.values()} <= {None, empty}
            as_arbiter = {
                name: copy._replace(size=copy.size and 0, contents=copy.contents and empty)
                for name, copy in first.items()
            }
            assert differences(as_arbiter, names) == []


def heal(case: Case, folder: Path) -> None:
    """Heal, until `heal info` lists nothing and all copies are the same."""

    def healed() -> bool:
        case.volume.heal()
        try:
            check_copies(case)
        except AssertionError:
            return False
        return True

    try:
        with contextlib.suppress(AssertionError):
            wait_until(healed, "equal copies")
        assert not case.volume.pending()
    except ProcessError as error:
        for entry in case.volume.pending():
            for brick in case.volume.bricks:
                error.add_note(f"{brick.name}{entry}: {told_of(brick / entry.lstrip('/'))}")
        raise
    check_copies(case)
    if case.kind.fragments > 1:
        set_times_that_differ(case, folder)


def set_times_that_differ(case: Case, folder: Path) -> None:
    """Let bricks have the same times: what changed in its heal is healed no more otherwise.

    docs/upstream-defects.md, and `test_stock`.
    """

    def odd() -> set[str]:
        return {
            name
            for group in case.groups()
            for name in copies(group[0], data=False)
            if times_differ(group, name)
        }

    with case.volume.mounted(folder / "mount-for-times") as mnt:
        for name in odd():
            os.utime(mnt / name, follow_symlinks=False)
    case.volume.heal()
    assert not odd()


# The tests: of one case, one after the other


CHANGED, ROTTEN, DISCARDED = "changed", "rotten", "discarded"
BAD = "trusted.bit-rot.bad-file"
SIGNATURE, VERSION = "trusted.bit-rot.signature", "trusted.bit-rot.version"


def is_signed(path: Path) -> bool:
    """Whether a file on a brick is signed as it is now; an older signature is made anew later.

    bit-rot-object-version.h: a byte, then the version that was signed; the version of the file.
    """
    if not {SIGNATURE, VERSION} <= set(os.listxattr(path)):
        return False
    return os.getxattr(path, SIGNATURE)[1:9] == os.getxattr(path, VERSION)[:8]


def gfid(path: Path) -> uuid.UUID:
    """The gfid of a file on a brick."""
    return uuid.UUID(bytes=os.getxattr(path, "trusted.gfid"))


@pytest.mark.allow_log("bad object accessed", r"server4_\w+_cbk\] .*{errno=5}")
@cases()
def test_bitrot_finds_what_was_changed_on_a_brick(case: Case, tmp_path: Path) -> None:
    """The volume is still empty: for each file of a brick bitd takes a second."""
    image = Image("bitrot", zerofill=False, past_end=not case.kind.sharded, size=100_000)
    # Of equal bytes cluster/disperse makes a fragment of zeros, which a discard does not change.
    data = random.Random("bitrot").randbytes(100_000)
    with case.clients(tmp_path) as (mnt, _):
        for name in ROTTEN, DISCARDED:
            (mnt / name).write_bytes(data)
        with mounted_file(mnt / CHANGED) as file:
            image.change(file, 30)
    with_data = [brick for group in case.groups() for brick in case.with_data(group)]
    on_bricks = {
        name: [path for brick in with_data if (path := brick / name).exists()]
        for name in (CHANGED, ROTTEN, DISCARDED)
    }
    all_of_them = [path for paths in on_bricks.values() for path in paths]
    in_python = {
        name: [path for path in paths if case.leaves[path.parent] == PY] or paths
        for name, paths in on_bricks.items()
    }

    def signed() -> set[Path]:
        return set(filter(is_signed, all_of_them))

    # features/changelog may lose bitd's connection to a brick while that is made, and nothing of
    # that brick is signed (docs/upstream-defects.md). To ask once more makes all signatures anew.
    for _ in range(5):
        case.volume.enable_bitrot()
        deadline = time.monotonic() + 5 + len(all_of_them)
        while (found := signed()) != set(all_of_them) and time.monotonic() < deadline:
            time.sleep(0.2)
        if all(found.intersection(paths) for paths in in_python.values()):
            break
        case.volume.disable_bitrot()
    assert all(found.intersection(paths) for paths in in_python.values()), found
    scrub = case.volume.scrub()
    assert scrub.corrupted == []
    assert scrub.files == len(found)

    bad = next(path for path in in_python[ROTTEN] if path in found)
    with bad.open("r+b") as on_brick:
        on_brick.seek(1000)
        on_brick.write(b"rotten")
    with case.clients(tmp_path) as (mnt, _), mounted_file(mnt / DISCARDED) as file:
        # Whole stripes: else cluster/disperse would write, too, and have it signed anew.
        file.discard(25 * STRIPE, 4 * STRIPE)
    scrub = case.volume.scrub()
    # features/bit-rot-stub has no discard, on C bricks neither (docs/upstream-defects.md): who
    # discards in a signed file, and does nothing else, has it called corrupted.
    expected = {bad, *found.intersection(on_bricks[DISCARDED])}
    assert set(scrub.corrupted) == {str(gfid(path)) for path in expected}
    assert {path for path in all_of_them if BAD in os.listxattr(path)} == expected
    with case.clients(tmp_path) as (mnt, _):
        assert (mnt / CHANGED).read_bytes() == image.data
        if case.kind.redundancy:
            assert (mnt / ROTTEN).read_bytes() == data
        else:
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                (mnt / ROTTEN).read_bytes()
    case.check_leaves()
    case.volume.disable_bitrot()
    with case.clients(tmp_path) as (mnt, _):
        (mnt / CHANGED).unlink()  # it ends in a hole, and a rebalance is to come
    # What is bad on all bricks cannot be looked up any more.
    for brick in case.volume.bricks:
        for path in filter(Path.exists, (brick / name for name in (ROTTEN, DISCARDED))):
            name = str(gfid(path))
            (brick / ".glusterfs" / name[:2] / name[2:4] / name).unlink()
            path.unlink()


@cases("disperse-python")
def test_a_mixed_load(case: Case, tmp_path: Path) -> None:
    with case.clients(tmp_path) as (mnt, client):
        case.load.change(mnt, client)
        case.check(tmp_path)
        with case.load.running(mnt, client) as go_on:
            go_on()
    case.check(tmp_path)
    if case.kind.redundancy:  # cluster/disperse may leave what a client that ends has marked
        heal(case, tmp_path)


SIZE = 6 * MIB
# Offsets and lengths; the last one goes over the border of two shards.
DISCARDS = [
    (1, 1),
    (511, 2),
    (4 * 1024 - 1, 2),
    (8 * 1024, 4 * 1024),
    (16 * 1024 + 1, 4 * 1024),
    (24 * 1024 - 1, 4 * 1024 + 2),
    (32 * 1024 + 512, 8 * 1024),
    (100_003, 300_007),
    (MIB, MIB),
    (3 * MIB + 7, MIB + 100_000),
]
# What a file may have besides: blocks for its extents and xattrs.
MORE = 2 * BLOCK // SECTOR


def freed(discards: Sequence[tuple[int, int]], fragments: int) -> int:
    """The sectors that discards free of a brick's part of a file: whole blocks of its own.

    cluster/disperse discards whole stripes, and writes zeros before and behind.
    """
    stripe = SECTOR * fragments if fragments > 1 else 1
    blocks = 0
    for offset, length in discards:
        begin = -(-offset // stripe) * stripe // fragments
        end = (offset + length) // stripe * stripe // fragments
        blocks += max(0, end // BLOCK - -(-begin // BLOCK))
    return blocks * BLOCK // SECTOR


def sectors(brick: Path) -> Counter[str]:
    """What each file of a brick takes, shards too."""
    stores.run("sync", "--file-system", brick)
    return Counter(
        {
            str(path.relative_to(brick)): path.lstat().st_blocks
            for path in brick.rglob("*")
            if path.is_file() and ".glusterfs" not in path.parts
        }
    )


def make_images(case: Case, mnt: Path, way: str) -> list[str]:
    """Make a file that is full of A in each group of bricks."""
    names = []
    left = [group[0] for group in case.groups()]
    for number in itertools.count():
        name = f"{way}-{number}"
        (mnt / name).touch()
        here = [brick for brick in left if (brick / name).exists()]
        if here:
            left.remove(here[0])
            names.append(name)
            with mounted_file(mnt / name) as file:
                file.pwrite(b"A" * SIZE, 0)
                file.fsync()
        else:
            (mnt / name).unlink()
        if not left:
            return names
    raise AssertionError


@cases(of=lambda kind: kind.fragments > 1)
def test_disperse_fails_discards_of_qemu(case: Case, tmp_path: Path) -> None:
    """docs/upstream-defects.md: those that begin or end inside a stripe."""
    images = qemu.Images(case.volume.name, case.glusterd.host, qemu.hurried(tmp_path))
    with case.clients(tmp_path) as (mnt, _):
        for name in make_images(case, mnt, "inside"):
            with pytest.raises(qemu.QemuError, match="Input/output error"):
                images.io(images.url(name), "discard 1 1", "flush")
            (mnt / name).unlink()


@cases("replica-mixed", "disperse-python")
def test_a_discard_frees_blocks_of_each_brick(case: Case, tmp_path: Path) -> None:
    images = qemu.Images(case.volume.name, case.glusterd.host, qemu.hurried(tmp_path))

    def fuse(name: str) -> None:
        with mounted_file(mnt / name) as file:
            for offset, length in DISCARDS:
                file.discard(offset, length)
            file.fsync()

    def gfapi(name: str) -> None:
        with client.open(f"/{name}") as file:
            for offset, length in DISCARDS:
                file.discard(offset, length)
            file.fsync()

    def qemu_io(name: str) -> None:
        commands = [f"discard {offset} {length}" for offset, length in discards[qemu_io]]
        images.io(images.url(name), *commands, "flush")

    discards = dict.fromkeys([fuse, gfapi, qemu_io], DISCARDS)
    tries = dict.fromkeys(discards, 1)
    if case.kind.fragments > 1:
        # docs/upstream-defects.md: those of QEMU that begin or end inside a stripe fail, and of
        # others one image in about ten.
        tries[qemu_io] = 8
        stripe = case.kind.fragments * SECTOR
        begins = [offset // stripe * stripe for offset, _ in DISCARDS]
        ends = [-(-sum(each) // stripe) * stripe for each in DISCARDS]
        discards[qemu_io] = [(b, e - b) for b, e in zip(begins, ends, strict=True)]
    expected = {}
    with case.clients(tmp_path) as (mnt, client):
        for way, ranges in discards.items():
            data = bytearray(b"A" * SIZE)
            for offset, length in ranges:
                data[offset : offset + length] = bytes(length)
            for left in reversed(range(tries[way])):
                made = make_images(case, mnt, way.__name__)
                before = {brick: sectors(brick) for brick in case.volume.bricks}
                try:
                    for name in made:
                        way(name)
                    break
                except qemu.QemuError:
                    if not left:
                        raise
                    for name in made:
                        (mnt / name).unlink()
            expected.update(dict.fromkeys(made, data))
            for group in case.groups():
                for brick in group:
                    has_data = brick in case.with_data(group)
                    difference = freed(ranges, case.kind.fragments) if has_data else 0
                    less = Counter(before[brick])
                    less.subtract(sectors(brick))
                    assert less.total() == pytest.approx(difference, abs=MORE), +less - -less
    with case.clients(tmp_path) as (mnt, client):
        for name, data in expected.items():
            assert (mnt / name).read_bytes() == data, name
            assert whole(client, f"/{name}") == data, name
            (mnt / name).unlink()


@pytest.mark.allow_log(  # folders that are being healed, and files that go meanwhile, on C posix
    "posix_is_layout_stale", r"posix_\w+\] .* gfid-handle .*No such file or directory"
)
@cases("replica-mixed", of=lambda kind: kind.redundancy)
def test_bricks_that_were_away_are_healed(case: Case, tmp_path: Path) -> None:
    size = case.kind.redundancy
    rounds = [slice(0, size), slice(size, 2 * size)]
    if case.kind.arbiter:
        rounds.append(slice(2, 3))
    for away in rounds:
        with case.clients(tmp_path) as (mnt, client), case.load.running(mnt, client) as go_on:
            go_on()
            wait_until(case.connected, "clients at all bricks")
            for group in case.groups():
                for brick in group[away]:
                    case.volume.kill(brick)
            go_on()
            case.volume.start_bricks()
            go_on()
        heal(case, tmp_path)
        case.check_leaves()
    case.check(tmp_path)
    # what was healed is what the others had: it is enough by itself
    for group in case.groups():
        for brick in group[-size:]:
            case.volume.kill(brick)
    case.check(tmp_path)
    case.volume.start_bricks()
    heal(case, tmp_path)


# Folders' times, as the heal of a new brick sets them: C posix refuses some, and says so.
@pytest.mark.allow_log(r"posix_setattr\] .*utimes.* failed \[Invalid argument\]")
@cases(of=lambda kind: kind.redundancy)
def test_a_new_brick_takes_the_place_of_an_old_one(case: Case, tmp_path: Path) -> None:
    old = [1, 2] if case.kind.arbiter else [1]
    for number in old:
        brick = case.volume.bricks[number]
        new = brick.with_name(f"new-{number}")
        case.volume.replace_brick(brick, new)
        case.leaves[new] = PY
        case.logs[case.volume.log(new)] = 0
        with case.clients(tmp_path) as (mnt, client):
            case.load.change(mnt, client, 20)
        heal(case, tmp_path)
        case.check_leaves()
        assert len(copies(new, data=False)) > 20
    case.check(tmp_path)


@cases()
def test_rebalance_moves_files_to_new_bricks(case: Case, tmp_path: Path) -> None:
    with case.clients(tmp_path) as (mnt, client):
        case.load.change(mnt, client, 20)
        if case.kind.redundancy:
            case.load.end_in_data(mnt)
    new = [case.volume.bricks[0].with_name(f"more-{n}") for n in range(case.kind.group)]
    case.volume.add_bricks(*new)
    case.leaves |= dict.fromkeys(new, PY)
    case.logs |= dict.fromkeys(map(case.volume.log, new), 0)
    case.volume.rebalance()
    case.check_leaves()
    case.check(tmp_path)
    if case.kind.redundancy:
        heal(case, tmp_path)
    moved = [copy for copy in copies(new[0], data=False).values() if copy.size]
    assert moved, "nothing was moved"
    with case.clients(tmp_path) as (mnt, client):
        case.load.change(mnt, client, 20)
    case.check(tmp_path)


LIMIT = 8 * MIB


def used(case: Case, folder: str, expected: int) -> None:
    """Wait until quota lists what a folder uses: it counts a little later."""
    near = pytest.approx(expected, abs=64 * 1024)
    with contextlib.suppress(AssertionError):
        wait_until(lambda: case.volume.usage(folder) == near, "the usage")
    assert case.volume.usage(folder) == near


@pytest.mark.allow_log(
    "Usage (is above|crossed) (soft|hard) limit",
    "Disk quota exceeded",
    # of locks that a brick's own fops (marker's) hold, which have no client
    "server_process_event_upcall failed",
)
@cases()
def test_quota_counts_discards(case: Case, tmp_path: Path) -> None:
    limited, before = "/limited", 0
    case.volume.enable_quota()
    if case.kind.sharded:  # shards are in /.shard, which no other limit is about
        limited = "/"
        case.volume.limit(limited, 1 << 40)
        before = case.volume.usage(limited)
    with case.clients(tmp_path) as (mnt, client):
        (mnt / "limited").mkdir()
        case.volume.limit(limited, before + LIMIT)
        with mounted_file(mnt / "limited" / "file") as file:
            file.pwrite(b"A" * 6 * MIB, 0)
            file.fsync()
            used(case, limited, before + 6 * MIB)
            with pytest.raises(OSError, match=os.strerror(errno.EDQUOT)):
                for number in range(6, 12):
                    file.pwrite(b"B" * MIB, number * MIB)
                    file.fsync()
            written = case.volume.usage(limited)
            assert 6 * MIB < written - before < LIMIT + 2 * MIB
            file.discard(MIB, 4 * MIB)
            file.fsync()
            used(case, limited, written - 4 * MIB)
            file.pwrite(b"C" * MIB, 0)
            file.fsync()
        data = (mnt / "limited" / "file").read_bytes()[: 6 * MIB]
        assert data == b"C" * MIB + bytes(4 * MIB) + b"A" * MIB
        case.volume.limit(limited, 1 << 40)
        case.load.change(mnt, client, 20)
    case.check(tmp_path)
    case.check_leaves()
