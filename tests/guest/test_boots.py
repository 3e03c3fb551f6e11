"""What `glupy volume` has set survives the machine's end, and an upgrade of GlusterFS is mended."""

import sys
import tempfile
from pathlib import Path

import pytest

from glupy.testing import guest

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.long
def test_settings_survive_a_power_cut_and_an_upgrade(tmp_path: Path) -> None:
    """Three machines, one after the other, with one disk; the end of each is a power cut."""
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(guest.GIB)
    drive = f"if=none,id=kept,format=raw,cache=unsafe,file={disk}"
    devices = ["-drive", drive, "-device", "virtio-blk,drive=kept"]
    for boot in "first", "second", "upgraded":
        with (
            tempfile.TemporaryDirectory(dir=tmp_path) as folder,  # hundreds of megabytes
            guest.machine(Path(folder), cwd=CHECKOUT, devices=devices) as machine,
        ):
            command = [sys.executable, "-m", "pytest", "-s", f"tests/guest/boots/{boot}.py"]
            done = machine.run(command, timeout=1800, echo=sys.stdout)
            assert done.returncode == 0, done.stdout
            assert machine.run(["sync"]).returncode == 0
