"""Every fop of the table through every kind of handler: what one end gives is what the other gets.

Every argument and every callback argument has a value of its own, none of them a default. What must
hold for all of them alike (answered once, counts, references, the call stack) is in `Bridge.run`.
"""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import glupy
from glupy import PASS, FopError, fops

from .conftest import Bridge, Log, Outcome
from .values import build, describe, describe_frame, without_addresses

FOPS = pytest.mark.parametrize("fop", fops.TABLE.values(), ids=lambda fop: fop.name)
MODES = pytest.mark.parametrize("mode", ["INSIDE", "BEFORE_RETURN", "LATE"])
ENDS = [("op_ret", "scalar"), ("op_errno", "scalar")]
FAILS = pytest.mark.parametrize("fails", [False, True], ids=["succeeds", "fails"])


def what_it_gets(fop: Any, frame: Any, arguments: tuple[Any, ...]) -> Any:
    """Return what a handler sees, as the ends write it."""
    return {"frame": describe_frame(frame), **describe(fop.arguments, arguments)}


def mode_was(outcome: Outcome, mode: str) -> None:
    """Assert that the reply came as the mode says."""
    assert outcome.inside == (mode != "LATE")
    if mode == "LATE":
        assert not outcome.same_thread


@FOPS
@MODES
@FAILS
def test_pass(bridge: Bridge, fop: Any, mode: str, fails: bool) -> None:
    """PASS: the child gets the very arguments, the caller the very reply."""
    seen = []

    def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        seen.append(what_it_gets(fop, frame, arguments))
        return PASS

    outcome = bridge.run(fop, handler, mode=mode, fails=fails)
    assert seen == [outcome.sent]
    assert outcome.received == outcome.sent
    assert outcome.answered == outcome.replied
    assert outcome.passed == 1
    mode_was(outcome, mode)
    assert outcome.same_thread == (mode == "INSIDE")


@FOPS
@MODES
@FAILS
def test_wind(bridge: Bridge, fop: Any, mode: str, fails: bool) -> None:
    """An awaited wind: arguments hold until the handler's end, the reply can be read."""
    seen: list[Any] = []
    replies: list[Any] = []

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        seen.append(what_it_gets(fop, frame, arguments))
        try:
            reply = await getattr(self.child, fop.name)(*arguments)
        except FopError as error:
            seen.append(what_it_gets(fop, frame, arguments))
            replies.append(describe([*fop.reply_fields, *ENDS], error.reply))
            raise
        seen.append(what_it_gets(fop, frame, arguments))
        replies.append(describe([*fop.reply_fields, *ENDS], reply))
        return reply

    outcome = bridge.run(fop, handler, mode=mode, fails=fails)
    assert seen == [outcome.sent, outcome.sent]
    assert outcome.received == outcome.sent
    assert replies == [outcome.replied]
    assert outcome.answered == outcome.replied
    assert outcome.unwound == 1
    assert not outcome.unheld
    mode_was(outcome, mode)


@FOPS
@MODES
def test_made_anew(bridge: Bridge, fop: Any, mode: str) -> None:
    """Arguments and reply made in Python, from what was read there."""

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        given = build(fop.arguments, describe(fop.arguments, arguments))
        reply = await getattr(self.child, fop.name)(*given.values())
        fields = [*fop.reply_fields, *ENDS]
        return fop.reply(**build(fields, describe(fields, reply)))

    outcome = bridge.run(fop, handler, mode=mode)
    assert without_addresses(outcome.received) == without_addresses(outcome.sent)
    assert without_addresses(outcome.answered) == without_addresses(outcome.replied)
    mode_was(outcome, mode)


@FOPS
def test_answer(bridge: Bridge, fop: Any) -> None:
    """A handler that answers by itself, at once."""
    seen = []

    def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        seen.append(what_it_gets(fop, frame, arguments))
        return fop.reply(**build([*fop.reply_fields, *ENDS], bridge.example))

    outcome = bridge.run(fop, handler)
    assert seen == [outcome.sent]
    assert outcome.received is None
    assert without_addresses(outcome.answered) == without_addresses(outcome.example)
    assert outcome.inside
    assert outcome.same_thread


@FOPS
def test_sleep_and_pass(bridge: Bridge, fop: Any) -> None:
    """PASS after the caller has gone: from what the bridge has kept."""
    seen = []

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        await glupy.sleep(0.001)
        seen.append(what_it_gets(fop, frame, arguments))
        return PASS

    outcome = bridge.run(fop, handler)
    assert seen == [outcome.sent]
    assert outcome.received == outcome.sent
    assert outcome.answered == outcome.replied
    assert outcome.passed == 1
    assert not outcome.same_thread


def nothing(fop: Any, number: int) -> dict[str, Any]:
    """Return what is unwound where only an errno is told."""
    values = {name: 0 if kind in ("scalar", "opaque") else None for name, kind in fop.reply_fields}
    return {"op_ret": -1, "op_errno": number, **values}


@FOPS
@pytest.mark.parametrize("late", [False, True], ids=["def", "async"])
def test_os_error(bridge: Bridge, fop: Any, late: bool) -> None:
    """OSError: its errno, and nothing else."""

    def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        raise OSError(errno.EDQUOT, "full")

    async def late_handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        await glupy.sleep(0.001)
        raise OSError(errno.EDQUOT, "full")

    outcome = bridge.run(fop, late_handler if late else handler)
    assert outcome.answered == nothing(fop, errno.EDQUOT)
    assert outcome.received is None


@FOPS
@pytest.mark.parametrize("late", [False, True], ids=["def", "async"])
def test_fop_error(bridge: Bridge, fop: Any, late: bool) -> None:
    """FopError: its errno and the callback arguments that it carries."""

    def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        raise FopError(errno.ESTALE, **build(fop.reply_fields, bridge.example))

    async def late_handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        await glupy.sleep(0.001)
        raise FopError(errno.ESTALE, **build(fop.reply_fields, bridge.example))

    outcome = bridge.run(fop, late_handler if late else handler)
    expected = {**outcome.example, "op_ret": -1, "op_errno": errno.ESTALE}
    assert without_addresses(outcome.answered) == without_addresses(expected)


@FOPS
@MODES
def test_nulls(bridge: Bridge, fop: Any, mode: str) -> None:
    """NULL for every pointer, both ways, read and passed on by a handler that winds."""

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        seen = describe(fop.arguments, arguments)
        assert all(
            not seen[name] for name, kind in fop.arguments if kind != "scalar" or name == "count"
        )
        reply = await getattr(self.child, fop.name)(*arguments)
        return reply

    outcome = bridge.run(fop, handler, mode=mode, near_nulls=True, far_nulls=True)
    assert outcome.received == outcome.sent
    assert outcome.answered == outcome.replied


@pytest.mark.parametrize("groups", [0, 128, 129, 5000])
@pytest.mark.parametrize("wound", [False, True])
def test_groups(bridge: Bridge, groups: int, wound: bool) -> None:
    """Few groups lie inside the call stack, many outside of it."""
    seen = []

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        seen.append(what_it_gets(fop, frame, arguments))
        if not wound:
            return PASS
        await glupy.sleep(0.001)
        seen.append(what_it_gets(fop, frame, arguments))
        return await self.child.stat(*arguments)

    outcome = bridge.run(fops.TABLE["stat"], handler, groups=groups)
    assert len(outcome.sent["frame"]["groups"]) == groups
    assert seen == [outcome.sent] * len(seen)
    assert outcome.received == outcome.sent


@FOPS
def test_xdata_left_out(bridge: Bridge, fop: Any) -> None:
    """xdata and what follows it may be left out, of a wind and of a reply; op_ret is the length."""
    has_xdata = "xdata" in dict(fop.arguments)

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        await getattr(self.child, fop.name)(*(arguments[:-1] if has_xdata else arguments))
        fields = build(fop.reply_fields, bridge.example)
        names = list(fields)
        given = names[: names.index("xdata")] if "xdata" in names else names
        return fop.reply(**{name: fields[name] for name in given})

    outcome = bridge.run(fop, handler)
    if has_xdata:
        assert outcome.received == {**outcome.sent, "xdata": None}
    example = outcome.example
    lengths = {
        "readlink": lambda: len(example["path"]) // 2,
        "readv": lambda: sum(len(part["data"]) // 2 for part in example["vector"]),
        "readdir": lambda: len(example["entries"]),
        "readdirp": lambda: len(example["entries"]),
        "getspec": lambda: len(example["spec_data"]) // 2,
    }
    expected = {**example, "op_ret": lengths.get(fop.name, int)(), "op_errno": 0}
    names = [name for name, _ in fop.reply_fields]
    for name in names[names.index("xdata") :] if "xdata" in names else []:
        expected[name] = None
    assert without_addresses(outcome.answered) == without_addresses(expected)


@FOPS
@MODES
def test_gather(bridge: Bridge, fop: Any, mode: str) -> None:
    """Two winds at once, and one more: three replies, the last is the answer."""
    replies: list[Any] = []
    fields = [*fop.reply_fields, *ENDS]

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        wind = getattr(self.child, fop.name)
        both = await glupy.gather(wind(*arguments), glupy.sleep(0.001))
        replies.append(describe(fields, both[0]))
        last = await wind(*arguments)
        replies.append(describe(fields, last))
        replies.append(describe(fields, both[0]))
        return last

    outcome = bridge.run(fop, handler, mode=mode)
    assert outcome.winds == 2
    assert outcome.received == outcome.sent
    assert outcome.answered == outcome.replied == replies[1]
    assert replies[2] == replies[0]
    assert without_addresses(replies[0]) == without_addresses(outcome.replied)


@MODES
def test_all_of_a_gather_is_under_way_at_once(bridge: Bridge, mode: str) -> None:
    """What is first waits for what is last, and nothing waits for its turn."""
    order: list[str] = []

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        wind = getattr(self.child, fop.name)
        last_is_done = glupy.Future()

        async def first() -> Any:
            await last_is_done
            reply = await wind(*arguments)
            order.append("first")
            return reply

        async def last() -> None:
            await wind(*arguments)
            order.append("last")
            last_is_done.set_result(None)

        return (await glupy.gather(first(), last()))[0]

    outcome = bridge.run(fops.TABLE["fstat"], handler, mode=mode)
    assert (outcome.winds, order) == (2, ["last", "first"])
    assert outcome.answered == outcome.replied


@FOPS
def test_a_handler_that_nobody_can_resume(bridge: Bridge, log: Log, fop: Any) -> None:
    """What it waits for is dropped: EIO, once."""

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        await glupy.Future()

    outcome = bridge.run(fop, handler, collect=True)
    assert outcome.answered == nothing(fop, errno.EIO)
    assert outcome.unwound == 1
    line, trace = log.errors()
    assert "RuntimeError: the future was dropped without a result" in line
    assert trace.startswith("Traceback")


@pytest.mark.parametrize("late", [False, True], ids=["def", "async"])
def test_frame_changes(bridge: Bridge, late: bool) -> None:
    """What a handler writes to the frame before its first wind is what the child sees."""
    changes = {"uid": 11, "gid": 12, "pid": -13, "flags": 14}

    def change(frame: Any) -> None:
        for name, value in changes.items():
            setattr(frame, name, value)
        frame.ctime = 15, 16

    def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        change(frame)
        return PASS

    async def late_handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        change(frame)
        return await self.child.unlink(*arguments)

    outcome = bridge.run(fops.TABLE["unlink"], late_handler if late else handler)
    changed = {**outcome.sent["frame"], **changes, "seconds": 15, "nanoseconds": 16}
    assert outcome.received["frame"] == changed


THREADS = 8
ROUNDS = 5


@pytest.mark.parametrize("mode", ["INSIDE", "BEFORE_RETURN", "LATE"])
def test_many_at_once(bridge: Bridge, mode: str) -> None:
    """All fops from several threads at a time: none gets another's values."""

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        before = describe_frame(frame)
        reply = await getattr(self.child, fop.name)(*arguments)
        assert describe_frame(frame) == before
        return reply

    def wind(fop: Any) -> tuple[Outcome, str]:
        with bridge.wind(fop, mode=getattr(bridge.lib, mode), groups=3) as run:
            run.wind()
            bridge.until(lambda: not run.references(), "references are left")
            return run.outcome(0, 1), run.references()

    frames = bridge.frames()
    with bridge.handled_by(handler), ThreadPoolExecutor(THREADS) as pool:
        jobs = [pool.submit(wind, fop) for fop in list(fops.TABLE.values()) * ROUNDS]
        outcomes = [job.result() for job in jobs]
    for outcome, references in outcomes:
        assert outcome.received == outcome.sent
        assert outcome.answered == outcome.replied
        assert not references
    bridge.until(lambda: bridge.frames() == frames, "call stacks are left")
