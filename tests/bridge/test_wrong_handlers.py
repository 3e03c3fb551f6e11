"""Handlers that do the wrong thing: the caller gets EIO or the errno; the log says why."""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Callable
from typing import Any

import pytest

import glupy
from glupy import PASS, Dict, FopError, Iatt, fops

from .conftest import Bridge, Log
from .test_fops import FOPS, MODES, nothing
from .values import build

EIO = errno.EIO
Action = Callable[[Bridge, Any, Any], Any]
"""What a handler does, given the bridge, its fop and its translator."""


def raises(error: type[BaseException], *arguments: Any, **named: Any) -> Action:
    """Return an action that raises: a new exception each time, since one keeps its traceback."""

    def action(bridge: Bridge, fop: Any, translator: Any) -> Any:
        raise error(*arguments, **named) if arguments else error

    return action


def another_reply(bridge: Bridge, fop: Any, translator: Any) -> Any:
    """Return the reply of another fop."""
    other = fops.TABLE["flush" if fop.name != "flush" else "fsyncdir"]
    return other.reply()


def a_generator(bridge: Bridge, fop: Any, translator: Any) -> Any:
    """Return a generator: `yield` was written for `await`."""
    return (step for step in [PASS])


def a_wind(bridge: Bridge, fop: Any, translator: Any) -> Any:
    """Return what should have been awaited."""
    return translator.child.flush(None)


BUGS: dict[str, tuple[Action, str]] = {
    "None": (lambda *_: None, "TypeError"),
    "a number": (lambda *_: 0, "TypeError"),
    "a tuple": (lambda bridge, fop, _: tuple(build(fop.reply_fields, bridge.example)), "TypeError"),
    "the reply's class": (lambda _, fop, __: fop.reply, "TypeError"),
    "another fop's reply": (another_reply, "TypeError"),
    "a generator": (a_generator, "TypeError"),
    "a wind": (a_wind, "TypeError"),
    "ZeroDivisionError": (lambda *_: 1 // 0, "ZeroDivisionError"),
    "AssertionError": (raises(AssertionError, "two\nlines"), "AssertionError"),
    "MemoryError": (raises(MemoryError), "MemoryError"),
    "KeyboardInterrupt": (raises(KeyboardInterrupt), "KeyboardInterrupt"),
    "SystemExit": (raises(SystemExit, 0), "SystemExit"),
    "GeneratorExit": (raises(GeneratorExit), "GeneratorExit"),
    "StopIteration": (raises(StopIteration), "StopIteration|RuntimeError"),
    "StopAsyncIteration": (raises(StopAsyncIteration), "StopAsyncIteration|RuntimeError"),
    "CancelledError": (raises(asyncio.CancelledError), "CancelledError"),
    "a bare OSError": (raises(OSError), "OSError"),
    "OSError without errno": (raises(OSError, "text only"), "OSError"),
    "OSError with errno 0": (raises(OSError, 0, "none"), "OSError"),
    "OSError with a negative errno": (raises(OSError, -errno.ENOENT, "none"), "OSError"),
    "OSError with text for errno": (raises(OSError, "ENOENT", "none"), "OSError"),
    "FopError with an unknown argument": (
        raises(FopError, errno.ENOENT, no_such=1),
        "TypeError.*no_such",
    ),
    "FopError with errno 0": (raises(FopError, 0), "FopError|OSError"),
}
ERRNOS: dict[str, tuple[Action, int]] = {
    "FileNotFoundError": (raises(FileNotFoundError), errno.ENOENT),
    "PermissionError": (raises(PermissionError), errno.EACCES),
    "TimeoutError": (raises(TimeoutError), errno.ETIMEDOUT),
    "NotADirectoryError": (raises(NotADirectoryError), errno.ENOTDIR),
    "OSError(ENOSPC)": (raises(OSError, errno.ENOSPC, "full"), errno.ENOSPC),
    "FopError(ENOTEMPTY)": (raises(FopError, errno.ENOTEMPTY), errno.ENOTEMPTY),
}
KINDS = pytest.mark.parametrize("kind", ["def", "async", "later"])
SOME = pytest.mark.parametrize(
    "fop",
    [fops.TABLE[name] for name in ("lookup", "readv", "discard", "getspec", "seek", "readdirp")],
    ids=lambda fop: fop.name,
)


def handler_of(action: Action, kind: str, bridge: Bridge) -> Any:
    """Return a handler of the kind that does it: def, async, or async after a suspension."""

    def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        return action(bridge, fop, self)

    async def async_handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        if kind == "later":
            await glupy.sleep(0.001)
        return action(bridge, fop, self)

    return handler if kind == "def" else async_handler


def is_reported(log: Log, fop: Any, what: str) -> None:
    """Assert that the log has one line on it, and then the traceback; `what` is a pattern."""
    line, trace = log.errors()
    assert re.fullmatch(rf"{fop.name}: .*({what}).*", line)
    assert trace.startswith("Traceback (most recent call last):\n  File ")
    assert re.search(what, trace)


@SOME
@KINDS
@pytest.mark.parametrize("bug", BUGS)
def test_bug(bridge: Bridge, log: Log, fop: Any, kind: str, bug: str) -> None:
    """EIO to the caller; one line and the traceback to the log."""
    action, what = BUGS[bug]
    outcome = bridge.run(fop, handler_of(action, kind, bridge), collect=True)
    assert outcome.answered == nothing(fop, EIO)
    assert outcome.unwound == 1
    is_reported(log, fop, what)


@FOPS
@KINDS
def test_bug_in_every_fop(bridge: Bridge, log: Log, fop: Any, kind: str) -> None:
    """The same for each fop, with one bug."""
    outcome = bridge.run(fop, handler_of(BUGS["ZeroDivisionError"][0], kind, bridge), collect=True)
    assert outcome.answered == nothing(fop, EIO)
    is_reported(log, fop, "ZeroDivisionError")


@SOME
@KINDS
@pytest.mark.parametrize("error", ERRNOS)
def test_errno(bridge: Bridge, log: Log, fop: Any, kind: str, error: str) -> None:
    """An OSError is an answer, not a bug: nothing is logged."""
    action, number = ERRNOS[error]
    outcome = bridge.run(fop, handler_of(action, kind, bridge))
    assert outcome.answered == nothing(fop, number)
    assert log.errors() == []


class _Foreign:
    def __await__(self) -> Any:
        yield "not for glupy"


@SOME
@KINDS
@pytest.mark.parametrize("foreign", ["asyncio.sleep", "Future", "string"])
def test_foreign_await(bridge: Bridge, log: Log, fop: Any, kind: str, foreign: str) -> None:
    """There is no event loop: what belongs to one cannot be awaited."""

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        if kind == "later":
            await glupy.sleep(0.001)
        if foreign == "asyncio.sleep":
            await asyncio.sleep(0)
        elif foreign == "Future":
            loop = asyncio.new_event_loop()
            try:
                await loop.create_future()
            finally:
                loop.close()
        else:
            await _Foreign()
        return PASS

    outcome = bridge.run(fop, handler, collect=True)
    assert outcome.answered == nothing(fop, EIO)
    assert outcome.winds == 0
    is_reported(log, fop, "TypeError.*cannot await")


@SOME
def test_foreign_await_can_be_caught(bridge: Bridge, log: Log, fop: Any) -> None:
    """It is raised where it was awaited."""

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        try:
            await _Foreign()
        except TypeError:
            return PASS

    outcome = bridge.run(fop, handler)
    assert outcome.received == outcome.sent
    assert log.errors() == []


@MODES
def test_coroutine_thrown_away(bridge: Bridge, mode: str) -> None:
    """A wind that nobody awaits is never made."""

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        self.child.stat(*arguments)
        return await self.child.stat(*arguments)

    outcome = bridge.run(fops.TABLE["stat"], handler, mode=mode)
    assert outcome.winds == 1
    assert outcome.answered == outcome.replied


@MODES
def test_awaited_twice(bridge: Bridge, log: Log, mode: str) -> None:
    """A wind can be awaited once: the second time is a bug."""

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        wind = self.child.stat(*arguments)
        await wind
        return await wind

    fop = fops.TABLE["stat"]
    outcome = bridge.run(fop, handler, mode=mode, collect=True)
    assert outcome.winds == 1
    assert outcome.answered == nothing(fop, EIO)
    is_reported(log, fop, "RuntimeError")


@MODES
def test_gathered_twice(bridge: Bridge, log: Log, mode: str) -> None:
    """The same at one time."""

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        wind = self.child.stat(*arguments)
        return (await glupy.gather(wind, wind))[0]

    fop = fops.TABLE["stat"]
    outcome = bridge.run(fop, handler, mode=mode, collect=True)
    assert outcome.winds == 1
    assert outcome.answered == nothing(fop, EIO)
    is_reported(log, fop, "RuntimeError")


@MODES
def test_error_of_another_fop(bridge: Bridge, mode: str) -> None:
    """A failure of another fop, raised again, gives its errno: its reply is not this fop's."""

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        return await self.child.lookup(*arguments)

    fop = fops.TABLE["stat"]
    outcome = bridge.run(fop, handler, mode=mode, fails=True, below=fops.TABLE["lookup"])
    assert outcome.answered == nothing(fop, outcome.replied["op_errno"])


WRONG: dict[str, list[Any]] = {
    "checksum": ["text", 7, bytes(33)],
    "dict": [{"a": 1}, 5, "text", Iatt],
    "dirents": [7, [7], ["name"]],
    "fd": [7, "fd", Iatt],
    "flock": [7, Iatt],
    "iatt": [7, (), Dict],
    "inode": [7, "inode", Iatt],
    "iobref": [7, "iobref"],
    "lease": [7, Iatt],
    "loc": [7, "path", Iatt],
    "locks": [7, [7]],
    "opaque": ["text", 7],
    "scalar": ["text", None, 1.5, 1 << 64, -(1 << 63) - 1],
    "statvfs": [7, Iatt],
    "string": [7, "a NUL \0 inside"],
    "vector": [7, [7], "text"],
}


def shown(fop: Any, name: str, wrong: Any) -> str:
    """Return the name of a case."""
    value = wrong.__name__ if isinstance(wrong, type) else repr(wrong)[:20]
    return f"{fop.name}-{name}-{value}"


def wrong_fields() -> list[Any]:
    """Return every field of every reply with each thing that it cannot hold."""
    cases = []
    for fop in fops.TABLE.values():
        has_vector = any(kind == "vector" for _, kind in fop.reply_fields)
        ends = [("op_ret", "scalar"), ("op_errno", "scalar")]
        for name, kind in [*fop.reply_fields, *ends]:
            if name == "count" and has_vector:
                continue  # the vector's own length counts
            for wrong in WRONG[kind]:
                if name == "op_ret" and wrong is None:
                    continue  # the default
                cases.append(pytest.param(fop, name, wrong, id=shown(fop, name, wrong)))
    return cases


@pytest.mark.parametrize(("fop", "name", "wrong"), wrong_fields())
def test_wrong_field(bridge: Bridge, log: Log, fop: Any, name: str, wrong: Any) -> None:
    """A reply that C cannot hold never reaches C."""

    def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        fields = build(fop.reply_fields, bridge.example)
        fields[name] = wrong() if isinstance(wrong, type) else wrong
        return fop.reply(**fields)

    outcome = bridge.run(fop, handler, collect=True)
    assert outcome.answered == nothing(fop, EIO)
    assert len(log.errors()) == 2


@pytest.mark.parametrize(("fop", "name", "wrong"), wrong_fields())
def test_wrong_field_of_an_error(bridge: Bridge, log: Log, fop: Any, name: str, wrong: Any) -> None:
    """The same in a FopError, after a suspension."""
    if name in ("op_ret", "op_errno"):
        name, wrong = "op_ret", 0  # no argument of a callback

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        await glupy.sleep(0.0)
        raise FopError(errno.ENOENT, **{name: wrong() if isinstance(wrong, type) else wrong})

    outcome = bridge.run(fop, handler, collect=True)
    assert outcome.answered == nothing(fop, EIO)
    assert len(log.errors()) == 2


def wrong_arguments() -> list[Any]:
    """Return every argument of every fop with each thing that it cannot hold."""
    cases = []
    for fop in fops.TABLE.values():
        has_vector = any(kind == "vector" for _, kind in fop.arguments)
        for index, (name, kind) in enumerate(fop.arguments):
            if name == "count" and has_vector:
                continue
            for wrong in WRONG[kind]:
                cases.append(pytest.param(fop, index, wrong, id=shown(fop, name, wrong)))
    return cases


@pytest.mark.parametrize(("fop", "index", "wrong"), wrong_arguments())
def test_wrong_argument(bridge: Bridge, log: Log, fop: Any, index: int, wrong: Any) -> None:
    """A wind that C cannot make raises where it is awaited, and the handler may go on."""
    caught = []

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        changed = list(arguments)
        changed[index] = wrong() if isinstance(wrong, type) else wrong
        try:
            await getattr(self.child, fop.name)(*changed)
        except (TypeError, ValueError, OverflowError, AttributeError) as error:
            caught.append(type(error))
        return PASS

    outcome = bridge.run(fop, handler, collect=True)
    assert len(caught) == 1
    assert outcome.winds == 1
    assert outcome.received == outcome.sent
    assert outcome.answered == outcome.replied
    assert log.errors() == []


@pytest.mark.parametrize("count", [0, 3])
def test_wrong_number_of_arguments(bridge: Bridge, log: Log, count: int) -> None:
    """As with any Python method: TypeError."""

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        return await self.child.discard(*arguments[: count - 1] if count else ())

    fop = fops.TABLE["discard"]
    outcome = bridge.run(fop, handler, collect=True)
    assert outcome.answered == nothing(fop, EIO)
    is_reported(log, fop, "TypeError")


@KINDS
def test_both_ends_of_a_deep_traceback(bridge: Bridge, log: Log, kind: str) -> None:
    """The handler and where it was raised, and the same of the exception before."""

    def even(levels: int, error: Exception) -> None:
        if not levels:
            raise error
        odd(levels - 1, error)

    def odd(levels: int, error: Exception) -> None:  # lines that are alike would be counted only
        even(levels - 1, error)

    def action(bridge: Bridge, fop: Any, translator: Any) -> Any:
        try:
            even(150, AssertionError("the first"))
        except AssertionError:
            even(150, ZeroDivisionError("the second"))

    fop = fops.TABLE["stat"]
    bridge.run(fop, handler_of(action, kind, bridge), collect=True)
    is_reported(log, fop, "ZeroDivisionError: the second")
    first, second = log.errors()[1].split("\n\nDuring handling of the above exception, another")
    for trace, error in (first, "Error: the first"), (second, "Error: the second"):
        assert "in action\n    even(150, " in trace
        assert re.search(r"\n  \(\d+ frames more\)\n", trace)
        assert re.search(rf"in even\n    raise error\n\w*{error}$", trace)
        assert trace.count("\n  File ") == 60
    assert ("in handler\n" in second) == (kind == "def")
    assert ("in async_handler\n" in second) == (kind != "def")


def test_the_line_is_the_errors_own(bridge: Bridge, log: Log) -> None:
    """Its notes are in the traceback."""

    def action(bridge: Bridge, fop: Any, translator: Any) -> Any:
        error = ZeroDivisionError("what was wrong")
        error.add_note("and where")
        raise error

    fop = fops.TABLE["stat"]
    bridge.run(fop, handler_of(action, "def", bridge), collect=True)
    is_reported(log, fop, "ZeroDivisionError: what was wrong")
    line, trace = log.errors()
    assert line == "stat: ZeroDivisionError: what was wrong"
    assert trace.endswith("ZeroDivisionError: what was wrong\nand where")


def test_repeated_bug_is_logged_once_a_minute(bridge: Bridge, log: Log) -> None:
    """Each distinct bug once a minute; a later report counts what was left out."""
    from glupy import log as glupy_log

    fop = fops.TABLE["stat"]
    handler = handler_of(BUGS["ZeroDivisionError"][0], "def", bridge)
    for _ in range(5):
        bridge.run(fop, handler, collect=True)
    assert len(log.errors()) == 2
    key, (_, left_out) = glupy_log._seen.popitem()
    assert left_out == 4
    glupy_log._seen[key] = (-glupy_log.REPEAT_SECONDS, left_out)
    bridge.run(fop, handler, collect=True)
    assert len(log.errors()) == 4
    assert "4 more like it" in log.errors()[2]
