"""What tests of mapped files do and look at."""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import volfiles
from glupy.testing.gfapi import Client

from .conftest import MIB

LEAVES = ["posix", "pyposix"]
ONE_LEAF = [pytest.param("posix", marks=pytest.mark.long), "pyposix"]
"""For what does not depend on it: the other one's turn is in the long run."""
PATIENCE = 5.0
# What is refused, a brick logs as an error; pybd says which file it is about.
REFUSED = r"is not mapped to|(clone|snapshot|merge) fails:", r"error-xlator: .*errno="
SLOW = str(Path(__file__).parents[2] / "xlators" / "examples" / "slow.py") + ":Slow"


def inserted(name: str, **options: str) -> volfiles.Insert:
    """One of the translators beside this: FILE:CLASS."""
    file, _, of = name.partition(":")
    module = Path(__file__).parent / "translators" / f"{file}.py"
    return "features/glupy", {"module": f"{module}:{of}", **options}


def devices(pool: Path) -> list[Path]:
    return sorted(pool.iterdir())


def held(pool: Path) -> int:
    """How many bytes the devices of a pool have. One may go meanwhile."""
    blocks = 0
    for each in devices(pool):
        with contextlib.suppress(FileNotFoundError):
            blocks += each.stat().st_blocks
    return blocks * 512


def write(client: Client, path: str, data: bytes, offset: int = 0) -> None:
    with client.creat(path) as file:
        file.pwrite(data, offset)


def read(client: Client, path: str, length: int = 8 * MIB, offset: int = 0) -> bytes:
    with client.open(path, os.O_RDONLY) as file:
        return file.pread(length, offset).value


def refuses(number: int, call: Callable[[], object]) -> None:
    with pytest.raises(OSError) as caught:
        call()
    assert caught.value.errno == number


def fill(folder: Path) -> Path:
    """Leave no room in a file system: return what takes it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(bytes(MIB))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    return ballast
