"""What is due runs on workers, though the system may have no thread for one."""

import math
import threading
import time
from collections.abc import Iterator

import pytest

from glupy import timers
from glupy.testing.waiting import wait_until

SOON = 10


@pytest.fixture(autouse=True)
def busy() -> Iterator[None]:
    """No worker is idle: those that there are wait for the end of the test, and are idle then."""
    ended, held = threading.Event(), 0
    quiet = time.monotonic() + 0.2
    while time.monotonic() < quiet:  # one may just be ending what came before
        if timers._idle:
            timers.call_soon(ended.wait)
            held += 1
            quiet = time.monotonic() + 0.2
        time.sleep(0.001)
    yield
    ended.set()
    wait_until(lambda: timers._idle >= held)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The workers that were refused: the next three."""
    names: list[str] = []
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "glupy-worker" and len(names) < 3:
            names.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    return names


def test_a_job_waits_for_a_thread(refused: list[str]) -> None:
    done = threading.Event()
    timers.call_soon(done.set)
    assert done.wait(SOON)
    assert len(refused) == 3


def test_the_clock_tries_again(refused: list[str]) -> None:
    done = threading.Event()
    timers.call_later(0, done.set)
    assert done.wait(SOON)
    assert len(refused) == 3


def test_a_clock_is_started_by_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start
    refusing = [True]

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "glupy-timer" and refusing:
            refusing.clear()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(timers, "_clock", None)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    first, second = threading.Event(), threading.Event()
    timers.call_later(0, first.set)
    assert not refusing
    timers.call_later(0, second.set)
    assert first.wait(SOON)
    assert second.wait(SOON)


def test_what_is_never_due_stops_nobody() -> None:
    done = threading.Event()
    timers.call_later(math.inf, print)
    timers.call_later(0, done.set)
    assert done.wait(SOON)
