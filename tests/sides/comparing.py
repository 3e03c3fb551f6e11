"""What two sides have answered and left on the disk, compared; and the table of what may differ."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import volfiles
from glupy import stores
from glupy.testing.processes import free_port

from .scenarios import MIB, Scenario
from .sides import Outcome, Side, served

LEAVES = "posix", "pyposix"
# As long as each other: how long a path may be shows how long a brick's own is.
PLACES = {"posix": "c-posix", "pyposix": "pyposix"}
DIFFERENCES = Path(__file__).parents[2] / "docs" / "differences.md"


@contextlib.contextmanager
def pair(folders: dict[str, Path], scratch: Path, **recipe: Any) -> Iterator[dict[str, Side]]:
    """A C brick and one of ours, each with its client."""
    with contextlib.ExitStack() as stack:
        found = {}
        for leaf, folder in folders.items():
            folder.mkdir(exist_ok=True)
            graph = volfiles.brick(folder, leaf=leaf, port=free_port(), **recipe)
            side = stack.enter_context(served(graph, folder, scratch, leaf))
            found[leaf] = side
        yield found


Pair = tuple[Outcome, Outcome]


def compared(
    sides: Iterable[Side], name: str, scenario: Scenario, *, disk: bool = True
) -> list[Pair]:
    """Run a scenario on both sides, one after the other; return what each answered."""
    outcomes, disks, rows = [], [], {}
    for side in sides:
        side.begin(name)
        scenario(side)
        outcomes.append(side.outcomes)
        disks.append(side.disk() if disk else {})
        rows = side.disk_rows
    c, ours = outcomes
    assert [each.label for each in c] == [each.label for each in ours]
    pairs = list(zip(c, ours, strict=True))
    for label in sorted({label for disk_ in disks for label in disk_}):
        answers = [disk_.get(label, "nothing") for disk_ in disks]
        row = next((rows[part] for part in rows if part in label), None)
        # A row may tell of some of what bears its name.
        row = row if answers[0] != answers[1] else None
        pairs.append((Outcome(label, answers[0], row), Outcome(label, answers[1], row)))
    return pairs


def parts(c: Any, ours: Any, name: str = "") -> list[str]:
    """Return in which parts two answers differ."""
    if isinstance(c, dict) and isinstance(ours, dict):
        keys = sorted({*c, *ours})
        return [each for key in keys for each in parts(c.get(key), ours.get(key), f"{name}.{key}")]
    if isinstance(c, (list, tuple)) and isinstance(ours, (list, tuple)) and len(c) == len(ours):
        numbers = range(len(c))
        return [each for n in numbers for each in parts(c[n], ours[n], f"{name}[{n}]")]
    return [] if c == ours else [f"{name} {c} {ours}"]


def judged(pairs: list[Pair]) -> list[str]:
    """Return what is not as the table says: a line for each."""
    wrong = []
    for c, ours in pairs:
        if c.answer != ours.answer and c.differs is None:
            wrong.append(f"{c.label}: " + "; ".join(parts(c.answer, ours.answer)))
        elif c.answer == ours.answer and c.differs is not None:
            wrong.append(f"{c.label}: both answer {c.answer}, against {c.differs!r}")
    return wrong


def check(pairs: list[Pair]) -> None:
    wrong = judged(pairs)
    assert not wrong, f"{len(wrong)} of {len(pairs)}:\n" + "\n".join(wrong[:50])
    SHOWN.update(c.differs for c, _ in pairs if c.differs is not None)


SHOWN: set[str] = set()
"""The rows of the table that a test of this run has shown."""


@contextlib.contextmanager
def small_stores(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """A file system of its own for each side: what one takes the other does not miss."""
    with contextlib.ExitStack() as stack:
        found = {}
        for leaf in LEAVES:
            place = tmp_path / PLACES[leaf]
            # ext4 frees blocks with its journal's commit: at our os.sync() only, not every 5 s.
            options = "discard", "commit=900"
            store = stores.store(place.with_suffix(".image"), 64 * MIB, place, options=options)
            found[leaf] = stack.enter_context(store).folder / "brick"
        yield found


def table() -> dict[str, str]:
    """The slugs of docs/differences.md, and which test shows each: none is one of these here."""
    text = DIFFERENCES.read_text()
    rows = re.findall(r"^\| `([\w-]+)` \|.*\| *(`[\w.:]+`)? *\|$", text, re.M)
    assert len(rows) == len(re.findall(r"^\| `", text, re.M)), "each row is one that is read"
    return {slug: test.strip("`") for slug, test in rows}
