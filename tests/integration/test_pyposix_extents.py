"""Blocks that were asked for and not to be had: nothing of them is left."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from glupy import extents, linux, stores

MIB = 1 << 20
SIZE = 131583  # in the middle of a block
PART = 512 << 10  # longer than what ext4 writes itself rather than split an extent


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


def test_zeros_need_no_block_for_the_list_of_extents(tmp_path: Path) -> None:
    """ext4 has dropped the pages of a range when it finds that it cannot split its extent."""
    zero_range = linux.FALLOC_FL_KEEP_SIZE | linux.FALLOC_FL_ZERO_RANGE
    with stores.store(tmp_path / "image", 128 * MIB, tmp_path / "mnt") as store:
        numbers = [os.open(store.folder / name, os.O_RDWR | os.O_CREAT) for name in "abf"]
        try:
            for number in numbers[:2]:
                for part in range(4):  # as many extents as an inode has room for
                    os.pwrite(number, b"x" * PART, part * MIB)
                os.fsync(number)
            fill(numbers[2])
            control, number, _ = numbers
            with pytest.raises(OSError) as caught:
                linux.fallocate(control, zero_range, 0, 8192)
            assert caught.value.errno == errno.ENOSPC
            extents.zero(number, 10, 8192)
            assert os.pread(number, PART, 0) == b"x" * 10 + bytes(8192) + b"x" * (PART - 8202)
            assert os.fstat(number).st_blocks == 4 * PART // 512
        finally:
            for number in numbers:
                os.close(number)


def fill(number: int) -> None:
    """Take all the blocks there are."""
    step, end = 64 * MIB, 0
    while step >= 1024:  # a block
        try:
            os.posix_fallocate(number, end, step)
            end += step
        except OSError:
            os.ftruncate(number, end)
            step //= 2
