"""A translator for a client's graph: winds any fop with any arguments for the test, as anybody."""

from __future__ import annotations

import ctypes
import os
import queue
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from glupy import PASS, Fd, FopError, Frame, Gfid, Iatt, Inode, Loc, Pass, Translator, calls, timers
from glupy._bridge import ffi, lib
from glupy.views import Dict
from glupy.views.base import Scope

SECONDS = 30.0
KEPT = 10_000
_libglusterfs = ctypes.CDLL("libglusterfs.so.0")
_POINTER = ctypes.c_void_p


def _made(kind: str, function: str, *arguments: Any) -> Any:
    """Call a function of libglusterfs that returns a pointer, which is not NULL."""
    called = getattr(_libglusterfs, function)
    called.restype = _POINTER
    found = called(*[_address(each) if isinstance(each, ffi.CData) else each for each in arguments])
    assert found, f"{function} has no {kind}"
    return ffi.cast(f"{kind} *", found)


def _address(c: Any) -> ctypes.c_void_p:
    return _POINTER(int(ffi.cast("uintptr_t", c)))


class Winder(Translator):
    """``wind`` sends a fop to the child and waits for its reply. All else passes through.

    ``root`` is the root of the inode table of the graph, after a first lookup from above.
    """

    def init(self) -> None:
        self.root: Inode | None = None
        self._kept: list[weakref.ref[Any]] = []

    def drop(self) -> None:
        """Let go of all that lives in the graph, before that ends; views of it are dead then."""
        kept, self._kept, self.root = self._kept, [], None
        for each in kept:
            if (c := each()) is not None:
                ffi.release(c)

    def keeps(self, view: Any) -> Any:
        """Remember that a view has a reference to what lives in the graph; return the view."""
        self._kept.append(weakref.ref(view.c))
        if len(self._kept) > KEPT:
            self._kept = [each for each in self._kept if each() is not None]
        return view

    def lookup(self, frame: Frame, loc: Loc, xdata: Dict | None) -> Pass:
        """Keep the root when it comes by."""
        if self.root is None and loc.inode is not None:
            # The table's own, not one that is being looked up for the first time.
            self.root = self.keeps(loc.inode.find(Gfid.ROOT))
        return PASS

    def wind(
        self,
        fop: str,
        *arguments: Any,
        show: Callable[[Any], Any],
        caller: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return ``show(reply)``, made while its views are valid; a failed reply is one too.

        ``caller`` has attributes of the frame: uid, gid, pid. Not from a handler.
        """
        box: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

        async def coroutine() -> Any:
            try:
                reply = await getattr(self.child, fop)(*arguments)
            except FopError as error:
                reply = error.reply
            return show(reply)

        call = calls.OwnCall(self, lambda result, error: box.put((result, error)))
        call.view.pid = os.getpid()  # as a client's: GlusterFS's own are below 0 and may do more
        for name, value in (caller or {}).items():
            setattr(call.view, name, value)
        self._own_calls.add(call)
        task = calls.Task(call, coroutine(), call.settle)

        def start() -> None:
            lib.quick_set_this(self._this)
            task.resume()

        timers.call_soon(start)
        result, error = box.get(timeout=SECONDS)
        if error is not None:
            raise error
        return result

    def inode(self) -> Inode:
        """Return a new inode, for a file that is to be made or found."""
        assert self.root is not None, "no lookup has come by yet"
        made: Inode = self.keeps(self.root.new())
        return made

    def link(self, loc: Loc, iatt: Iatt) -> Inode:
        """Make an inode known by what a reply says of it; return the one that is."""
        assert loc.inode is not None
        parent = loc.parent.c if loc.parent is not None else ffi.NULL
        name = loc.c.name if loc.parent is not None else ffi.NULL
        return self._inode(_made("inode_t", "inode_link", loc.inode.c, parent, name, iatt.c))

    def fd(self, inode: Inode, flags: int) -> Fd:
        """Return an fd that is not open yet."""
        made = self._fd(_made("fd_t", "fd_create", inode.c, 0))
        made.c.flags = flags
        return made

    def anonymous(self, inode: Inode, flags: int) -> Fd:
        """Return an fd that nobody opens: a leaf does, by the gfid."""
        return self._fd(_made("fd_t", "fd_anonymous_with_flags", inode.c, flags))

    def _inode(self, c: Any) -> Inode:
        made: Inode = self.keeps(Inode(ffi.gc(c, lib.inode_unref), Scope(self)))
        return made

    def _fd(self, c: Any) -> Fd:
        made: Fd = self.keeps(Fd(ffi.gc(c, lib.fd_unref), Scope(self)))
        return made
