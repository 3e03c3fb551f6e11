"""What the bridge states of itself: public names, the fop table, an instance's own fops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import glupy
from glupy import fops

from . import ends
from .conftest import Bridge
from .test_fops import FOPS

SNAPSHOT = Path(__file__).with_name("fops-10.3.txt")
"""The fop table of GlusterFS 10.3, one fop a line. A difference is an incompatible change of Glupy,
or a GlusterFS that Glupy does not know yet."""


def test_public_names() -> None:
    assert sorted(glupy.__all__) == [
        "Cancelled",
        "Client",
        "Dict",
        "Dirent",
        "Event",
        "ExpiredView",
        "Fd",
        "FileType",
        "Flock",
        "FopError",
        "Frame",
        "Future",
        "Gfid",
        "Iatt",
        "Inode",
        "IoBuffer",
        "Loc",
        "Lock",
        "Option",
        "OptionError",
        "PASS",
        "Pass",
        "Statvfs",
        "Translator",
        "Vector",
        "gather",
        "sleep",
    ]
    for name in glupy.__all__:
        assert getattr(glupy, name).__doc__ or name in ("Event", "PASS")


def shown(fop: Any) -> str:
    arguments = ", ".join(f"{name}: {kind}" for name, kind in fop.arguments)
    reply = ", ".join(f"{name}: {kind}" for name, kind in fop.reply_fields)
    return f"{fop.number} {fop.name}({arguments}) -> {fop.reply.__name__}({reply})"


def test_fop_table() -> None:
    assert [shown(fop) for fop in fops.TABLE.values()] == SNAPSHOT.read_text().splitlines()


def test_stub() -> None:
    """What type checkers read is of this table; `python -m glupy.fops` and ruff write it."""
    path = Path(fops.__file__).with_suffix(".pyi")
    command: list[str | Path] = [f"{sys.prefix}/bin/ruff", "format", "--stdin-filename", path, "-"]
    written = subprocess.run(
        command, input=fops.stub(), capture_output=True, text=True, check=True
    ).stdout
    assert path.read_text() == written


@FOPS
def test_reply(fop: Any) -> None:
    """A reply's fields are the callback's arguments in C's order, then op_ret and op_errno."""
    names = [name for name, _ in fop.reply_fields]
    assert fop.reply._fields == (*names, "op_ret", "op_errno")
    optional = names[names.index("xdata") :] if "xdata" in names else []
    assert fop.reply._field_defaults == {**dict.fromkeys([*optional, "op_ret"]), "op_errno": 0}
    assert getattr(fops, fop.reply.__name__) is fop.reply


def test_table_is_the_headers() -> None:
    """Numbers, names and order are those of struct xlator_fops, read here once more."""
    reader = ends.headers()
    found = reader.fops(reader.preprocess())
    assert [(fop.name, fop.number) for fop in found] == [
        (fop.name, fop.number) for fop in fops.TABLE.values()
    ]
    assert [[each.name for each in fop.arguments] for fop in found] == [
        [name for name, _ in fop.arguments] for fop in fops.TABLE.values()
    ]


@FOPS
def test_empty_translator(bridge: Bridge, fop: Any) -> None:
    """A fop without a handler is GlusterFS's own default, pointer by pointer."""
    assert bridge.lib.ends_fop(bridge.near, fop.number) == bridge.lib.ends_default_fop(fop.number)


@FOPS
def test_full_translator(bridge: Bridge, fop: Any) -> None:
    """A fop with a handler is not."""
    own = bridge.lib.ends_fop(bridge.subject, fop.number)
    assert own not in (bridge.ffi.NULL, bridge.lib.ends_default_fop(fop.number))


def test_table_has_every_default_fop(bridge: Bridge) -> None:
    """What GlusterFS has a default for is in the table; compound, which nobody winds, has none."""
    numbers = {fop.number for fop in fops.TABLE.values()}
    defaults = {n for n in range(1, max(numbers) + 1) if bridge.lib.ends_default_fop(n)}
    assert defaults == numbers - {fops.TABLE["compound"].number}


@pytest.mark.parametrize("mode", ["INSIDE", "BEFORE_RETURN", "LATE"])
@pytest.mark.parametrize("name", ["writev", "put"])
def test_iovec_written(bridge: Bridge, name: str, mode: str) -> None:
    """An iovec that is passed on has the same address in the child as in the handler."""
    seen = []

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        vector = dict(zip((name for name, _ in fop.arguments), arguments, strict=True))["vector"]
        seen.append(vector.addresses())
        views = [memoryview_address(part) for part in vector]
        assert [a for a, part in zip(views, vector, strict=True) if part] == [
            a for a, part in zip(vector.addresses(), vector, strict=True) if part
        ]
        return await getattr(self.child, fop.name)(*arguments)

    outcome = bridge.run(fops.TABLE[name], handler, mode=mode)
    assert outcome.received == outcome.sent
    assert seen == [[part["address"] for part in outcome.received["vector"]]]


@pytest.mark.parametrize("mode", ["INSIDE", "BEFORE_RETURN", "LATE"])
def test_iovec_read(bridge: Bridge, mode: str) -> None:
    """The same for what is read."""
    seen = []

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        reply = await self.child.readv(*arguments)
        seen.append(reply.vector.addresses())
        seen.append([memoryview_address(part) for part in reply.vector])
        return reply

    outcome = bridge.run(fops.TABLE["readv"], handler, mode=mode)
    addresses = [part["address"] for part in outcome.replied["vector"]]
    assert seen[0] == addresses == [part["address"] for part in outcome.answered["vector"]]
    assert [a for a in seen[1] if a] == [
        part["address"] for part in outcome.replied["vector"] if part["data"]
    ]


@pytest.mark.parametrize("mode", ["INSIDE", "BEFORE_RETURN", "LATE"])
def test_iobuffer(bridge: Bridge, mode: str) -> None:
    """An IoBuffer is wound and unwound without a copy, where it lies in memory and as long as it
    says."""
    seen = []

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        fd, _, __, offset, flags, ___, xdata = arguments
        buffers = [glupy.IoBuffer(5000), glupy.IoBuffer(3)]
        for number, buffer in enumerate(buffers):
            buffer.data[:] = bytes([number + 1]) * buffer.size
            seen.append(memoryview_address(buffer.data))
        buffers[0].length = 4096
        return await self.child.writev(fd, buffers, 0, offset, flags, None, xdata)

    outcome = bridge.run(fops.TABLE["writev"], handler, mode=mode)
    assert outcome.received["vector"] == [
        {"address": seen[0], "data": "01" * 4096},
        {"address": seen[1], "data": "02" * 3},
    ]
    assert seen[0] % 4096 == 0
    assert outcome.received["count"] == 2


def memoryview_address(view: memoryview) -> int:
    """Return where a memoryview's bytes lie; 0 for an empty one."""
    from glupy._bridge import ffi

    return int(ffi.cast("uintptr_t", ffi.from_buffer(view))) if len(view) else 0
