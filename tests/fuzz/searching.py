"""Searches, of translators that are wrong on purpose, in this process and by the command."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import volfiles
from glupy.testing.fuzz import Search, open_target

TRANSLATORS = Path(__file__).parent / "translators"
FAULTS_FILE = TRANSLATORS / "faults.py"
GLUPY = Path(sys.executable).with_name("glupy")


def above(name: str, file: str = "faults.py") -> volfiles.Insert:
    """A translator of the folder, above a leaf."""
    return "features/glupy", {"module": f"{TRANSLATORS / file}:{name}"}


def searched(
    target: str,
    *,
    fault: str | None = None,
    examples: int,
    faults: Sequence[str] = (),
    over_rpc: bool = False,
    against: str | None = None,
    seed: int = 1,
) -> Search:
    """Search until something is found; it is left as it is."""
    inserts = [above(fault)] if fault else []
    with open_target(target, inserts=inserts, faults=faults, over_rpc=over_rpc) as ground:
        if against is None:
            search = Search(ground)
            search.run(examples=examples, seed=seed, shrink=False)
            return search
        with open_target(against) as other:
            search = Search(ground, other)
            search.run(examples=examples, seed=seed, shrink=False)
            return search


def environment(home: Path) -> dict[str, str]:
    """In which the command keeps what failed in that folder."""
    return {**os.environ, "HOME": str(home), "COLUMNS": "200"}


def glupy_fuzz(
    home: Path, *words: Path | str, timeout: float = 100
) -> "subprocess.CompletedProcess[str]":
    """What the command says; cores go to that folder."""
    return subprocess.run(
        [GLUPY, "fuzz", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
        env=environment(home),
        timeout=timeout,
    )
