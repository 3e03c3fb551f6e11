"""user/pybd on volumes of LVM, in a virtual machine: its kernel has device-mapper and SCSI."""

import sys
from pathlib import Path

import pytest

from glupy.testing import guest

CHECKOUT = Path(__file__).parents[2]
MODULES = "thin", "thick", "luns", "failing", "life", "kills", "restored", "pools", "snapshots"
INSIDE = [f"tests/guest/on_lvm/{name}.py" for name in MODULES]


def in_guest(*arguments: str, timeout: float) -> None:
    command = [sys.executable, "-m", "pytest", "--durations=10", *INSIDE, *arguments]
    done = guest.run(
        command, cwd=CHECKOUT, modules=["dm-thin-pool"], timeout=timeout, echo=sys.stdout
    )
    assert done.returncode == 0, done.stdout


def test_volumes() -> None:
    """Each processor is emulated: what is not needed to show that LVM and SCSI work is long."""
    in_guest("-m", "not long", timeout=1800)


@pytest.mark.long
def test_volumes_for_long() -> None:
    in_guest("-m", "long", timeout=4 * 3600)
