"""The same fops on plain files and on mapped ones: the same answers, but for what is listed here.

One brick has all of its files on devices (option map), the other one no pybd at all. Blocks are not
compared: a plain file has those of its xattrs too. What a pool has of a file's bytes, and when, is
in tests/bd.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import volfiles
from glupy import Gfid, Iatt, Statvfs, keys, stores
from glupy.constants import GF_SET_ATTR_MODE
from glupy.testing.processes import free_port

from .asking import CALLERS, CONTENTS, MAKING, Asking, Xdata
from .comparing import compared, parts
from .scenarios import BLOCK, SCENARIOS, times_told
from .sides import Side, served, xattrs
from .test_requests_side_by_side import (
    ASKED,
    REQUESTS,
    UNLINKED,
    everywhere,
    renaming,
    unlinking,
)

pytestmark = [
    pytest.mark.allow_log(r".*"),
    pytest.mark.of_10_3,
]

COMPARED = [
    "reading",
    "writing",
    "copying",
    "discarding",
    "zeroing",
    "allocating",
    "opening",
    "attributes",
    "making",
    "removing",
    "renaming",
    "listing",
]

CHECKSUMS = {"posix": {"fips-mode-rchecksum": "on"}, "pyposix": {"fips-mode-rchecksum": "off"}}
"""Each kind once; glusterd has it on."""

TOGETHER = (
    "size",
    "request-link-count",
    "fd-counts",
    "list",
    "iatt",
    "append",
    "gfid",
    "lock-counts",
)
ASKED_OF_ALL: dict[str, Xdata] = {
    **{key: ASKED[key] for key in ("content-less", "content", "content-as-text")},
    "together": {name: value for key in TOGETHER for name, value in ASKED[key].items()},
    "atomic": ASKED["atomic"],
    "batched": {keys.BATCH_FSYNC: 1},
}
REQUESTED: dict[str, Callable[[Any], None]] = {
    **{f"asked {key}": partial(everywhere, xdata=xdata) for key, xdata in ASKED_OF_ALL.items()},
    **{
        f"unlink {key}": partial(unlinking, xdata=UNLINKED[key])
        for key in ("all", "not-open", "only-linkto")
    },
    "rename": partial(renaming, xdata=UNLINKED["all"]),
    **{
        name: REQUESTS[name]
        for name in (
            "bulk_removexattr",
            "check_zero_filled",
            "internal_mknod",
            "protected_writes",
            "protected_writes_without_room",
        )
    },
}
"""What is asked for beside a fop; files in a cloud are never mapped."""

MEANT = {
    "discard(": "a discard past what the file system below can address does nothing, as any other "
    "past the end; a plain file's is refused with EFBIG",
}
"""How the label of what may differ begins, and why."""

UNASKED = "xattrop("
"""Posix gives a file's content with a reply to this too, if it is asked for, and nobody does."""

REPLACED = "fstat(anonymous held"
"""Of an open file that a rename has replaced C posix finds nothing by an anonymous fd any more (row
overwritten-open-file of docs/differences.md); of a mapped one the attributes are known."""

CHANCE = "mkdir('directory/short'"
"""What C posix makes a gfid of by chance: row gfid-req-length of docs/differences.md."""


class WithoutBlocks(Asking):
    """A side whose answers are compared without blocks, and without what says that it is mapped."""

    def note(self, label: str, value: Any, differs: str | None = None) -> None:
        """Keep what was seen in another way."""
        if isinstance(value, dict):
            value = {key: each for key, each in value.items() if key != keys.BD}
        super().note(label, value, differs)

    def _iatt(self, value: Iatt) -> dict[str, Any]:
        shown = super()._iatt(value)
        del shown["blocks"]
        return shown

    def plain(self, value: Any) -> Any:
        """What is comparable; the size of the file system is the pool's too."""
        if isinstance(value, Statvfs):
            return "statvfs"
        found = super().plain(value)
        if isinstance(found, dict):
            found.pop(keys.BD, None)
            if keys.GET_BLOCK_COUNT in found:
                found[keys.GET_BLOCK_COUNT] = "blocks"
        return found


BATCHED = f"['{keys.BATCH_FSYNC}']"
"""C posix tells then of no attributes: row batch-fsync-attributes of docs/differences.md."""


def is_meant(label: str, plain: Any, mapped: Any) -> bool:
    if label.endswith(BATCHED) and label.startswith("fsync("):
        nothing = str(Gfid(bytes(16)))
        return bool(plain["postbuf"]["gfid"] == nothing != mapped["postbuf"]["gfid"])
    if label.startswith(UNASKED):
        told = plain["xdata"] or {}
        return keys.CONTENT in told and plain == {**mapped, "xdata": told}
    if label.startswith(CHANCE):
        return True
    if label.startswith(REPLACED):
        return bool(plain["op_errno"] == "ENOENT")
    return any(label.startswith(each) for each in MEANT) and plain["op_errno"] == "EFBIG"


@pytest.fixture(scope="module", params=["pyposix", "posix"])
def sides(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Side]]:
    scratch = tmp_path_factory.mktemp("mapped")
    with (
        stores.store(scratch / "image", 1 << 30, scratch / "mnt") as store,
        contextlib.ExitStack() as stack,
    ):
        pool = store.folder / "pool"
        pool.mkdir()
        mapping = ("user/pybd", {"pool": f"loop:{pool}", "map": "*=thin"})
        found = []
        for name, inserts in ("plain0", []), ("mapped", [mapping]):
            folder = store.folder / name
            folder.mkdir()
            graph = volfiles.brick(
                folder,
                leaf=request.param,
                port=free_port(),
                options={"janitor-sleep-duration": "600", **CHECKSUMS[request.param]},
                inserts=inserts,
            )
            found.append(stack.enter_context(served(graph, folder, scratch, name, WithoutBlocks)))
        yield found


def check(sides: list[Side], name: str, scenario: Callable[[Any], None]) -> None:
    pairs = compared(sides, name, scenario, disk=False)
    wrong = [
        f"{plain.label}: " + "; ".join(parts(plain.answer, mapped.answer))
        for plain, mapped in pairs
        if plain.answer != mapped.answer and not is_meant(plain.label, plain.answer, mapped.answer)
    ]
    assert not wrong, f"{len(wrong)} of {len(pairs)}:\n" + "\n".join(wrong[:60])


@pytest.mark.parametrize("name", COMPARED)
def test_same_answers(name: str, sides: list[Side]) -> None:
    check(sides, name, SCENARIOS[name])


@pytest.mark.parametrize("name", REQUESTED)
def test_same_answers_to_requests(name: str, sides: list[Side]) -> None:
    check(sides, name, REQUESTED[name])


MOVED = {
    "readv(": {"file atime"},
    "copy_file_range(": {"other atime"},
    "fsync(": {"file ctime"},
}
"""Which times only one of the two moves. Without a client's clock no read sets a mapped file's
atime; and its stub has a new ctime once it is told of the others."""


def test_the_same_times_move(sides: list[Side]) -> None:
    for plain, mapped in compared(sides, "times", times_told, disk=False):
        if " moves" in plain.label:
            moved = set(plain.answer) ^ set(mapped.answer)
            expected = next((MOVED[each] for each in MOVED if plain.label.startswith(each)), set())
            assert moved <= expected, plain.label


# ---- of mapped files alone ----


@pytest.mark.parametrize("fop", ["removexattr", "fremovexattr"])
def test_the_key_in_bulk(fop: str, sides: list[Side]) -> None:
    """Heal takes all xattrs off a file by one fop, and sets them anew by another one."""
    side = sides[1]
    side.begin(f"bulk {fop}")
    assert isinstance(side, Asking)
    file = side.held("file")
    path = side.real("file")
    stored = os.getxattr(path, keys.BD)
    assert stored == b"thin:4194304"

    def answer(fop: str, *given: Any, **more: Any) -> Any:
        side.do(fop, *given, **more)
        return side.outcomes[-1].answer["op_errno"]

    def kept() -> bool:
        side.do("readv", file, len(CONTENTS), 0, 0)
        return (os.getxattr(path, keys.BD), side.outcomes[-1].answer["vector"]) == (
            stored,
            CONTENTS,
        )

    target = "file" if fop == "removexattr" else file
    for others in {}, {"user.a": b"1"}, {"user.a": b"1", "trusted.b": b"2"}:
        asked = {keys.BD: b"x", **dict.fromkeys(others, b"x")}
        for caller in CALLERS:
            of_us = CALLERS[caller] < 0
            said = {"caller": {"pid": CALLERS[caller]}}
            side.do("setxattr", "file", others, 0)
            removed = answer(fop, target, "", xdata=asked, **said)
            assert removed == (0 if of_us else "EPERM"), caller
            left = xattrs(path)
            assert [key in left for key in others] == [not of_us for _ in others], caller
            assert kept()
            if of_us:
                for mapping in stored, b"thin:1MB", b"lv":
                    again = {**others, keys.BD: mapping}
                    assert answer("setxattr", "file", again, 0, **said) == 0
                    assert kept()
                assert others.items() <= xattrs(path).items()
    assert (
        len(list(side.folder.with_name("pool").glob(f"*{side.inodes[side.path('file')].gfid}")))
        == 1
    )


@pytest.mark.parametrize("fop", MAKING)
def test_the_key_in_what_makes_a_file(fop: str, sides: list[Side]) -> None:
    """It maps nothing: a client is told so, and for GlusterFS's own it is left out."""
    side = sides[1]
    side.begin(f"given {fop}")
    assert isinstance(side, Asking)
    for name, caller in ("user", CALLERS["user"]), ("heal", CALLERS["self-heal"]):
        given: Xdata = {"gfid-req": side.gfid_req(name), keys.BD: b"thin:1MB"}
        side.make(fop, name, given, caller={"pid": caller})
        answer, path = side.outcomes[-1].answer["op_errno"], side.real(name)
        if name == "user":
            assert (answer, os.path.lexists(path)) == ("EINVAL", False)
        elif fop in ("mkdir", "symlink"):
            assert (answer, keys.BD in xattrs(path)) == (0, False)
        else:  # by its name
            assert (answer, os.getxattr(path, keys.BD)) == (0, b"thin:4194304")
            side.do("writev", side.anonymous(name), CONTENTS, 1, 0, 0, None)
            assert side.outcomes[-1].answer["op_errno"] == 0


def test_a_file_without_its_device_is_not_cut(sides: list[Side]) -> None:
    """No client has looked it up when it is created, so that its inode tells nothing."""
    side = sides[1]
    side.begin("without")
    assert isinstance(side, Asking)
    side.plant("file", stat.S_IFREG | 0o644, {keys.BD: b"thin:4194304"})
    path = side.real("file")
    os.truncate(path, 1000)
    made = partial(side.created, "file"), partial(side.opened, "file")
    for make, flags, expected in (
        (made[0], os.O_RDWR | os.O_TRUNC, "EIO"),
        (made[0], os.O_RDWR, 0),
        (made[1], os.O_RDWR | os.O_TRUNC, "EIO"),
    ):
        make(flags)
        assert side.outcomes[-1].answer["op_errno"] == expected
        assert path.stat().st_size == 1000


def test_attributes_beside_a_reply_are_the_files(sides: list[Side]) -> None:
    """md-cache and DHT take them for a stat; the stub knows them only after a fsync."""
    side = sides[1]
    side.begin("beside")
    assert isinstance(side, Asking)
    file = side.held("file", bytes(3 * BLOCK))
    side.do("fsync", file, 0)
    calls: list[tuple[Any, ...]] = [
        ("setxattr", "file", {"user.a": b"1"}, 0),
        ("fsetxattr", file, {"user.a": b"1"}, 0),
        ("removexattr", "file", "user.a"),
        ("fsetxattr", file, {"user.a": b"1"}, 0),
        ("fremovexattr", file, "user.a"),
        ("unlink", "file", 0),
    ]
    for fop, *given in calls:
        time.sleep(0.012)  # a tick of the clock
        side.do("writev", file, b"w", 1, 0, 0, None)
        xdata = {keys.DHT_IATT: 1}
        beside = side.do(fop, *given, xdata=xdata, keep=lambda reply: told_beside(reply.xdata))
        shown = side.do("fstat", file, keep=lambda reply: told_of(reply.buf))
        assert beside and shown[1] == 3 * BLOCK // 512
        for key, told in beside.items():
            if key != keys.PRESTAT and fop != "unlink":
                assert told == shown, (fop, key)
            assert told[:3] == shown[:3], (fop, key)


def told_beside(xdata: Any) -> dict[str, Any]:
    return {key: told_of(xdata[key]) for key in xdata if isinstance(xdata[key], Iatt)}


def told_of(iatt: Iatt) -> tuple[int, ...]:
    return (
        *(iatt.ia_size, iatt.ia_blocks, iatt.ia_mtime * 10**9 + iatt.ia_mtime_nsec),
        iatt.ia_ctime * 10**9 + iatt.ia_ctime_nsec,
    )


def test_attributes_before_and_after_are_the_files(sides: list[Side]) -> None:
    """Whoever caches them takes them for a stat's; AFR and shard compare the two."""
    side = sides[1]
    side.begin("around")
    assert isinstance(side, Asking)
    file = side.held("file", bytes(1 << 20))
    side.do("ftruncate", file, 3 << 20)
    side.do("fsync", file, 0)
    mode = Iatt()
    mode.mode = 0o600
    calls: dict[str, Callable[..., Any]] = {
        "writev": partial(side.do, "writev", file, b"w", 1, 0, 0, None),
        "discard": partial(side.do, "discard", file, 4096, 4096),
        "fallocate": partial(side.do, "fallocate", file, 1, 0, 4096),
        "ftruncate": partial(side.do, "ftruncate", file, 2 << 20),
        "setattr": partial(side.do, "setattr", "file", mode, GF_SET_ATTR_MODE),
        "fsetattr": partial(side.do, "fsetattr", file, mode, GF_SET_ATTR_MODE),
        "fsync": partial(side.do, "fsync", file, 0),
        "create": partial(side.created, "file", os.O_RDWR),
        "link": partial(side.do, "link", "file", "other"),
        "rename": partial(side.do, "rename", "other", "third"),
        "create that cuts": partial(side.created, "file", os.O_RDWR | os.O_TRUNC),
    }

    def shown() -> tuple[int, ...]:
        time.sleep(0.012)  # a tick of the clock
        found: tuple[int, ...] = side.do("fstat", file, keep=lambda reply: told_of(reply.buf))
        return found

    opened = []  # a release gives the stub a later ctime
    before = shown()
    assert before[1] >= 2048
    for name, call in calls.items():
        told: dict[str, tuple[int, ...]] = {}
        opened.append(call(keep=lambda reply, told=told: told.update(told_around(reply))))
        after = shown()
        assert told, name
        for when, attributes in told.items():
            if when.startswith("pre"):  # a fsync's have the ctime that the stub gets by it
                assert attributes[:3] == before[:3], (name, when)
            else:
                assert attributes == after, (name, when)
        before = after


def told_around(reply: Any) -> dict[str, tuple[int, ...]]:
    names = "prebuf", "postbuf", "preop_stbuf", "postop_stbuf", "buf"
    return {each: told_of(getattr(reply, each)) for each in names if hasattr(reply, each)}
