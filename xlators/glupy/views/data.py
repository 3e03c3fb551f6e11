"""What is read and written: iovec arrays, and the buffers (iobuf, iobref) that hold their bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from glupy._bridge import ffi, lib
from glupy.views.base import ALWAYS, NULL, View

ALIGNMENT = 4096

_IOVECS = ffi.typeof("struct iovec[]")


class Iobref(View):
    """``struct iobref``: what keeps a vector's buffers alive. Passed on with its vector."""

    __slots__ = ()

    @property
    def used(self) -> int:
        """How many iobufs it holds."""
        return int(self.c.used)


class IoBuffer:
    """``struct iobuf``: writable memory of GlusterFS's own, from which it sends without copying.

    ``IoBuffer(size)`` has ``size`` bytes, aligned to 4096 so that O_DIRECT may use it; ``data`` is
    a writable memoryview of all of them. ``length``, at first ``size``, says how many count when
    the buffer is unwound or wound as a vector. The memory lives as long as this object, any slice
    of ``data``, or any fop that carries it.
    """

    __slots__ = ("_c", "size")

    def __init__(self, size: int) -> None:
        c = lib.glupy_buffer_new(size, ALIGNMENT)
        if not c:
            raise MemoryError("there is no buffer to be had: no memory, or no GlusterFS graph")
        self._c = ffi.gc(c, lib.quick_buffer_free)
        self.size = size

    @property
    def c(self) -> Any:
        """The ``struct glupy_buffer``, for calls into C."""
        return self._c

    @property
    def length(self) -> int:
        """How many bytes count."""
        return int(self._c.vector.iov_len)

    @length.setter
    def length(self, value: int) -> None:
        if not 0 <= value <= self.size:
            raise ValueError(f"{value} bytes do not fit into a buffer of {self.size}")
        self._c.vector.iov_len = value

    @property
    def data(self) -> memoryview:
        """All ``size`` bytes, writable."""
        buffer = self._c
        memory = ffi.gc(buffer.vector.iov_base, lambda _: buffer)  # the bytes keep the buffer
        return memoryview(ffi.buffer(memory, self.size)).cast("B")

    def __len__(self) -> int:
        return self.length


Buffers = "Vector | IoBuffer | bytes | bytearray | memoryview | Sequence[Any]"


class Vector(View, Sequence[memoryview]):
    """An iovec array: the bytes of a write, or of a read's reply.

    A sequence of read-only memoryviews, one for each element, without a copy; each keeps the bytes
    alive by itself, even past the fop. (Bytes must not be changed in place: other fops share them.)
    ``bytes(vector)`` copies all into one. Wound or unwound as it is, its addresses do not change.
    """

    __slots__ = ("_count", "_iobref")

    def __init__(
        self, c: Any, count: int, iobref: Any = NULL, scope: Any = ALWAYS, owner: Any = None
    ) -> None:
        self._c = c
        self._count = count
        self._iobref = iobref
        self._scope = scope
        self._owner = owner

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """The length of all elements together, in bytes."""
        c = self.c
        return sum(c[i].iov_len for i in range(self._count))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if index < 0:
            index += self._count
        if not 0 <= index < self._count:
            raise IndexError("vector index out of range")
        element = self.c[index]
        if not element.iov_len:
            return memoryview(b"")
        if not self._iobref:
            return memoryview(bytes(ffi.buffer(element.iov_base, element.iov_len)))
        iobref = lib.iobref_ref(self._iobref)
        memory = ffi.gc(element.iov_base, lambda _: lib.iobref_unref(iobref))
        return memoryview(ffi.buffer(memory, element.iov_len)).toreadonly()

    def __iter__(self) -> Iterator[memoryview]:
        return (self[i] for i in range(self._count))

    def __bytes__(self) -> bytes:
        c = self.c
        return b"".join(
            ffi.buffer(c[i].iov_base, c[i].iov_len)[:] for i in range(self._count) if c[i].iov_len
        )

    def __repr__(self) -> str:
        return f"Vector({self.nbytes} bytes in {self._count})"

    def addresses(self) -> list[int]:
        """Return where each element's bytes lie in memory."""
        return [int(ffi.cast("uintptr_t", self.c[i].iov_base)) for i in range(self._count)]

    __eq__ = View.__eq__
    __hash__ = View.__hash__


class CVector:
    """Any buffers as C wants them: ``c`` (iovec array), ``count``, ``iobref``, ``nbytes``.

    A ``Vector`` stays what it is. An ``IoBuffer`` goes without a copy, everything else that has
    bytes is copied into one. Valid as long as this object.
    """

    __slots__ = ("_keep", "c", "count", "iobref", "nbytes")

    def __init__(self, buffers: Any, iobref: Iobref | None) -> None:
        self._keep = buffers
        if type(buffers) is IoBuffer and iobref is None:
            c = buffers._c
            self.c, self.count, self.iobref = c.vector, 1, c.iobref
            self.nbytes = self.c.iov_len
            return
        given = iobref.c if iobref is not None else NULL
        if buffers is None:
            self.c, self.count, self.iobref, self.nbytes = NULL, 0, given, 0
            return
        if isinstance(buffers, Vector):
            self.c, self.count = buffers.c, len(buffers)
            self.iobref = given or buffers._iobref
            self.nbytes = buffers.nbytes
            return
        parts = buffers if isinstance(buffers, (list, tuple)) else [buffers]
        self._keep = made = [part if type(part) is IoBuffer else _copied(part) for part in parts]
        self.count = len(made)
        self.c = ffi.new(_IOVECS, self.count) if made else NULL
        self.iobref = ffi.gc(lib.iobref_new(), lib.iobref_unref)
        if given:
            lib.iobref_merge(self.iobref, given)
        self.nbytes = 0
        for index, buffer in enumerate(made):
            self.c[index] = buffer._c.vector[0]
            self.nbytes += buffer.length
            lib.iobref_add(self.iobref, buffer._c.iobuf)


def _copied(data: Any) -> IoBuffer:
    source = memoryview(data).cast("B")
    buffer = IoBuffer(len(source))
    if len(source):
        ffi.memmove(buffer._c.vector.iov_base, source, len(source))
    return buffer
