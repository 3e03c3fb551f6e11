"""fsyncs that are carried out together (xdata ``batch-fsync``, options batch-fsync-*).

Replicated volumes ask for that: the fsync of their change logs, of which many are under way at
once. One thread does a batch; the first fsync of a journal takes the others along.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from glupy import Future, linux, timers
from pyposix.files import OpenFile


class Mode(StrEnum):
    """How a batch is done: syncfs once, fsync of each or only one; the last comer first."""

    NONE = "none"  # no batches: each at once
    SYNCFS = "syncfs"
    SYNCFS_SINGLE_FSYNC = "syncfs-single-fsync"
    SYNCFS_REVERSE_FSYNC = "syncfs-reverse-fsync"
    REVERSE_FSYNC = "reverse-fsync"


class _Wanted(NamedTuple):
    opened: OpenFile
    datasync: bool
    done: Future


class BatchFsync:
    """One brick's. ``mode`` and ``delay`` (seconds in which more may join) change at any time."""

    def __init__(self) -> None:
        self.mode = Mode.NONE
        self.delay = 0.0
        self._lock = threading.Lock()
        self._wanted: list[_Wanted] = []
        self._busy = False

    def add(self, opened: OpenFile, datasync: bool) -> Future:
        """Have a file synced with others; await what is returned. It raises OSError."""
        wanted = _Wanted(opened, datasync, Future())
        with self._lock:
            self._wanted.append(wanted)
            if not self._busy:
                self._busy = True
                timers.call_soon(self._run)
        return wanted.done

    def _run(self) -> None:
        while True:
            time.sleep(self.delay)
            with self._lock:
                batch, self._wanted = self._wanted, []
                if not batch:
                    self._busy = False
                    return
            self._sync(batch)

    def _sync(self, batch: list[_Wanted]) -> None:
        mode = self.mode
        problem = 0
        if mode.startswith("syncfs"):
            problem = _errno_of(linux.syncfs, batch[-1].opened)
        each = mode != Mode.SYNCFS
        for opened, datasync, done in reversed(batch):
            number = problem
            if each and not number:
                sync = os.fdatasync if datasync else os.fsync
                number = _errno_of(sync, opened)
                each = mode != Mode.SYNCFS_SINGLE_FSYNC
            if number:
                done.set_exception(OSError(number, os.strerror(number)))
            else:
                done.set_result(None)


def _errno_of(sync: Callable[[int], None], opened: OpenFile) -> int:
    """Call it; return the errno it failed with, or 0."""
    try:
        sync(opened.number)
    except OSError as error:
        return error.errno or errno.EIO
    return 0
