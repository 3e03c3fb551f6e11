"""The same fops on plain files and on mapped ones: the same answers, but for what is listed here.

One brick has all of its files on devices (option map), the other one no pybd at all. Blocks are not
compared: a plain file has those of its xattrs too. What a pool has of a file's bytes, and when, is
in tests/bd.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

import volfiles
from glupy import Iatt, Statvfs, stores
from glupy.testing.processes import free_port

from .comparing import compared, parts
from .scenarios import SCENARIOS
from .sides import Side, served

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

MEANT = {
    "discard(": "a discard past what the file system below can address does nothing, as any other "
    "past the end; a plain file's is refused with EFBIG",
}
"""How the label of what may differ begins, and why."""

REPLACED = "fstat(anonymous held"
"""Of an open file that a rename has replaced C posix finds nothing by an anonymous fd any more (row
overwritten-open-file of docs/differences.md); of a mapped one the attributes are known."""

CHANCE = "mkdir('directory/short'"
"""What C posix makes a gfid of by chance: row gfid-req-length of docs/differences.md."""


class WithoutBlocks(Side):
    """A side whose answers are compared without blocks."""

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
            found.pop("user.glusterfs.bd", None)
        return found


def is_meant(label: str, plain: Any) -> bool:
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
                options={"janitor-sleep-duration": "600"},
                inserts=inserts,
            )
            found.append(stack.enter_context(served(graph, folder, scratch, name, WithoutBlocks)))
        yield found


@pytest.mark.parametrize("name", COMPARED)
def test_same_answers(name: str, sides: list[Side]) -> None:
    pairs = compared(sides, name, SCENARIOS[name], disk=False)
    wrong = [
        f"{plain.label}: " + "; ".join(parts(plain.answer, mapped.answer))
        for plain, mapped in pairs
        if plain.answer != mapped.answer and not is_meant(plain.label, plain.answer)
    ]
    assert not wrong, f"{len(wrong)} of {len(pairs)}:\n" + "\n".join(wrong[:60])
