"""`glupy bench qemu`, short: that it measures, not what."""

import json
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from glupy import stores
from glupy_tools import bench_qemu
from glupy_tools.bench import MIB
from glupy_tools.bench_qemu import Row
from glupy_tools.failures import CommandError


def test_an_image_is_discarded_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_qemu, "SIZE", 8 * MIB)
    words = ["--dir", str(tmp_path), "--json"]
    done = CliRunner().invoke(bench_qemu.qemu, words, catch_exceptions=False)
    printed = json.loads(done.output)
    assert list(printed) == ["leaf", "against", "pairs", "rows"]
    (row,) = printed["rows"]
    assert list(row) == [field.name for field in fields(Row)]
    assert 0 < row["low"] <= row["ratio"] <= row["high"]
    assert min(row["ours"], row["theirs"]) > 0
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert stores.devices_of(tmp_path / "store") == []


def test_an_image_that_keeps_its_blocks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_qemu, "SIZE", 8 * MIB)
    monkeypatch.setattr(bench_qemu, "KEPT", -1)
    with pytest.raises(CommandError, match=r"has kept its blocks, qemu-io says: discard 8388608/"):
        bench_qemu.qemu.main(["--dir", str(tmp_path)], standalone_mode=False)
    assert list(tmp_path.iterdir()) == []


def test_without_qemu_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(CommandError, match=r"^qemu-io is missing: install qemu-utils"):
        bench_qemu.qemu.main([], standalone_mode=False)
