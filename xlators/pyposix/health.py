"""The health check: a file is written and read back again and again; a brick that cannot is ended.

A file system that breaks under a brick may show so in errors and hangs only. Then clients are
better off with other replicas (options health-check-interval and -timeout).
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from glupy import Event
from glupy._bridge import ffi, lib
from glupy.log import EMERGENCY
from pyposix.jobs import Job, Stopped

if TYPE_CHECKING:
    from glupy import Translator

Failed = Callable[[bytes, OSError], None]
"""Gets the file's path and what was wrong with it, before the brick goes down."""
FILE = b"/health_check"
HARMLESS = frozenset([errno.EAGAIN, errno.ENOSPC, errno.EDQUOT])
"""A file system that answers so is busy or full, not broken."""
GRACE_SECONDS = 30.0
"""How long a process whose only brick is down lives on, before SIGTERM and again before SIGKILL."""


class HealthCheck:
    """Checks one brick until it is stopped, or has failed."""

    def __init__(
        self, brick: Translator, folder: bytes, interval: int, timeout: int, failed: Failed
    ) -> None:
        """``folder`` is .glusterfs; seconds; a check may take ``timeout``, or for ever if 0."""
        self.settings = interval, timeout
        self._brick = brick
        self._path = folder + FILE
        self._timeout = timeout or None
        self._failed = failed
        self._closed = threading.Event()
        self._job = Job(brick, interval, self._check)

    def stop(self) -> None:
        """Check no more; what a check under way finds out is ignored."""
        self._job.stop()

    def close(self) -> None:
        """The brick is gone: do nothing more to it."""
        self.stop()
        self._closed.set()

    def _check(self, stopped: Stopped) -> None:
        attempt = _Attempt(self._path)
        problem = attempt.outcome(self._timeout)
        if problem is None or stopped():
            return
        self._brick.log.warning("health check of %r: %s", self._path, problem)
        if problem.errno not in HARMLESS:
            self._failed(self._path, problem)
            self.stop()
            self._go_down()

    def _go_down(self) -> None:
        """Tell the clients; then end the process, or only the brick if it has others."""
        brick, log = self._brick, self._brick.log
        log.log(EMERGENCY, "health-check failed, going down")
        lib.glupy_default_notify(brick._this, Event.CHILD_DOWN, ffi.NULL)
        for number in signal.SIGTERM, signal.SIGKILL:
            count = brick.brick_count()
            if not count:  # somebody's own process, with the brick in it: not ours to end
                return
            if count == 1 and self._closed.wait(GRACE_SECONDS):
                return
            if brick.brick_count() > 1:
                log.log(EMERGENCY, "detached: the process has other bricks")
                brick.detach_brick()
                return
            log.log(EMERGENCY, "still alive! -> %s", number.name)
            os.kill(os.getpid(), number)


class _Attempt:
    """One write and read of the file, on a thread of its own: it may never come back."""

    def __init__(self, path: bytes) -> None:
        self._path = path
        self._problem: OSError | None = None
        self._done = threading.Event()
        try:
            threading.Thread(target=self._run, name="glupy-health", daemon=True).start()
        except RuntimeError as error:
            self._problem = OSError(errno.EAGAIN, str(error))
            self._done.set()

    def outcome(self, timeout: float | None) -> OSError | None:
        """Wait for it, at most ``timeout`` seconds; return what went wrong, if anything did."""
        if self._done.wait(timeout):
            return self._problem
        return TimeoutError(errno.ETIMEDOUT, f"no answer after {timeout} s")

    def _run(self) -> None:
        try:
            self._write_and_read()
        except OSError as error:
            self._problem = error
        finally:
            self._done.set()

    def _write_and_read(self) -> None:
        written = time.strftime("%F %T +0000", time.gmtime()).encode()
        with open(self._path, "wb", buffering=0) as file:
            file.write(written)
        with open(self._path, "rb", buffering=0) as file:
            if file.read() != written:
                raise OSError(errno.EUCLEAN, os.strerror(errno.EUCLEAN))
