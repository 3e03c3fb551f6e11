"""`glupy bench fops`, short: that it measures, not what."""

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from glupy_tools.bench import OPS, Row


def test_every_operation_is_measured_and_nothing_is_left(tmp_path: Path) -> None:
    options = ["--leaf", "posix", "--parallel", "2", "--seconds", "0.01", "--dir", str(tmp_path)]
    command = [sys.executable, "-m", "glupy_tools", "bench", "fops", "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(done.stdout)["rows"]
    assert [row["op"] for row in rows] == list(OPS)
    for row in rows:
        assert list(row) == [field.name for field in fields(Row)]
        assert row["parallel"] == 2
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
        assert 0 < row["cpu_low"] <= row["cpu_ratio"] <= row["cpu_high"]
        assert min(row[side] for side in ("ours", "theirs", "our_cpu", "their_cpu")) > 0
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
