"""Scenarios: fops that are done on two sides alike, each in a folder of its own."""

from __future__ import annotations

import itertools
import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import Any

from glupy import Flock, Iatt, constants

from .sides import Opened, Side

SIZE = 1 << 30
BLOCK = 4096
KIB, MIB = 1 << 10, 1 << 20
HUGE = (1 << 63) - 1
U32, U64 = (1 << 32) - 1, (1 << 64) - 1
OTHER = {"uid": 1000, "gid": 1001}
LINK_COUNT = "unlink-link-count"
KINDS = ["file", "directory", "symlink", "device", "fifo", "socket"]

Scenario = Callable[[Side], None]
SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    """One of the parts of what is compared; it has a folder of its own."""
    SCENARIOS[function.__name__] = function
    return function


def zoo(side: Side) -> None:
    """Make one file of every kind."""
    file = side.created("file")
    side.do("writev", file, b"d" * 3 * BLOCK, 1, 0, 0, None)
    side.do("mkdir", "directory", 0o755, 0)
    side.created("directory/inside")
    side.do("symlink", "file", "symlink", 0)
    side.do("mknod", "device", stat.S_IFCHR | 0o600, os.makedev(1, 3), 0)
    side.do("mknod", "fifo", stat.S_IFIFO | 0o600, 0, 0)
    side.do("mknod", "socket", stat.S_IFSOCK | 0o600, 0, 0)


def openings(side: Side) -> Iterator[Opened]:
    """Open everything in every way that fops on fds can meet."""
    for flags in (
        os.O_RDONLY,
        os.O_WRONLY,
        os.O_RDWR,
        os.O_RDWR | os.O_APPEND,
        os.O_RDWR | os.O_DIRECT,
        os.O_RDWR | os.O_SYNC,
    ):
        yield side.opened("file", flags)
    yield side.opened_dir("directory")
    for kind in KINDS:
        if kind not in ("device", "socket"):
            yield side.anonymous(kind)
    yield side.anonymous("file", os.O_RDONLY)
    yield side.anonymous("missing")
    yield side.unopened("file")
    gone = side.created("gone")
    side.do("writev", gone, b"g" * BLOCK, 1, 0, 0, None)
    side.do("unlink", "gone", 0, differs=LINK_COUNT)
    yield gone


# ---- names ----


@scenario
def looking_up(side: Side) -> None:
    zoo(side)
    for name in [*KINDS, "missing", "file/below", "symlink/below", "directory/inside", "/"]:
        side.do("lookup", name)
    for name in "/.glusterfs", "/.glusterfs/unlink", ".", "..", "n" * 255, "n" * 256, "\udcff\n":
        side.do("lookup", name)
    for kind in KINDS:
        side.do("lookup", side.nameless(side.inodes[side.path(kind)].gfid), label=f"gfid {kind}")
    side.do("lookup", side.nameless(b"n" * 16), label="gfid of nothing")
    for name in [*KINDS, "missing", "/"]:
        side.do("stat", name)
        side.do("readlink", name, 1000)
        side.do("statfs", name)
        for mask in os.F_OK, os.R_OK, os.X_OK, os.R_OK | os.W_OK, 8, -1:
            side.do("access", name, mask)
            side.do("access", name, mask, caller=OTHER)
    for size in 0, 1, 3, 5000:
        side.do("readlink", "symlink", size)
    side.do("stat", side.nameless(b"n" * 16), label="stat of nothing")


def names() -> list[str]:
    return ["new", "n" * 255, "n" * 256, "a\nb", "\udcff\udcfe", "é" * 127, "é" * 128]


@scenario
def making(side: Side) -> None:
    zoo(side)
    for name in [
        *names(),
        "file",
        "directory",
        "symlink",
        "missing/new",
        "file/new",
        "/.glusterfs",
    ]:
        for fop in "mkdir", "mknod", "create", "symlink", "link":
            row = "onto-glusterfs" if name == "/.glusterfs" and fop != "mkdir" else None
            if fop == "create":
                side.created(name, differs=row)
            elif fop == "symlink":
                side.do("symlink", "to", name, 0, differs=row)
            elif fop == "link":
                side.do("link", "file", name, differs=row)
            elif fop == "mknod":
                side.do("mknod", name, stat.S_IFREG | 0o644, 0, 0, differs=row)
            else:
                side.do("mkdir", name, 0o755, 0)
            if side.path(name) in side.inodes and name in names():
                if fop == "mkdir":
                    side.do("rmdir", name, 0)
                else:
                    side.do("unlink", name, 0, differs=LINK_COUNT)
    for mode in 0, 0o7777, 0o2755, 0o1777, U32, stat.S_IFDIR | 0o755:
        side.do("mkdir", f"mkdir {mode}", mode, 0)
        side.created(f"create {mode}", mode=mode)
    for kind in (
        stat.S_IFREG,
        stat.S_IFDIR,
        stat.S_IFCHR,
        stat.S_IFBLK,
        stat.S_IFIFO,
        stat.S_IFSOCK,
        stat.S_IFLNK,
        0,
        0o170000,
    ):
        side.do("mknod", f"mknod {kind:o}", kind | 0o640, os.makedev(7, 1000), 0)
    for number, flags in enumerate(
        [
            0,
            os.O_RDONLY,
            os.O_CREAT,
            os.O_RDWR | os.O_APPEND,
            os.O_RDWR | os.O_TRUNC,
            os.O_DIRECTORY,
        ]
    ):
        side.created(f"flags {number}", flags)
        side.created("file", flags, label=f"create over, {flags:#o}")
    for length in 0, 1, 255, 1000, 4094, 4095, 4096, 5000:
        side.do("symlink", "t" * length, f"symlink {length}", 0)
        side.do("readlink", f"symlink {length}", 10_000)
    for fop, name, *given in (
        ("mkdir", "without", 0o755, 0),
        ("mknod", "without", stat.S_IFREG, 0, 0),
    ):
        side.do(fop, name, *given, xdata={})
        side.do(fop, name, *given, xdata={"gfid-req": bytes(16)})
        side.do(fop, name, *given, xdata={"gfid-req": side.inodes[side.path("file")].gfid})
    side.created("without", xdata={})
    side.do("symlink", "to", "without", 0, xdata={})
    short = {"gfid-req": b"short"}
    side.do("mkdir", "directory/short", 0o755, 0, xdata=short, differs="gfid-req-length")
    side.disk_rows["directory/short"] = side.disk_rows["making/directory"] = "gfid-req-length"
    side.do("mkdir", "set gid", 0o2775, 0)
    side.do("setattr", "set gid", owner(5, 6), 6)
    side.do("mkdir", "set gid/below", 0o755, 0)
    side.created("set gid/file")
    side.do("mkdir", "other's", 0o755, 0, caller=OTHER)
    side.created("others", caller=OTHER)
    side.do("put", "put", 0o644, 0, 0, b"p" * 100, 1, 0, None, {})
    side.do("put", "put", 0o644, 0, 0, b"q" * 10, 1, 5, None, {"user.a": b"1"})
    side.do("put", "missing/put", 0o644, 0, 0, b"p", 1, 0, None, {})
    side.do("put", "directory", 0o644, 0, 0, b"p", 1, 0, None, {})
    with_xattrs = {"gfid-req": side.gfid_req("with"), "user.a": b"1", "trusted.b": b"2", "c": b"3"}
    side.do("mkdir", "with", 0o755, 0, xdata=with_xattrs)
    side.do("link", "missing", "linked")
    side.do("link", "directory", "linked")
    for name in KINDS:
        side.do("link", name, f"{name} linked")
    deep(side)


def deep(side: Side) -> None:
    """Make paths that get near what the kernel takes in one call, and then past it."""
    name = "".join(f"/{depth:0250}" for depth in range(14)).lstrip("/")
    for folder in itertools.accumulate(name.split("/"), "{}/{}".format):
        side.do("mkdir", folder, 0o755, 0)
    side.created(f"{name}/f")
    side.do("lookup", f"{name}/f")
    side.do("getxattr", f"{name}/f", "glusterfs.gfidtopath")
    seen = len(side.outcomes)
    made = [side.do("mkdir", name := f"{name}/{depth:0250}", 0o755, 0) for depth in range(4)]
    del side.outcomes[seen:]
    side.note("folders past 4096 bytes", made, differs="deep-path")
    side.disk_rows["making/000"] = side.disk_rows["handle"] = "deep-path"


@scenario
def removing(side: Side) -> None:
    zoo(side)
    for flags in 0, 1:
        for name in [*KINDS, "missing", "missing/a", "file/a", "/.glusterfs", "/", "n" * 256]:
            for fop in "unlink", "rmdir":
                if (fop, name, flags) != ("rmdir", "directory", 1):
                    last = fop == "unlink" and flags == 0 and name in KINDS and name != "directory"
                    side.do(fop, name, flags, differs=LINK_COUNT if last else None)
    # On btrfs a directory has one link.
    side.disk_rows[str(side.inodes[side.path("directory")].gfid)] = "failed-unlink-handle"
    side.do("mkdir", "empty", 0o755, 0)
    side.do("rmdir", "empty", 0)
    side.do("mkdir", "tree", 0o755, 0)
    side.do("mkdir", "tree/in", 0o755, 0)
    side.created("tree/in/file")
    side.do("rmdir", "tree", 1)
    side.do("lookup", "tree")
    held = side.created("held")
    side.do("link", "held", "held too")
    side.do("unlink", "held", 0, xdata={"get-link-count": 1})
    side.do("lookup", "held too")
    side.do("unlink", "held too", 0, xdata={"get-link-count": 1})
    side.do("writev", held, b"h" * 10, 1, 0, 0, None)
    side.do("readv", held, 10, 0, 0)
    side.do("fstat", held)
    side.do("mkdir", "left", 0o755, 0)
    gone = side.opened_dir("left")
    side.do("rmdir", "left", 0)
    side.do("readdir", gone, 4096, 0)
    side.do("fstat", gone)


@scenario
def renaming(side: Side) -> None:
    zoo(side)
    side.do("mkdir", "empty", 0o755, 0)
    side.do("mkdir", "full", 0o755, 0)
    side.created("full/file")
    side.created("other")
    for old in [*KINDS, "missing", "missing/a", "/.glusterfs", "/"]:
        for new in "file/a", "missing/new", f"{old}/below", "n" * 256:
            side.do("rename", old, new)
        if old in KINDS:
            side.do("rename", old, "/.glusterfs", differs="onto-glusterfs")
    for old, new in (
        ("file", "moved"),
        ("moved", "directory/moved"),
        ("directory/moved", "other"),
        ("directory", "empty"),
        ("symlink", "other"),
        ("device", "fifo"),
        ("empty", "full/empty"),
        ("full/empty", "empty"),
    ):
        side.do("rename", old, new)
        side.do("lookup", new)
    held = side.created("held")
    side.do("writev", held, b"h" * 10, 1, 0, 0, None)
    again = side.anonymous("held")
    side.created("over")
    side.do("rename", "over", "held")
    side.do("fstat", held)
    side.do("readv", held, 10, 0, 0)
    side.do("fstat", again, differs="overwritten-open-file")


@scenario
def renaming_what_must_not_be(side: Side) -> None:
    """Renames that fail or change nothing; C's bookkeeping suffers from some."""
    zoo(side)
    side.do("mkdir", "full", 0o755, 0)
    side.created("full/file")
    side.do("rename", "directory", "full")
    side.do("rename", "directory", "socket")
    side.do("rename", "socket", "directory")
    for name in "directory", "full", "socket":
        side.do("stat", side.nameless(side.inodes[side.path(name)].gfid), label=f"stat {name}")
    gfid = str(side.inodes[side.path("directory")].gfid)
    side.disk_rows[gfid] = "failed-rename-handle"
    for name in "file", "symlink", "fifo":
        side.do("rename", name, name, differs="rename-to-itself")
        side.disk_rows[f"must_not_be/{name}"] = "rename-to-itself"
        side.disk_rows[str(side.inodes[side.path(name)].gfid)] = "rename-to-itself"


@scenario
def renaming_links(side: Side) -> None:
    for name in "a", "b", "x":
        side.created(name)
    side.do("link", "a", "a too")
    side.do("link", "x", "x too")
    side.do("rename", "b", "a")
    side.disk_rows["links/a too"] = "rename-over-link"
    side.do("rename", "x", "x too")
    side.disk_rows["links/x"] = "rename-between-links"
    side.do("stat", "a too")
    side.do("stat", "x too")


# ---- attributes ----


def owner(uid: int, gid: int) -> Iatt:
    made = Iatt()
    made.ia_uid, made.ia_gid = uid, gid
    return made


def with_mode(mode: int) -> Iatt:
    made = Iatt()
    made.mode = mode
    return made


def at(seconds: int, nanoseconds: int) -> Iatt:
    made = Iatt()
    made.ia_atime = made.ia_mtime = seconds
    made.ia_atime_nsec = made.ia_mtime_nsec = nanoseconds
    return made


MODE, UID, GID = (
    constants.GF_SET_ATTR_MODE,
    constants.GF_SET_ATTR_UID,
    constants.GF_SET_ATTR_GID,
)
TIMES = constants.GF_SET_ATTR_ATIME | constants.GF_SET_ATTR_MTIME


@scenario
def attributes(side: Side) -> None:
    zoo(side)
    changes = [
        *((with_mode(mode), MODE) for mode in (0, 0o7777, 0o640, 0o100644, 0o40755)),
        *((owner(uid, gid), UID | GID) for uid in (0, 1000, 0xFFFFFFFF) for gid in (0, 7)),
        (owner(1, 2), UID),
        (owner(1, 2), GID),
        (at(1_000_000_000, 5), TIMES),
        (at(-1, 0), TIMES),
        (at(0, 1_000_000_000), TIMES),
        (at(1, 0xFFFFFFFF), TIMES),
        (at(1 << 40, 0), TIMES),
        (Iatt(), 0),
        (Iatt(), -1),
        (Iatt(), constants.GF_SET_ATTR_SIZE),
    ]
    for name in [*KINDS, "missing"]:
        for number, (wanted, valid) in enumerate(changes):
            side.do("setattr", name, wanted, valid, label=f"setattr {name} {number}")
        if name != "missing":
            status = side.real(name).lstat()
            side.note(f"times of {name}", (status.st_atime_ns, status.st_mtime_ns))
    side.do("setattr", "file", with_mode(0o777), MODE, caller=OTHER)
    for fd in openings(side):
        # protocol/server of 10.3 may crash while it logs an fsetattr that has failed.
        if fd.label.startswith(("file", "directory", "gone")):
            for number in 0, 2, 6, 12, 13, 17, 18:
                side.do("fsetattr", fd, *changes[number], label=f"fsetattr {fd} {number}")
        side.do("fstat", fd)


# ---- data ----

RANGES = [
    (0, 0),
    (0, 1),
    (1, BLOCK),
    (BLOCK, BLOCK),
    (3 * BLOCK - 1, 2),
    (3 * BLOCK, BLOCK),
    (100 * BLOCK, 1),
    (-1, 1),
    (0, -1),
    (HUGE, 1),
    (HUGE, HUGE),
    (-HUGE - 1, 1),
]


@scenario
def reading(side: Side) -> None:
    zoo(side)
    for fd in openings(side):
        for offset, size in RANGES:
            if -1 <= size <= MIB:
                side.do("readv", fd, max(size, 0), offset, 0)
        side.do("fstat", fd)
        for whence, offset in itertools.product((0, 1, 2, 99), (0, BLOCK, 3 * BLOCK, -1, HUGE)):
            side.do("seek", fd, offset, whence)
        for offset, size in (0, 0), (0, 100), (BLOCK, 3 * BLOCK), (100 * BLOCK, 1), (-1, 10):
            side.do("rchecksum", fd, offset, size)
        if "file" in fd.label:  # else the file system says what is wrong first
            side.do("rchecksum", fd, 0, -1)
        side.do("readdir", fd, 4096, 0)
        side.do("readdirp", fd, 4096, 0)


@scenario
def writing(side: Side) -> None:
    zoo(side)
    for fd in openings(side):
        for offset, size in RANGES:
            if 0 <= size <= MIB:
                side.do("writev", fd, b"w" * size, 1, offset, 0, None)
        for flags in os.O_SYNC, os.O_DSYNC, os.O_DIRECT, os.O_APPEND, U32:
            side.do("writev", fd, b"f" * 512, 1, 0, flags, None)
        side.do("writev", fd, [b"one", b"two"], 2, 10, 0, None)
        for key in "glusterfs.write-is-append", "glusterfs.write-update-atomic", "trusted.x":
            side.do("writev", fd, b"x" * 5, 1, 0, 0, None, xdata={key: 1})
        side.do("flush", fd)
        for datasync in 0, 1, -1:
            side.do("fsync", fd, datasync)
            side.do("fsyncdir", fd, datasync)
        for size in 5 * BLOCK, 100, 0, 3 * BLOCK, -1, HUGE:
            side.do("ftruncate", fd, size)
        side.do("fstat", fd)
    for name in [*KINDS, "missing"]:
        for size in 5 * BLOCK, 100, 0, 3 * BLOCK, -1, HUGE:
            if name != "fifo":
                follows = name == "symlink" and size >= 0
                row = "truncate-of-symlink" if follows else None
                side.do("truncate", name, size, differs=row)


@scenario
def copying(side: Side) -> None:
    zoo(side)
    side.created("to")
    source = side.opened("file", os.O_RDONLY)
    for fd in openings(side):
        for off_in, off_out, size in (
            (0, 0, 100),
            (0, BLOCK, 3 * BLOCK),
            (10 * BLOCK, 0, 100),
            (0, 0, 0),
            (-1, 0, 10),
            (0, -1, 10),
            (0, 0, HUGE),
        ):
            side.do("copy_file_range", source, off_in, fd, off_out, size, 0, **no_target(fd))
        side.do("copy_file_range", source, 0, fd, 0, 10, 1, **no_target(fd))
    target = side.opened("to", os.O_RDWR)
    for fd in openings(side):
        side.do("copy_file_range", fd, 0, target, 10, 100, 0)


def no_target(fd: Opened) -> dict[str, Any]:
    """What protocol/server of 10.3 does not find as a target: the leaf gets none."""
    lost = fd.label.startswith(("anonymous", "unopened"))
    return {"differs": "copy-without-fd"} if lost else {}


# ---- space ----

SPACES = [
    *RANGES,
    (0, 3 * BLOCK),
    (BLOCK + 1, BLOCK - 2),
    (2 * BLOCK + 100, 3 * BLOCK),
    (0, 1 << 40),
    (1 << 44, BLOCK),
    (HUGE - BLOCK, BLOCK),
]


def fill_again(side: Side, fd: Opened) -> None:
    side.do("ftruncate", fd, 0)
    side.do("writev", fd, b"s" * 3 * BLOCK, 1, 0, 0, None)


@scenario
def discarding(side: Side) -> None:
    zoo(side)
    again = side.opened("file", os.O_RDWR)
    for fd in openings(side):
        for offset, length in SPACES:
            fill_again(side, again)
            side.do("discard", fd, offset, length & U64)
            side.do("readv", again, 4 * BLOCK, 0, 0)
        side.do("discard", fd, 0, BLOCK, xdata={"glusterfs.write-update-atomic": 1})
    sparse = side.created("sparse")
    side.do("ftruncate", sparse, 100 * BLOCK)
    side.do("writev", sparse, b"s" * BLOCK, 1, 50 * BLOCK, 0, None)
    for offset, length in (0, BLOCK), (10, 10), (49 * BLOCK, 3 * BLOCK), (50 * BLOCK, 100 * BLOCK):
        side.do("discard", sparse, offset, length)
    empty = side.created("empty")
    for offset, length in (0, 0), (0, 1), (0, BLOCK), (BLOCK, BLOCK):
        side.do("discard", empty, offset, length)


@scenario
def zeroing(side: Side) -> None:
    zoo(side)
    again = side.opened("file", os.O_RDWR)
    for fd in openings(side):
        for offset, length in SPACES:
            if length < 1 << 40:
                # Each on its own: many extents take a block for their list.
                fill_again(side, fd if fd.label.startswith("gone") else again)
                side.do("zerofill", fd, offset, length)
                side.do("readv", again, 4 * BLOCK, 0, 0)


@scenario
def allocating(side: Side) -> None:
    zoo(side)
    again = side.opened("file", os.O_RDWR)
    for fd in openings(side):
        for offset, length in SPACES:
            if length < 1 << 40:
                for keep_size in 0, 1:
                    # Each on its own: many extents take a block for their list.
                    fill_again(side, fd if fd.label.startswith("gone") else again)
                    side.do("fallocate", fd, keep_size, offset, length & U64)
        for mode in 2, 3, 8, 16, 32, 64, -1:
            fill_again(side, again)
            side.do("fallocate", fd, mode, 0, BLOCK)
            side.do("readv", again, 4 * BLOCK, 0, 0)


# ---- directories ----


@scenario
def listing(side: Side) -> None:
    zoo(side)
    for number in range(20):
        side.created(f"directory/{number:050}")
    folder = side.opened_dir("directory")
    for fop in "readdir", "readdirp":
        for size in 0, 1, 200, 4096, 65536:
            side.do(fop, folder, size, 0)
        offset = 0
        for page in range(20):
            last = side.do(
                fop,
                folder,
                500,
                offset,
                label=f"{fop} page {page}",
                keep=lambda reply: reply.entries and reply.entries[-1].d_off,
            )
            if not last:
                break
            offset = last
        for offset in 1, HUGE:
            side.do(fop, folder, 4096, offset)
        # Both say that there is nothing; C with the errno of what failed there last.
        count = side.do(fop, folder, 4096, -1)
        side.outcomes.pop()
        side.note(f"{fop} at -1", count)
        side.do(fop, side.anonymous("directory", 0), 65536, 0)
        side.do(fop, side.unopened("directory"), 65536, 0)
    side.do("readdirp", folder, 65536, 0, xdata={"user.a": 0, "glusterfs.open-fd-count": 0})
    for name in [*KINDS, "missing", "/"]:
        fd = side.opened_dir(name)
        side.do("readdir", fd, 65536, 0, label=f"readdir {name}") if name != "/" else None
        side.do("fsyncdir", fd, 0)
        side.do("readv", fd, 100, 0, 0)
        side.do("writev", fd, b"x", 1, 0, 0, None)


@scenario
def opening(side: Side) -> None:
    zoo(side)
    for name in [*KINDS, "missing"]:
        for flags in (
            os.O_RDONLY,
            os.O_WRONLY,
            os.O_RDWR,
            os.O_RDWR | os.O_TRUNC,
            os.O_RDWR | os.O_DIRECT,
            os.O_RDWR | os.O_CREAT,
            os.O_RDWR | os.O_CREAT | os.O_EXCL,
            os.O_RDONLY | os.O_DIRECTORY,
            os.O_RDONLY | os.O_NOFOLLOW,
            os.O_RDONLY | os.O_NOATIME,
            os.O_PATH,
            os.O_RDWR | os.O_TMPFILE,
            3,
            -1,
        ):
            fd = side.opened(name, flags | (os.O_NONBLOCK if name == "fifo" else 0))
            side.do("fstat", fd)
            side.do("readv", fd, 10, 0, 0)
            side.do("writev", fd, b"o", 1, 0, 0, None)
        side.do("stat", name)
    side.opened("file", os.O_RDWR, caller=OTHER)
    side.opened("file", os.O_RDONLY, caller=OTHER)


# ---- xattrs ----


SET_ROWS = {"": "pathinfo-beginning", "trusted.glusterfs.mdata": "mdata-checked"}


@scenario
def xattring(side: Side) -> None:
    zoo(side)
    given: list[dict[str, Any]] = [
        {"user.a": b"1"},
        {"user.empty": b""},
        {"user.large": b"l" * 3000},
        {"user.too": b"l" * 70_000},
        {"user." + "n" * 250: b"1"},
        {"user." + "n" * 251: b"1"},
        {"trusted.b": b"2", "user.c": b"3"},
        {"security.d": b"4"},
        {"nowhere.e": b"5"},
        {"": b"6"},
        {"trusted.gfid": b"0123456789abcdef"},
        {"trusted.glusterfs.volume-id": b"0123456789abcdef"},
        {"trusted.gfid2path.0123456789abcdef": b"x"},
        {"trusted.glusterfs.mdata": b"x"},
        {"system.posix_acl_access": b"x"},
        {},
    ]
    keys = [key for each in given for key in each] + [None, "user.none", "glusterfs.gfidtopath"]
    keys += ["trusted.glusterfs.pathinfo", "glusterfs.gfid2path", "trusted.glusterfs.node-uuid"]
    keys += ["trusted.glusterfs.pa"]
    beginnings = "", "trusted.glusterfs.pa"
    for name in [*KINDS, "missing"]:
        there = name != "missing"
        for each in given:
            for flags in 0, os.XATTR_CREATE, os.XATTR_REPLACE, 3, -1:
                row = next((SET_ROWS[key] for key in each if key in SET_ROWS and there), None)
                side.do("setxattr", name, each, flags, differs=row)
        for key in keys:
            row = "pathinfo-beginning" if key in beginnings and there else None
            side.do("getxattr", name, key, differs=row)
        for key in keys:
            row = SET_ROWS.get(key or "none") if there and key else None
            side.do("removexattr", name, key or "", differs=row)
        side.do("getxattr", name, None)
    for fd in openings(side):
        for each in given[::2]:
            side.do("fsetxattr", fd, each, 0)
        shows = fd.label.startswith(("file", "anonymous file", "gone"))
        # Without a number the kernel judges nothing, and what is judged first is anybody's guess.
        judged_ = "anonymous symlink" not in fd.label and "anonymous fifo" not in fd.label
        for key in keys if judged_ else ["user.a", "user.none"]:
            row = "fgetxattr-hides" if key is None and shows else None
            side.do("fgetxattr", fd, key, differs=row)
        for key in keys if judged_ else ["user.a", "user.none"]:
            side.do("fremovexattr", fd, key or "")
    side.do("setxattr", "file", {"user.a": b"1"}, 0, caller=OTHER)


@scenario
def xattropping(side: Side) -> None:
    zoo(side)
    numbers = [
        bytes(16),
        bytes([0, 0, 0, 1] * 4),
        b"\xff" * 16,
        b"abc",
        b"",
        b"\x7f\xff\xff\xff" * 4,
    ]
    for name in [*KINDS, "missing"]:
        for kind in (0, 1, 2, 3, 4, 5, 6, 99):
            for number, value in enumerate(numbers):
                side.do("xattrop", name, kind, {f"trusted.afr.{kind}.{number}": value})
                side.do("xattrop", name, kind, {f"trusted.afr.{kind}.{number}": value})
    for fd in openings(side):
        for kind in (0, 1, 4):
            for number, value in enumerate(numbers):
                side.do("fxattrop", fd, kind, {f"trusted.f.{kind}.{number}": value})
    side.do("xattrop", "file", 0, {})


# ---- locks and the rest ----


@scenario
def others(side: Side) -> None:
    zoo(side)
    lock = Flock()
    lock.l_type, lock.l_len = 2, 10  # inodelk: unlock
    for fd in openings(side):
        # features/locks answers, not the leaf; a lock that an fd takes may outlive its close.
        if "anonymous" not in fd.label:
            side.do("lk", fd, 5, lock, label=f"lk {fd}")  # F_GETLK
        side.do("finodelk", "domain", fd, 6, lock, label=f"finodelk {fd}")
        for command in 2, 1:  # the lock without waiting, and unlocking
            side.do("fentrylk", "domain", fd, "name", command, 1)
    for name in KINDS:
        side.do("inodelk", "domain", name, 6, lock, label=f"inodelk {name}")
        for command in 2, 1:
            side.do("entrylk", "domain", name, "name", command, 1)
        side.note(f"getactivelk {name}", side.do("getactivelk", name))
        side.outcomes.pop(-2)  # features/locks leaves parts of them as they were
    for number in 0, 1, 2, -1:
        side.do("ipc", number)


@scenario
def times(side: Side) -> None:
    """Which of a file's times a fop moves, on the disk."""
    moving_times(side, lambda name: times_of(side.real(name).lstat()))


def times_of(status: os.stat_result) -> dict[str, int]:
    return {name: getattr(status, f"st_{name}_ns") for name in ("atime", "mtime", "ctime")}


def times_told(side: Side) -> None:
    """Which of a file's times a fop moves, as clients see them."""

    def look(name: str) -> dict[str, int]:
        found: dict[str, int] = side.do("stat", name, keep=times_in)
        side.outcomes.pop()
        return found

    moving_times(side, look)


def times_in(reply: Any) -> dict[str, int]:
    buf = reply.buf
    return {
        name: getattr(buf, f"ia_{name}") * 10**9 + getattr(buf, f"ia_{name}_nsec")
        for name in ("atime", "mtime", "ctime")
    }


def moving_times(side: Side, look: Callable[[str], dict[str, int]]) -> None:
    zoo(side)
    file = side.opened("file", os.O_RDWR)
    folder = side.opened_dir("directory")
    other = side.created("other")
    side.do("writev", other, b"o" * 100, 1, 0, 0, None)
    seen: list[tuple[Any, ...]] = [
        ("readv", file, 10, 0, 0),
        ("writev", file, b"t", 1, 0, 0, None),
        ("discard", file, 0, BLOCK),
        ("zerofill", file, 0, BLOCK),
        ("fallocate", file, 0, 10 * BLOCK, BLOCK),
        ("fallocate", file, 1, 20 * BLOCK, BLOCK),
        ("ftruncate", file, 100),
        ("truncate", "file", 200),
        ("copy_file_range", other, 0, file, 0, 10, 0),
        ("setattr", "file", with_mode(0o600), MODE),
        ("fsetattr", file, with_mode(0o601), MODE),
        ("setxattr", "file", {"user.t": b"1"}, 0),
        ("fsetxattr", file, {"user.t": b"2"}, 0),
        ("removexattr", "file", "user.t"),
        ("setxattr", "directory", {"user.t": b"1"}, 0),
        ("xattrop", "file", 0, {"trusted.t": bytes([0, 0, 0, 1])}),
        ("fsync", file, 0),
        ("flush", file),
        ("readdirp", folder, 4096, 0),
        ("link", "file", "directory/link"),
        ("rename", "directory/link", "directory/renamed"),
        ("unlink", "directory/renamed", 0),
        ("mkdir", "directory/below", 0o755, 0),
        ("rmdir", "directory/below", 0),
        ("symlink", "to", "directory/link", 0),
        ("readlink", "symlink", 100),
    ]
    watched = "file", "other", "directory", "symlink"
    for fop, *given in seen:
        before = {name: look(name) for name in watched}
        time.sleep(0.012)  # more than a tick: the kernel's own times are as coarse
        side.do(fop, *given)
        label = side.outcomes.pop().label
        after = {name: look(name) for name in watched}
        moved = [
            f"{name} {which}"
            for name in watched
            for which in before[name]
            if before[name][which] != after[name][which]
        ]
        side.note(f"{label} moves", moved)


@scenario
def files_that_are_gone(side: Side) -> None:
    """Anonymous fds of a file whose handle somebody has removed from the brick."""
    side.created("lost")
    gfid = str(side.inodes[side.path("lost")].gfid)
    (side.folder / ".glusterfs" / gfid[:2] / gfid[2:4] / gfid).unlink()
    fd = side.anonymous("lost")
    for fop, *given in (
        ("readv", 10, 0, 0),
        ("writev", b"x", 1, 0, 0, None),
        ("fstat",),
        ("discard", 0, BLOCK),
        ("fallocate", 0, 0, BLOCK),
        ("ftruncate", 0),
        ("fsync", 0),
        ("fgetxattr", "user.a"),
    ):
        of_space = fop in ("discard", "fallocate")
        side.do(fop, fd, *given, differs="anonymous-fd-errno" if of_space else None)
