"""Endless recursion in a handler ends as EIO, on the small stacks of GlusterFS's threads too.

io-threads have 256 KiB, synctasks of quota's marker 16 KiB. A crash here takes the whole run down:
that is the failure.
"""

from __future__ import annotations

import copy
import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glupy import PASS, fops

from .conftest import Bridge, Log
from .test_fops import MODES, nothing
from .test_wrong_handlers import is_reported

KIB = 1024
DEEP = 200_000
STACKS = pytest.mark.parametrize("stack", [16 * KIB, 256 * KIB, 0], ids=["16K", "256K", "main"])


def through_def() -> Any:
    return [through_def()]


class _Attributes:
    def __getattr__(self, name: str) -> Any:
        return getattr(self, name)


def through_getattr() -> Any:
    return _Attributes().anything


def through_sorted() -> Any:
    return sorted([2, 1], key=lambda _: through_sorted())


def through_json() -> Any:
    deep: list[Any] = []
    for _ in range(DEEP):
        deep = [deep]
    return json.dumps(deep)


def through_json_default() -> Any:
    return json.dumps(object(), default=lambda _: through_json_default())


def through_repr() -> Any:
    deep: tuple[Any, ...] = ()
    for _ in range(DEEP):
        deep = (deep,)
    return repr(deep)


class _Equal:
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return [self, 1] == [other, 1]


def through_eq() -> Any:
    return _Equal() == _Equal()


def through_deepcopy() -> Any:
    deep: list[Any] = []
    for _ in range(DEEP // 10):  # of more the traceback alone takes seconds on Python 3.13
        deep = [deep]
    return copy.deepcopy(deep)


def through_init() -> Any:
    class Endless:
        def __init__(self) -> None:
            Endless()

    return Endless()


RECURSIONS = pytest.mark.parametrize(
    "recursion",
    [
        through_def,
        through_getattr,
        through_sorted,
        through_json,
        through_json_default,
        through_repr,
        through_eq,
        through_deepcopy,
        through_init,
    ],
    ids=lambda recursion: recursion.__name__.removeprefix("through_"),
)


@STACKS
@RECURSIONS
def test_def(bridge: Bridge, log: Log, stack: int, recursion: Callable[[], Any]) -> None:
    """In a handler that answers at once."""

    def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        return recursion()

    fop = fops.TABLE["writev"]
    outcome = bridge.run(fop, handler, stack=stack, collect=True)
    assert outcome.answered == nothing(fop, errno.EIO)
    is_reported(log, fop, "RecursionError")


@STACKS
@RECURSIONS
@MODES
def test_after_a_wind(
    bridge: Bridge, log: Log, stack: int, recursion: Callable[[], Any], mode: str
) -> None:
    """In a coroutine that a reply resumes; a late one does on a thread of 256 KiB."""

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        await self.child.writev(*arguments)
        return recursion()

    fop = fops.TABLE["writev"]
    outcome = bridge.run(fop, handler, stack=stack, mode=mode, collect=True)
    assert outcome.answered == nothing(fop, errno.EIO)
    is_reported(log, fop, "RecursionError")


@STACKS
@MODES
def test_nested_await(bridge: Bridge, log: Log, stack: int, mode: str) -> None:
    """Coroutines that await each other without end."""

    async def endless() -> Any:
        return await endless()

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        await self.child.writev(*arguments)
        return await endless()

    fop = fops.TABLE["writev"]
    outcome = bridge.run(fop, handler, stack=stack, mode=mode, collect=True)
    assert outcome.answered == nothing(fop, errno.EIO)
    is_reported(log, fop, "RecursionError")


@STACKS
@RECURSIONS
def test_caught(bridge: Bridge, log: Log, stack: int, recursion: Callable[[], Any]) -> None:
    """RecursionError can be caught; the fop goes on untouched."""

    def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        with pytest.raises(RecursionError):
            recursion()
        return PASS

    outcome = bridge.run(fops.TABLE["writev"], handler, stack=stack, collect=True)
    assert outcome.received == outcome.sent
    assert outcome.answered == outcome.replied
    assert log.errors() == []


@STACKS
@MODES
@pytest.mark.parametrize("name", ["writev", "create", "copy_file_range", "put"])
def test_no_recursion(bridge: Bridge, stack: int, mode: str, name: str) -> None:
    """What is no bug works on a small stack."""

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        return await getattr(self.child, fop.name)(*arguments)

    outcome = bridge.run(fops.TABLE[name], handler, stack=stack, mode=mode)
    assert outcome.received == outcome.sent
    assert outcome.answered == outcome.replied


def test_a_hundred_recursions(bridge: Bridge, log: Log) -> None:
    """Stacks are taken from a pool and given back: deep handlers leave it as it was."""

    def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        return through_def()

    def mapped() -> int:
        return len(Path("/proc/self/maps").read_text().splitlines())

    fop = fops.TABLE["stat"]
    bridge.run(fop, handler, stack=16 * KIB, collect=True)
    before = mapped()
    for _ in range(100):
        outcome = bridge.run(fop, handler, stack=16 * KIB, collect=True)
        assert outcome.answered == nothing(fop, errno.EIO)
    assert mapped() - before < 20
    assert len(log.errors()) == 2  # the others are left out
