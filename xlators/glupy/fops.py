"""Every fop of the installed GlusterFS: its number, its arguments, its reply.

The table was read from GlusterFS's headers when the extension was built, and lies inside it. From
it this module makes, for each fop, a named tuple for its reply (``fops.Discard``) and the few lines
of Python that lead from C to a handler and back. ``fops.pyi`` states the same for type checkers;
``python -m glupy.fops`` writes it anew.

A reply holds the callback's arguments in C's order, ``None`` for NULL, then ``op_ret`` (None: 0, or
the length of what is returned: bytes read, entries listed, the link's target) and ``op_errno``.
``xdata`` and what follows it may be left out.
"""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glupy import views
from glupy._bridge import ffi, lib
from glupy.errors import FopError
from glupy.views import dirents, locks
from glupy.views.base import NULL, encoded, text
from glupy.views.data import CVector

CHECKSUM_BYTES = 32

# How each kind of C value becomes Python, in a scope S with an owner O, and C again. ``{}`` is the
# value. Kinds that are not here are numbers.
_TO_PYTHON = {
    "loc": "Loc({0}, S, O) if {0} else None",
    "fd": "Fd({0}, S, O) if {0} else None",
    "inode": "Inode({0}, S, O) if {0} else None",
    "dict": "Dict({0}, S, O) if {0} else None",
    "iatt": "Iatt({0}, S, O) if {0} else None",
    "statvfs": "Statvfs({0}, S, O) if {0} else None",
    "flock": "Flock({0}, S, O) if {0} else None",
    "lease": "Lease({0}, S, O) if {0} else None",
    "locks": "Locks({0}, S, O) if {0} else None",
    "dirents": "Dirents({0}, S, O) if {0} else None",
    "iobref": "Iobref({0}, S, O) if {0} else None",
    "vector": "Vector({0}, {1}count, {1}iobref, S, O) if {0} else None",
    "string": "text({0})",
    "checksum": "bytes(buffer({0}, 32)) if {0} else None",
}
_TO_C = {
    **dict.fromkeys(
        ["loc", "fd", "inode", "dict", "iatt", "statvfs", "flock", "lease"],
        "NULL if {0} is None else {0}.c",
    ),
    "dirents": "dirents_to_c({0})",
    "locks": "locks_to_c({0})",
    "string": "NULL if {0} is None else encoded({0})",
    "checksum": "NULL if {0} is None else checksum({0})",
    "opaque": "NULL if {0} is None else {0}",
    "vector": "vector_.c",
    "iobref": "vector_.iobref",
}
# What has a pointer of its own in held arguments; the others are referenced where they are.
_MOVED = {"loc", "iatt", "statvfs", "flock", "lease", "locks", "dirents", "vector"}
# What an answer is as long as, if op_ret is not given.
_LENGTH = {
    "vector": "vector_.nbytes",
    "dirents": "0 if {0} is None else len({0})",
    "string": "0 if {0} is None else len(encoded({0}))",
}


def _checksum(value: bytes) -> bytes:
    data = bytes(memoryview(value))  # an int would be that many zeros
    if len(data) > CHECKSUM_BYTES:
        raise ValueError(f"a strong checksum has {CHECKSUM_BYTES} bytes at most")
    return data.ljust(CHECKSUM_BYTES, b"\0")


class Fop:
    """One fop: what the rest of glupy knows of it.

    ``arguments`` and ``reply_fields`` are pairs of a name and a kind, in C's order; ``reply`` is
    the named tuple. The functions are made from the table:

    ``enter``   python_NAME: what C calls
    ``unwind``  (call, reply): answers the fop in C; returns the verdict: ANSWERED if C has yet to
                unwind, TAKEN after a wind, when it was done
    ``wind``    (call, child, waiter, arguments): winds; returns the C reply if it came inside the
                wind; if not, ``lib.quick_unreplied`` and ``lib.quick_wait`` follow
    ``take``    (call, C reply): makes the named tuple, which owns the C reply
    ``hold``    (call): keeps the arguments beyond the call, in ``call.held``
    ``tail``    (call, child): passes the fop on, from held arguments
    """

    def __init__(self, name: str, number: int, arguments: list[Any], reply: list[Any]) -> None:
        self.name = name
        self.number = number
        self.arguments: list[tuple[str, str]] = [(n, kind) for n, kind in arguments]
        self.reply_fields: list[tuple[str, str]] = [(n, kind) for n, kind in reply]
        self.enter: Callable[..., int]
        self.unwind: Callable[..., int]
        self.wind: Callable[..., Any]
        self.take: Callable[..., Any]
        self.hold: Callable[..., Any]
        self.tail: Callable[..., None]
        self.reply: Any = self._make_reply()

    def __repr__(self) -> str:
        return f"Fop({self.name})"

    def _make_reply(self) -> Any:
        names = [name for name, _ in self.reply_fields]
        optional = len(names) - names.index("xdata") if "xdata" in names else 0
        made = namedtuple(  # type: ignore[misc]  # the fields are GlusterFS's
            camel(self.name),
            [*names, "op_ret", "op_errno"],
            defaults=[None] * (optional + 1) + [0],
            module=__name__,
        )
        made.__doc__ = f"The reply of {self.name}: {', '.join(names)}, op_ret, op_errno."
        return made

    def failed(self, error: FopError) -> Any:
        """Return the reply that a FopError stands for: its own, or NULLs and its arguments."""
        if error.reply is not None and type(error.reply) is self.reply:
            return error.reply
        values: dict[str, Any] = {
            name: 0 if kind == "scalar" else None for name, kind in self.reply_fields
        }
        unknown = error.arguments.keys() - values.keys()
        if unknown:
            raise TypeError(f"{self.name}'s reply has no {', '.join(sorted(unknown))}")
        values.update(error.arguments)
        return self.reply(**values, op_ret=-1, op_errno=error.errno)


def camel(name: str) -> str:
    """Return the name of a fop's reply: copy_file_range's is CopyFileRange."""
    return "".join(part.capitalize() for part in name.split("_"))


def _to_c(parameters: list[tuple[str, str]]) -> str:
    has_vector = any(kind == "vector" for _, kind in parameters)
    made = []
    for name, kind in parameters:
        if has_vector and name == "count":
            made.append("vector_.count")
        else:
            made.append(_TO_C.get(kind, "{0}").format(name))
    return ", ".join(f"({each})" for each in made)


def _to_python(parameters: list[tuple[str, str]], prefix: str) -> str:
    made = []
    for name, kind in parameters:
        made.append("(" + _TO_PYTHON.get(kind, "{0}").format(prefix + name, prefix) + ")")
    return "".join(each + "," for each in made)


def _vector_line(parameters: list[tuple[str, str]]) -> str:
    if not any(kind == "vector" for _, kind in parameters):
        return "pass"
    return "vector_ = CVector(vector, iobref)"


_SOURCE = """
def enter(self, asked, frame, {names}):
    S = call = Call(from_handle(self), FOP, frame)
    call.asked = asked
    O = None
    call.arguments = ({views})
    try:
        call.view = Frame(frame.root, call)
        result = call.translator.{fop}(call.view, *call.arguments)
        if result.__class__ is REPLY:  # a fop has an argument called type
            verdict = unwind(call, result)
            call.close()
            return verdict
    except BaseException as error:
        return call.run(None, error)
    return call.run(result, None)

def unwind(call, reply):
    {reply_names}op_ret, op_errno = reply
    {reply_vector}
    if op_ret is None:
        op_ret = {length}
    if call.suspended:
        lib.unwind_{fop}(call.this, call.frame, op_ret, op_errno, {reply_to_c})
        return TAKEN
    lib.quick_answer_{fop}(call.asked, op_ret, op_errno, {reply_to_c})
    return ANSWERED

def wind(call, child, waiter, arguments):
    {names}, = arguments
    {vector}
    asked = NULL if call.suspended else call.asked
    return lib.wind_{fop}(call.this, call.frame, asked, child, waiter, {to_c})

def take(call, c):
    S, O = call, gc(c, drop)
    head = c.head
    return new(REPLY, ({reply_views} head.op_ret, head.op_errno))

def hold(call):
    held = lib.quick_hold_{fop}(call.asked)
    if not held:
        raise MemoryError
    call.held = held
    call.suspended = True
    {names}, = call.arguments
    {moves}

def tail(call, child):
    held = call.held
    lib.tail_{fop}(call.this, call.frame, child, {held})
"""


def _functions(fop: Fop) -> str:
    names = ", ".join(name for name, _ in fop.arguments)
    lengths = [_LENGTH[kind].format(name) for name, kind in fop.reply_fields if kind in _LENGTH]
    moves = [
        f"if {name} is not None: {name}._c = held.{name}"
        for name, kind in fop.arguments
        if kind in _MOVED
    ]
    return _SOURCE.format(
        fop=fop.name,
        names=names,
        views=_to_python(fop.arguments, ""),
        reply_names="".join(f"{name}, " for name, _ in fop.reply_fields),
        reply_vector=_vector_line(fop.reply_fields),
        reply_to_c=_to_c(fop.reply_fields),
        length=lengths[0] if lengths else "0",
        vector=_vector_line(fop.arguments),
        to_c=_to_c(fop.arguments),
        reply_views=_to_python(fop.reply_fields, "c."),
        moves="\n    ".join(moves) or "pass",
        held=", ".join(f"held.{name}" for name, _ in fop.arguments),
    )


class Winder:
    """Has a method for each fop that winds it to ``self._xlator``: what ``Subvolume`` rests on."""

    __slots__ = ()


_METHOD = """
def {fop}(self, {declared}):
    return Wind(FOP, self._xlator, ({names},))
"""


def bind(call_class: Any, wind_class: Any) -> None:
    """Make every fop's functions; the classes are ``Call`` and ``Wind`` of ``glupy.calls``."""
    shared = {
        # From the module: a reply may be called as a view is (Lease).
        **{name: getattr(views, name) for name in views.__all__},
        "Call": call_class,
        "CVector": CVector,
        "NULL": NULL,
        "Wind": wind_class,
        "buffer": ffi.buffer,
        "checksum": _checksum,
        "dirents_to_c": dirents.to_c,
        "drop": lib.glupy_drop_reply,
        "encoded": encoded,
        "from_handle": ffi.from_handle,
        "gc": ffi.gc,
        "lib": lib,
        "locks_to_c": locks.to_c,
        "new": tuple.__new__,
        "ANSWERED": lib.VERDICT_ANSWERED,
        "TAKEN": lib.VERDICT_TAKEN,
        "text": text,
    }
    for fop in TABLE.values():
        scope = {**shared, "FOP": fop, "REPLY": fop.reply}
        exec(compile(_functions(fop), f"<glupy fop {fop.name}>", "exec"), scope)
        for name in "enter", "unwind", "wind", "take", "hold", "tail":
            setattr(fop, name, scope[name])
        ffi.def_extern(name=f"python_{fop.name}")(fop.enter)
        names = [name for name, _ in fop.arguments]
        declared = ", ".join(f"{name}=None" if name == "xdata" else name for name in names)
        exec(_METHOD.format(fop=fop.name, declared=declared, names=", ".join(names)), scope)
        method = scope[fop.name]
        method.__doc__ = f"Wind {fop.name}: awaited, it is its reply, fops.{fop.reply.__name__}."
        setattr(Winder, fop.name, method)


TABLE: dict[str, Fop] = {
    entry[0]: Fop(*entry) for entry in json.loads(ffi.string(lib.glupy_fop_table))
}
NUMBERS: dict[int, Fop] = {fop.number: fop for fop in TABLE.values()}
globals().update({fop.reply.__name__: fop.reply for fop in TABLE.values()})


# ---- fops.pyi ----

_TYPES = {
    "loc": "views.Loc",
    "fd": "views.Fd",
    "inode": "views.Inode",
    "dict": "views.Dict | None",
    "iatt": "views.Iatt | None",
    "statvfs": "views.Statvfs | None",
    "flock": "views.Flock | None",
    "lease": "views.Lease | None",
    "locks": "views.Locks | Sequence[views.Lock] | None",
    "dirents": "views.Dirents | Sequence[views.Dirent] | None",
    "iobref": "views.Iobref | None",
    "vector": "Buffers",
    "string": "str | None",
    "checksum": "bytes | None",
    "opaque": "Any",
}

_STUB_HEAD = """# Written by `python -m glupy.fops` from the fop table of the installed GlusterFS.
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from glupy import views
from glupy.errors import FopError

Buffer = views.IoBuffer | bytes | bytearray | memoryview
Buffers = views.Vector | Buffer | Sequence[Buffer] | None

class Fop:
    name: str
    number: int
    arguments: list[tuple[str, str]]
    reply_fields: list[tuple[str, str]]
    reply: Any
    enter: Callable[..., int]
    unwind: Callable[..., int]
    wind: Callable[..., Any]
    take: Callable[..., Any]
    hold: Callable[..., Any]
    tail: Callable[..., None]
    def failed(self, error: FopError) -> Any: ...

TABLE: dict[str, Fop]
NUMBERS: dict[int, Fop]

def camel(name: str) -> str: ...
def bind(call_class: Any, wind_class: Any) -> None: ...
def stub() -> str: ...
"""


def _stub_reply(fop: Fop) -> str:
    lines = [f"class {fop.reply.__name__}(NamedTuple):"]
    for name, kind in fop.reply_fields:
        hint = _TYPES.get(kind, "int")
        if kind in ("inode", "fd"):
            hint += " | None"
        default = " = ..." if name in fop.reply._field_defaults else ""
        # Named as a method of tuple; the field is what GlusterFS calls it.
        ignore = "  # type: ignore[assignment]" if name == "count" else ""
        lines.append(f"    {name}: {hint}{default}{ignore}")
    return "\n".join([*lines, "    op_ret: int | None = ...", "    op_errno: int = ...", ""])


def _stub_method(fop: Fop) -> str:
    parameters = "".join(
        f", {name}: {_TYPES.get(kind, 'int')}{' = ...' if name == 'xdata' else ''}"
        for name, kind in fop.arguments
    )
    return f"    def {fop.name}(self{parameters}) -> Awaitable[{fop.reply.__name__}]: ..."


def stub() -> str:
    """Return the text of fops.pyi for the installed GlusterFS."""
    return "\n".join(
        [
            _STUB_HEAD,
            *(_stub_reply(fop) for fop in TABLE.values()),
            "class Winder:",
            *(_stub_method(fop) for fop in TABLE.values()),
            "",
        ]
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".pyi").write_text(stub())
