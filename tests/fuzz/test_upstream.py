"""The defects of docs/upstream/defects.py: each is there, and a sound target does not have it."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from glupy.testing.fuzz import open_target, replay

DOCS = Path(__file__).parents[2] / "docs"
SCRIPT = DOCS / "upstream" / "defects.py"


def defects() -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("defects", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, Any] = module.DEFECTS
    return found


DEFECTS = defects()


def shown(*words: str) -> tuple[int, str]:
    """The exit status, and the last line; there are no complaints."""
    command = [sys.executable, str(SCRIPT), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()[-1]


SLOW = "shard-empty-range"  # it waits for an answer


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.long if name == SLOW else ()) for name in DEFECTS],
)
def test_a_defect(name: str) -> None:
    status, last = shown(name)
    assert (status, last.endswith(DEFECTS[name].wrong)) == (1, True), last


def test_a_sound_target_has_none() -> None:
    for faults in {tuple(defect.faults) for defect in DEFECTS.values()}:
        with open_target("pyposix", faults=faults) as ground:
            for defect in DEFECTS.values():
                # That of pyposix is above any target.
                if tuple(defect.faults) == faults and defect.target != "pyposix":
                    replay(ground, defect.steps)


def test_each_has_a_row() -> None:
    table = (DOCS / "upstream-defects.md").read_text()
    assert [name for name in DEFECTS if f"`{name}`" not in table] == []


def test_no_such_name() -> None:
    status, last = shown("none")
    assert status == 2 and last.startswith("NAME is one of utime-copies ")
