"""The second boot: nobody does anything but start glusterd."""

from pathlib import Path

from .kept import assert_well, switch_on


def test_bricks_start_by_themselves(tmp_path: Path) -> None:
    switch_on()
    assert_well(tmp_path / "mnt", "second", "first")
