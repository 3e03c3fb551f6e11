"""``Translator``: the class that a translator is."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

from glupy import calls, fops, log, timers
from glupy._bridge import ffi, lib
from glupy.enums import Event
from glupy.errors import Cancelled
from glupy.options import Declared, Option
from glupy.views import Client, Dict, Fd, Inode
from glupy.views.base import ALWAYS, Scope, encoded, text

DRAIN_SECONDS = 5
_EVENTS = lib.ENTERED, lib.PASSED, lib.UNWOUND


class Subvolume(fops.Winder):
    """A child of a translator. ``await child.fop(...)`` winds: one method for each fop.

    Arguments are those of the C fop in C's order, ``xdata`` may be left out. The reply is the fop's
    named tuple; a failed one is raised as ``FopError``.
    """

    __slots__ = ("_xlator", "name", "type")

    def __init__(self, xlator: Any) -> None:
        self._xlator = xlator
        self.name = text(xlator.name) or ""
        self.type = text(xlator.type) or ""

    @property
    def children(self) -> tuple[Subvolume, ...]:
        """Its own children, in the volfile's order."""
        return tuple(Subvolume(each) for each in _xlators(self._xlator.children))

    @property
    def options(self) -> Dict:
        """What the volfile sets of its options: text by name. To be read only."""
        return Dict(self._xlator.options, ALWAYS)

    def __repr__(self) -> str:
        return f"Subvolume({self.name}, {self.type})"


class Translator:
    """A GlusterFS translator. Subclass it; a method named after a fop answers that fop.

    A handler gets ``frame`` and the C fop's arguments in C's order, as views that are valid while
    it runs. ``def`` answers at once: it returns the fop's reply (``fops.NAME``), or ``PASS`` for
    the first child to answer as if we were not there. ``async def`` may also wind: ``reply = await
    self.child.NAME(...)``. An ``OSError`` fails the fop with its errno; any other exception is a
    bug: the client gets EIO, the log the traceback. Fops without a handler never enter Python.

    Handlers run on GlusterFS's threads, several at once: what they share needs the care that
    threaded Python needs. A handler that blocks holds one of those threads (performance/io-threads
    has 16), one that awaits holds none.
    """

    leaf: ClassVar[bool] = False
    """Whether this is a storage translator: the bottom of its graph, without children."""

    options: ClassVar[Sequence[Option]] = ()
    """The options that the volfile may set; read with ``self.option(name)``."""

    passed_fops: ClassVar[Collection[str]] = ()
    """Fops that do not ask this translator about an inode whose ``passes`` it has set, but go to
    the first child at once, without Python. Only such as are about one file."""

    _declared: ClassVar[Declared | None] = None

    name: str
    """The name of this instance: the ``volume`` line of the volfile."""

    log: logging.Logger
    """Writes to the log of the process, with this instance's name; there before ``init``."""

    # ---- what a subclass may define besides fops ----

    def init(self) -> None:
        """Set up. Options are there, children are not initialised yet: do not wind here.

        Whatever it raises, the brick does not start; the exception's text is in the log.
        """

    def fini(self) -> None:
        """Tear down. Suspended handlers have been cancelled and contexts are dropped afterwards.

        Called when a graph is removed; not when the process is ended by a signal.
        """

    def reconfigure(self) -> None:
        """Take over changed options: ``self.option`` has the new values, all of them valid."""

    def notify(self, event: Event | int, data: Any) -> int:
        """An event from a parent or a child; return 0, or -1 if it failed.

        Call ``super().notify(event, data)`` to pass it on: that is what this does, and in a leaf it
        answers PARENT_UP with CHILD_UP and PARENT_DOWN with CHILD_DOWN. Without that nothing above
        comes up, or goes down. ``data`` is a ``void *`` of cffi's that belongs to the event. Called
        on GlusterFS's threads; wait for nothing. CHILD_UP comes again with each reconnection.

        At PARENT_DOWN drop what you hold of ``inode.ref()``, ``fd.ref()`` and of locs with inodes:
        the table of inodes goes next.
        """
        if self.leaf:
            answer = {Event.PARENT_UP: Event.CHILD_UP, Event.PARENT_DOWN: Event.CHILD_DOWN}
            if event not in answer:
                return 0
            if event == Event.PARENT_DOWN:
                self._drain()
            event, data = answer[Event(event)], ffi.NULL
        return int(lib.glupy_default_notify(self._this, event, data))

    def dump_priv(self) -> Mapping[str, object]:
        """Return what a statedump shows of this translator."""
        return {}

    def forget(self, inode: Inode) -> None:
        """An inode with a context goes; the context is dropped afterwards.

        Called on whatever thread lets go of it last: do not wait, and let it go (no ``ref``, no
        ``Loc`` of it; ``inode.new()`` is another one). Fops are for ``spawn``.
        """

    def release(self, fd: Fd) -> None:
        """An fd with a context is closed for good; the context is dropped afterwards.

        On whatever thread lets go of it last: do not wait. Fops are for ``spawn``.
        """

    def releasedir(self, fd: Fd) -> None:
        """The same for a directory."""

    def ictxmerge(self, inode: Inode, linked_inode: Inode) -> None:
        """Of two inodes of one file, ``linked_inode`` stays. Its context moves over by itself."""
        moved = inode.ctx
        if moved is not None and linked_inode.ctx_or(lambda: moved) is moved:
            del inode.ctx

    def client_disconnect(self, client: Client) -> None:
        """A client of the process's bricks has gone; its fops may still be under way."""

    # If a subclass defines them these are called too, like ``forget``: invalidate(inode), as the
    # kernel is to forget it; client_destroy(client), after the last fop of one that has gone;
    # fdclose(fd), in a mount's graph, as a file is closed, maybe while fops are under way
    # (fdclosedir(fd) of a directory: no GlusterFS so far calls it). There is no ictxsize and no
    # fdctxsize: nothing in GlusterFS asks how large a context is, and Python could not say.

    # ---- what a subclass uses ----

    @property
    def child(self) -> Subvolume:
        """The first child. A leaf has none: IndexError."""
        return self._children[0]

    @property
    def children(self) -> tuple[Subvolume, ...]:
        """All children, in the volfile's order."""
        return self._children

    @property
    def types_above(self) -> frozenset[str]:
        """The types of all translators above this one in its process."""
        found, waiting = set(), [self._this]
        while waiting:
            for above in _xlators(waiting.pop().parents):
                found.add(text(above.type) or "")
                waiting.append(above)
        return frozenset(found)

    def option(self, name: str) -> Any:
        """Return the value of a declared option."""
        return self._values[name]

    def spawn(
        self,
        coroutine: Coroutine[Any, Any, Any],
        done: Callable[[Any, BaseException | None], None] | None = None,
        *,
        ctime: tuple[int, int] = (0, 0),
    ) -> None:
        """Start fops of the translator's own: run ``coroutine`` on a worker, on a new call stack.

        It may wind and sleep like a handler, as root. From any thread, and from a handler, but not
        from ``init``. ``done(result, error)`` is called at the end, on whatever thread that comes,
        and must not raise; without it, an exception goes to the log as a bug. ``ctime`` is when its
        fops are made, for translators below (``Frame.ctime``).

        After PARENT_DOWN nothing is started any more, as the translators below are about to go:
        ``done`` gets Cancelled. (A forget or release may come as late as that.) What was started
        before is waited for then, 5 s at most, by the thread that brings PARENT_DOWN.
        """
        with self._parking:
            call = None if self._is_down else calls.OwnCall(self, done)
            if call is not None:
                self._own_calls.add(call)
        if call is None:
            coroutine.close()
            if done is not None:
                done(None, Cancelled())
            return
        call.view.ctime = ctime
        task = calls.Task(call, coroutine, call.settle)

        def start() -> None:
            lib.quick_set_this(self._this)
            if not self._is_down:
                task.resume()
                return
            coroutine.close()
            task.finish = None
            call.settle(None, Cancelled())

        timers.call_soon(start)

    def call_later(self, seconds: float, function: Callable[[Self], object]) -> None:
        """Call ``function(self)`` on a worker after that many seconds, unless PARENT_DOWN comes.

        Meanwhile no call stack is held, which a graph that ends would wait for (glfs_fini), and no
        reference to the translator. What it raises is logged as a bug. From any thread.
        """
        reference = weakref.ref(self)

        def due() -> None:
            translator = reference()
            if translator is None:
                return
            with translator._parking:
                if translator._closing:
                    return
                translator._own_calls.add(due)
            lib.quick_set_this(translator._this)
            try:
                function(translator)
            except BaseException as error:
                log.bug(translator, "call_later", error)
            finally:
                translator._own_calls.discard(due)

        timers.call_later(seconds, due)

    def gf_event(self, event: int, text: str) -> None:
        """Tell glustereventsd, if it runs, by a datagram: ``event`` is an EVENT_* of eventtypes.h.

        ``text`` is ``key=value;key=value…`` by convention. May be called from any thread, from
        ``init`` on.
        """
        lib.glupy_event(self._this, event, encoded(text))

    def brick_count(self) -> int:
        """Return how many bricks this process serves, ours among them; 0 if it is no server."""
        return int(lib.glupy_brick_count(self._this))

    def detach_brick(self) -> None:
        """Take our brick out of a process that serves others too, as glusterd's detach does.

        Returns at once; PARENT_DOWN and fini follow. Not from a handler.
        """
        lib.glupy_detach_brick(self._this)

    # ---- the bridge's side ----

    def _attach(self, this: Any) -> None:
        self._this = this
        self.name = text(this.name) or ""
        self.log = log.logger(self.name)
        self._inode_contexts: dict[Any, Any] = {}
        self._fd_contexts: dict[Any, Any] = {}
        self._parked: weakref.WeakSet[calls.Parked] = weakref.WeakSet()
        self._parking = threading.RLock()  # the collector may run in it, and so what spawns
        self._clients_gone = self._closing = False
        self._disconnects = 0  # of clients, while the brick is being detached
        self._is_down = False
        self._own_calls: set[object] = set()
        self._scope = Scope(self)
        self._children = tuple(Subvolume(xlator) for xlator in _xlators(this.children))
        cls = type(self)
        if cls.__dict__.get("_declared") is None:
            cls._declared = Declared(cls.options)
        assert cls._declared is not None
        cls._declared.declare(this)
        self._values = cls._declared.read(this, this.options)

    def _read_options(self, options: Any) -> None:
        assert self._declared is not None
        self._values = self._declared.read(self._this, options)

    def _close(self, *, own_calls: bool = True) -> None:
        """Cancel what is suspended without a reply to come; let nothing more be suspended so.

        Without ``own_calls`` only what clients have asked for.
        """
        with self._parking:
            self._clients_gone = True
            self._closing |= own_calls
            parked = [each for each in self._parked if self._cancels(each.task.call)]
        for each in parked:
            each.wake(error=Cancelled())

    def _cancels(self, call: calls.Call) -> bool:
        return self._closing if isinstance(call, calls.OwnCall) else self._clients_gone

    def _drain(self) -> None:
        """Wait until every fop that came in has been answered."""

        def is_answered() -> bool:
            counts = [lib.glupy_counted(self._this, each) for each in _EVENTS]
            return bool(counts[0] <= counts[1] + counts[2])

        self._wait(is_answered, "fops are still on their way")

    def _end_own_calls(self) -> None:
        """Start none any more, and wait for the end of those there are: what is below them is freed
        next."""
        with self._parking:
            self._is_down = True
        self._wait(lambda: not self._own_calls, "fops of its own have no end")
        time.sleep(0.01)  # the last one's thread lets go of what it had

    def _wait(self, is_over: Callable[[], bool], otherwise: str) -> None:
        """Wait at PARENT_DOWN, but not for ever: then the log says what there is ``otherwise``."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while not is_over():
            if time.monotonic() > deadline:
                self.log.warning("%s %d s after PARENT_DOWN", otherwise, DRAIN_SECONDS)
                return
            time.sleep(0.01)

    def _drop_contexts(self) -> None:
        self._inode_contexts.clear()
        self._fd_contexts.clear()
        self._scope.alive = False
        self._scope.translator = None

    @classmethod
    def handled(cls) -> list[fops.Fop]:
        """Return the fops that this class answers."""
        return [fop for fop in fops.TABLE.values() if callable(getattr(cls, fop.name, None))]

    def _view(self, kind: type, c: Any) -> Any:
        return kind(c, self._scope)


def _xlators(list_: Any) -> Iterable[Any]:
    while list_:
        yield list_.xlator
        list_ = list_.next


CALLBACKS: Mapping[str, type] = {
    "invalidate": Inode,
    "client_disconnect": Client,
    "client_destroy": Client,
    "fdclose": Fd,
    "fdclosedir": Fd,
}
