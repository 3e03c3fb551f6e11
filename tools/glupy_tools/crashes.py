"""A command whose process may crash goes on in a child, and the parent sees what becomes of it."""

import ctypes
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from glupy import stores

if TYPE_CHECKING:
    from glupy.testing.fuzz.steps import Step

CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}
ABANDONED = 99
"""The exit code of a child that ends as it stands, with 1 for a status: the parent cleans up."""
_AWAITED = {*stores.ENDING, signal.SIGCHLD}
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Crash(NamedTuple):
    """By what signal a search ended, and in which sequence."""

    signal: signal.Signals
    steps: Sequence["Step"]


class ClientCrashError(Exception):
    """The process of the search crashed, where no brick was in it."""

    def __init__(self, crash: Crash) -> None:
        super().__init__(crash.signal.name)
        self.crash = crash


def in_a_child(undo: Callable[[], object]) -> signal.Signals | None:
    """Fork: return None in the child, and in the parent the signal by which that crashed.

    The parent ends as a child does that ended otherwise, or after a signal (SystemExit). Signals
    that end the parent go to the child, which also ends if the parent is killed. Where a signal has
    ended the child, or it was ``ABANDONED``, ``undo`` is called, as it could not do that itself. No
    threads may run yet.
    """
    parent = os.getpid()
    # Blocked from before the fork on: whenever one comes, `_end_of` gets it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if os.getppid() != parent:
            raise SystemExit(128 + signal.SIGTERM)
        return None
    try:
        status, received = _end_of(child)
        if status < 0 or status == ABANDONED:
            undo()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if -status in CRASHES and not received:
        return signal.Signals(-status)
    if status < 0 and received:
        raise SystemExit(128 + received[0])
    if status == ABANDONED:
        raise SystemExit(1)
    raise SystemExit(128 - status if status < 0 else status)


def _end_of(child: int) -> tuple[int, list[int]]:
    """Wait for the child; send it what would end us. Return its exit code, and what that was."""
    received: list[int] = []
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), received
        number = signal.sigwait(_AWAITED)
        if number != signal.SIGCHLD:
            received.append(number)
            os.kill(child, number)  # it has not been waited for: the number is still its own


def clear(folder: Path) -> None:
    """Take away what targets of `glupy fuzz` here have left: bricks, devices of pools, stores.

    ``folder`` is without symbolic links.
    """
    for file in folder.glob("*/*/pid"):
        _end(file)
    for image in folder.glob("*/image"):
        for device in (image.parent / "store").glob("pool-*/*"):
            stores.detach(device)
        stores.unmake(image)


def _end(file: Path) -> None:
    """End the process of a file that GlusterFS has written its number to, if it is still that."""
    with suppress(OSError, ValueError):
        number = int(file.read_text())
        if os.fsencode(file) in Path(f"/proc/{number}/cmdline").read_bytes():
            os.kill(number, signal.SIGKILL)
