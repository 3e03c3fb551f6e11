"""user/pybd on volumes of LVM, in a virtual machine: its kernel has device-mapper and SCSI."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from glupy.testing import guest

CHECKOUT = Path(__file__).parents[2]
MODULES = "thin", "thick", "luns", "failing", "life", "kills", "restored", "pools", "snapshots"
INSIDE = [f"tests/guest/on_lvm/{name}.py" for name in MODULES]


@pytest.fixture
def hurried() -> Iterator[None]:
    """What is started goes before what runs beside it: two processors are shared by three lanes."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, before - 10)
    yield
    os.setpriority(os.PRIO_PROCESS, 0, before)


def in_guest(*arguments: str, timeout: float) -> None:
    command = [sys.executable, "-m", "pytest", "--durations=10", *INSIDE, *arguments]
    done = guest.run(
        command, cwd=CHECKOUT, modules=["dm-thin-pool"], timeout=timeout, echo=sys.stdout
    )
    assert done.returncode == 0, done.stdout


def test_volumes(hurried: None) -> None:
    """What takes longer than five minutes belongs to the long ones."""
    in_guest("-m", "not long", timeout=300)


@pytest.mark.long
def test_volumes_for_long() -> None:
    in_guest("-m", "long", timeout=4 * 3600)
