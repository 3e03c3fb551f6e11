"""The defects of docs/upstream: each is there, and a sound target does not have it."""

import importlib.util
import itertools
import re
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


# It waits for an answer or an end; it starts a brick or client more; others have tests elsewhere.
LONG = {
    "shard-empty-range",
    "gfapi-stat",
    "leases-open",
    "server-copies",
    "shard-two-clients",
    "shard-together",
    "posix-full-fallocate",
    "md-cache-fsetxattr",
    "write-behind-read",
    "write-behind-truncate",
    "shard-seek",
    "shard-unlink",
    "shard-full-unlink",
    "disperse-stat",
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.long if name in LONG else ()) for name in DEFECTS],
)
def test_a_defect(name: str) -> None:
    status, last = shown(name)
    assert (status, DEFECTS[name].wrong in last) == (1, True), last


def test_a_sound_target_has_none() -> None:
    """That of pyposix is above any target."""

    def setting(defect: Any) -> tuple[list[str], str]:
        return list(defect.faults), str(defect.inserts)

    others = [defect for defect in DEFECTS.values() if defect.target != "pyposix"]
    for _, each in itertools.groupby(sorted(others, key=setting), setting):
        defects = list(each)
        chosen = {"faults": defects[0].faults, "inserts": defects[0].inserts}
        with open_target("pyposix", **chosen) as ground:
            for defect in defects:
                replay(ground, defect.steps)


@pytest.mark.long  # glusterd takes its time
@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("long-value", 1, "wrong: glusterd does not answer any more"),
        ("unlinked-names", 1, "wrong: healed: a c d"),
        ("none", 2, "cannot run: NAME is"),
    ],
)
def test_a_defect_with_glusterd(name: str, status: int, said: str) -> None:
    script = SCRIPT.with_name("with-glusterd.sh")
    assert subprocess.run(["shellcheck", script], check=False).returncode == 0
    done = subprocess.run(["bash", script, name], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, "")
    assert done.stdout.splitlines()[-1].startswith(said)


def test_each_has_a_row() -> None:
    table = (DOCS / "upstream-defects.md").read_text()
    assert [name for name in DEFECTS if f"`{name}`" not in table] == []
    scripts = (DOCS / "upstream").glob("*.sh")
    assert [path.name for path in scripts if f"(upstream/{path.name})" not in table] == []


def test_each_row_can_be_shown() -> None:
    """By a script, a test that is there, or it says why it cannot."""
    scripts = [path.read_text() for path in (DOCS / "upstream").iterdir() if path.is_file()]
    unshown = []
    for line in (DOCS / "upstream-defects.md").read_text().splitlines():
        found_by = line.rpartition(" | ")[2]
        if not line.startswith("| **"):
            continue
        names = re.findall(r"`([^` ]+)`", found_by)
        tests = [name for name in names if name.startswith("tests/")]
        for test in tests:
            path, _, function = test.partition("::")
            assert f"\ndef {function}(" in (DOCS.parent / path).read_text(), test
        if "no reproducer" in found_by:
            continue
        is_scripted = "(upstream/" in line or any(
            re.search(rf"(\"|^# ){re.escape(name)}(\"|  )", script, re.M)
            for name in names
            for script in scripts
        )
        if not tests and not is_scripted:
            unshown.append(line)
    assert unshown == []


def test_no_such_name() -> None:
    status, last = shown("none")
    assert status == 2 and last.startswith("NAME is one of utime-copies ")
