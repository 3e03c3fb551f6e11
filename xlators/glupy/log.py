"""Python's logging goes to the brick's log, with its level and the translator's name.

``self.log`` is a translator's logger, named after it (the volume's line in the volfile). Records of
other loggers carry the logger's own name. GlusterFS decides what is written (``log-level``).
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

from glupy._bridge import lib
from glupy.enums import LogLevel

if TYPE_CHECKING:
    from glupy.translator import Translator

REPEAT_SECONDS = 60.0
_REMEMBERED = 1000
_FIRST_FRAMES = 10  # the bridge's own, and the handler's
_LAST_FRAMES = 50

_PREFIX = "glupy."


EMERGENCY = logging.CRITICAL + 10
"""The level of what ends a brick: GlusterFS's own highest, M in its log."""


def _level(level: int) -> int:
    if level >= EMERGENCY:
        return LogLevel.EMERG
    if level >= logging.CRITICAL:
        return LogLevel.CRITICAL
    if level >= logging.ERROR:
        return LogLevel.ERROR
    if level >= logging.WARNING:
        return LogLevel.WARNING
    if level >= logging.INFO:
        return LogLevel.INFO
    return LogLevel.DEBUG if level >= logging.DEBUG else LogLevel.TRACE


class GlusterHandler(logging.Handler):
    """Hands each record to gf_log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; a line of GlusterFS's log for each of its own."""
        try:
            lib.glupy_log(
                record.name.removeprefix(_PREFIX).encode("utf-8", "replace"),
                _level(record.levelno),
                record.pathname.encode("utf-8", "replace"),
                record.lineno,
                (record.funcName or "").encode("utf-8", "replace"),
                self.format(record).encode("utf-8", "replace").replace(b"\0", b"\\0"),
            )
        except Exception:
            self.handleError(record)


def start() -> None:
    """Send everything that is logged in this process to GlusterFS's log, once."""
    root = logging.getLogger("glupy")
    if not any(isinstance(handler, GlusterHandler) for handler in root.handlers):
        root.addHandler(GlusterHandler())
        root.setLevel(1)
        root.propagate = False


def start_everything() -> None:
    """The same for all loggers: right in a GlusterFS process, not in somebody's Python program."""
    start()
    root = logging.getLogger()
    root.addHandler(GlusterHandler())
    root.setLevel(logging.INFO)


def logger(name: str) -> logging.Logger:
    """Return the logger of the translator of that name."""
    return logging.getLogger(_PREFIX + name)


def line_of(error: BaseException) -> str:
    """Return the exception's own line, as a traceback has it: without notes."""
    report = traceback.TracebackException(type(error), error, None)
    report.__notes__ = None
    *_, line = report.format_exception_only()
    return line.strip().replace("\n", " ")


class _BothEnds(traceback.StackSummary):
    """The frames of a traceback: of a deep one those where it begins and those where it ends."""

    def format(self, **options: Any) -> list[str]:
        first, last = self[:_FIRST_FRAMES], self[_FIRST_FRAMES:][-_LAST_FRAMES:]
        left_out = len(self) - len(first) - len(last)
        shown = [self.from_list(each).format(**options) for each in (first, last)]
        return [*shown[0], *([f"  ({left_out} frames more)\n"] if left_out else ()), *shown[1]]


def _traceback_of(error: BaseException) -> str:
    """Return it with all exceptions that led to this one."""
    report = traceback.TracebackException.from_exception(error, lookup_lines=False)
    waiting = [report]
    while waiting:
        each = waiting.pop()
        each.stack = _BothEnds(each.stack)
        waiting += filter(None, (each.__cause__, each.__context__, *(each.exceptions or ())))
    return "".join(report.format())


_seen: dict[tuple[str, str], tuple[float, int]] = {}
_seen_lock = threading.Lock()


def bug(translator: Translator, where: str, error: BaseException) -> None:
    """Log an exception that nobody expected: one line, then the traceback, whole unless it is deep:
    of more than 60 frames those at both ends, as an endless recursion has a thousand.

    Each distinct one at most once a minute; the next time it says how many were left out.
    """
    try:
        trace = _traceback_of(error)
        left_out = _admit((translator.name, trace))
        if left_out is None:
            return
        again = f" ({left_out} more like it since the last report)" if left_out else ""
        translator.log.error("%s: %s%s", where, line_of(error), again)
        translator.log.error("%s", trace)
    except BaseException:
        # Out of memory or of stack: the fop's EIO is what is left to tell.
        lib.glupy_log(
            b"glupy", LogLevel.ERROR, b"log.py", 0, b"bug", b"an error could not be logged"
        )


def _admit(key: tuple[str, str]) -> int | None:
    now = time.monotonic()
    with _seen_lock:
        last, left_out = _seen.get(key, (-REPEAT_SECONDS, 0))
        if now - last < REPEAT_SECONDS:
            _seen[key] = last, left_out + 1
            return None
        if len(_seen) >= _REMEMBERED:
            for old in [k for k, (when, _) in _seen.items() if now - when >= REPEAT_SECONDS]:
                del _seen[old]
        _seen[key] = now, 0
        return left_out
