"""``dict_t``: what fops carry beside their arguments, and all xattrs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple

from glupy._bridge import ffi, lib
from glupy.enums import DataType
from glupy.errors import os_error
from glupy.views.base import ALWAYS, Gfid, View, encoded, encoded_name, text
from glupy.views.iatt import Iatt

# One number for each DataType: looked up once, an enum member costs more than the value it names.
_INT, _UINT, _DOUBLE = int(DataType.INT), int(DataType.UINT), int(DataType.DOUBLE)
_STRINGS = int(DataType.STR), int(DataType.STR_OLD)
_GFUUID, _IATT, _MDATA = int(DataType.GFUUID), int(DataType.IATT), int(DataType.MDATA)


class Mdata(NamedTuple):
    """``struct mdata_iatt``: the times of ``trusted.glusterfs.mdata``, seconds and nanoseconds."""

    ia_atime: int
    ia_mtime: int
    ia_ctime: int
    ia_atime_nsec: int
    ia_mtime_nsec: int
    ia_ctime_nsec: int


Value = int | float | str | bytes | Gfid | Iatt | Mdata


class Dict(View, MutableMapping[str, Any]):
    """A mapping of str keys to values, each typed as GlusterFS types it.

    Reading gives int, float, str, bytes, ``Gfid``, ``Iatt`` (a copy) or ``Mdata``; writing takes
    the same (a Python int becomes an int64, bool included). ``set_int`` and ``set_uint`` choose
    another width. A value that came over the network untyped, as xattrs do, is bytes. Keys and str
    values are UTF-8 with surrogates for other bytes.

    ``Dict({...})`` makes one. A dict that came as an argument may be shared with other fops: add to
    it what GlusterFS's own translators would, or wind with a ``copy()``.
    """

    __slots__ = ()

    def __init__(self, given: Any = None, scope: Any = None, owner: Any = None) -> None:
        self._c = given
        self._scope = scope
        self._owner = owner
        if scope is None:  # not a view: a dict of its own
            self._scope = ALWAYS
            made = lib.quick_dict_new()
            if not made:
                raise MemoryError("there is no dict to be had: no memory, or no GlusterFS graph")
            self._c = ffi.gc(made, lib.quick_dict_unref)
            if given:
                self.update(given)

    def __getitem__(self, key: str) -> Any:
        data = lib.quick_data(self.c, encoded_name(key))
        if not data:
            raise KeyError(key)
        try:
            return _value(data)
        finally:
            lib.quick_data_unref(data)

    def get_bytes(self, key: str, default: bytes | None = None) -> bytes | None:
        """Return the value as the bytes that GlusterFS stores, whatever its type."""
        data = lib.quick_data(self.c, encoded_name(key))
        if not data:
            return default
        try:
            return bytes(ffi.buffer(data.data, data.len)) if data.data else b""
        finally:
            lib.quick_data_unref(data)

    def type_of(self, key: str) -> DataType:
        """Return how GlusterFS types the value. KeyError if there is none."""
        data = lib.quick_data(self.c, encoded_name(key))
        if not data:
            raise KeyError(key)
        try:
            return DataType(data.data_type)
        finally:
            lib.quick_data_unref(data)

    def __setitem__(self, key: str, value: Value) -> None:
        name = encoded_name(key)
        if isinstance(value, int):
            result = lib.quick_dict_set_number(self.c, name, value, 64)
        elif isinstance(value, Gfid):
            result = lib.quick_dict_set_uuid(self.c, name, bytes(value))
        elif isinstance(value, (bytes, bytearray, memoryview)):
            data = ffi.from_buffer(value)
            result = lib.quick_dict_set_bytes(self.c, name, data, len(data))
        elif isinstance(value, str):
            result = lib.quick_dict_set_string(self.c, name, encoded(value))
        elif isinstance(value, float):
            result = lib.dict_set_double(self.c, name, value)
        elif isinstance(value, Iatt):
            result = lib.quick_dict_set_iatt(self.c, name, value.c)
        elif isinstance(value, Mdata):
            result = lib.quick_dict_set_mdata(
                self.c, name, ffi.new("struct mdata_iatt *", value._asdict())
            )
        else:
            raise TypeError(f"a dict cannot hold a {type(value).__name__}")
        _check(result)

    def set_int(self, key: str, value: int, bits: int = 32) -> None:
        """Store a signed integer of 8, 16, 32 or 64 bits; OverflowError if it needs more."""
        _check_range(value, -1 << bits - 1, 1 << bits - 1)
        _check(lib.quick_dict_set_number(self.c, encoded_name(key), value, bits))

    def set_uint(self, key: str, value: int, bits: int = 32) -> None:
        """Store an unsigned integer of 32 or 64 bits; OverflowError if it needs more."""
        _check_range(value, 0, 1 << bits)
        signed = value - (1 << 64) if value >= 1 << 63 else value
        _check(lib.quick_dict_set_number(self.c, encoded_name(key), signed, -bits))

    def __delitem__(self, key: str) -> None:
        name = encoded_name(key)
        if name not in (pair for pair in self._keys()):
            raise KeyError(key)
        lib.dict_del(self.c, name)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and bool(lib.quick_dict_has(self.c, encoded_name(key)))

    def _keys(self) -> Iterator[bytes]:
        pair = self.c.members_list
        while pair:
            yield ffi.string(lib.quick_pair_key(pair))
            pair = pair.next

    def __iter__(self) -> Iterator[str]:
        # As a list first: whoever iterates may also write.
        return iter([key.decode("utf-8", "surrogateescape") for key in self._keys()])

    def __len__(self) -> int:
        return int(self.c.count)

    def __bool__(self) -> bool:
        return True  # an empty dict is not NULL

    def copy(self) -> Dict:
        """Return a new dict with the same values (referenced, not copied)."""
        copy = Dict()
        if not lib.dict_copy_with_ref(self.c, copy._c):
            raise MemoryError
        return copy

    __eq__ = Mapping.__eq__
    __hash__ = None  # type: ignore[assignment]  # compared by value, and writable

    def __repr__(self) -> str:
        return f"Dict({dict(self)})"


def _check(result: int) -> None:
    if result < 0:
        raise os_error(-result)


def _check_range(value: int, low: int, end: int) -> None:
    """C would cut it off."""
    if not low <= value < end:
        raise OverflowError(f"{value} is not in [{low}, {end})")


def _value(data: Any) -> Any:
    kind, memory = data.data_type, data.data
    if kind == _INT:
        return lib.data_to_int64(data)
    if kind == _UINT:
        return lib.data_to_uint64(data)
    if not memory:
        return b""
    if kind in _STRINGS:
        return text(memory)
    if kind == _DOUBLE:
        return float(ffi.string(memory))
    if kind == _GFUUID:
        return Gfid(ffi.buffer(memory, 16))
    if kind == _IATT:
        return Iatt(ffi.cast("struct iatt *", memory)).copy()
    if kind == _MDATA:
        c = ffi.cast("struct mdata_iatt *", memory)
        return Mdata(*(getattr(c, name) for name in Mdata._fields))
    return bytes(ffi.buffer(memory, data.len))
