"""How long views, and what they show, may be used.

`test_freed_memory.py` runs this file once more with a malloc that overwrites what is freed.
"""

from __future__ import annotations

import gc
import inspect
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import pytest

import glupy
from glupy import PASS, ExpiredView, FileType, FopError, fops
from glupy.views.base import View

from .conftest import Bridge, Log, Run
from .handlers import Subject
from .test_fops import FOPS, MODES
from .values import address_of, describe

MIB = 1 << 20


def inside(value: Any) -> Iterable[View]:
    """Return a view, and the views that it leads to."""
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from inside(each)
    elif isinstance(value, View):
        yield value
        for name in properties(value):
            if name != "c":
                yield from inside(getattr(value, name))
        if isinstance(value, (glupy.views.Dirents, glupy.views.Locks)):
            yield from inside(list(value))


def properties(view: View) -> list[str]:
    """Return the names of a view's public properties; ctx is its translator's, not C's."""
    return [
        name
        for name, value in inspect.getmembers(type(view))
        if isinstance(value, property) and name != "ctx" and not name.startswith("_")
    ]


# What takes no argument, and reads memory; len() of a Vector, for one, does not.
METHODS = ["copy", "ref", "new", "target", "directory", "addresses", "keys"]
METHODS += ["__bytes__", "__iter__", "__repr__"]


def is_expired(view: View) -> None:
    """Assert that nothing can be read, written or called any more."""
    for name in properties(view):
        with pytest.raises(ExpiredView):
            getattr(view, name)
        if type(view).__dict__.get(name) is not None and type(view).__dict__[name].fset:
            value: Any = bytes(16) if "gfid" in name or name.startswith("l") else 0
            with pytest.raises(ExpiredView):
                setattr(view, name, (0, 0) if name == "ctime" else value)
    for name in METHODS:
        method = getattr(view, name, None)
        if method is not None:
            with pytest.raises(ExpiredView):
                result = method()
                if not isinstance(result, (bytes, list)):
                    list(result)
    with pytest.raises(ExpiredView):
        repr(view.c)
    if isinstance(view, glupy.Dict):
        uses: list[Callable[[], Any]] = [
            lambda: view["int8"],
            lambda: view.get("int8"),
            lambda: view.get_bytes("int8"),
            lambda: view.type_of("int8"),
            lambda: "int8" in view,
            lambda: len(view),
            lambda: view.update({"a": 1}),
            lambda: view.set_int("a", 1),
            lambda: view.set_uint("a", 1),
            lambda: view.pop("int8"),
            lambda: dict(view),
        ]
        for use in uses:
            with pytest.raises(ExpiredView):
                use()
    if isinstance(view, (glupy.Inode, glupy.Fd)):
        with pytest.raises(ExpiredView):
            view.ctx  # noqa: B018
        with pytest.raises(ExpiredView):
            view.ctx = 1
    if isinstance(view, glupy.Inode):
        with pytest.raises(ExpiredView):
            view.find(bytes(16))
    if isinstance(view, (glupy.Vector, glupy.views.Locks, glupy.views.Dirents)):
        with pytest.raises(ExpiredView):
            view[0]


@FOPS
@pytest.mark.parametrize("kind", ["def", "async", "later"])
def test_arguments_expire(bridge: Bridge, fop: Any, kind: str) -> None:
    """Arguments, and all that they lead to, end with their handler."""
    kept: list[View] = []

    def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        kept.extend(inside([frame, *arguments]))
        return PASS

    async def async_handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        kept.extend(inside([frame, *arguments]))
        if kind == "later":
            await glupy.sleep(0.001)
        kept.extend(inside([frame, *arguments]))
        return await getattr(self.child, fop.name)(*arguments)

    def then(run: Run) -> None:
        wait_for_end(kept)
        for view in kept:
            is_expired(view)
        kept.clear()

    outcome = bridge.run(fop, handler if kind == "def" else async_handler, then=then)
    assert outcome.received == outcome.sent


def wait_for_end(kept: list[View]) -> None:
    """Wait until the handler has ended: the caller is answered a moment before."""

    def ended() -> bool:
        try:
            return not kept[0].c
        except ExpiredView:
            return True

    assert kept
    Bridge.until(ended, "views live on")


@FOPS
@MODES
@pytest.mark.parametrize("fails", [False, True], ids=["succeeds", "fails"])
def test_replies_expire(bridge: Bridge, fop: Any, mode: str, fails: bool) -> None:
    """Replies too."""
    kept: list[View] = []

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        try:
            reply = await getattr(self.child, fop.name)(*arguments)
        except FopError as error:
            kept.extend(inside([frame, *error.reply]))
            raise
        kept.extend(inside([frame, *reply]))
        return reply

    def then(run: Run) -> None:
        wait_for_end(kept)
        for view in kept:
            is_expired(view)
        kept.clear()

    outcome = bridge.run(fop, handler, mode=mode, fails=fails, then=then)
    assert outcome.answered == outcome.replied


def test_expired_on_another_thread(bridge: Bridge) -> None:
    """A thread that a handler leaves behind cannot read what is gone."""
    raised: list[BaseException] = []
    ended = threading.Event()

    def use(loc: Any) -> None:
        ended.wait(10)
        try:
            str(loc.path)
        except BaseException as error:
            raised.append(error)

    threads: list[threading.Thread] = []

    def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        threads.append(threading.Thread(target=use, args=[arguments[0]]))
        threads[0].start()
        return PASS

    def then(run: Run) -> None:
        ended.set()
        threads[0].join()

    bridge.run(fops.TABLE["stat"], handler, then=then, collect=True)
    assert [type(error) for error in raised] == [ExpiredView]
    raised.clear()


def test_used_in_a_reply(bridge: Bridge) -> None:
    """A reply that holds an expired view is not sent."""
    kept: list[Any] = []

    def keep(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        kept.extend(arguments)
        return PASS

    def use(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        return fop.reply(xdata=kept[-1])

    bridge.run(fops.TABLE["flush"], keep)
    outcome = bridge.run(fops.TABLE["flush"], use, collect=True)
    assert (outcome.answered["op_ret"], outcome.answered["op_errno"]) == (-1, 5)


# ---- what outlives a fop ----

OWN: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "inode.ref()": ("stat", lambda arguments: arguments[0].inode.ref()),
    "fd.ref()": ("fstat", lambda arguments: arguments[0].ref()),
    "dict.copy()": ("stat", lambda arguments: arguments[1].copy()),
    "iatt.copy()": ("setattr", lambda arguments: arguments[1].copy()),
    "an iatt of a dict": ("stat", lambda arguments: arguments[1]["iatt"]),
}
KIND_OF = {"Inode": "inode", "Fd": "fd", "Dict": "dict", "Iatt": "iatt"}


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("later", [False, True], ids=["def", "async"])
def test_own(bridge: Bridge, own: str, later: bool) -> None:
    """What a handler makes for itself can be used until it lets go."""
    name, make = OWN[own]
    kept: list[Any] = []
    before: list[Any] = []

    def take(arguments: Any) -> None:
        mine = make(arguments)
        kept.append(mine)
        before.append(shown())

    def shown() -> Any:
        return describe([("it", KIND_OF[type(kept[0]).__name__])], kept)

    def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        take(arguments)
        return PASS

    async def later_handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        await glupy.sleep(0.001)
        take(arguments)
        return await getattr(self.child, fop.name)(*arguments)

    def then(run: Run) -> None:
        if own.endswith("ref()"):
            assert own.partition(".")[0] in run.references()
        run.forget()
        assert [shown()] == before
        kept.clear()

    bridge.run(fops.TABLE[name], later_handler if later else handler, then=then)


def test_made_views_need_no_fop() -> None:
    """What is made from nothing belongs to Python."""
    iatt, flock, statvfs = glupy.Iatt(), glupy.Flock(), glupy.Statvfs()
    made = glupy.Dict({"a": 1, "b": b"\0\1", "c": "text", "d": 0.5, "e": glupy.Gfid.ROOT})
    made["iatt"] = iatt
    iatt.ia_size, flock.l_start, statvfs.f_bsize = 1 << 40, 1 << 41, 4096
    del iatt
    gc.collect()
    assert dict(made) | {"iatt": None} == {
        "a": 1,
        "b": b"\0\1",
        "c": "text",
        "d": 0.5,
        "e": glupy.Gfid.ROOT,
        "iatt": None,
    }
    assert made["iatt"].ia_size == 0
    assert (flock.l_start, statvfs.f_bsize) == (1 << 41, 4096)


@pytest.mark.parametrize("made", ["Dict({'a': 1})", "Iatt()", "IoBuffer(5)", "Loc(path='/a')"])
def test_without_a_graph(made: str) -> None:
    """Without GlusterFS in the process a view can be made, or one line says why not."""
    command = [sys.executable, "-c", f"import glupy; glupy.{made}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), f"ended by signal {-done.returncode}"
    if done.returncode:
        assert "no GlusterFS" in done.stderr


LARGE = pytest.mark.parametrize("large", [0, 2 * MIB], ids=["arena", "malloc"])


@pytest.mark.parametrize("name", ["writev", "put"])
@pytest.mark.parametrize("kind", ["def", "async", "later"])
@LARGE
def test_written_bytes_outlive_the_fop(bridge: Bridge, name: str, kind: str, large: int) -> None:
    """memoryviews of a vector keep its bytes, and nothing else does."""
    kept: list[memoryview] = []

    def keep(fop: Any, arguments: Any) -> None:
        vector = dict(zip((name for name, _ in fop.arguments), arguments, strict=True))["vector"]
        kept.extend(vector)

    def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        keep(fop, arguments)
        return PASS

    async def async_handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        if kind == "later":
            await glupy.sleep(0.001)
        keep(fop, arguments)
        return await getattr(self.child, fop.name)(*arguments)

    fop = fops.TABLE[name]
    chosen = handler if kind == "def" else async_handler
    bridge.run(fop, chosen, large=large, then=lambda run: outlives(run, "sent", kept))


@MODES
@LARGE
def test_read_bytes_outlive_the_fop(bridge: Bridge, mode: str, large: int) -> None:
    """The same for a reply's."""
    kept: list[memoryview] = []

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        reply = await self.child.readv(*arguments)
        kept.extend(reply.vector)
        return reply

    def then(run: Run) -> None:
        outlives(run, "replied", kept)

    bridge.run(fops.TABLE["readv"], handler, mode=mode, large=large, then=then)


def outlives(run: Run, text: str, kept: list[memoryview]) -> None:
    """Assert that the bytes are there when all others have let go; then let go."""
    expected = [part["data"] for part in run.json(text)["vector"]]
    assert "iobref" in run.references()
    assert all(part.readonly for part in kept)
    tail = kept[-1][1:]
    part_of_tail = tail[2:]
    run.forget()
    assert [part.hex() for part in kept] == expected
    del tail
    kept.clear()
    gc.collect()
    assert part_of_tail.hex() == expected[-1][6:]


@LARGE
def test_iobuffer_outlives_itself(bridge: Bridge, large: int) -> None:
    """A slice of a buffer's data keeps the memory; a fop that carries it too."""
    kept: list[memoryview] = []
    size = large or 5000

    async def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        fd, _, __, offset, flags, ___, xdata = arguments
        buffer = glupy.IoBuffer(size)
        buffer.data[:] = b"x" * size
        kept.append(buffer.data[10:])
        wind = self.child.writev(fd, buffer, 0, offset, flags, None, xdata)
        del buffer
        gc.collect()
        return await wind

    def then(run: Run) -> None:
        run.forget()
        assert kept.pop() == b"x" * (size - 10)

    outcome = bridge.run(fops.TABLE["writev"], handler, mode="LATE", then=then)
    assert outcome.received["vector"][0]["data"] == "78" * size


# ---- contexts ----


@pytest.mark.parametrize("later", [False, True], ids=["def", "async"])
@pytest.mark.parametrize("kind", ["inode", "fd"])
def test_context(bridge: Bridge, kind: str, later: bool) -> None:
    """An inode or fd carries any object, until it is forgotten or released."""

    class Remembered:
        pass

    subject = bridge.translators["subject"]
    contexts = subject._inode_contexts if kind == "inode" else subject._fd_contexts
    seen: list[Any] = []

    def use(view: Any) -> None:
        found = [view.ctx]
        view.ctx = first = Remembered()
        found += [view.ctx, view.ctx_or(Remembered)]
        del view.ctx
        found += [view.ctx]
        second = view.ctx_or(Remembered)
        assert [*found, view.ctx] == [None, first, first, None, second]
        seen.append(address_of(view.c))

    def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        use(arguments[0].inode if kind == "inode" else arguments[0])
        return PASS

    async def later_handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        await glupy.sleep(0.001)
        use(arguments[0].inode if kind == "inode" else arguments[0])
        return PASS

    before = set(contexts)
    fop = fops.TABLE["stat" if kind == "inode" else "fstat"]
    bridge.run(fop, later_handler if later else handler)
    bridge.until(lambda: set(contexts) == before, "a context is left")
    assert len(seen) == 1


@pytest.mark.parametrize("has_one", [False, True], ids=["moves", "stays"])
def test_context_of_two_inodes_of_one_file(bridge: Bridge, has_one: bool) -> None:
    """One of them stays, with the context that it has, or else the other's."""

    class Remembered:
        pass

    contexts = bridge.translators["subject"]._inode_contexts
    seen: list[Any] = []
    kept: list[weakref.ref[Remembered]] = []

    def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        fd, linked = arguments[4], arguments[0].inode
        inode = fd.inode
        inode.ctx = first = Remembered()
        if has_one:
            linked.ctx = Remembered()
        second = linked.ctx
        merge(fd, inode, linked)
        seen.append((inode.ctx, linked.ctx) == ((first, second) if has_one else (None, first)))
        kept.extend(weakref.ref(each) for each in (first, second) if each)
        return PASS

    def merge(fd: Any, *inodes: Any) -> None:
        """As protocol/server does if a create finds that somebody has linked the file meanwhile."""
        c = (bridge.ffi.cast("inode_t *", address_of(each.c)) for each in inodes)
        bridge.lib.inode_ctx_merge(bridge.ffi.cast("fd_t *", address_of(fd.c)), *c)

    before = set(contexts)
    bridge.run(fops.TABLE["create"], handler)
    assert seen == [True]
    bridge.until(lambda: set(contexts) == before, "a context is left")
    assert all(it() is None for it in kept)


@pytest.mark.parametrize("fails", [False, True], ids=["returns", "raises"])
@pytest.mark.parametrize("event", ["invalidate", "fdclose", "fdclosedir"])
def test_events(
    bridge: Bridge, log: Log, monkeypatch: pytest.MonkeyPatch, event: str, fails: bool
) -> None:
    """Which inode the kernel is to forget, which fd is closed; a bug there is nobody else's."""
    told: list[Any] = []

    def hear(self: Any, event: str, it: Any) -> None:
        told.append((self.name, event, address_of(it.c), it.ctx))
        if fails:
            raise ZeroDivisionError

    def handler(self: Any, fop: Any, frame: Any, arguments: Any) -> Any:
        fd = arguments[4]
        it = fd.inode if event == "invalidate" else fd
        it.ctx = "remembered"
        fd.inode.c.ia_type = FileType.IFDIR if event == "fdclosedir" else FileType.IFREG
        c = address_of(it.c)
        if it is fd:
            bridge.lib.fd_close(bridge.ffi.cast("fd_t *", c))
        else:
            assert bridge.lib.inode_invalidate(bridge.ffi.cast("inode_t *", c)) == 0
        assert told == [("subject", event, c, "remembered")]
        return PASS

    monkeypatch.setattr(Subject, "told", hear)
    outcome = bridge.run(fops.TABLE["create"], handler, collect=fails)
    assert outcome.passed == 1
    assert [each.partition(":")[0] for each in log.errors()[:1]] == [event] * fails
