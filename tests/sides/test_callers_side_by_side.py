"""Callers that a brick knows by their pid: what C lets them see and do, and ours."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator

import pytest

from glupy import keys

from .asking import (
    CALLERS,
    MAKING,
    Asking,
    Running,
    Xdata,
    check,
    packed,
    run_both,
    told,
    until,
)
from .comparing import small_stores
from .scenarios import BLOCK, MIB, zoo
from .sides import Side

# Both log what they refuse; that they refuse the same is what is tested.
pytestmark = [
    pytest.mark.allow_log(r".*"),
    pytest.mark.of_10_3,
]

OF_GEO_REPLICATION = {
    "trusted.glusterfs.uuid.stime": b"1",
    "trusted.glusterfs.uuid.xtime": b"2",
    "trusted.glusterfs.uuid.entry_stime": b"3",
    "trusted.glusterfs.volume-mark.x": b"4",
}
INTERNAL = {
    **OF_GEO_REPLICATION,
    "trusted.glusterfs.lockinfo": b"5",
    keys.MDATA: packed(1, 2, 3, 4, 5, 6),
    "trusted.plain": b"6",
}


@pytest.mark.parametrize("who", CALLERS)
def test_what_callers_see(who: str, sides: list[Asking]) -> None:
    """Some see xattrs that others do not."""
    pid = CALLERS[who]
    caller = {"pid": pid}

    def scenario(side: Asking) -> None:
        zoo(side)
        names = [*INTERNAL, "trusted.gfid2path.0", keys.GFID, keys.VOLUME_ID]
        listed = {keys.LIST_XATTR: 1, **dict.fromkeys(INTERNAL, 1)}
        for name in "file", "directory", "symlink":
            for key, value in INTERNAL.items():
                os.setxattr(side.real(name), key, value, follow_symlinks=False)
            for wanted in [*names, None]:
                side.do("getxattr", name, wanted, caller=caller)
            side.do("lookup", name, xdata=listed, caller=caller)
        for opened in side.opened("file", os.O_RDWR), side.opened_dir("directory"):
            hidden = set() if pid == CALLERS["gsyncd"] else set(OF_GEO_REPLICATION)
            hidden |= {keys.MDATA} if pid >= 0 else set()
            for key in names:
                row = "fgetxattr-hides" if key in hidden else None
                side.do("fgetxattr", opened, key, caller=caller, differs=row)
            side.do("fgetxattr", opened, None, caller=caller, differs="fgetxattr-hides")
            side.do("fstat", opened, xdata=listed, caller=caller)
            side.do("fsetxattr", opened, OF_GEO_REPLICATION, 0, caller=caller)
            side.do("fremovexattr", opened, next(iter(OF_GEO_REPLICATION)), caller=caller)
        side.do("setxattr", "file", INTERNAL, 0, caller=caller)
        side.do("setxattr", "file", {keys.GFID: b"1", keys.VOLUME_ID: b"1"}, 0, caller=caller)
        for key in keys.GFID, keys.VOLUME_ID, "trusted.gfid2path.0", "trusted.plain":
            side.do("removexattr", "file", key, caller=caller)

    check(sides, f"seen by {who}", scenario)


@pytest.mark.parametrize("who", [who for who in CALLERS if who != "trash"])
def test_who_may_make_files_without_a_gfid(who: str, sides: list[Asking]) -> None:
    def scenario(side: Asking) -> None:
        for number, xdata in enumerate([{}, {"user.a": b"1"}, {"gfid-req": bytes(16)}]):
            for fop in MAKING:
                side.make(fop, f"{fop} {number}", xdata, caller={"pid": CALLERS[who]})

    check(sides, f"without a gfid by {who}", scenario)


def test_what_trash_may_make(sides: list[Asking]) -> None:
    """features/trash makes directories of its own, without gfids at first."""
    row = "trash-makes"

    def scenario(side: Asking) -> None:
        given = {"no": {}, "xattr": {"user.a": b"1"}, "zero": {"gfid-req": bytes(16)}, "a": None}
        for what, xdata in given.items():
            for fop in MAKING:
                side.do("mkdir", f"{fop} {what}", 0o755, 0)
                name = f"{fop} {what}/made"
                named = {"gfid-req": side.gfid_req(name)} if xdata is None else xdata
                makes = xdata is not None if fop != "mkdir" else what in ("zero", "a")
                more = {"caller": {"pid": CALLERS["trash"]}, "differs": row if makes else None}
                side.make(fop, name, named, **more)

    answers = told(check(sides, "trash", scenario, disk=False), row)
    assert all(ours["op_ret"] == 0 for _, ours in answers)
    files, zero = ["ENOENT"] * 6, ["EINVAL", "EINVAL", "EEXIST", "EINVAL"]
    assert [c["op_errno"] for c, _ in answers] == [*files, *zero, "EEXIST"]


SAME_GFID = re.compile(r" W .*mkdir.* gfid .*already")


@pytest.mark.parametrize("who", ["user", "defrag", "self-heal"])
def test_who_may_make_files(who: str, running: list[Running]) -> None:
    """With a gfid; and a directory with that of another, of which the log tells, or not."""

    def scenario(side: Running) -> None:
        zoo(side)
        caller = {"pid": CALLERS[who]}
        for fop in MAKING:
            side.make(fop, fop, {"gfid-req": side.gfid_req(fop)}, caller=caller)
        for name in "new", "file":
            gfid = side.gfid("file") if name == "file" else side.gfid_req(name)
            given = {"gfid-req": gfid, keys.INTERNAL_FOP: 1}
            side.make("mknod", f"internal {name}", given, caller=caller)
        side.do("mkdir", "other", 0o755, 0)
        told = len(SAME_GFID.findall(side.brick.log_text()))
        side.make("mkdir", "other/same", {"gfid-req": side.gfid("directory")}, caller=caller)
        side.do("stat", side.by_gfid("directory"), label="stat by gfid")
        side.note("lines", len(SAME_GFID.findall(side.brick.log_text())) - told)

    check(running, f"made by {who}", scenario)


# ---- space that is kept free ----


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Running]]:
    """Both on file systems of their own, with a zoo, and past the reserve since they run."""
    scratch = tmp_path_factory.mktemp("full")
    with small_stores(scratch) as folders, run_both(folders, scratch) as found:
        for side in found:
            side.begin("full")
            zoo(side)
            (side.folder.parent / "ballast").write_bytes(bytes(8 * MIB))
            side.set({"reserve": "99"})
        for side in found:
            until(functools.partial(is_refused, side))
        yield found


def is_refused(side: Side) -> bool:
    """Say whether clients may make nothing any more. A brick asks the disk every 5 seconds."""
    made = side.do("mkdir", "/probe", 0o755, 0) is not None
    if made:
        side.do("rmdir", "/probe", 0)
    return not made


@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize("xdata", [{}, {keys.INTERNAL_FOP: 1}], ids=["client", "internal"])
def test_who_may_use_the_reserve(who: str, xdata: Xdata, full: list[Running]) -> None:
    def scenario(side: Running) -> None:
        side.base = "/full"
        more = {"caller": {"pid": CALLERS[who]}}
        refused = CALLERS[who] >= 0 and not xdata
        file = side.opened("file", os.O_RDWR)
        side.opened("file", os.O_RDWR | os.O_CREAT, xdata=xdata, **more)
        for fop, *given in (
            ("writev", b"w" * BLOCK, 1, 0, 0, None),
            ("writev", b"w" * BLOCK, 1, 3 * BLOCK, 0, None),
            ("fallocate", 0, 0, BLOCK),
            ("fallocate", 0, 3 * BLOCK, BLOCK),
            ("zerofill", 0, BLOCK),
            ("zerofill", 3 * BLOCK, BLOCK),
            ("copy_file_range", 0, file, 3 * BLOCK, BLOCK, 0),
            ("fsetxattr", {"user.a": b"1"}, 0),
            ("fremovexattr", "user.a"),
            ("ftruncate", 3 * BLOCK),
        ):
            side.do(fop, file, *given, xdata=xdata, **more)
        row = "discard-reserve" if refused else None
        side.do("discard", file, 3 * BLOCK, BLOCK, xdata=xdata, **more, differs=row)
        side.do("setxattr", "file", {"user.a": b"1"}, 0, xdata=xdata, **more)
        side.do("removexattr", "file", "user.a", xdata=xdata, **more)
        # To C's mkdir all that trash makes is there already: test_what_trash_may_make.
        making = [fop for fop in (*MAKING, "put") if (fop, who) != ("mkdir", "trash")]
        for fop in making:
            side.make(fop, f"by {fop}", {"gfid-req": side.gfid_req(fop), **xdata}, **more)
        side.do("link", "file", "linked", xdata=xdata, **more)
        for name in [*(f"by {fop}" for fop in making), "linked"]:
            side.do("rmdir" if name == "by mkdir" else "unlink", name, 0)

    check(full, "/", scenario, disk=False)


def test_the_reserve_of_a_running_brick(full: list[Running]) -> None:
    """Last of those: without a reserve there is room again, but not in C (row reserve-off)."""
    for side in full:
        side.set({"reserve": "0"})
    assert {side.leaf: is_refused(side) for side in full} == {"posix": True, "pyposix": False}
