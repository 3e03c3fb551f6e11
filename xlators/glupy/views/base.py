"""What all views share: a pointer, and the scope that says whether it may still be followed."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from glupy._bridge import ffi
from glupy.errors import ExpiredView

NULL = ffi.NULL


class Contexts(Protocol):
    """The translator whose inode and fd contexts a view shows."""

    _this: Any
    _inode_contexts: dict[Any, Any]
    _fd_contexts: dict[Any, Any]


class Scope:
    """The time in which views may be used: one fop, or for ever."""

    __slots__ = ("alive", "translator")

    def __init__(self, translator: Contexts | None = None) -> None:
        self.alive = True
        self.translator = translator


ALWAYS = Scope()


class View:
    """A pointer to a C struct.

    ``_scope`` says until when it is valid; ``_owner``, if any, is a Python object that must outlive
    the view because the struct's memory is its own.
    """

    __slots__ = ("_c", "_owner", "_scope")

    def __init__(self, c: Any, scope: Any = ALWAYS, owner: Any = None) -> None:
        self._c = c
        self._scope = scope
        self._owner = owner

    @property
    def c(self) -> Any:
        """The cffi pointer, for calls into C."""
        if self._scope.alive:
            return self._c
        raise ExpiredView(f"this {type(self).__name__} was used after its fop had ended")

    def __repr__(self) -> str:
        shown = (name for name, value in vars(type(self)).items() if isinstance(value, property))
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in shown)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, View):
            return NotImplemented
        return bool(self.c == other.c)

    def __hash__(self) -> int:
        return hash(self.c)


def field(name: str, doc: str) -> Any:
    """Return a property that reads and writes the number ``name`` of the view's struct."""

    def get(self: View) -> Any:
        return getattr(self._c if self._scope.alive else self.c, name)  # c raises

    def put(self: View, value: int) -> None:
        setattr(self.c, name, value)

    return property(get, put, doc=doc)


def text(c: Any) -> str | None:
    """Return a C string as str (undecodable bytes as surrogates, as in ``os.fsdecode``)."""
    return ffi.string(c).decode("utf-8", "surrogateescape") if c else None


def encoded(value: str | bytes) -> bytes:
    """Return what ``text`` gave, as bytes again. NUL inside raises ValueError."""
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    if b"\0" in data:
        raise ValueError("a string for C has a NUL inside")
    return data


encoded_name = functools.lru_cache(1024)(encoded)
"""The same of what is encoded again and again: names of xattrs, keys of dicts."""


class Gfid(bytes):
    """The 16 bytes that name a file on a volume. ``str()`` has the usual form; NULL is false."""

    __slots__ = ()
    NULL: ClassVar[Gfid]
    ROOT: ClassVar[Gfid]

    def __new__(cls, value: Any) -> Gfid:
        self = super().__new__(cls, uuid.UUID(value).bytes if isinstance(value, str) else value)
        if len(self) != 16:
            raise ValueError("a gfid has 16 bytes")
        return self

    @classmethod
    def random(cls) -> Gfid:
        """Return a new gfid (UUID version 4)."""
        return cls(uuid.uuid4().bytes)

    def __bool__(self) -> bool:
        return self != _NULL_BYTES

    def __str__(self) -> str:
        text = self.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def __repr__(self) -> str:
        return f"Gfid('{self}')"


_NULL_BYTES = bytes(16)
Gfid.NULL = Gfid(_NULL_BYTES)
Gfid.ROOT = Gfid(bytes(15) + b"\1")

_buffer: Callable[[Any], Any] = ffi.buffer


def gfid_of(array: Any) -> Gfid:
    """Return a ``uuid_t`` as a Gfid."""
    return bytes.__new__(Gfid, _buffer(array))  # 16 bytes by its type: nothing to check


def store_gfid(array: Any, value: bytes) -> None:
    """Write a gfid into a ``uuid_t``."""
    if len(value) != 16:
        raise ValueError("a gfid has 16 bytes")
    _buffer(array)[:] = value
