"""Waiting in tests for what comes true by itself."""

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")
INTERVAL = 0.05
"""Seconds from one look to the next."""
PATIENCE = 60.0
"""Seconds: long enough for a busy machine, and no test waits for it but one that fails."""


def wait_until(condition: Callable[[], _T], what: str = "", seconds: float = PATIENCE) -> _T:
    """Return what `condition` returns, once that is true.

    AssertionError, which names `what`, if it is not true in so many seconds. What `condition`
    raises comes through.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, (
            f"no sign of it after {seconds:g} s: {what or condition}"
        )
        time.sleep(INTERVAL)
    return found
