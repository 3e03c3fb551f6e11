"""The parts of `glupy brick check` that need no brick."""

import re
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glupy.constants import xxh64
from pyposix.check import Kind, shown
from pyposix.check.ground import parse, parse_gfid
from pyposix.check.known import Inodes
from pyposix.check.xattr_rules import is_mdata, is_record

GFID = "01234567-89ab-cdef-0123-456789abcdef"


@given(st.binary() | st.text().map(str.encode))
def test_a_path_is_shown_printable_and_leads_back(path: bytes) -> None:
    text = shown(path)
    assert text.isprintable()
    text.encode()  # no surrogates
    back = re.sub(
        rb"\\(\\|x[0-9a-f]{2})",
        lambda found: b"\\" if found[1] == b"\\" else bytes([int(found[1][1:], 16)]),
        text.encode(),
    )
    assert back == path


@given(st.sets(st.integers(1, 2**64 - 1)), st.sets(st.integers(1, 2**64 - 1)))
def test_inodes_are_a_set(taken: set[int], others: set[int]) -> None:
    inodes = Inodes()
    for number in taken:
        inodes.add(number)
    assert {number for number in taken | others if number in inodes} == taken


def test_a_million_inodes_take_little() -> None:
    inodes = Inodes()
    for number in range(1_000_000):
        inodes.add(number)
    chunks = inodes._chunks
    assert sum(map(sys.getsizeof, [chunks, *chunks, *chunks.values()])) < 4_000_000


@pytest.mark.parametrize(
    ("target", "parsed"),
    [
        (f"../../01/23/{GFID}/name", b"name"),
        (f"../../01/23/{GFID}/a\nb", b"a\nb"),
        (f"../../01/24/{GFID}/name", None),
        (f"../../01/23/{GFID}/..", None),
        (f"../../01/23/{GFID}/", None),
        (f"../../01/23/{GFID}/a/b", None),
        (f"../../01/23/{GFID.upper()}/name", None),
        (f"/../01/23/{GFID}/name", None),
        ("../../..", None),
        ("/etc", None),
        ("", None),
    ],
)
def test_targets_of_directories_handles(target: str, parsed: bytes | None) -> None:
    gfid = parse_gfid(GFID.encode())
    assert gfid is not None
    assert parse(target.encode()) == (None if parsed is None else (gfid, parsed))


@pytest.mark.parametrize(
    "written", [b"", b"x" * 36, GFID[:-1].encode(), GFID[:-1].encode() + b"\xff"]
)
def test_what_is_no_gfid(written: bytes) -> None:
    assert parse_gfid(written) is None


@pytest.mark.parametrize(
    ("value", "right"),
    [
        (f"{GFID}/name", True),
        (f"{GFID}/", False),
        (GFID, False),
        (f"{GFID}/a/b", False),
        ("name", False),
    ],
)
def test_records(value: str, right: bool) -> None:
    assert is_record("trusted.gfid2path." + xxh64(value.encode()), value.encode()) is right
    assert not is_record("trusted.gfid2path." + xxh64(b"another"), value.encode())


@pytest.mark.parametrize(
    ("version", "nanoseconds", "more", "right"),
    [
        (1, 0, b"", True),
        (1, 999_999_999, b"", True),
        (1, 1_000_000_000, b"", False),
        (1, -1, b"", False),
        (0, 0, b"", False),
        (2, 0, b"", False),
        (1, 0, b"x", False),
    ],
)
def test_times(version: int, nanoseconds: int, more: bytes, right: bool) -> None:
    for place in range(3):
        times = [1, 0] * 3
        times[2 * place + 1] = nanoseconds
        value = struct.pack(">BQ6q", version, 0, *times) + more
        assert is_mdata(value) is right
    assert not is_mdata(value[:56])


def test_kinds_have_names_for_scripts() -> None:
    for kind in Kind:
        assert re.fullmatch(r"[a-z0-9-]+", kind.slug)
        assert "|" not in kind.meaning + kind.repair
