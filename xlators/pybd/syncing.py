"""Syncs that many ask for at once."""

from __future__ import annotations

import threading
from collections.abc import Callable


class SharedSync:
    """What is to be synced. Who comes while a sync is under way shares the next with all who do.

    Safe on any thread.
    """

    def __init__(self) -> None:
        self._counting = threading.Lock()
        self._running = threading.Lock()
        self._asked = 0
        self._synced = 0

    def run(self, sync: Callable[[], None]) -> None:
        """Return once a ``sync`` has ended that was begun after this call, by whomever: all of them
        sync the same. What one raises, its caller gets; each of the others tries by himself."""
        with self._counting:
            self._asked += 1
            mine = self._asked
        with self._running:
            if self._synced < mine:
                asked = self._asked
                sync()
                self._synced = asked
