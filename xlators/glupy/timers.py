"""Timers and the workers that run what is due.

One thread keeps the time and only queues; what is due runs on a worker, of which there are as many
as are busy at once. So a handler that blocks after its sleep delays no other timer. Threads are
started at first use and are daemons: a brick that exits does not wait for them.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import queue
import threading
import time
from collections.abc import Callable

from glupy._bridge import ffi, lib

IDLE_SECONDS = 30.0  # how long a worker without work stays
RETRY_SECONDS = 0.1  # after which what was due is tried again, if there was no thread for it

_Job = Callable[[], object]
_changed = threading.Condition()
_heap: list[tuple[float, int, _Job]] = []
_order = itertools.count()
_clock: threading.Thread | None = None

_jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
_idle = 0
_idle_lock = threading.Lock()


def call_later(seconds: float, job: _Job) -> None:
    """Run ``job`` on a worker after that many seconds."""
    global _clock
    with _changed:
        heapq.heappush(_heap, (time.monotonic() + max(seconds, 0.0), next(_order), job))
        _changed.notify()
        if _clock is None:
            clock = threading.Thread(target=_keep_time, name="glupy-timer", daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread for it: the next call tries again
                clock.start()
                _clock = clock


def call_soon(job: _Job) -> None:
    """Run ``job`` on a worker. It must not raise; what it raises goes to stderr.

    If the system has no thread for it now, it is tried again until there is one.
    """
    if not _give(job):
        call_later(RETRY_SECONDS, job)


def _give(job: _Job) -> bool:
    """Give ``job`` to a worker that is idle, or a new one. False: there is no thread for that."""
    global _idle
    with _idle_lock:
        promised = _idle > 0
        if promised:
            _idle -= 1
    if not promised:
        try:
            threading.Thread(target=_work, name="glupy-worker", daemon=True).start()
        except RuntimeError:
            return False
    _jobs.put(job)
    return True


def _keep_time() -> None:
    while True:
        with _changed:
            while not _heap or _heap[0][0] > time.monotonic():
                left = _heap[0][0] - time.monotonic() if _heap else threading.TIMEOUT_MAX
                _changed.wait(min(left, threading.TIMEOUT_MAX))
            job = heapq.heappop(_heap)[2]
        call_soon(job)


def _work() -> None:
    global _idle
    while True:
        try:
            job = _jobs.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            with _idle_lock:
                if _idle > 0:
                    _idle -= 1
                    return
            continue  # promised to a job that is just being queued
        job()
        del job
        # THIS of that job's translator, which may be freed before the next job.
        lib.quick_set_this(ffi.NULL)
        with _idle_lock:
            _idle += 1
