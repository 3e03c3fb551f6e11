"""Timers and the workers that run what is due.

One thread keeps the time and only queues; what is due runs on a worker, of which there are as many
as are busy at once. So a handler that blocks after its sleep delays no other timer. Threads are
started at first use and are daemons: a brick that exits does not wait for them.
"""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
import time
from collections.abc import Callable

IDLE_SECONDS = 30.0  # how long a worker without work stays

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
        if _clock is None:
            _clock = threading.Thread(target=_keep_time, name="glupy-timer", daemon=True)
            _clock.start()
        heapq.heappush(_heap, (time.monotonic() + max(seconds, 0.0), next(_order), job))
        _changed.notify()


def call_soon(job: _Job) -> None:
    """Run ``job`` on a worker. It must not raise; what it raises goes to stderr."""
    global _idle
    _jobs.put(job)
    with _idle_lock:
        if _idle > 0:
            _idle -= 1  # that worker is promised to this job
            return
    threading.Thread(target=_work, name="glupy-worker", daemon=True).start()


def _keep_time() -> None:
    while True:
        with _changed:
            while not _heap or _heap[0][0] > time.monotonic():
                _changed.wait(_heap[0][0] - time.monotonic() if _heap else None)
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
        with _idle_lock:
            _idle += 1
