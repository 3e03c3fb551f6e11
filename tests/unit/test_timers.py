"""What is due runs on workers, though the system may have no thread for one."""

import math
import queue
import threading
from collections.abc import Iterator

import pytest

from glupy import timers

SOON = 10


@pytest.fixture(autouse=True)
def busy() -> Iterator[threading.Event]:
    """No worker is idle: what other tests have left waits for this, as two more do."""
    ended = threading.Event()
    timers.call_soon(ended.wait)
    while timers._idle:
        timers.call_soon(ended.wait)
    yield ended
    ended.set()


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


def test_a_job_waits_for_a_worker_if_there_is_no_thread(
    busy: threading.Event, refused: list[str]
) -> None:
    done = threading.Event()
    timers.call_soon(done.set)
    assert refused
    assert not done.wait(0.1)
    busy.set()
    assert done.wait(SOON)


def test_without_a_worker_a_job_is_refused(
    refused: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "_workers", 0)
    jobs: queue.SimpleQueue[object] = queue.SimpleQueue()
    monkeypatch.setattr(timers, "_jobs", jobs)
    with pytest.raises(RuntimeError):
        timers.call_soon(print)
    assert jobs.empty()
    assert timers._workers == 0


def test_the_clock_tries_again(refused: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers, "_workers", 0)
    done = threading.Event()
    timers.call_later(0, done.set)
    assert done.wait(SOON)
    assert len(refused) == 3


def test_what_is_never_due_stops_nobody() -> None:
    done = threading.Event()
    timers.call_later(math.inf, print)
    timers.call_later(0, done.set)
    assert done.wait(SOON)
