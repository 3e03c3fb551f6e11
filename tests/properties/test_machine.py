"""The fop machine on the leaves there are, and proof that it finds what is wrong."""

import os
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from glupy.testing import stock
from glupy.testing.gfapi import Client, File, Reply
from glupy.testing.machine import FopMachine, run

LEAVES = ["posix", "pyposix"]

each_leaf = pytest.mark.parametrize("leaf", LEAVES)

WITHOUT_PRE = {"posix": stock.without_pre(), "pyposix": frozenset[str]()}
"""Ours gives the attributes before a fop on every version."""

# stock brick processes log each fop that is refused with EINVAL as an error
pytestmark = pytest.mark.allow_log(
    r"error=Invalid argument", r"fallocate failed .*Invalid argument"
)


@pytest.fixture
def machine(leaf: str, client: Client, backend: Path) -> Callable[[], FopMachine]:
    return lambda: FopMachine(client, "/file", backend=backend, without_pre=WITHOUT_PRE[leaf])


@each_leaf
def test_machine(machine: Callable[[], FopMachine]) -> None:
    run(machine, examples=100)


@pytest.mark.parametrize("leaf", ["pyposix"])  # C posix needs a glusterfsd around it
def test_machine_in_process(in_process: Client, brick_dir: Path) -> None:
    run(lambda: FopMachine(in_process, "/file", backend=brick_dir), examples=100)


@each_leaf
@pytest.mark.long
def test_machine_for_long(machine: Callable[[], FopMachine]) -> None:
    run(machine, examples=20_000, steps=50)


class Wrong:
    """A file that does all but one thing right."""

    def __init__(self, file: File) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def answered(reply: Reply[int]) -> Future[Reply[int]]:
    future: Future[Reply[int]] = Future()
    future.set_result(reply)
    return future


class DiscardsOneByteTooFew(Wrong):
    def discard(self, offset: int, length: int) -> None:
        if length > 1:
            self._file.discard(offset, length - 1)

    def discard_async(self, offset: int, length: int) -> Future[Reply[int]]:
        return self._file.discard_async(offset, length - 1 if length > 1 else length)


class DiscardsOneByteTooMany(Wrong):
    def discard(self, offset: int, length: int) -> None:
        self._file.discard(offset, length + 1 if length else 0)

    def discard_async(self, offset: int, length: int) -> Future[Reply[int]]:
        return self._file.discard_async(offset, length + 1 if length else 0)


class DiscardOnlyWritesZeros(Wrong):
    def discard(self, offset: int, length: int) -> None:
        end = min(offset + length, self._file.fstat().st_size)
        if length == 0 or offset >= end:
            self._file.discard(offset, length)
        else:
            self._file.zerofill(offset, end - offset)


class DiscardGrows(Wrong):
    def discard(self, offset: int, length: int) -> None:
        self._file.discard(offset, length)
        if self._file.fstat().st_size < offset + length:
            self._file.ftruncate(offset + length)


class DiscardAcceptsNothing(Wrong):
    def discard(self, offset: int, length: int) -> None:
        if length:
            self._file.discard(offset, length)


class AttributesOfBefore(Wrong):
    def discard_async(self, offset: int, length: int) -> Future[Reply[int]]:
        reply = self._file.discard_async(offset, length).result()
        return answered(reply._replace(post=reply.pre))


class NoAttributes(Wrong):
    def zerofill_async(self, offset: int, length: int) -> Future[Reply[int]]:
        return answered(Reply(self._file.zerofill_async(offset, length).result().value, None, None))


class FallocateIgnoresKeepSize(Wrong):
    def fallocate(self, offset: int, length: int, *, keep_size: bool = False) -> None:
        self._file.fallocate(offset, length)


class FallocateZeroes(Wrong):
    def fallocate(self, offset: int, length: int, *, keep_size: bool = False) -> None:
        self._file.fallocate(offset, length, keep_size=keep_size)
        self._file.discard(offset, length)


class ZerofillKeepsSize(Wrong):
    def zerofill(self, offset: int, length: int) -> None:
        size = self._file.fstat().st_size
        self._file.zerofill(offset, length)
        if offset + length > size:
            self._file.ftruncate(size)


class TruncateByOneTooFew(Wrong):
    def ftruncate(self, length: int) -> Reply[int]:
        return self._file.ftruncate(length + 1)


class SeekSeesNoHoles(Wrong):
    def lseek(self, offset: int, whence: int) -> int:
        found = self._file.lseek(offset, whence)  # past the end: still ENXIO
        if whence == os.SEEK_HOLE:
            return self._file.fstat().st_size
        return offset if whence == os.SEEK_DATA else found


class SeekSeesNoData(Wrong):
    def lseek(self, offset: int, whence: int) -> int:
        self._file.lseek(offset, os.SEEK_HOLE)  # past the end: still ENXIO
        return offset if whence == os.SEEK_HOLE else self._file.fstat().st_size - 1


@pytest.mark.parametrize("leaf", ["posix"])
@pytest.mark.parametrize("wrong", Wrong.__subclasses__())
def test_machine_finds(wrong: Callable[[File], Any], client: Client) -> None:
    def machine() -> FopMachine:
        return FopMachine(client, "/file", wrap=wrong, without_pre=WITHOUT_PRE["posix"])

    with pytest.raises(AssertionError):
        run(machine, examples=500, shrink=False)
