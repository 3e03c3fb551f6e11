"""Translators with one fault each, of which the machine knows nothing: it finds all of them."""

import random
import re
import time
from pathlib import Path
from typing import Any

import pytest

import pybd.device
from glupy.testing.fuzz import Search
from pybd.ranges import Plan, plan

from .searching import FAULTS_FILE, searched

DOCS = Path(__file__).parents[2] / "docs" / "fuzz.md"
BLOCKS = r"\d+ blocks of 512 bytes, not \d+ to \d+"
CUT = rf"byte \d+ is 0x00, not 0x(?!00)|{BLOCKS}"
KEPT = rf"byte \d+ is 0x(?!00)\w\w, not 0x00|{BLOCKS}"
SIZE = r"size \d+, not \d+|bytes from \d+ on, not \d+|^\d+, not \d+$|where ENXIO is right"
FAULTS = {
    "DiscardBeginsAByteEarly": CUT,
    "DiscardBeginsAByteLate": KEPT,
    "DiscardEndsAByteEarly": KEPT,
    "DiscardEndsAByteLate": CUT,
    "DiscardLeavesTheTail": KEPT,
    "DiscardOnlyWritesZeros": rf"{BLOCKS}|there is a hole",
    "DiscardGrowsTheFile": SIZE,
    "DiscardTellsWhatWasBefore": rf"(before|afterwards): (mtime|ctime|{BLOCKS})",
    "DiscardAcceptsNothing": "it succeeded, where EINVAL is right",
    "ReadsAreStaleAfterADiscard": KEPT,
    "SecondClientReadsStale": rf"{CUT}|{KEPT}|byte \d+ is 0x\w\w, not 0x",
    "FallocateForgetsKeepSize": SIZE,
    "FallocateZeroes": rf"{CUT}|ENXIO, where success is right",
    "ZerofillKeepsTheSize": rf"{SIZE}|{BLOCKS}",
    "ZerofillKeepsMtime": "mtime was not set",
    "SeekIsABlockOff": r"\d+: (there is|\d+ is not between)",
    "WritesLoseTheirLastByte": CUT,
    "AnonymousReadsEndEarly": r"\d+ bytes from 0 on, not \d+",
    "ChownKeepsTheGroup": r"mode \w+ of \d+:0, not mode \w+ of \d+:1000",
    "FutimensTakesSetuidAway": r"mode \w+ of \d+:\d+, not mode 0o[1-7]\d\d\d of",
    "WritesTellTheirSizeBefore": "before: ",
    "TruncateByNameKeepsMtime": "mtime was not set",
    "TruncateIsAByteOff": SIZE,
    "SetxattrSaysAnotherErrno": "EPERM, where EEXIST is right",
    "RenameKeepsTheOldName": "2 links, not 1|names .* not|where ENOENT is right|EEXIST, where",
    "SetxattrForgetsItsFlags": "it succeeded, where (EEXIST|ENODATA) is right",
    "RemovexattrDoesNothing": r"has xattrs|where ENODATA is right|EEXIST, where|^\[.*, not \[",
    "OpenForgetsToTruncate": SIZE,
    "FilesAreLostWithTheirNames": "ENOENT, where success is right|No such file",
    "SeekSeesNoHoles": r"\d+: there is a hole",
    "SeekSeesNoData": "ENXIO, where success is right",
    "ZerofillGivesNoAttributes": "the reply has no attributes of before",
    "HandlesStayBehind": "the handle .* outlives its last name",
    "WritesKeepCtime": "ctime",
    "OpenForgetsToAppend": rf"{SIZE}|byte \d+ is",
    "DirectWritesLoseTheirLastByte": CUT,
    "CopiesTakeTheNextBytes": r"^\d+, not \d+$|byte \d+ is",
    "FsetxattrDoesNothing": r"ENODATA, where success|it succeeded, where|has xattrs|^\[.*, not \[",
    "FremovexattrDoesNothing": r"has xattrs|where ENODATA is right|EEXIST, where|^\[.*, not \[",
    "FutimensDoesNothing": "which was set to",
    "OpenTruncatesWithoutTimes": "(mtime|ctime) was not set",
    "ReadTellsAnotherFile": "inode",
    "ReadTellsAnotherType": "is no file's",
    "RefusedWriteLeavesBlocks": BLOCKS,
    "FallocateSetsNoCtime": "ctime was not set",
    "LinkSetsNoCtime": "ctime was not set",
    "RenameSetsNoCtime": "ctime was not set",
    "ChmodSetsNoCtime": "ctime was not set",
    "SetxattrSetsNoCtime": "ctime was not set",
    "WritesSetNoMtime": "mtime was not set",
    "DiscardSetsNoMtime": "mtime was not set",
}
"""What is wrong then, as the finding has it."""
WHERE: dict[str, dict[str, Any]] = {
    "RefusedWriteLeavesBlocks": {"faults": ["full"]},
    "SecondClientReadsStale": {"over_rpc": True},
}
"""What a fault needs to show."""
EDGES = {"head": "pybd: first edge", "tail": "pybd: last edge"}
EXAMPLES = 400  # of 50 steps: 20,000
MOST_CALLS = 20_000
OFTEN_SEEN = 5_000


def table() -> list[list[str]]:
    """The rows of the docs: a fault, the calls until it was found, and what was wrong."""
    _, _, rest = DOCS.read_text().partition("| fault | calls | what was wrong |\n|---|---|---|\n")
    return [line.strip("| ").split(" | ") for line in rest.partition("\n\n")[0].splitlines()]


# What a seed makes depends on which modules are loaded, too: what is rarer is for the long run.
_often = [name.strip("`") for name, calls, _ in table() if int(calls.replace(",", "")) < OFTEN_SEEN]
CHOSEN = random.sample([name for name in _often if name in FAULTS], 5)


def is_right(name: str, wrong: str) -> bool:
    """Whether a finding is of the fault in that row."""
    return re.search(FAULTS.get(name.strip("`"), f"{CUT}|{KEPT}"), wrong) is not None


def check(name: str, search: Search, began: float, capsys: pytest.CaptureFixture[str]) -> None:
    """It was found soon, and for what it is; show the row of the docs."""
    assert search.finding is not None
    assert search.calls_to_find <= MOST_CALLS
    assert time.monotonic() - began < 60
    assert is_right(name, search.finding.wrong), search.finding
    with capsys.disabled():
        print(f"\n| {name} | {search.calls_to_find:,} | {search.finding.wrong} |")


@pytest.mark.parametrize(
    "fault", [f if f in CHOSEN else pytest.param(f, marks=pytest.mark.long) for f in FAULTS]
)
def test_a_fault_is_found(fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    search = searched("pyposix", fault=fault, examples=EXAMPLES, **WHERE.get(fault, {}))
    check(f"`{fault}`", search, began, capsys)


@pytest.mark.parametrize("edge", EDGES)
def test_a_wrong_edge_of_pybd_is_found(
    edge: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is zeroed beside a discard is zeroed on the wrong side of where that begins or ends."""

    def wrong(*arguments: int) -> Plan:
        right = plan(*arguments)
        if right.discard is None:
            return right
        first, behind = right.discard
        edges = [
            (first, first + (end - start))
            if edge == "head" and end == first
            else (behind - (end - start), behind)
            if edge == "tail" and start == behind
            else (start, end)
            for start, end in right.edges
        ]
        return Plan(right.discard, tuple(edges))

    monkeypatch.setattr(pybd.device, "plan", wrong)
    began = time.monotonic()
    check(EDGES[edge], searched("pybd:loop", examples=EXAMPLES), began, capsys)


def test_the_machine_knows_nothing_of_them() -> None:
    """Nor does anything that is installed name one."""
    checkout = DOCS.parents[1]
    sources = [
        path
        for room in ("xlators", "volfiles", "tools")
        for path in checkout.glob(f"{room}/**/*.py")
    ]
    assert len(sources) > 100
    text = "\n".join(path.read_text() for path in sources)
    assert [name for name in FAULTS if name in text] == []


def test_the_table_in_the_docs() -> None:
    """It has a row for each, and says what is found."""
    lines = FAULTS_FILE.read_text().splitlines()
    names = [line[6:].partition("(")[0] for line in lines if re.match("class [^_]", line)]
    assert names == list(FAULTS)
    assert [name for name, *_ in table()] == [*(f"`{name}`" for name in names), *EDGES.values()]
    for name, calls, wrong in table():
        assert int(calls.replace(",", "")) <= MOST_CALLS
        assert is_right(name, wrong), name
