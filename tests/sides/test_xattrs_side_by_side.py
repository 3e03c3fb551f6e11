"""Keys in xdata that are xattrs or patterns of them, and xattrs that mean something: C and ours."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from glupy import keys

from .asking import (
    ACL,
    LINKTO,
    LOCK_COUNTS,
    MAKING,
    TEXT,
    Asking,
    Xdata,
    check,
    packed,
    told,
)

# Both log what they refuse; that they refuse the same is what is tested.
pytestmark = [
    pytest.mark.allow_log(r".*"),
    pytest.mark.of_10_3,
]

# ---- keys that are xattrs, or patterns of them ----

FILE_XATTRS = {
    "user.a": b"1",
    "user.ab": b"2",
    "user.a*": b"3",
    "user.b": b"4",
    "trusted.x.y.contri": b"5",
    "trusted.glusterfs.quota.1.contri": b"6",
    "trusted.glusterfs.quota.2.contri": b"7",
    "trusted.glusterfs.quota.1.contri.3": b"8",
}
PATTERNS = [
    *("*", "user.*", "user.?", "?ser.a", "user.[ab]", "user.[!a]", "user.[^a]", "user.[", "user.a"),
    *("USER.A", "nowhere.*", "user.[[:alpha:]]", "trusted.*.contri"),
    *("trusted.glusterfs.quota.contri", "trusted.glusterfs.quota.1.contri", "trusted.*.*.contri"),
    *(r"user.a\*", r"\user.a"),
    # Taken for contributions to quota, whatever else they are.
    *("trusted.x.y.contri", "trusted.glusterfs.quota.*.contri"),
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns(pattern: str, sides: list[Asking]) -> None:
    def scenario(side: Asking) -> None:
        side.do("mkdir", "d", 0o755, 0)
        file = side.held("d/file")
        side.do("setxattr", "d/file", FILE_XATTRS, 0)
        side.do("lookup", "d/file", xdata={pattern: 0})
        side.do("fstat", file, xdata={pattern: 0})
        side.do("readdirp", side.opened_dir("d"), 65536, 0, xdata={pattern: 0})

    check(sides, "pattern " + pattern.encode().hex(), scenario)


GIVEN: dict[str, Xdata] = {
    "xattrs": {"trusted.b": b"2", "user.a": b"1"},
    "number": {"user.a": 5, "user.b": "text"},
    "security": {"security.x": b"1", "user.a": b"1"},
    "linkto": {keys.DHT_LINKTO: b"x", "trusted.glusterfs.dht": b"x"},
    "acl": {keys.ACL_ACCESS: ACL, keys.ACL_DEFAULT: ACL},
    "acl-text": {keys.ACL_TEXT: TEXT},
    "default-acl-text": {keys.DEFAULT_ACL_TEXT: TEXT},
    "gfid": {keys.GFID: b"0123456789abcdef", "user.a": b"1"},
    "mdata": {keys.MDATA: packed(1, 2, 3, 4, 5, 6), "user.a": b"1"},
    "internal-ctx": {"glusterfs.internal-ctx": 1, "glusterfs.internal-ctx.x": 1, "user.a": b"1"},
    "force-replace": {keys.FORCE_REPLACE: 1, "user.a": b"1"},
    "lookup-only": {keys.GFIDLESS_LOOKUP: 1, "glusterfs.parent-entrylk": 1, "user.a": b"1"},
    "lock-counts": {**LOCK_COUNTS, "glusterfs.inodelk-dom-count": 0, "user.a": b"1"},
    "unknown-last": {"user.a": b"1", "unknown": 1},
    "pathinfo": {"trusted.glusterfs.pathinfo": b"x"},
}


@pytest.mark.parametrize("what", GIVEN)
def test_given_to_a_new_file(what: str, sides: list[Asking]) -> None:
    check(sides, f"given {what}", functools.partial(given_to_all, given=GIVEN[what]))


NOT_STORED: dict[str, Xdata] = {
    "unknown": {"unknown": 1, "user.a": b"1"},
    "too-large": {"user.l": b"l" * 70_000, "user.a": b"1"},
    "gfid2path": {"trusted.gfid2path.0123456789abcdef": b"x", "user.a": b"1"},
}
"""One that is not stored, and then one that could be."""
FILES = "create", "mknod", "linkto", "linked", "file"


@pytest.mark.parametrize("what", NOT_STORED)
def test_given_what_is_not_stored(what: str, sides: list[Asking]) -> None:
    """C stops there."""
    row, name = "given-xattrs", f"not stored {what}"
    given = functools.partial(given_to_all, given=NOT_STORED[what], row=row)
    pairs = check(sides, name, given)
    differ = {c.label for c, _ in pairs if c.differs == row}
    assert differ == {f"disk: {name}/{each}" for each in (*FILES, "mkdir")}
    for c, ours in told(pairs, row):
        assert {**c, "xattrs": {**c["xattrs"], "user.a": b"1"}} == ours


def test_given_a_volume_id(sides: list[Asking]) -> None:
    """Only a brick's root has it; C stores it."""
    row, value = "given-volume-id", b"0123456789abcdef"
    given = functools.partial(given_to_all, given={keys.VOLUME_ID: value, "user.a": b"1"}, row=row)
    pairs = check(sides, "given volume-id", given)
    differ = {c.label for c, _ in pairs if c.differs == row}
    assert differ == {f"disk: given volume-id/{each}" for each in (*FILES, "mkdir", "symlink")}
    for c, ours in told(pairs, row):
        assert {**ours, "xattrs": {**ours["xattrs"], keys.VOLUME_ID: value}} == c


def given_to_all(side: Asking, given: Xdata, row: str | None = None) -> None:
    if row is not None:
        side.disk_rows["disk: "] = row
    file = side.held("file")
    for fop in *MAKING, "put":
        side.make(fop, fop, {"gfid-req": side.gfid_req(fop), **given})
    side.do("mknod", "linkto", LINKTO, 0, 0, xdata={"gfid-req": side.gfid_req("l"), **given})
    there = {"gfid-req": side.gfid("file"), keys.INTERNAL_FOP: 1, **given}
    side.do("mknod", "linked", LINKTO, 0, 0, xdata=there)
    side.created("file", os.O_RDWR, xdata={"gfid-req": side.gfid_req("file"), **given})
    side.do("fstat", file)


# ---- xattrs that are more than that ----

MEANT: dict[str, list[Xdata]] = {
    "mdata": [{keys.MDATA: packed(9, 9, 9, 9, 9, 9)}, {keys.MDATA: packed(10, 1, 1, 1, 1, 1)}],
    "acl": [{keys.ACL_ACCESS: ACL, keys.ACL_DEFAULT: ACL}, {f"{keys.ACL_ACCESS}.x": ACL}],
    "acl-text": [{keys.ACL_TEXT: TEXT}, {f"{keys.ACL_TEXT}.x": TEXT}],
    "default-acl-text": [{keys.DEFAULT_ACL_TEXT: TEXT}],
    "internal-ctx": [{"glusterfs.internal-ctx": b"1"}, {"glusterfs.internal-ctx.x": b"1"}],
    "force-replace": [{keys.FORCE_REPLACE: b"1"}, {f"{keys.FORCE_REPLACE}.x": b"1"}],
    "pathinfo": [{name: b"1"} for name in keys.PATHINFO],
    "gfid2path": [{f"{keys.GFID2PATH_PREFIX}x": b"1"}],
    "identity": [{keys.GFID: b"0123456789abcdef"}, {keys.VOLUME_ID: b"0123456789abcdef"}],
    "io-stats-dump": [{keys.IOSTATS_DUMP: b"1"}],
}
SETTING = [(fop, what) for fop in ("setxattr", "fsetxattr") for what in MEANT]
SETTING.remove(("setxattr", "io-stats-dump"))  # debug/io-stats takes it, and writes a file
SETTING.remove(("fsetxattr", "mdata"))  # see test_times_as_an_xattr


@pytest.mark.parametrize(("fop", "what"), SETTING)
def test_xattrs_with_a_meaning(fop: str, what: str, sides: list[Asking]) -> None:
    """Some are stored, some not, some mean something else; it may end with the first of them."""

    def scenario(side: Asking) -> None:
        for make in side.held, side.linkto:
            made = make(make.__name__)
            target = made or side.opened(make.__name__, os.O_RDWR)
            for given in MEANT[what]:
                for several in {"user.1": b"1", **given, "user.2": b"2"}, given:
                    label = f"{fop} {make.__name__} {[*several]}"
                    to = target if fop == "fsetxattr" else make.__name__
                    side.do(fop, to, several, 0, label=label)
                    side.note(f"left by {label}", stored_at(side.real(make.__name__)))

    check(sides, f"{what} by {fop}", scenario)


def stored_at(path: Path) -> dict[str, bytes]:
    """Return all xattrs as they are."""
    return {name: os.getxattr(path, name) for name in sorted(os.listxattr(path))}


def test_times_as_an_xattr(sides: list[Asking]) -> None:
    """Heal and rebalance set them: of each time the later one stays. C's fsetxattr does not look,
    and its setxattr takes a beginning of the key for the key.
    """
    row, beginning = "mdata-key", "trusted.glusterfs.m"

    def scenario(side: Asking) -> None:
        file = side.held("file")
        for times in packed(9, 9, 9, 9, 9, 9), packed(10, 1, 1, 1, 1, 1):
            side.do("fsetxattr", file, {keys.MDATA: times}, 0)
        side.note("by fd", stored_at(side.real("file"))[keys.MDATA], differs=row)
        side.do("removexattr", "file", keys.MDATA)
        side.do("setxattr", "file", {beginning: packed(1, 2, 3, 4, 5, 6)}, 0)
        stored = stored_at(side.real("file"))
        side.note("beginning", [stored.get(beginning), stored.get(keys.MDATA)], differs=row)
        side.disk_rows["disk: "] = row

    by_fd, begun, _ = told(check(sides, "times", scenario), row)
    assert by_fd == (packed(10, 1, 1, 1, 1, 1), packed(10, 1, 9, 9, 9, 9))
    times = packed(1, 2, 3, 4, 5, 6)
    assert begun == ([None, times], [times, None])
