"""The first boot: a volume is set up."""

from pathlib import Path

from glupy import stores

from .kept import DISK, HELLO, NAME, assert_well, done, glusterd, switch_on, volume


def test_a_volume_is_set_up(tmp_path: Path) -> None:
    stores.make_file_system(DISK)
    switch_on()
    glusterd.create(NAME, volume.bricks, "replica", "2", start=False)
    done("volume", "use", NAME, "--leaf", "pyposix")
    done("volume", "add", NAME, "features/glupy", "-o", f"module={HELLO}:Hello")
    volume.start()
    assert_well(tmp_path / "mnt", "first")
