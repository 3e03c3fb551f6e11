"""What a brick does by itself, again and again, beside its fops."""

from __future__ import annotations

import threading
from collections.abc import Callable

from glupy import Translator, timers
from glupy._bridge import lib

Stopped = Callable[[], bool]


class Job:
    """Work that is done every so many seconds until it is stopped.

    ``work`` runs on a worker and gets a function that says whether it should end early; it must not
    raise. The next time is counted from its end. Where it hangs, nothing else does.
    """

    def __init__(
        self, translator: Translator, seconds: float, work: Callable[[Stopped], None]
    ) -> None:
        self._this = translator._this
        self.seconds = seconds
        self._work = work
        self._is_stopped = False
        self._working = threading.Lock()
        timers.call_later(seconds, self._run)

    def stop(self) -> None:
        """Do it no more. Does not wait for what is being done; a second time does nothing."""
        self._is_stopped = True
        self._work = _nothing  # the timer has us for a while yet

    def join(self) -> None:
        """After ``stop``: wait for the end of what is being done."""
        with self._working:
            pass

    def _run(self) -> None:
        with self._working:
            if not self._is_stopped:
                lib.quick_set_this(self._this)  # as on GlusterFS's own threads: whose log it is
                self._work(lambda: self._is_stopped)
        if not self._is_stopped:
            timers.call_later(self.seconds, self._run)


def _nothing(_: Stopped) -> None:
    pass
