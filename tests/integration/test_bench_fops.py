"""`glupy bench fops`, short: that it measures, not what."""

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from glupy_tools.bench import OPS, Row


def fops(*options: str) -> dict[str, Any]:
    """What `glupy bench fops --json` prints."""
    command = [sys.executable, "-m", "glupy_tools", "bench", "fops", "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    "ops",
    [["discard-4k", "stat", "create-unlink"], pytest.param(list(OPS), marks=pytest.mark.long)],
    ids=["some", "all"],
)
def test_operations_are_measured_and_nothing_is_left(ops: list[str], tmp_path: Path) -> None:
    chosen = [word for op in ops for word in ("--op", op)]
    passing = ["--insert", "features/glupy,module=glupy.testing.bare:Passing"]
    options = ["--leaf", "posix", *passing, "--parallel", "2", "--seconds", "0.01"]
    found = fops(*options, "--dir", str(tmp_path), *chosen)
    rows = found["rows"]
    assert found["inserts"] == [["features/glupy", {"module": "glupy.testing.bare:Passing"}]]
    assert [row["op"] for row in rows] == [op for op in OPS if op in ops]
    for row in rows:
        assert list(row) == [field.name for field in fields(Row)]
        assert row["parallel"] == 2
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
        assert 0 < row["cpu_low"] <= row["cpu_ratio"] <= row["cpu_high"]
        assert min(row[side] for side in ("ours", "theirs", "our_cpu", "their_cpu")) > 0
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def test_by_default_it_is_pyposix_against_c_with_one_caller_and_with_eight(tmp_path: Path) -> None:
    found = fops("--op", "fstat", "--seconds", "0.01", "--dir", str(tmp_path))
    assert (found["leaf"], found["against"]) == ("pyposix", "posix")
    assert found["inserts"] == []
    assert found["pairs"] >= 20
    # What others read: further keys may come behind them.
    keys = ["op", "parallel", "ratio", "low", "high", "ours", "theirs"]
    assert [list(row)[: len(keys)] for row in found["rows"]] == [keys, keys]
    assert [(row["op"], row["parallel"]) for row in found["rows"]] == [("fstat", 1), ("fstat", 8)]


def test_a_brick_that_does_not_start_says_why(tmp_path: Path) -> None:
    """Its log goes with it."""
    words = "bench", "fops", "--leaf", "nosuch", "--dir", str(tmp_path), "--seconds", "0.01"
    command = [sys.executable, "-m", "glupy_tools", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "type 'storage/nosuch' is not valid or not found" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
