"""`glupy bench bd`, short: that it measures, not what."""

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from glupy import stores
from glupy_tools import bench_bd
from glupy_tools.bench import MIB
from glupy_tools.bench_bd import DATA_OPS, Row


def bench(folder: Path, *options: str) -> list[dict[str, object]]:
    words = ["--leaf", "posix", "--parallel", "2", "--seconds", "0.01", "--dir", str(folder)]
    command = [sys.executable, "-m", "glupy_tools", "bench", "bd", "--json", *words, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    printed = json.loads(done.stdout)
    assert list(printed) == ["leaf", "pairs", "seconds", "rows"]
    found: list[dict[str, object]] = printed["rows"]
    return found


def test_each_kind_is_measured_and_nothing_is_left(tmp_path: Path) -> None:
    ops = "read-4k", "discard-1m"
    rows = bench(tmp_path, *(word for op in ops for word in ("--op", op)))
    expected = [(op, kind) for op in DATA_OPS if op in ops for kind in ("mapped", "plain")]
    assert [(row["op"], row["kind"]) for row in rows] == expected
    for row in rows:
        assert list(row) == [field.name for field in fields(Row)]
        assert row["parallel"] == 2
        low, ratio, high, ours, theirs = (
            float(str(row[name])) for name in ("low", "ratio", "high", "ours", "theirs")
        )
        assert 0 < low <= ratio <= high
        assert min(ours, theirs) > 0
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert stores.devices_of(tmp_path / "store") == []


def test_what_is_discarded_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_bd, "WHOLE", 8 * MIB)
    words = ["--op", "discard-1g", "--parallel", "2", "--dir", str(tmp_path), "--json"]
    done = CliRunner().invoke(bench_bd.bd, words, catch_exceptions=False)
    (row,) = json.loads(done.output)["rows"]
    assert (row["op"], row["kind"], row["parallel"]) == ("discard-1g", "device", 2)
    assert 0 < row["low"] <= row["ratio"] <= row["high"]
    assert list(tmp_path.iterdir()) == []
