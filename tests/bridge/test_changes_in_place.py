"""What a handler changes in place: a dict that it was given, the attributes in a reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import glupy
from glupy import PASS, Dict, Gfid, Iatt, fops
from glupy._bridge import ffi
from glupy.enums import DataType
from glupy.views import Mdata

from .conftest import Bridge
from .test_fops import MODES
from .values import FILE_TYPES, IATT_NUMBERS, Json

MDATA = Mdata(1, 2, 3, 4, 5, 6)
IATT = Iatt()
IATT.ia_size = 1 << 40


def number(kind: DataType, value: float) -> Json:
    """Return a number as the far end writes it; GlusterFS keeps it as text."""
    return {"type": kind, "value": value, "bytes": (f"{value}".encode() + b"\0").hex()}


def other(kind: DataType, stored: bytes, value: Json = None) -> Json:
    return {"type": kind, "value": stored.hex() if value is None else value, "bytes": stored.hex()}


def string(value: bytes) -> Json:
    return other(DataType.STR, value + b"\0", value.hex())


def mdata(value: Mdata) -> Json:
    raw = ffi.new("struct mdata_iatt *", value._asdict())
    return other(DataType.MDATA, bytes(ffi.buffer(raw)), value._asdict())


def iatt(value: Iatt) -> Json:
    shown = dict.fromkeys([*IATT_NUMBERS, "ia_type", "ia_prot"], 0) | {"ia_gfid": bytes(16).hex()}
    shown["ia_size"] = value.ia_size
    return other(DataType.IATT, bytes(ffi.buffer(value.c)), shown)


def item(value: Any) -> Callable[[Dict, str], None]:
    return lambda given, key: given.__setitem__(key, value)


def signed(value: int, bits: int) -> Callable[[Dict, str], None]:
    return lambda given, key: given.set_int(key, value, bits)


def unsigned(value: int, bits: int) -> Callable[[Dict, str], None]:
    return lambda given, key: given.set_uint(key, value, bits)


CHANGES: dict[str, tuple[Callable[[Dict, str], Any], Json]] = {
    # Of its own type, and of another.
    "int8": (signed(-128, 8), number(DataType.INT, -128)),
    "int16": (signed(-(1 << 15), 16), number(DataType.INT, -(1 << 15))),
    "int32": (signed(-(1 << 31), 32), number(DataType.INT, -(1 << 31))),
    "int64": (signed(-(1 << 63), 64), number(DataType.INT, -(1 << 63))),
    "uint32": (unsigned((1 << 32) - 1, 32), number(DataType.UINT, (1 << 32) - 1)),
    "uint64": (unsigned((1 << 64) - 1, 64), number(DataType.UINT, (1 << 64) - 1)),
    "double": (item("text now"), string(b"text now")),
    "string": (item(b"\0 bytes now"), other(DataType.PTR, b"\0 bytes now")),
    "gfuuid": (item(Gfid.ROOT), other(DataType.GFUUID, Gfid.ROOT)),
    "iatt": (item(MDATA), mdata(MDATA)),
    "mdata": (item(IATT), iatt(IATT)),
    # Gone.
    "bytes": (lambda given, key: given.pop(key), None),
    "empty string": (lambda given, key: given.__delitem__(key), None),
    # New.
    "new int8": (signed(127, 8), number(DataType.INT, 127)),
    "new int16": (signed(-1, 16), number(DataType.INT, -1)),
    "new int32": (signed((1 << 31) - 1, 32), number(DataType.INT, (1 << 31) - 1)),
    "new int64": (item((1 << 63) - 1), number(DataType.INT, (1 << 63) - 1)),
    "new uint32": (unsigned(0, 32), number(DataType.UINT, 0)),
    "new uint64": (unsigned(1 << 63, 64), number(DataType.UINT, 1 << 63)),
    "new string": (item("\udcff"), string(b"\xff")),
    "new bytes": (item(bytes(3)), other(DataType.PTR, bytes(3))),
    "new iatt": (item(IATT), iatt(IATT)),
    "new mdata": (item(MDATA), mdata(MDATA)),
}


def change(given: Dict) -> None:
    for key, (make, _) in CHANGES.items():
        make(given, key)


def changed(shown: Json) -> Json:
    """Return how the far end is to see a dict that was changed; it is still the same one."""
    pairs = shown["pairs"] | {key: pair for key, (_, pair) in CHANGES.items()}
    return {**shown, "pairs": {key: pair for key, pair in pairs.items() if pair is not None}}


@pytest.mark.parametrize("kind", ["def", "async", "later"])
@pytest.mark.parametrize("name", ["xdata", "dict"])
def test_dict_that_came(bridge: Bridge, kind: str, name: str) -> None:
    """The child gets what the handler has set, replaced and deleted, in the caller's own dict."""
    fop = fops.TABLE["setxattr"]
    where = [each for each, _ in fop.arguments].index(name)

    def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        change(arguments[where])
        return PASS

    async def async_handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        if kind == "later":
            await glupy.sleep(0.001)
        change(arguments[where])
        return await self.child.setxattr(*arguments)

    outcome = bridge.run(fop, handler if kind == "def" else async_handler)
    assert outcome.received == {**outcome.sent, name: changed(outcome.sent[name])}


@MODES
@pytest.mark.parametrize("name", ["lookup", "writev", "rename"])
def test_reply_on_its_way_up(bridge: Bridge, name: str, mode: str) -> None:
    """The caller gets what the handler has made of the child's attributes and xdata."""
    fop = fops.TABLE[name]
    iatts = [each for each, kind in fop.reply_fields if kind == "iatt"]

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        reply = await getattr(self.child, fop.name)(*arguments)
        for index, each in enumerate(iatts):
            it = getattr(reply, each)
            for at, member in enumerate(IATT_NUMBERS):
                setattr(it, member, 100 * index + at)
            it.ia_gfid = bytes([index]) * 16
            it.mode = FILE_TYPES[2 + index] | index
        change(reply.xdata)
        return reply

    outcome = bridge.run(fop, handler, mode=mode)
    expected = {**outcome.replied, "xdata": changed(outcome.replied["xdata"])}
    for index, each in enumerate(iatts):
        numbers = {member: 100 * index + at for at, member in enumerate(IATT_NUMBERS)}
        gfid = (bytes([index]) * 16).hex()
        expected[each] = {**numbers, "ia_gfid": gfid, "ia_type": 2 + index, "ia_prot": index}
    assert outcome.answered == expected


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_numbers_that_are_too_wide(bridge: Bridge, bits: int) -> None:
    """They are refused, and nothing is stored."""
    made = Dict()
    for value in (1 << bits - 1, -(1 << bits - 1) - 1):
        with pytest.raises(OverflowError):
            made.set_int("it", value, bits)
    for value in (1 << bits, -1) if bits >= 32 else ():
        with pytest.raises(OverflowError):
            made.set_uint("it", value, bits)
    assert dict(made) == {}
