"""Many at once, or one alone: how fops on one file keep out of each other's way."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

# Every gate's: a gate is often passed and seldom waited for, and there is one for each file.
_changed = threading.Condition()


class Gate:
    """Whoever changes a file's bytes or size passes through; whoever must not be disturbed waits
    until all have left and has the file alone.

    Alone is what can fail half-way and is undone then, or must not be seen half done. What passes
    through costs two atomic list operations, no lock.
    """

    __slots__ = ("_closed", "_inside")

    def __init__(self) -> None:
        self._inside: list[None] = []  # one element each: append and pop are atomic
        self._closed = False

    def __enter__(self) -> None:
        self._inside.append(None)
        # Read after the append, as `alone` sets it before it looks inside: one sees the other.
        if self._closed:
            self._wait()

    def __exit__(self, *_: object) -> None:
        self._inside.pop()
        if self._closed:
            with _changed:
                _changed.notify_all()

    def _wait(self) -> None:
        with _changed:
            self._inside.pop()
            _changed.notify_all()
            while self._closed:
                _changed.wait()
            self._inside.append(None)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Wait for all others to leave, and keep them out inside the ``with``."""
        with _changed:
            while self._closed:
                _changed.wait()
            self._closed = True
            while self._inside:
                _changed.wait()
        try:
            yield
        finally:
            with _changed:
                self._closed = False
                _changed.notify_all()
