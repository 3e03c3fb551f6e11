"""The same fops on a C brick and on a pyposix brick: the same answers, but for the docs' table.

Every row of docs/differences.md has a slug. A case that is meant to differ names its slug, and must
differ; every other must not; and of every row there is a case.
"""

from __future__ import annotations

import errno
import functools
import itertools
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glupy import stores
from glupy.testing.processes import ProcessError

from .comparing import (
    LEAVES,
    PLACES,
    SHOWN,
    Pair,
    check,
    compared,
    pair,
    small_stores,
    table,
)
from .scenarios import (
    BLOCK,
    GID,
    HUGE,
    KIB,
    KINDS,
    LINK_COUNT,
    MIB,
    MODE,
    SCENARIOS,
    SIZE,
    U32,
    UID,
    owner,
    times_told,
    with_mode,
    zoo,
)
from .sides import Side

# Both log what they refuse; that they refuse the same is what is tested.
pytestmark = [
    pytest.mark.allow_log(r".*"),
    # C posix 11 has other defects (tests/integration/test_pyposix_parity.py runs there too).
    pytest.mark.of_10_3,
]


LONG = pytest.mark.long
ON_BTRFS = {"failed-unlink-handle"}
"""Rows that only that one shows."""
STORES = ["ext4", "xfs", pytest.param("btrfs", marks=LONG)]


class Comparison:
    """All scenarios on one kind of file system."""

    def __init__(self, sides: dict[str, Side]) -> None:
        self.sides = sides

    def run(self, name: str) -> list[Pair]:
        return compared(self.sides.values(), name, SCENARIOS[name])


@pytest.fixture(scope="module", params=STORES)
def comparison(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Comparison]:
    scratch = tmp_path_factory.mktemp(f"sides-{request.param}")
    with stores.store(scratch / "image", SIZE, scratch / "mnt", kind=request.param) as store:
        folders = {leaf: store.folder / PLACES[leaf] for leaf in LEAVES}
        # What lies in the landfill stays there meanwhile: each has its own time to purge it.
        with pair(folders, scratch, options={"janitor-sleep-duration": "600"}) as sides:
            yield Comparison(sides)


@pytest.mark.parametrize("name", SCENARIOS)
def test_same_answers(name: str, comparison: Comparison) -> None:
    check(comparison.run(name))


def test_same_times_for_clients(brick_dir: Path, tmp_path: Path) -> None:
    folders = {leaf: brick_dir / PLACES[leaf] for leaf in LEAVES}
    with pair(folders, tmp_path, ctime=True) as sides:
        check(compared(sides.values(), "times", times_told, disk=False))


# ---- file systems that take no more ----


def changing(side: Side, anonymous: str | None = None) -> None:
    """All that a file system may refuse to change; ``file`` and the rest of the zoo are there.

    ``anonymous`` is the row that tells of space asked for through an fd that nobody opened.
    """
    for opened in [side.opened("file", flags) for flags in (os.O_RDONLY, os.O_RDWR)] + [
        side.anonymous("file")
    ]:
        side.do("readv", opened, 100, 0, 0)
        side.do("writev", opened, b"w" * 100, 1, 0, 0, None)
        side.do("writev", opened, b"w" * BLOCK, 1, 1 << 30, 0, None)
        row = anonymous if opened.label.startswith("anonymous") else None
        side.do("discard", opened, 0, BLOCK, differs=row)
        side.do("discard", opened, 10 * BLOCK, BLOCK, differs=row)
        side.do("fallocate", opened, 0, 1 << 25, BLOCK, differs=row)
        side.do("zerofill", opened, 1 << 25, BLOCK, differs=row)
        side.do("ftruncate", opened, 2 * BLOCK)
        side.do("fsync", opened, 0)
    for name in KINDS:
        side.do("setattr", name, with_mode(0o611), MODE)
        side.do("setattr", name, owner(1, 2), UID | GID)
        side.do("setxattr", name, {"trusted.a": b"1" * 3000}, 0)
        side.do("removexattr", name, "trusted.b")
        side.do("xattrop", name, 0, {"trusted.c": bytes([0, 0, 0, 1])})
        side.do("access", name, os.W_OK)
    side.do("truncate", "file", BLOCK)
    side.do("statfs", "/")


def making_names(side: Side) -> None:
    side.do("mkdir", "m", 0o755, 0)
    side.created("c")
    side.do("mknod", "n", stat.S_IFREG | 0o644, 0, 0)
    side.do("symlink", "t", "s", 0)


def changing_names(side: Side, unlinked: str | None = LINK_COUNT) -> None:
    """All that moves and removes names."""
    side.do("link", "file", "l")
    side.do("rename", "fifo", "fifo too")
    side.do("unlink", "device", 0, differs=unlinked)
    side.do("rmdir", "directory/below", 0)
    side.do("rmdir", "directory", 0)


NO_HEALTH_CHECK = {"health-check-interval": "0"}


@pytest.mark.parametrize("kind", STORES)
def test_read_only(kind: str, tmp_path: Path) -> None:
    with stores.store(tmp_path / "image", SIZE, tmp_path / "mnt", kind=kind) as store:
        folders = {leaf: store.folder / PLACES[leaf] for leaf in LEAVES}
        with pair(folders, tmp_path, options=NO_HEALTH_CHECK) as sides:
            for side in sides.values():
                side.begin("read only")
                zoo(side)
            gone = [side for side in sides.values() if any(side.folder.glob(".glusterfs/unlink/*"))]
            assert not gone
            with stores.read_only(store.folder):
                refused = functools.partial(changing, anonymous="anonymous-fd-errno")
                check(compared(sides.values(), "read only", refused, disk=False))
                check(compared(sides.values(), "read only", making_names, disk=False))
                refused = functools.partial(changing_names, unlinked=None)
                check(compared(sides.values(), "read only", refused, disk=False))


def fill(folder: Path) -> None:
    """Leave no block free."""
    with (folder / "ballast").open("ab", buffering=0) as ballast:
        for size in MIB, 64 * KIB, BLOCK:
            try:
                while True:
                    ballast.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC
        os.fsync(ballast.fileno())


def allocating_without_end(side: Side) -> None:
    """What a failure leaves behind is not compared here: row `failed-allocation`."""
    lengths = 1 << 40, 1 << 43, (1 << 44) - BLOCK, 1 << 44, 1 << 50, HUGE - BLOCK, HUGE
    for offset, length in itertools.product((0, 1, BLOCK, 10 * BLOCK, 1 << 43), lengths):
        for fop, *mode in ("zerofill",), ("fallocate", 0), ("fallocate", 1):
            name = f"{fop} {mode} {offset} {length}"
            file = side.created(name)
            side.do("writev", file, b"s" * 3 * BLOCK, 1, 0, 0, None)
            side.do(fop, file, *mode, offset, length)
            side.do("unlink", name, 0, differs=LINK_COUNT)
            del file
            # Its blocks are the next one's when it is closed, and its end is in the journal.
            side.until_closed()
            stores.run("sync", "--file-system", side.folder)


@pytest.mark.parametrize(
    "kind", ["ext4", *(pytest.param(kind, marks=LONG) for kind in ("xfs", "btrfs"))]
)
def test_more_than_there_is(kind: str, tmp_path: Path) -> None:
    options = {"reserve": "0", **NO_HEALTH_CHECK}
    with stores.store(tmp_path / "image", SIZE, tmp_path / "mnt", kind=kind) as store:
        folders = {leaf: store.folder / PLACES[leaf] for leaf in LEAVES}
        with pair(folders, tmp_path, options=options) as sides:
            check(compared(sides.values(), "more", allocating_without_end))


def test_full(tmp_path: Path) -> None:
    options = {"reserve": "0", **NO_HEALTH_CHECK}
    with small_stores(tmp_path) as folders, pair(folders, tmp_path, options=options) as sides:
        for side in sides.values():
            side.begin("full")
            zoo(side)
        check(compared(sides.values(), "too much", asking_too_much, disk=False))
        # A new file takes a block or not, as the file system has it.
        for scenario_ in changing, changing_names:
            for _ in range(3):
                os.sync()  # what was freed is free only then
                for side in sides.values():
                    fill(side.folder.parent)
            check(compared(sides.values(), "full", scenario_, disk=False))


def asking_too_much(side: Side) -> None:
    """Blocks that there are not: what fails leaves nothing behind, on our side."""
    for fop, *given in (
        ("fallocate", 0, 0, SIZE),
        ("fallocate", 1, 0, SIZE),
        ("zerofill", 0, SIZE),
    ):
        file = side.created(f"{fop} {given[0]}")
        side.do("writev", file, b"a" * BLOCK, 1, 0, 0, None)
        side.do(fop, file, *given)
        row = None if given[0] else "failed-allocation"
        side.do("fstat", file, differs=row)
        side.do("ftruncate", file, 0, differs=row)


def test_past_the_reserve(tmp_path: Path) -> None:
    with small_stores(tmp_path) as folders:
        with pair(folders, tmp_path, options=NO_HEALTH_CHECK) as sides:
            for side in sides.values():
                side.begin("reserve")
                zoo(side)
                side.do("ftruncate", side.created("sparse"), 4 * BLOCK)
                (side.folder.parent / "ballast").write_bytes(bytes(8 * MIB))
        options = {"reserve": "99", **NO_HEALTH_CHECK}
        with pair(folders, tmp_path, options=options) as sides:
            for side in sides.values():
                until_full(side)
            check(compared(sides.values(), "/", reserving, disk=False))


def until_full(side: Side) -> None:
    """Wait until the brick has looked at its disk, which it does every 5 seconds."""
    side.do("lookup", "/reserve")
    for number in range(200):
        if side.do("mkdir", f"/reserve/probe {number}", 0o755, 0) is None:
            return
        side.do("rmdir", f"/reserve/probe {number}", 0)
        time.sleep(0.1)
    raise AssertionError("the reserve is not felt")


def reserving(side: Side) -> None:
    side.base = "/reserve"
    side.do("lookup", "/reserve")
    for name in KINDS:
        side.do("lookup", name)
    file = side.opened("file", os.O_RDWR)
    side.do("writev", file, b"w" * BLOCK, 1, 0, 0, None)
    side.do("writev", file, b"w" * BLOCK, 1, 3 * BLOCK, 0, None)
    side.do("fallocate", file, 0, 0, BLOCK)
    side.do("zerofill", file, 0, BLOCK)
    side.do("zerofill", file, 3 * BLOCK, BLOCK)
    side.do("lookup", "sparse")
    side.do("zerofill", side.opened("sparse", os.O_RDWR), 0, BLOCK, differs="zerofill-reserve")
    side.do("discard", file, 0, BLOCK, differs="discard-reserve")
    side.do("discard", file, 10 * BLOCK, BLOCK, differs="discard-reserve")
    side.do("ftruncate", file, BLOCK, differs="discard-reserve")
    making_names(side)
    changing_names(side)


# ---- options ----


OPTIONS = {
    "create-mask": "0750",
    "force-create-mode": "0040",
    "create-directory-mask": "0750",
    "force-directory-mode": "0040",
    "max-hardlinks": "2",
    "o-direct": "on",
    "brick-uid": "1000",
    "brick-gid": "1001",
    "fips-mode-rchecksum": "on",
    "shared-brick-count": "0",
    "export-statfs-size": "off",
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options(option: str, brick_dir: Path, tmp_path: Path) -> None:
    folders = {leaf: brick_dir / PLACES[leaf] for leaf in LEAVES}
    with pair(folders, tmp_path, options={option: OPTIONS[option]}) as sides:
        check(compared(sides.values(), "options", with_options))


def with_options(side: Side) -> None:
    zoo(side)
    side.do("stat", "/")
    for number in range(4):
        side.do("link", "file", f"link {number}")
    file, directory = side.opened("file", os.O_RDWR), side.opened_dir("directory")
    for mode in 0o777, 0o7070, 0:
        side.do("setattr", "file", with_mode(mode), MODE)
        side.do("setattr", "directory", with_mode(mode), MODE)
        side.do("fsetattr", file, with_mode(mode), MODE)
        side.do("fsetattr", directory, with_mode(mode), MODE)
    for length in 10, BLOCK:
        side.do("writev", file, b"w" * length, 1, 0, 0, None)
        side.do("readv", file, length, 0, 0)
    side.do("rchecksum", file, 0, 2 * BLOCK)
    side.do("statfs", "/", keep=functools.partial(sizes, side))


def sizes(side: Side, reply: Any) -> None:
    """Note what of the file system's sizes does not change meanwhile, and whether there is room."""
    told = reply.buf
    side.note("sizes", (told.f_blocks, told.f_files))
    side.note("room", [number > 0 for number in (told.f_bfree, told.f_bavail, told.f_ffree)])


@pytest.mark.parametrize("count", ["2", "3"])
def test_bricks_that_share_a_file_system(count: str, brick_dir: Path, tmp_path: Path) -> None:
    folders = {leaf: brick_dir / PLACES[leaf] for leaf in LEAVES}
    with pair(folders, tmp_path, options={"shared-brick-count": count}) as sides:
        check(compared(sides.values(), "options", with_options))


# ---- what C does not survive ----


@pytest.mark.parametrize(
    ("fop", "given"),
    [("readlink", ("link", U32)), ("namelink", ("new",))],
    ids=["readlink", "namelink"],
)
def test_what_kills_c(fop: str, given: tuple[Any, ...], brick_dir: Path, tmp_path: Path) -> None:
    for leaf in LEAVES:
        try:
            with pair({leaf: brick_dir / leaf}, tmp_path) as sides:
                (side,) = sides.values()
                side.do("symlink", "to", "link", 0)
                side.do(fop, *given)
                assert side.outcomes[-1].answer != "refused by the client"
                assert leaf == "pyposix"
        except (OSError, ProcessError):
            assert leaf == "posix"
    SHOWN.add("crash")


# ---- the table ----


@pytest.mark.parametrize("named", sorted(filter(None, table().values())))
def test_the_tests_that_the_table_names_are_there(named: str) -> None:
    file, name = named.split("::")
    (path,) = Path(__file__).parents[1].glob(f"*/{file}")
    assert re.search(rf"^def {name}\(", path.read_text(), re.M)


def test_the_table_is_all_that_differs(request: pytest.FixtureRequest) -> None:
    """Last: what the tests before it have shown is what the table lists."""
    ran = {item.originalname for item in request.session.items if item.path == request.path}  # type: ignore[attr-defined]
    ours = {name for name in globals() if name.startswith("test_")}
    if ran != ours:
        pytest.skip("only with all tests of this file: they show the rows")
    rows = {slug for slug, test in table().items() if not test}
    if not any("btrfs" in item.name for item in request.session.items):
        rows -= ON_BTRFS
    assert rows == SHOWN
