"""`glupy bench bridge`, short: that it measures, not what."""

import json

import pytest
from click.testing import CliRunner

from glupy_tools import bench_bridge


@pytest.mark.long  # it starts 43 bricks
def test_figures_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_bridge, "CALLS", 20)
    monkeypatch.setattr(bench_bridge, "DATA", 1 << 20)
    done = CliRunner().invoke(bench_bridge.bridge, ["--json"], catch_exceptions=False)
    found = json.loads(done.output)
    assert found["pairs"] == 20
    assert [each["name"] for each in found["figures"]] == [
        "in-process discard / raw fallocate",
        *bench_bridge.HANDLERS,
        *(f"{what}, in one process" for what in bench_bridge.HANDLERS),
        "brick with pyposix, more than with C posix",
    ]
    for each in found["figures"]:
        assert each["low"] <= each["median"] <= each["high"]
        assert each["high"] > 0
