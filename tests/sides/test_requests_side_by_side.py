"""What clients ask for beside a fop, in its xdata: C's brick and ours answer the same."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import volfiles
from glupy import Gfid, keys
from glupy.testing.processes import free_port
from glupy.views import Mdata

from .asking import (
    CONTENTS,
    LINKTO,
    LOCK_COUNTS,
    MAKING,
    TEXT,
    Asking,
    Xdata,
    check,
    told,
    until,
)
from .comparing import LEAVES, PLACES
from .scenarios import BLOCK, KINDS, MIB, MODE, with_mode, zoo
from .sides import Opened, served, xattrs

# Both log what they refuse; that they refuse the same is what is tested.
pytestmark = [
    pytest.mark.allow_log(r".*"),
    pytest.mark.of_10_3,
]

# ---- keys that any fop may have ----

ASKED: dict[str, Xdata] = {
    "content-less": {keys.CONTENT: len(CONTENTS) - 1},
    "content": {keys.CONTENT: len(CONTENTS)},
    "content-more": {keys.CONTENT: MIB},
    "content-as-text": {keys.CONTENT: str(MIB)},
    "size": {keys.GET_SIZE: 0},
    "request-link-count": {keys.REQUEST_LINK_COUNT: 7},
    "fd-counts": {keys.OPEN_FD_COUNT: 0, keys.ACTIVE_FD_COUNT: 0},
    "ancestry": {keys.ANCESTRY_PATH: 0},
    "acl": {keys.ACL_TEXT: 0},
    "default-acl": {keys.DEFAULT_ACL_TEXT: 0},
    "list": {keys.LIST_XATTR: 0},
    "mode": {keys.DHT_MODE: 0},
    "iatt": {keys.DHT_IATT: 0},
    "append": {keys.WRITE_IS_APPEND: 1},
    "atomic": {keys.UPDATE_ATOMIC: 1},
    "internal": {keys.INTERNAL_FOP: 1},
    "skip-directories": {keys.SKIP_DIRECTORIES: 1},
    "skip-no-directories": {keys.SKIP_DIRECTORIES: 0},
    "gfid": {keys.GFID: 0, "trusted.gfid2path.*": 0},
    "unknown": {"unknown": 1, "nowhere.x": 1},
    "lock-counts": LOCK_COUNTS,
}


@pytest.mark.parametrize("key", ASKED)
def test_asked_of_every_fop(key: str, sides: list[Asking]) -> None:
    check(sides, f"asked {key}", functools.partial(everywhere, xdata=ASKED[key]))


def everywhere(side: Asking, xdata: Xdata) -> None:
    """Send all fops with that xdata."""
    zoo(side)
    small = side.held("small")
    side.do("mkdir", "directory/below", 0o755, 0)
    side.held("directory/small")
    for name in "small", "file", "directory", "symlink", "fifo":
        side.do("setxattr", name, {"trusted.b": b"2"}, 0)
        side.do("lookup", name, xdata=xdata)
        side.do("lookup", side.by_gfid(name), xdata=xdata, label=f"lookup gfid {name}")
        side.do("stat", name, xdata=xdata)
        side.do("setattr", name, with_mode(0o644), MODE, xdata=xdata)
        for wanted in "trusted.b", None, keys.GFID_TO_PATH:
            side.do("getxattr", name, wanted, xdata=xdata)
        side.do("xattrop", name, 0, {"trusted.n": bytes(4)}, xdata=xdata)
        side.do("setxattr", name, {"trusted.b": b"2"}, 0, xdata=xdata)
        side.do("removexattr", name, "trusted.b", xdata=xdata)
        side.do("access", name, os.R_OK, xdata=xdata)
        side.do("statfs", name, xdata=xdata)
    side.do("readlink", "symlink", 100, xdata=xdata)
    folder = side.opened_dir("directory", xdata=xdata)
    for opened in small, folder, side.opened("file", os.O_RDWR, xdata=xdata):
        side.do("fsetxattr", opened, {"trusted.b": b"2"}, 0, xdata=xdata)
        side.do("fstat", opened, xdata=xdata)
        side.do("fsetattr", opened, with_mode(0o644), MODE, xdata=xdata)
        side.do("fgetxattr", opened, "trusted.b", xdata=xdata)
        side.do("fxattrop", opened, 0, {"trusted.n": bytes(4)}, xdata=xdata)
        side.do("fremovexattr", opened, "trusted.b", xdata=xdata)
        side.do("fsync", opened, 0, xdata=xdata)
        side.do("fsyncdir", opened, 0, xdata=xdata)
        side.do("flush", opened, xdata=xdata)
    on_data: list[tuple[Any, ...]] = [
        ("readv", len(CONTENTS), 0, 0),
        ("writev", b"w", 1, 0, 0, None),
        ("writev", b"w", 1, len(CONTENTS), 0, None),
        ("rchecksum", 0, len(CONTENTS)),
        ("seek", 0, 0),
        ("fallocate", 0, 0, 10),
        ("zerofill", 0, 10),
        ("discard", 0, 10),
        ("ftruncate", 20),
        ("copy_file_range", 0, small, 15, 10, 0),
    ]
    for fop, *given in on_data:
        side.do(fop, small, *given, xdata=xdata)
    side.do("truncate", "small", 30, xdata=xdata)
    for fop in "readdirp", "readdir":
        side.do(fop, folder, 65536, 0, xdata=xdata)
    side.do("link", "small", "linked", xdata=xdata)
    side.do("rename", "linked", "renamed", xdata=xdata)
    side.do("unlink", "renamed", 0, xdata=xdata)
    side.do("rmdir", "directory", 0, xdata=xdata)
    for fop in *MAKING, "put":
        side.make(fop, f"made by {fop}", {"gfid-req": side.gfid_req(fop), **xdata})


# ---- keys of a fop or two ----

REQUESTS: dict[str, Callable[[Asking], None]] = {}


def request(function: Callable[[Asking], None]) -> Callable[[Asking], None]:
    """One key, or some that go together; they have a folder of their own."""
    REQUESTS[function.__name__] = function
    return function


@request
def internal_mknod(side: Asking) -> None:
    """DHT makes link files so: what has that gfid already gets one more link instead."""
    zoo(side)
    side.held("open")
    gone = side.held("gone")
    gfid = side.gfid("gone")
    side.do("unlink", "gone", 0)
    for name in "file", "open", "symlink", "fifo":
        there = {"gfid-req": side.gfid(name), keys.INTERNAL_FOP: b"yes"}
        for new in f"{name} too", f"directory/{name}", "socket":
            side.do("mknod", new, LINKTO, 0, 0, xdata=there, label=f"mknod {new} of {name}")
    for name, which in ("back", gfid), ("new", side.gfid_req("new")):
        side.make("mknod", name, {"gfid-req": which, keys.INTERNAL_FOP: 1})
        side.do("stat", name)
    side.do("fstat", gone)


@request
def internal_mknod_of_a_directory(side: Asking) -> None:
    side.do("mkdir", "directory", 0o755, 0)
    there = {"gfid-req": side.gfid("directory"), keys.INTERNAL_FOP: 1}
    for new in "too", "directory/too", "missing/too":
        side.do("mknod", new, LINKTO, 0, 0, xdata=there)


def replaced(side: Asking, mode: int, marked: bool = True, linked: bool = False) -> None:
    """Make and link over a file. The server must not know of it, or says EEXIST itself."""
    file = side.held("file")
    for fop in "mknod", "link":
        for more in {}, {keys.FORCE_REPLACE: 1}:
            name = f"{fop} {[*more]}"
            side.plant(name, mode, {keys.DHT_LINKTO: b"x"} if marked else {})
            if linked:
                os.link(side.real(name), side.real(f"{name} too"))
            if fop == "mknod":
                side.make(fop, name, {"gfid-req": side.gfid_req(f"new {name}"), **more})
            else:
                side.do("link", "file", name, xdata=more)
    side.do("fstat", file)


@request
def force_replace(side: Asking) -> None:
    """Only a stale link file of DHT gives way."""
    replaced(side, LINKTO)


@request
def force_replace_of_an_unmarked_file(side: Asking) -> None:
    replaced(side, LINKTO, marked=False)


@request
def force_replace_of_one_of_two_names(side: Asking) -> None:
    replaced(side, LINKTO, linked=True)


@request
def force_replace_of_another_file(side: Asking) -> None:
    replaced(side, LINKTO | 0o644)


@request
def force_replace_of_a_fifo(side: Asking) -> None:
    """With the mode of a link file, for what that is worth."""
    replaced(side, stat.S_IFIFO | stat.S_ISVTX)


def made_with_a_layout(side: Asking, fop: str) -> None:
    """DHT: a directory's xattr must be what the client thinks it is."""
    key, long = "trusted.glusterfs.dht", "trusted.long"
    stored = {key: b"layout", long: b"l" * 300, "trusted.empty": b""}
    side.do("mkdir", "parent", 0o755, 0)
    side.do("setxattr", "parent", stored, 0)
    side.created("parent/there")
    for number, (name, value) in enumerate(
        [
            *((key, value) for value in (b"layout", b"other!", b"layou", b"layout ", b"", None)),
            (long, b"l" * 300),
            (long, b"l" * 299),
            ("trusted.empty", b""),
        ]
    ):
        expected = {} if value is None else {name: value}
        more = {keys.PREOP_PARENT: name, **expected}
        for new in f"parent/{number}", f"parent/missing/{number}":
            stale = fop == "mkdir" and expected and stored[name] != value and "missing" not in new
            row = "mkdir-layout" if stale else None
            side.make(fop, new, {"gfid-req": side.gfid_req(new), **more}, differs=row)
        if fop == "create":
            xdata = {"gfid-req": side.gfid_req("there"), **more}
            side.created("parent/there", os.O_RDWR, xdata=xdata)
    side.note("parent", xattrs(side.real("parent")))


@request
def layout_of_a_create(side: Asking) -> None:
    made_with_a_layout(side, "create")


def made_without_a_layout(side: Asking, fop: str) -> None:
    row = "mkdir-layout" if fop == "mkdir" else None
    for key in "trusted.none", "nowhere.x":
        given = {"gfid-req": side.gfid_req(key), keys.PREOP_PARENT: key, key: b"expected"}
        side.make(fop, f"{fop} {key}", given, differs=row)


@request
def create_without_a_layout(side: Asking) -> None:
    made_without_a_layout(side, "create")


@request
def gfidless_lookup(side: Asking) -> None:
    """Files that somebody has put there; a lookup gives a gfid to what is older than a second."""
    side.real("file").write_bytes(CONTENTS)
    side.real("folder").mkdir()
    (side.real("folder") / "below").touch()
    more = {keys.LIST_XATTR: 1, keys.OPEN_FD_COUNT: 1, keys.CONTENT: MIB}
    time.sleep(1.1)
    for name in "file", "folder", "missing":
        for xdata in None, {}, {keys.GFIDLESS_LOOKUP: 1}, {keys.GFIDLESS_LOOKUP: 1, **more}:
            side.do("lookup", name, xdata=xdata, label=f"lookup {name} {xdata}")
        for gfid in bytes(16), side.gfid_req(name):
            for asked in {}, {keys.GFIDLESS_LOOKUP: 1, **more}:
                side.do("lookup", name, xdata={"gfid-req": gfid, **asked})


@request
def gfidless_lookup_of_0(side: Asking) -> None:
    """The value counts."""
    side.real("file").touch()
    side.do("lookup", "file", xdata={keys.GFIDLESS_LOOKUP: 0})


@request
def fresh_file_without_a_gfid(side: Asking) -> None:
    side.real("file").touch()
    side.do("lookup", "file", xdata={"gfid-req": side.gfid_req("file")})


def looked_up_after_unlink(side: Asking, value: int) -> None:
    row = "unlinked-lookup"
    side.do("mknod", "gone", stat.S_IFREG | 0o644, 0, 0)  # nobody has to close it
    held = side.held("open")
    gfids = {"gone": side.gfid("gone"), "open": side.gfid("open"), "nothing": b"n" * 16}
    side.note("gfid", str(Gfid(gfids["open"])))
    for when in "before", "after", "closed":
        for xdata in None, {keys.UNLINKED_LOOKUP: value}:
            for name, gfid in gfids.items():
                label = f"lookup {when} {name} {xdata}"
                there = when == "before" and name != "nothing"
                differs = not there if not value else (when, name) == ("after", "open")
                more = {"differs": row if xdata and differs else None}
                side.do("lookup", side.nameless(gfid), xdata=xdata, label=label, **more)
            side.do("lookup", "open", xdata=xdata, label=f"lookup {when} by name {xdata}")
        if when == "before":
            for name in "gone", "open":
                side.do("unlink", name, 0)
        elif when == "after":
            side.do("fstat", held)
            del held
            side.until_closed()


@request
def protected_writes(side: Asking) -> None:
    """Rebalance copies what no client has written to meanwhile."""
    zoo(side)
    file, other = side.opened("file", os.O_RDWR), side.held("other")
    avoid, clean = {keys.AVOID_OVERWRITE: 1}, {keys.CLEAN_WRITE_PROTECTION: 1}

    def write(xdata: Xdata | None, when: str) -> None:
        side.do("writev", file, b"w", 1, 0, 0, None, xdata=xdata, label=f"write {when}")
        side.do("copy_file_range", other, 0, file, 0, 5, 0, xdata=xdata, label=f"copy {when}")
        side.note(f"marked {when}", xattrs(side.real("file")))

    write(avoid, "first")
    for value in b"1", b"", 1, "text":
        for more in {}, avoid:
            write({keys.PROTECT_WRITES: value, **more}, f"{value!r} {more}")
            write(avoid, "after that")
            write(None, "of a client")
            for fop, *given in (
                ("stat", "file"),
                ("fstat", file),
                ("getxattr", "file", None),
                ("setattr", "file", with_mode(0o644), MODE),
                ("lookup", "missing"),
            ):
                side.do(fop, *given, xdata=clean)
            write(avoid, "still")
            side.do("lookup", "file" if more else side.by_gfid("file"), xdata=clean, label="clean")
            write(avoid, "at last")
            side.do("lookup", "file", xdata=clean)
    for fop, *args in ("discard", 0, 10), ("fallocate", 0, 0, 10), ("zerofill", 0, 10):
        side.do(fop, file, *args, xdata={keys.PROTECT_WRITES: b"1"})
        side.do(fop, file, *args, xdata=avoid)


@request
def protected_writes_without_room(side: Asking) -> None:
    """A mark that the file system does not take."""
    file = side.held("file")
    for size in 60_000, 70_000:
        side.do("writev", file, b"w", 1, 0, 0, None, xdata={keys.PROTECT_WRITES: bytes(size)})


@request
def protected_writes_in_a_cloud(side: Asking) -> None:
    """Which is judged first shows in the mark, and in the errno."""
    file = side.held("file")
    side.do("setxattr", "file", {keys.CS_REMOTE: b"path"}, 0)
    for xdata in {keys.PROTECT_WRITES: b"1"}, {keys.AVOID_OVERWRITE: 1}:
        side.do("writev", file, b"w", 1, 0, 0, None, xdata={keys.CS_STATUS: 1, **xdata})
        side.note("marked", xattrs(side.real("file")))


@request
def durable_xattrs(side: Asking) -> None:
    zoo(side)
    for opened in (
        side.opened("file", os.O_RDWR),
        side.opened("file", os.O_RDONLY),
        side.opened_dir("directory"),
        side.anonymous("file"),
        side.anonymous("fifo"),
    ):
        side.do("fsetxattr", opened, {"user.a": b"1"}, 0, xdata={keys.DURABLE_OP: 1})
    side.do("setxattr", "file", {"user.b": b"1"}, 0, xdata={keys.DURABLE_OP: 1})


@request
def check_zero_filled(side: Asking) -> None:
    file = side.held("file", bytes(BLOCK) + b"x")
    side.do("ftruncate", file, 3 * BLOCK)
    for value in 0, 1, b"x":
        for offset, size in (
            *((0, BLOCK), (0, BLOCK + 1), (BLOCK, 1), (BLOCK, BLOCK)),
            *((2 * BLOCK, 3 * BLOCK), (3 * BLOCK, 10), (0, 0)),
        ):
            xdata = {keys.CHECK_ZERO_FILLED: value}
            side.do(
                "rchecksum", file, offset, size, xdata=xdata, label=f"{offset} {size} {value!r}"
            )


@request
def skipped_directories(side: Asking) -> None:
    zoo(side)
    for name in "second", "third":
        side.do("mkdir", f"directory/{name}", 0o755, 0)
    for folder in side.opened_dir("directory"), side.opened_dir("directory/second"):
        for fop in "readdir", "readdirp":
            for size, more in (65536, {}), (300, {"user.a": 0, keys.OPEN_FD_COUNT: 0}):
                for value in 0, 1, -1:
                    xdata = {keys.SKIP_DIRECTORIES: value, **more}
                    label = f"{fop} {folder} {size} {value}"
                    side.do(fop, folder, size, 0, xdata=xdata, label=label)


@request
def times_of_a_client(side: Asking) -> None:
    """A lookup of a client's features/utime brings the times of a file that has none."""
    zoo(side)
    first, later, mixed = (
        Mdata(10, 20, 30, 1, 2, 3),
        Mdata(11, 21, 31, 0, 0, 0),
        Mdata(5, 99, 31, 5, 99, 4),
    )
    for name in "file", "directory", "symlink", "fifo", "missing":
        for number, times in enumerate([first, later, mixed, first]):
            given = {keys.SET_MDATA: times, **({"trusted.a": b"1"} if number == 1 else {})}
            side.do("setxattr", name, given, 0, label=f"setxattr {name} {number}")
            if name != "missing":
                stored = os.getxattr(side.real(name), keys.MDATA, follow_symlinks=False)
                side.note(f"times of {name} {number}", stored)
    side.do("fsetxattr", side.opened("file", os.O_RDWR), {keys.SET_MDATA: first}, 0)
    for other in b"x", 1:
        side.do("setxattr", "file", {keys.SET_MDATA: other}, 0)


@request
def bulk_removexattr(side: Asking) -> None:
    """With an empty name those go that the xdata names; one that is not there does no harm."""
    zoo(side)
    stored = {f"user.{letter}": letter.encode() for letter in "abc"}
    file, folder = side.opened("file", os.O_RDWR), side.opened_dir("directory")
    for names in (
        *(["user.a"], ["user.a", "user.none", "user.b"], ["user.none"], [], ["user.*"]),
        *(["user.a", "nowhere.x", "user.b"], ["nowhere.x", "user.a"], [keys.ACL_ACCESS, "user.a"]),
        *(["user.a", keys.GFID], [keys.VOLUME_ID], ["user.a", "trusted.gfid2path.0", "user.b"]),
    ):
        for fop, target in (
            *(("removexattr", name) for name in ("file", "directory", "missing")),
            *(("fremovexattr", opened) for opened in (file, folder)),
        ):
            for name in "file", "directory":
                side.do("setxattr", name, {**stored, keys.ACL_TEXT: TEXT}, 0)
            label = f"{fop} {target} {names}"
            side.do(fop, target, "", xdata=dict.fromkeys(names, b"x"), label=label)
            for name in "file", "directory":
                side.note(f"left by {label}: {name}", xattrs(side.real(name)))
    side.do("removexattr", "file", "user.a", xdata={"user.b": b"x"})
    side.do("removexattr", "file", "")


@request
def backend_xattrs_of_0(side: Asking) -> None:
    """The value counts; what 1 does is in test_pyposix_keys.py."""
    side.do("mkdir", "d", 0o755, 0)
    side.do("setxattr", "d", {"user.old": b"1"}, 0)
    side.do("setxattr", "d", {"user.new": b"1"}, 0, xdata={keys.SYNC_BACKEND_XATTRS: 0})


@request
def ancestry_as_entries(side: Asking) -> None:
    """Quota asks; the names of files are in test_pyposix_keys.py: they must be counted."""
    side.do("mkdir", "a", 0o755, 0)
    side.do("mkdir", "a/b", 0o755, 0)
    file = side.held("a/b/file")
    more = {keys.LIST_XATTR: 1, keys.OPEN_FD_COUNT: 1, keys.GFID: 1}
    for xdata in {keys.ANCESTRY_DENTRY: 1}, {keys.ANCESTRY_DENTRY: 0, **more}:
        for fd in side.opened_dir("a/b"), side.opened_dir("/"), side.anonymous("a", os.O_RDONLY):
            for size, offset in (65536, 0), (10, 5):
                side.do("readdirp", fd, size, offset, xdata=xdata)
        side.do("readdir", side.opened_dir("a/b"), 65536, 0, xdata=xdata)
        side.do("readdirp", file, 65536, 0, xdata=xdata, differs="ancestry-uncounted")


@pytest.mark.parametrize("name", REQUESTS)
def test_requests(name: str, sides: list[Asking]) -> None:
    check(sides, name, REQUESTS[name])


# ---- where C does not do what it is asked for ----


def test_mkdir_in_another_layout(sides: list[Asking]) -> None:
    """DHT reads the layout again, and retries, if it is told that."""
    made = check(sides, "layout of a mkdir", functools.partial(made_with_a_layout, fop="mkdir"))
    failed = {keys.PREOP_FAILED: 1}
    for c, ours in told(made, "mkdir-layout"):
        assert (c["op_errno"], c["xdata"]) == (0, failed)
        assert (ours["op_errno"], ours["xdata"]) == ("EIO", failed)
    made = check(sides, "no layout", functools.partial(made_without_a_layout, fop="mkdir"))
    for (c, ours), number in zip(told(made, "mkdir-layout"), ["ENODATA", "ENOTSUP"], strict=True):
        assert (c["op_errno"], c["xdata"]) == (number, None)
        assert (ours["op_errno"], ours["xdata"]) == ("EIO", failed)


def test_a_gfid_that_is_taken(sides: list[Asking]) -> None:
    """Only a directory may have the gfid of another: that one has moved on another brick."""

    def scenario(side: Asking) -> None:
        zoo(side)
        for name in "file", "directory", "symlink", "fifo":
            for fop in MAKING:
                if (fop, name) != ("mkdir", "directory"):
                    row = "taken-gfid" if fop != "mkdir" else None
                    side.make(fop, f"{fop} as {name}", {"gfid-req": side.gfid(name)}, differs=row)
            side.do("stat", side.by_gfid(name), label=f"stat gfid {name}")

    answers = told(check(sides, "taken", scenario), "taken-gfid")
    assert {(c["op_errno"], ours["op_errno"]) for c, ours in answers} == {("ENODATA", "ESTALE")}


def test_unlinked_files(sides: list[Asking]) -> None:
    """A client asks whether a file is still open; the value counts."""
    scenario = functools.partial(looked_up_after_unlink, value=1)
    pairs = check(sides, "unlinked", scenario)
    (gfid,) = [c.answer for c, _ in pairs if c.label == "gfid"]
    ((c, ours),) = told(pairs, "unlinked-lookup")
    assert (c["buf"]["gfid"], ours["buf"]["gfid"]) == (str(Gfid(bytes(16))), gfid)
    same = "size", "nlink", "mode", "uid", "gid"
    assert [c["buf"][each] for each in same] == [ours["buf"][each] for each in same]
    scenario = functools.partial(looked_up_after_unlink, value=0)
    for c, ours in told(check(sides, "unlinked, 0", scenario), "unlinked-lookup"):
        assert (c["op_errno"], ours["op_errno"]) == ("ESTALE", "ENOENT")


def test_durable_xattrs_that_fail(sides: list[Asking]) -> None:
    def scenario(side: Asking) -> None:
        file = side.held("file")
        for given in {"nowhere.a": b"1"}, {"user.l": bytes(70_000)}:
            more = {"xdata": {keys.DURABLE_OP: 1}, "label": f"{[*given]}"}
            side.do("fsetxattr", file, given, 0, differs="durable-errors", **more)

    answers = told(check(sides, "durable errors", scenario), "durable-errors")
    assert [c["op_ret"] for c, _ in answers] == [0, 0]
    assert [ours["op_errno"] for _, ours in answers] == ["ENOTSUP", "E2BIG"]


def test_what_is_shorter_than_what_was_read_before(sides: list[Asking]) -> None:
    """Names of different lengths, of which one follows the other; and numbers."""
    row, lengths = "shorter-after-longer", range(2, 12)

    def scenario(side: Asking) -> None:
        side.held("a")
        for length in lengths:
            side.do("link", "a", "n" * length)
            done = len(side.outcomes)
            paths = side.do("getxattr", "a", keys.GFID_TO_PATH, keep=recorded_paths)
            del side.outcomes[done:]
            side.note(f"paths {length}", paths, differs=row if length > 2 else None)
        stored = {keys.CS_SIZE: b"5000", keys.CS_BLOCKS: b"8", keys.CS_BLOCK_SIZE: b"4096"}
        side.do("setxattr", "a", {keys.CS_REMOTE: b"a", **stored}, 0)
        side.do("stat", "a", xdata={keys.CS_STATUS: 1}, differs=row)

    *paths, sizes = told(check(sides, "shorter", scenario), row)
    for length, (c, ours) in zip(lengths[1:], paths, strict=True):
        names = ["a", *("n" * each for each in range(2, length + 1))]
        right = {f"/shorter/{name}" for name in names}
        assert len(ours) == len(right) and set(ours) == right
        assert len(c) == len(right) and set(c) != right
        assert all(any(path.startswith(each) for each in right) for path in c)
    assert [answer["buf"]["blocks"] for answer in sizes] == [8096, 8]


def recorded_paths(reply: Any) -> list[str]:
    return bytes(reply.dict[keys.GFID_TO_PATH]).decode().rstrip("\0").split(":")


# ---- unlink and rename ----

EVERY_COUNT = [keys.GET_LINK_COUNT, keys.REQUEST_LINK_COUNT, keys.GET_BLOCK_COUNT, keys.DHT_IATT]
UNLINKED: dict[str, Xdata] = {
    "get-link-count": {keys.GET_LINK_COUNT: 1},
    "request-link-count": {keys.REQUEST_LINK_COUNT: 1},
    "block-count": {keys.GET_BLOCK_COUNT: 1},
    "iatt": {keys.DHT_IATT: 1},
    "all": dict.fromkeys(EVERY_COUNT, 1),
    "not-open": {keys.UNLINK_NOT_OPEN: 1},
    "not-open-0": {keys.UNLINK_NOT_OPEN: 0},
    "only-linkto": {keys.UNLINK_ONLY_LINKTO: 1},
    "only-linkto-0": {keys.UNLINK_ONLY_LINKTO: 0},
}


@pytest.mark.parametrize("key", UNLINKED)
def test_unlink(key: str, sides: list[Asking]) -> None:
    pairs = check(sides, f"unlink {key}", functools.partial(unlinking, xdata=UNLINKED[key]))
    for c, ours in told(pairs, "refused-unlink-blocks"):
        assert c["op_errno"] == ours["op_errno"] == "EISDIR"
        assert ([*c["xdata"]], ours["xdata"]) == ([keys.GET_BLOCK_COUNT], None)


def until_no_fd_is_open(side: Asking, name: str) -> None:
    """A brick gets the release some time after the client has dropped the fd."""

    def open_fds(reply: Any) -> int:
        return int(reply.xdata[keys.OPEN_FD_COUNT])

    seen = len(side.outcomes)
    until(lambda: side.do("lookup", name, xdata={keys.OPEN_FD_COUNT: 0}, keep=open_fds) == 0)
    del side.outcomes[seen:]


def unlinking(side: Asking, xdata: Xdata) -> None:
    zoo(side)
    held = [side.held(name, bytes(3 * BLOCK)) for name in ("open", "open twice", "two names")]
    for name in "two names", "open twice":
        side.do("link", name, f"{name} too")
    del held[2]
    until_no_fd_is_open(side, "two names")
    side.linkto("marked")
    side.linkto("marked with nothing", b"")
    side.linkto("unmarked", None)
    side.linkto("readable")
    side.do("setattr", "readable", with_mode(0o1644), MODE)
    for name in (
        *("two names", "two names too", "open twice", "open twice too", "open"),
        *("marked", "marked with nothing", "unmarked", "readable", "missing", *KINDS),
    ):
        tells = name == "directory" and keys.GET_BLOCK_COUNT in xdata
        row = "refused-unlink-blocks" if tells else None
        side.do("unlink", name, 0, xdata=xdata, differs=row)
    for each in held:
        side.do("fstat", each)


@pytest.mark.parametrize("key", UNLINKED)
def test_rename(key: str, sides: list[Asking]) -> None:
    check(sides, f"rename {key}", functools.partial(renaming, xdata=UNLINKED[key]))


def renaming(side: Asking, xdata: Xdata) -> None:
    side.disk_rows["two names too"] = "rename-over-link"
    for name in "old", "new", "two names", "open", "third", "fourth":
        side.created(name)
    side.do("link", "two names", "two names too")
    held = side.opened("open", os.O_RDWR)
    for name in "d", "empty":
        side.do("mkdir", name, 0o755, 0)
    for old, new in (
        *(("old", "moved"), ("moved", "new"), ("third", "two names"), ("fourth", "open")),
        *(("d", "empty"), ("empty", "moved too"), ("missing", "x")),
    ):
        side.do("rename", old, new, xdata=xdata)
    side.do("fstat", held)


# ---- files in a cloud ----

BEFORE = {keys.CS_SIZE: b"5000", keys.CS_BLOCKS: b"1234", keys.CS_BLOCK_SIZE: b"1024"}
CLOUDS: dict[str, tuple[Xdata, int]] = {
    "here": ({}, 4000),
    "here again": (BEFORE, 4000),
    "remote": ({keys.CS_REMOTE: b"path", **BEFORE}, 0),
    "downloading": ({keys.CS_DOWNLOADING: b"1"}, 0),
    "cut short": ({keys.CS_REMOTE: b"path", **BEFORE}, 4000),
    "cut short, downloading": ({keys.CS_REMOTE: b"path", keys.CS_DOWNLOADING: b"1"}, 4000),
}
"""The xattrs of a file whose data is, or was, or may be in a cloud, and its size."""
CLOUD_ASKED = [keys.CS_STATUS], [keys.CS_REPAIR], [keys.CS_STATUS, keys.CS_REPAIR]


class InCloud(NamedTuple):
    """What a fop may be about."""

    file: Opened
    folder: Opened
    other: Opened


ON_CLOUDS: dict[str, Callable[[InCloud], tuple[Any, ...]]] = {
    "lookup": lambda at: ("d/file",),
    "stat": lambda at: ("d/file",),
    "fstat": lambda at: (at.file,),
    "setattr": lambda at: ("d/file", with_mode(0o644), MODE),
    "fsetattr": lambda at: (at.file, with_mode(0o644), MODE),
    "getxattr": lambda at: ("d/file", "user.a"),
    "fgetxattr": lambda at: (at.file, "user.a"),
    "xattrop": lambda at: ("d/file", 0, {"trusted.n": bytes(4)}),
    "fxattrop": lambda at: (at.file, 0, {"trusted.n": bytes(4)}),
    "readdirp": lambda at: (at.folder, 65536, 0),
    "open": lambda at: (),
    "readv": lambda at: (at.file, 10, 0, 0),
    "writev": lambda at: (at.file, b"w", 1, 0, 0, None),
    "copy_file_range": lambda at: (at.other, 0, at.file, 0, 10, 0),
    "rchecksum": lambda at: (at.file, 0, 10),
    "fallocate": lambda at: (at.file, 0, 0, 10),
    "zerofill": lambda at: (at.file, 0, 10),
    "discard": lambda at: (at.file, 0, 10),
    "seek": lambda at: (at.file, 0, 0),
    "truncate": lambda at: ("d/file", 100),
    "ftruncate": lambda at: (at.file, 100),
}


@pytest.mark.parametrize("fop", ON_CLOUDS)
def test_files_in_a_cloud(fop: str, sides: list[Asking]) -> None:
    pairs = check(sides, f"cloud {fop}", functools.partial(in_clouds, fop=fop))
    for c, ours in told(pairs, "cloudsync"):
        state = ours["xdata"][keys.CS_STATUS]
        if fop == "seek":  # C takes no notice
            assert (ours["op_errno"], state > 1) == ("EIO", True)
        else:
            assert {**ours, "xdata": None} == c


def in_clouds(side: Asking, fop: str) -> None:
    side.do("mkdir", "d", 0o755, 0)
    at = InCloud(side.held("d/file"), side.opened_dir("d"), side.held("other"))
    for cloud, (stored, size) in CLOUDS.items():
        for asked in CLOUD_ASKED:
            for key in keys.CS_REMOTE, keys.CS_DOWNLOADING, *BEFORE:
                with contextlib.suppress(OSError):
                    os.removexattr(side.real("d/file"), key)
            for key, value in {"user.a": b"1", **stored}.items():
                os.setxattr(side.real("d/file"), key, value)
            os.truncate(side.real("d/file"), size)
            xdata = dict.fromkeys(asked, 1)
            label = f"{fop} {cloud} {asked}"
            refused = keys.CS_STATUS in asked and not cloud.startswith("here")
            tells = refused if fop == "seek" else fop in ("truncate", "ftruncate")
            row = "cloudsync" if tells else None
            if fop == "open":
                side.opened("d/file", os.O_RDWR, xdata=xdata, label=label)
            else:
                side.do(fop, *ON_CLOUDS[fop](at), xdata=xdata, label=label, differs=row)
            status = side.real("d/file").stat()
            side.note(f"left by {label}", (status.st_size, xattrs(side.real("d/file"))))


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_key_that_ends_c(leaf: str, tmp_path: Path) -> None:
    """docs/upstream-defects.md: C posix looks for a fourth part of it."""
    folder = tmp_path / PLACES[leaf]
    folder.mkdir()
    graph = volfiles.brick(folder, leaf=leaf, port=free_port())
    told = pytest.raises(OSError, match="not connected") if leaf == "posix" else None
    with told or contextlib.nullcontext() as ended, served(graph, folder, tmp_path, leaf) as side:
        side.created("file")
        side.do("lookup", "file", xdata={"trusted...contri": b"1"})
    if ended is not None:
        assert any("signal SIGSEGV" in note for note in ended.value.__notes__)
