"""Translators that misbehave on demand: what a handler does is told by the xattr ``user.do``."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import logging
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import glupy
from glupy import PASS, Cancelled, Event, Fd, Frame, Inode, Loc, Option, Pass, Translator, fops
from glupy.log import EMERGENCY
from glupy.testing.bare import Winding
from glupy.views import Dict

LEVELS = 5, *range(logging.DEBUG, EMERGENCY + 1, 10)


class Unruly(Translator):
    """Does what ``setxattr user.do`` says, and shows in the statedump what it has seen."""

    options = (
        Option("limit", int, default=10, minimum=1, maximum=100),
        Option("mode", str, default="plain", choices=["plain", "fancy"]),
        Option("size", glupy.options.size, default=1 << 20),
    )

    def init(self) -> None:
        self.cancelled = 0
        self.knots: weakref.WeakSet[Knot] = weakref.WeakSet()
        self.late: list[BaseException | None] = []
        self.outcomes: list[tuple[object, BaseException | None]] = []
        self.turn, self.never = glupy.Lock(), glupy.Future()

    def dump_priv(self) -> Mapping[str, object]:
        return {
            "limit": self.option("limit"),
            "mode": self.option("mode"),
            "size": self.option("size"),
            "cancelled": self.cancelled,
            "prefix": sys.prefix,
            "path": sys.path,
            "glupy": glupy.__file__,
            "cwd": Path.cwd(),
        }

    async def setxattr(
        self, frame: Frame, loc: Loc, dict: Dict, flags: int, xdata: Dict | None
    ) -> fops.Setxattr | Pass:
        what = dict.get_bytes("user.do")
        if what is None:
            return PASS
        verb, _, argument = what.decode().partition(" ")
        await getattr(self, f"do_{verb.replace('-', '_')}")(loc, argument)
        return fops.Setxattr()

    async def do_nothing(self, loc: Loc, _: str) -> None:
        pass

    async def do_sleep(self, loc: Loc, seconds: str) -> None:
        await self._sleep("sleep", seconds)

    async def do_spawn(self, loc: Loc, seconds: str) -> None:
        sleeping = self._sleep("spawn", seconds)
        self.spawn(sleeping, lambda *outcome: self.outcomes.append(outcome))

    async def do_spawn_busy(self, loc: Loc, seconds: str) -> None:
        """Not cancelled: it waits for nothing, and winds at its end."""
        assert loc.inode is not None
        root = Loc(inode=loc.inode.ref(), gfid=loc.inode.gfid)

        async def busy() -> None:
            time.sleep(float(seconds))
            await self.child.stat(root)
            self.log.info("busy no more")

        self.spawn(busy())

    async def do_wait(self, loc: Loc, _: str) -> None:
        """One for a result that never comes, the others for their turn."""
        with self._telling("wait"):
            async with self.turn:
                await self.never

    async def _sleep(self, verb: str, seconds: str) -> None:
        with self._telling(f"{verb} {seconds}"):
            await glupy.sleep(float(seconds))

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        try:
            yield
        except Cancelled:
            self.cancelled += 1
            self.log.info("cancelled: %s", what)
            raise

    async def do_log(self, loc: Loc, name: str) -> None:
        """Say something at each level, as that logger if not as the translator."""
        logger = logging.getLogger(name) if name else self.log
        for level in LEVELS:
            logger.log(level, "said at %d", level)

    async def do_log_all(self, loc: Loc, name: str) -> None:
        logging.getLogger(name).setLevel(1)
        await self.do_log(loc, name)

    async def do_block(self, loc: Loc, seconds: str) -> None:
        time.sleep(float(seconds))

    async def do_spin(self, loc: Loc, seconds: str) -> None:
        end = time.monotonic() + float(seconds)
        while time.monotonic() < end:
            pass

    async def do_hold_the_gil(self, loc: Loc, _: str) -> None:
        sum(range(10**12))  # hours, all in C

    async def do_sleep_then_block(self, loc: Loc, seconds: str) -> None:
        await glupy.sleep(0.01)
        time.sleep(float(seconds))

    async def do_swallow(self, loc: Loc, seconds: str) -> None:
        try:
            await glupy.sleep(float(seconds))
        except BaseException:
            time.sleep(float(seconds))

    async def do_thread(self, loc: Loc, seconds: str) -> None:
        thread = threading.Thread(target=time.sleep, args=(float(seconds),), daemon=False)
        thread.start()
        thread.join()

    async def do_ask(self, loc: Loc, what: str) -> None:
        """Have the child do it, and say how that went."""
        self.log.info("asking")
        try:
            await self.child.setxattr(loc, Dict({"user.do": what.encode()}), 0)
        except OSError as error:
            self.log.info("%s: %s", what, errno.errorcode.get(error.errno or 0))
            raise

    async def do_drop(self, loc: Loc, _: str) -> None:
        await glupy.Future()

    async def do_knot(self, loc: Loc, _: str) -> None:
        assert loc.inode is not None
        self.knots.add(Knot(loc.inode.ref()))

    async def do_remember(self, loc: Loc, _: str) -> None:
        assert loc.inode is not None
        loc.inode.ctx = self

    async def do_crash(self, loc: Loc, why: str) -> None:
        raise ZeroDivisionError(why)

    async def do_recurse(self, loc: Loc, how: str) -> None:
        self.log.info("on thread %s", Path("/proc/thread-self/comm").read_text().strip())
        if how == "await":
            await endless()
        RECURSIONS[how]()

    async def do_recurse_on(self, loc: Loc, how: str) -> None:
        while True:
            with contextlib.suppress(RecursionError):
                RECURSIONS[how]()

    def forget(self, inode: Inode) -> None:
        """Something is still to be done, where nothing can be done any more."""

        async def late() -> None:
            await self.child.statfs(Loc(path="/"))

        self.spawn(late(), lambda _, error: self.late.append(error))


def through_def() -> Any:
    return [through_def()]


def through_sorted() -> Any:
    return sorted([2, 1], key=lambda _: through_sorted())


def through_json() -> Any:
    return json.dumps(object(), default=lambda _: through_json())


async def endless() -> None:
    await endless()


RECURSIONS = {"def": through_def, "sorted": through_sorted, "json": through_json}


class Knot:
    """Holds an inode, and itself: only the garbage collector lets go of it."""

    def __init__(self, inode: Inode) -> None:
        self.inode, self.itself = inode, self


class Remembering(Translator):
    """Keeps a context on every inode and fd that it sees; the statedump counts what still lives,
    of this instance and of all in its process."""

    class Memory:
        """What is kept; counted by weak references."""

    everywhere: ClassVar[weakref.WeakSet[Memory]] = weakref.WeakSet()

    def init(self) -> None:
        self.alive: weakref.WeakSet[Remembering.Memory] = weakref.WeakSet()
        self.seen = dict.fromkeys(["forget", "release", "releasedir"], 0)

    def _remember(self, thing: Inode | Fd) -> None:
        def make() -> Remembering.Memory:
            memory = self.Memory()
            self.alive.add(memory)
            self.everywhere.add(memory)
            return memory

        assert thing.ctx_or(make) is thing.ctx

    async def lookup(self, frame: Frame, loc: Loc, xdata: Dict | None) -> fops.Lookup:
        reply = await self.child.lookup(loc, xdata)
        if loc.inode is not None:
            self._remember(loc.inode)
        return reply

    async def open(
        self, frame: Frame, loc: Loc, flags: int, fd: Fd, xdata: Dict | None
    ) -> fops.Open:
        reply = await self.child.open(loc, flags, fd, xdata)
        self._remember(fd)
        return reply

    async def opendir(self, frame: Frame, loc: Loc, fd: Fd, xdata: Dict | None) -> fops.Opendir:
        reply = await self.child.opendir(loc, fd, xdata)
        self._remember(fd)
        return reply

    async def create(
        self, frame: Frame, loc: Loc, flags: int, mode: int, umask: int, fd: Fd, xdata: Dict | None
    ) -> fops.Create:
        assert loc.inode is not None
        self._remember(loc.inode)  # before it is linked: a race may merge it into another
        return await self.child.create(loc, flags, mode, umask, fd, xdata)

    def forget(self, inode: Inode) -> None:
        assert inode.ctx is not None
        self.seen["forget"] += 1

    def release(self, fd: Fd) -> None:
        assert fd.ctx is not None
        self.seen["release"] += 1

    def releasedir(self, fd: Fd) -> None:
        assert fd.ctx is not None
        self.seen["releasedir"] += 1

    def dump_priv(self) -> Mapping[str, object]:
        everywhere = len(self.everywhere)  # contexts go without the garbage collector
        gc.collect()
        counts = {"alive": len(self.alive), "inodes": len(self._inode_contexts)}
        translators = sum(isinstance(each, Translator) for each in gc.get_objects())
        return {**self.seen, **counts, "everywhere": everywhere, "translators": translators}


class Starter(Translator):
    """Starts fops of its own after CHILD_UP: at once, after a sleep, and on a thread of its own."""

    def init(self) -> None:
        self.results: dict[str, Any] = {}

    def notify(self, event: Event | int, data: Any) -> int:
        result = super().notify(event, data)
        if event == Event.CHILD_UP or (event == Event.PARENT_UP and not self.results):
            self.results["threads"] = threading.active_count()
            self.spawn(self._look("worker"))
            self.spawn(self._later())
            threading.Timer(0.05, lambda: self.spawn(self._look("thread"))).start()
            self.spawn(self._fail(), done=self._failed)
        return result

    async def _look(self, where: str) -> None:
        root = Loc(path="/", gfid=glupy.Gfid.ROOT)
        statvfs = await self.child.statfs(root)
        assert statvfs.buf is not None
        self.results[where] = statvfs.buf.f_bsize

    async def _later(self) -> None:
        await glupy.sleep(0.05)
        await self._look("timer")

    async def _fail(self) -> None:
        await self.child.getxattr(Loc(path="/", gfid=glupy.Gfid.ROOT), "user.there.is.none")

    def _failed(self, result: Any, error: BaseException | None) -> None:
        self.results["failed"] = type(error).__name__

    def dump_priv(self) -> Mapping[str, object]:
        return self.results


class Refusing(Translator):
    """Does not start."""

    def init(self) -> None:
        raise RuntimeError("no such luck")


class Counting(Winding):
    """Winds every fop; counts how many kinds there were, and how many failed."""

    def init(self) -> None:
        self.kinds: set[str] = set()
        self.failed = 0

    def dump_priv(self) -> Mapping[str, object]:
        return {"kinds": len(self.kinds), "failed": self.failed}


def _counted(name: str) -> Any:
    wind = getattr(Winding, name)

    async def handler(self: Counting, frame: Frame, *arguments: Any) -> Any:
        self.kinds.add(name)
        try:
            return await wind(self, frame, *arguments)
        except OSError:
            self.failed += 1
            raise

    return handler


for _name in fops.TABLE:
    setattr(Counting, _name, _counted(_name))
