"""A graph of three in this process, near over subject over far, and what winds through it."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from . import ends, handlers
from .handlers import Handler, Subject
from .values import Json

SECONDS = 5.0
"""How long an answer, or the last reference to something, is waited for."""


@dataclass
class Outcome:
    """What one fop has met on its way. What the ends wrote is None where they were not reached."""

    sent: Json
    received: Json
    replied: Json
    answered: Json
    example: Json
    winds: int
    """How often far was wound to."""
    inside: bool
    """Whether near was answered before its wind had returned."""
    same_thread: bool
    unheld: int
    """Counted arguments that only the test still held when a late reply came."""
    passed: int
    unwound: int


class Run:
    """One fop on its way (`struct run`)."""

    def __init__(self, bridge: Bridge, fop: Any, c: Any) -> None:
        self.ffi, self.lib = bridge.ffi, bridge.lib
        self.fop = fop
        self.c = c
        self.answered = False

    def wind(self) -> None:
        """Wind, and wait for the answer."""
        self.lib.run_wind(self.c)
        self.answered = bool(self.lib.run_wait(self.c, int(1000 * SECONDS)))
        assert self.answered, f"{self.fop.name} was not answered"

    def json(self, name: str) -> Json:
        """Return what an end wrote: sent, received, replied, answered or example."""
        text = getattr(self.c, name)
        if not text.used:
            return None
        return json.loads(self.ffi.buffer(text.bytes, text.used)[:].rstrip(b","))

    def references(self, collect: bool = False) -> str:
        """Return which counts are not what they were; empty if all are."""
        text = self.ffi.new("struct text *")
        self.lib.run_references(self.c, text)
        try:
            found = bytes(self.ffi.string(text.bytes)).decode()
        finally:
            self.lib.text_free(text)
        if found and collect:
            gc.collect()
        return found

    def forget(self) -> None:
        """Have the test itself let go of everything: counts are no longer known."""
        self.lib.run_forget(self.c)

    def outcome(self, passed: int, unwound: int) -> Outcome:
        """Return what has become of the fop; assert what holds for all of them."""
        c = self.c
        assert c.callbacks == 1
        assert not c.faults.used, self.ffi.string(c.faults.bytes)
        return Outcome(
            sent=self.json("sent"),
            received=self.json("received"),
            replied=self.json("replied"),
            answered=self.json("answered"),
            example=self.json("example"),
            winds=c.entered,
            inside=bool(c.inside),
            same_thread=bool(c.same_thread),
            unheld=c.unheld,
            passed=passed,
            unwound=unwound,
        )


class Bridge:
    """Winds fops to the subject; see `run`."""

    def __init__(self, built: ModuleType, log: Path) -> None:
        from glupy import _entry

        self.ffi: Any = built.ffi
        self.lib: Any = built.lib
        self.log = log
        self.translators = {it.name: it for it in _entry._instances.values()}
        self.near, self.subject, self.far = (
            self._xlator(name) for name in ("near", "subject", "far")
        )
        self._seeds = itertools.count(1)
        self._fops = self.lib.ends_put_far(self.far)
        self.table = self.lib.ends_table(self.near)

    def _xlator(self, name: str) -> Any:
        from glupy._bridge import ffi

        return self.ffi.cast("xlator_t *", int(ffi.cast("uintptr_t", self.translators[name]._this)))

    def close(self) -> None:
        self.lib.ends_drop_table(self.table)
        self.lib.ends_restore(self.far, self._fops)

    def _counts(self) -> list[int]:
        from glupy._bridge import lib

        this = self.translators["subject"]._this
        return [lib.glupy_counted(this, event) for event in (lib.ENTERED, lib.PASSED, lib.UNWOUND)]

    def run(
        self,
        fop: Any,
        handler: Handler,
        *,
        mode: str = "INSIDE",
        fails: bool = False,
        near_nulls: bool = False,
        far_nulls: bool = False,
        groups: int = 3,
        stack: int = 0,
        large: int = 0,
        below: Any = None,
        collect: bool = False,
        then: Callable[[Run], None] = lambda _: None,
    ) -> Outcome:
        """Wind `fop` to the subject, whose handler is `handler`; return what became of it.

        Far, if it is reached, replies as `mode` says: INSIDE the wind, on another thread
        BEFORE_RETURN of the wind, or LATE, on another thread after it. `fails` makes that op_ret
        -1, all callback arguments kept. With `near_nulls` or `far_nulls` every pointer is NULL.
        `groups` is how many the caller has, `large` the length of a vector's last element if not 0;
        `below` is the fop that far gets if it is another one.
        `stack` has the fop wound on a thread with so many bytes of it. `then` is called when the
        fop has been answered, before references are counted.

        Whatever the handler does, this must hold, and is asserted here: near is unwound to once;
        the bridge's own counters agree; nobody has touched what is others'; the call stack is gone;
        fds, inodes, dicts, iobrefs and iobufs have the counts that they had. `collect` allows
        Python's garbage collector for the last: tracebacks are cycles.
        """
        settings = {
            "mode": getattr(self.lib, mode),
            "fails": fails,
            "near_nulls": near_nulls,
            "far_nulls": far_nulls,
            "groups": groups,
            "stack": stack,
            "large": large,
            "below": below.number if below else 0,
        }
        counts, frames = self._counts(), self.frames()
        with self.handled_by(handler), self.wind(fop, **settings) as run:
            self.example = run.json("example")
            run.wind()
            then(run)
            self.until(lambda: self.frames() == frames, "call stacks are left")
            self.until(lambda: not run.references(collect), lambda: run.references(collect))
            entered, passed, unwound = (
                after - before for before, after in zip(counts, self._counts(), strict=True)
            )
            assert (entered, passed + unwound) == (1, 1)
            return run.outcome(passed, unwound)

    @contextlib.contextmanager
    def handled_by(self, handler: Handler) -> Iterator[None]:
        """Have `handler` do all that the subject does."""
        Subject.handler = handler
        try:
            yield
        finally:
            Subject.handler = None

    def frames(self) -> int:
        """Return how many call stacks the process has."""
        return int(self.lib.ends_frames(self.near))

    @contextlib.contextmanager
    def wind(self, fop: Any, **settings: Any) -> Iterator[Run]:
        """Prepare a wind of `fop`. What belongs to it is freed, unless it was never answered."""
        c = self.lib.run_new(self.near, self.subject, self.far, self.table)
        c.fop, c.seed, c.delay_ms = fop.number, next(self._seeds) << 32, 2
        for name, value in settings.items():
            setattr(c, name, value)
        self.lib.run_show(c)
        run = Run(self, fop, c)
        try:
            yield run
        finally:
            if run.answered:
                self.lib.run_free(c)

    @staticmethod
    def until(condition: Callable[[], bool], why: str | Callable[[], str]) -> None:
        """Wait until the condition holds."""
        end = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < end, why() if callable(why) else why
            time.sleep(0.001)


class Log:
    """What the bridge logs while a test runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start = path.stat().st_size

    def errors(self) -> list[str]:
        """Return the error records: each a message, of one or more lines."""
        with self.path.open(errors="replace") as file:
            file.seek(self._start)
            text = file.read()
        records = re.split(r"^(?=\[\d{4}-\d\d-\d\d )", text, flags=re.MULTILINE)
        ours = re.compile(r"\[.*?\] E .*? 0-subject: (.*)", re.DOTALL)
        found = (ours.match(record) for record in records)
        return [match.group(1).rstrip("\n") for match in found if match]


@pytest.fixture
def log(bridge: Bridge) -> Log:
    """The log from here on; errors that were reported before count as new."""
    from glupy import log

    log._seen.clear()
    return Log(bridge.log)


@pytest.fixture(scope="session")
def bridge(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bridge]:
    from glupy.testing.gfapi import Client
    from volfiles import Graph, Xlator

    folder = tmp_path_factory.mktemp("bridge")
    cache = getattr(request.config, "cache", None)  # pytest may run without one
    built = ends.load(folder if cache is None else cache.mkdir("bridge-ends"))
    log = folder / "log"

    def node(name: str) -> Xlator:
        return Xlator(
            name, "features/glupy", {"module": f"{handlers.__name__}:{name.capitalize()}"}
        )

    with Client(Graph.stack(node("far"), node("subject"), node("near")), log=log):
        bridge = Bridge(built, log)
        try:
            yield bridge
        finally:
            bridge.close()
