"""A fop on its way through Python: entered, answered or passed on, wound, unwound once.

``Call`` is one fop in one translator. Its handler answers at once, or is a coroutine that a
``Task`` drives: each ``await`` comes down to a *suspension*, an object with ``begin(task)`` that
either has its result at once or promises to call ``task.resume`` later, from any thread. There is
no event loop: whoever brings the result runs the coroutine on.
"""

from __future__ import annotations

import collections
import functools
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from glupy import fops, log, timers
from glupy._bridge import ffi, lib
from glupy.errors import Cancelled, FopError, errno_of
from glupy.views.frame import Frame

if TYPE_CHECKING:
    from glupy.translator import Translator

EIO = 5
TAKEN: int = lib.VERDICT_TAKEN
PASSED: int = lib.VERDICT_PASS


class Pass:
    """The type of PASS: for the annotations of handlers."""

    def __repr__(self) -> str:
        return "PASS"


PASS = Pass()
"""Returned by a handler: the fop goes to the first child as it is, its reply comes back past us."""


class _Suspended:
    """What ``begin`` returns when the result is not there yet."""


SUSPENDED = _Suspended()


class Call:
    """One fop in one translator, and the scope of its views."""

    __slots__ = (
        "__weakref__",
        "alive",
        "arguments",
        "asked",
        "fop",
        "frame",
        "held",
        "suspended",
        "this",
        "translator",
        "view",
    )

    def __init__(self, translator: Translator, fop: Any, frame: Any) -> None:
        self.translator = translator
        self.this = translator._this
        self.fop = fop
        self.frame = frame
        self.alive = True
        self.held: Any = None
        self.suspended = False
        # The call in C, as long as it lasts (until we are suspended), and the views of what it
        # passed, that the handler gets: set by the fop's enter.
        self.asked: Any
        self.arguments: tuple[Any, ...]
        self.view: Frame

    def run(self, result: Any, error: BaseException | None) -> int:
        """Take what the handler returned, if not a reply, or raised; return the verdict for C."""
        if type(result) is CoroutineType:
            verdict = Task(self, result, self.settle).resume()
        else:
            verdict = self.settle(result, error)
        if not self.suspended:
            self.close()
        return verdict

    def settle(self, result: Any, error: BaseException | None) -> int:
        """Turn a handler's outcome into an unwind, or into a verdict where C can do it.

        Once we were suspended there is no C caller to take a verdict: it is carried out here.
        """
        verdict = self._verdict(result, error)
        if not self.suspended:
            return verdict
        try:
            if verdict == PASSED:
                self.fop.tail(self, self.translator.child._xlator)
            elif verdict != TAKEN:
                lib.glupy_fail(self.this, self.frame, self.fop.number, -verdict)
        finally:
            lib.glupy_drop_held(self.held)
            self.held = None
            self.close()
        return TAKEN

    def close(self) -> None:
        """End the views. They refer to us: let go of them, or only the garbage collector would."""
        self.alive = False
        del self.arguments, self.view

    def _verdict(self, result: Any, error: BaseException | None) -> int:
        fop = self.fop
        try:
            if type(result) is fop.reply:
                return int(fop.unwind(self, result))
            number = errno_of(error)
            if isinstance(error, FopError) and number is not None:
                return int(fop.unwind(self, fop.failed(error)))
            if error is None:
                if result is PASS and self.translator.children:
                    return PASSED
                raise TypeError(self._wrong(result))
        except BaseException as bug:
            # unwind raises only before it reaches C: the fop is still ours to fail.
            log.bug(self.translator, fop.name, bug)
            return -EIO
        if number is None:
            if not isinstance(error, Cancelled):
                log.bug(self.translator, fop.name, error)
            number = EIO
        return -number

    def _wrong(self, result: Any) -> str:
        if result is PASS:
            return f"{self.fop.name} returned PASS, but this translator has no child"
        return f"{self.fop.name} returned {result!r}, not PASS or fops.{self.fop.reply.__name__}"

    def suspend(self) -> None:
        """Before the call in C ends: hold the arguments, stop reading the frame."""
        if not self.suspended:
            self.fop.hold(self)
            self.view._c = self.held.head.root


class OwnCall(Call):
    """A fop that the translator starts itself, on a call stack of its own."""

    __slots__ = ("done",)

    def __init__(self, translator: Translator, done: Callable[[Any, Any], None] | None) -> None:
        frame = lib.glupy_own_frame(translator._this)
        if not frame:
            raise MemoryError
        super().__init__(translator, None, frame)
        self.suspended = True
        self.view = Frame(frame.root, self)
        self.arguments = ()
        self.done = done

    def settle(self, result: Any, error: BaseException | None) -> int:
        """End the call stack; tell who waits, or the log."""
        self.close()
        lib.glupy_end_own_frame(self.this, self.frame)
        try:
            if self.done is not None:
                self.done(result, error)
            elif error is not None and not isinstance(error, Cancelled):
                log.bug(self.translator, "a fop of its own", error)
        finally:
            self.translator._own_calls.discard(self)
        return TAKEN


class Task:
    """A coroutine on its way. ``finish(result, error)`` gets its outcome, once."""

    __slots__ = ("call", "coroutine", "finish")

    def __init__(
        self,
        call: Call,
        coroutine: Coroutine[Any, Any, Any],
        finish: Callable[[Any, BaseException | None], int],
    ) -> None:
        self.call = call
        self.coroutine = coroutine
        self.finish: Callable[[Any, BaseException | None], int] | None = finish

    def resume(self, value: Any = None, error: BaseException | None = None) -> int:
        """Start, or run on with the result of what was awaited. THIS is the translator.

        Returns what ``finish`` returned, or TAKEN if the coroutine is suspended again.
        """
        coroutine = self.coroutine
        while True:
            try:
                suspension = coroutine.throw(error) if error else coroutine.send(value)
            except StopIteration as stop:
                return self._end(stop.value, None)
            except BaseException as raised:
                error = None  # its traceback has this frame: no cycles
                return self._end(None, raised)
            error = None
            try:
                # From here on, unless there is a result, another thread may already run on.
                value = suspension.begin(self)
                if value is SUSPENDED:
                    return TAKEN
            except BaseException as raised:
                if isinstance(raised, AttributeError) and not hasattr(suspension, "begin"):
                    raised = TypeError(f"a handler cannot await {suspension!r}: it is not glupy's")
                value, error = None, raised

    def _end(self, value: Any, error: BaseException | None) -> int:
        finish, self.finish = self.finish, None
        assert finish is not None
        return finish(value, error)

    def __del__(self) -> None:
        """Nobody is left who could resume us: end as a bug would."""
        if self.finish is not None:
            self._end(None, RuntimeError("the coroutine was dropped before its end"))


# Whom a C reply resumes. A key is taken out by whoever resumes, so that is done once.
_waiting: dict[int, Wind] = {}


class Wind:
    """A fop to be wound to a child: ``reply = await self.child.fop(...)``. Awaited once."""

    __slots__ = ("arguments", "child", "fop", "task")

    def __init__(self, fop: Any, child: Any, arguments: tuple[Any, ...]) -> None:
        self.fop = fop
        self.child = child
        self.arguments = arguments
        self.task: Task | None = None

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self)

    def begin(self, task: Task) -> Any:
        """Wind; return the reply if it came inside the wind."""
        if self.task is not None:
            raise RuntimeError(f"a wind is awaited once, and this one of {self.fop.name} was")
        self.task = task
        call, waiter = task.call, id(self)
        reply = self.fop.wind(call, self.child, waiter, self.arguments)
        if not reply:
            unreplied = lib.quick_unreplied()
            if not unreplied:
                raise MemoryError
            # The call in C lasts until we return: what must outlive it can be held now.
            call.suspend()
            _waiting[waiter] = self
            if not lib.quick_wait(unreplied):
                return SUSPENDED
            del _waiting[waiter]
            reply = self.of(unreplied)
        return self.replied(call, reply)

    def of(self, head: Any) -> Any:
        """Return the reply of which that is the head."""
        return ffi.cast(f"struct reply_{self.fop.name} *", head)

    def replied(self, call: Call, c: Any) -> Any:
        """Return the reply as its named tuple; a failed one is raised."""
        reply = self.fop.take(call, c)
        if reply.op_ret < 0:
            raise FopError.of(reply)
        return reply


@ffi.def_extern(name="python_resume")
def _resume(waiter: int, head: Any) -> None:
    wind = _waiting.pop(waiter)
    task = wind.task
    assert task is not None
    lib.quick_set_this(task.call.this)
    try:
        value = wind.replied(task.call, wind.of(head))
    except BaseException as error:
        task.resume(None, error)
    else:
        task.resume(value, None)


class Parked:
    """A suspension that waits for something else than a reply. Resumed once, on a worker."""

    __slots__ = ("__weakref__", "task")

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self)

    def begin(self, task: Task) -> Any:
        """Park; whoever takes us out of the translator's set resumes."""
        self.task = task
        task.call.suspend()
        translator = task.call.translator
        with translator._parking:
            if translator._cancels(task.call):
                raise Cancelled
            translator._parked.add(self)
        self.park()
        return SUSPENDED

    def park(self) -> None:
        """Arrange for ``wake`` to be called; from then on another thread may run on."""
        raise NotImplementedError

    def wake(self, value: Any = None, error: BaseException | None = None) -> None:
        """Run on, on this thread, unless that was done already."""
        translator = self.task.call.translator
        with translator._parking:
            if self not in translator._parked:
                return
            translator._parked.remove(self)
        lib.quick_set_this(translator._this)
        self.task.resume(value, error)


class Sleep(Parked):
    """The suspension of ``sleep``."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def park(self) -> None:
        """Have the timer wake us."""
        timers.call_later(self.seconds, self.wake)


def sleep(seconds: float) -> Awaitable[None]:
    """Suspend a coroutine for that many seconds; no thread is held.

    It runs on in a worker thread. If the translator is shut down before, ``Cancelled`` is raised.
    """
    return Sleep(seconds)


class Future:
    """A result that is not there yet: handlers await it, anybody sets it, once, on any thread.

    ``await future`` returns what ``set_result`` was given, or raises what ``set_exception`` was;
    several may await it. They run on in worker threads. Shut down before, they get ``Cancelled``;
    if the future is dropped without a result, their fops fail with EIO.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcome: tuple[Any, BaseException | None] | None = None
        self._waiters: list[_Wait] = []

    def done(self) -> bool:
        """Return whether the result is there."""
        return self._outcome is not None

    def set_result(self, value: Any) -> None:
        """Set the result. ``RuntimeError`` if there is one."""
        self._set(value, None)

    def set_exception(self, error: BaseException) -> None:
        """Set an exception to raise. ``RuntimeError`` if there is a result."""
        self._set(None, error)

    def _set(self, value: Any, error: BaseException | None) -> None:
        with self._lock:
            if self._outcome is not None:
                raise RuntimeError("this future has its result already")
            self._outcome = value, error
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            timers.call_soon(functools.partial(waiter.wake, value, error))

    def __await__(self) -> Generator[Any, Any, Any]:
        return _Wait(self).__await__()

    def __del__(self) -> None:
        if self._outcome is None and self._waiters:
            self.set_exception(RuntimeError("the future was dropped without a result"))


class Lock:
    """A lock that coroutines hold across awaits: ``async with lock:``. First come, first served.

    No thread is held while waiting. Whatever is awaited in its block must come to an end: others
    wait without a limit. It is not reentrant, and no lock of POSIX's (``glupy.views.Lock``).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held = False
        self._queue: collections.deque[Future] = collections.deque()

    async def __aenter__(self) -> None:
        with self._lock:
            if not self._held:
                self._held = True
                return
            turn = Future()
            self._queue.append(turn)
        try:
            await turn
        except BaseException:
            # Shut down while waiting; our turn may have come meanwhile.
            with self._lock:
                ours = turn.done()
                if not ours:
                    self._queue.remove(turn)
            if ours:
                self._release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        with self._lock:
            if self._queue:
                self._queue.popleft().set_result(None)
            else:
                self._held = False


class _Wait(Parked):
    """One await of a future."""

    __slots__ = ("future",)

    def __init__(self, future: Future) -> None:
        self.future: Future | None = future

    def park(self) -> None:
        """Wait in the future's list, or be woken at once."""
        future, self.future = self.future, None  # a dropped future must not be kept by its waiter
        assert future is not None
        with future._lock:
            outcome = future._outcome
            if outcome is None:
                future._waiters.append(self)
                return
        timers.call_soon(functools.partial(self.wake, *outcome))


class Gather:
    """The suspension of ``gather``."""

    __slots__ = ("awaitables", "keep_errors", "lock", "pending", "results", "task")

    def __init__(self, awaitables: tuple[Awaitable[Any], ...], keep_errors: bool) -> None:
        self.awaitables = awaitables
        self.keep_errors = keep_errors
        self.results: list[tuple[Any, BaseException | None]] = [(None, None)] * len(awaitables)
        self.pending = len(awaitables) + 1  # one is begin's own, so that nobody resumes inside it
        self.lock = threading.Lock()

    def __await__(self) -> Generator[Any, Any, list[Any]]:
        results: list[Any] = yield self
        return results

    def begin(self, task: Task) -> Any:
        """Start all; return the results if all are there already."""
        self.task = task
        task.call.suspend()
        for index, awaitable in enumerate(self.awaitables):
            Task(task.call, _await(awaitable), self._finisher(index)).resume()
        return self.outcome() if self._last() else SUSPENDED

    def _finisher(self, index: int) -> Callable[[Any, BaseException | None], int]:
        def finish(result: Any, error: BaseException | None) -> int:
            self.results[index] = result, error
            if self._last():
                try:
                    value = self.outcome()
                except BaseException as raised:
                    return self.task.resume(None, raised)
                return self.task.resume(value, None)
            return TAKEN

        return finish

    def _last(self) -> bool:
        with self.lock:
            self.pending -= 1
            return not self.pending

    def outcome(self) -> list[Any]:
        """Return all results; the first error is raised unless errors are asked for."""
        results, self.results = self.results, []
        failed = [error for _, error in results if error is not None]
        if failed and not self.keep_errors:
            try:
                raise failed[0]
            finally:
                del results, failed  # the traceback has this frame: no cycles
        return [value if error is None else error for value, error in results]


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def gather(*awaitables: Awaitable[Any], return_exceptions: bool = False) -> Awaitable[list[Any]]:
    """Await several at once (winds, sleeps, coroutines) and return their results in order.

    It waits for all, whatever fails: frames cannot be taken back from a child. Then the first error
    is raised; with ``return_exceptions`` errors stand among the results instead.
    """
    return Gather(awaitables, return_exceptions)


fops.bind(Call, Wind)
