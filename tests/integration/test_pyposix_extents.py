"""Blocks that were asked for and not to be had: nothing of them is left."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from glupy import stores
from pyposix import extents

MIB = 1 << 20
SIZE = 131583  # in the middle of a block


def allocate(number: int, offset: int, length: int) -> None:
    extents.allocate(number, offset, length, keep_size=True)


@pytest.mark.parametrize("what", [extents.zero, allocate])
def test_the_block_in_which_a_file_ends_goes_back_too(
    what: Callable[[int, int, int], None], tmp_path: Path
) -> None:
    with stores.store(tmp_path / "image", 128 * MIB, tmp_path / "mnt") as store:
        number = os.open(store.folder / "file", os.O_RDWR | os.O_CREAT)
        try:
            os.ftruncate(number, SIZE)
            with pytest.raises(OSError) as caught:
                what(number, SIZE, 1 << 30)
            assert caught.value.errno == errno.ENOSPC
            after = os.fstat(number)
            assert (after.st_size, after.st_blocks) == (SIZE, 0)
        finally:
            os.close(number)
