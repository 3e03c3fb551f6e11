"""A command whose process may crash goes on in a child, and the parent sees what becomes of it."""

import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from glupy import stores

CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def in_a_child(undo: Callable[[], object]) -> signal.Signals | None:
    """Fork: return None in the child, and in the parent the signal by which that crashed.

    The parent ends as a child does that ended otherwise, or after a signal (SystemExit). Signals
    that end the parent go to the child, which also ends if the parent is killed. Where a signal has
    ended the child ``undo`` is called, as it could not do that itself. No threads may run yet.
    """
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            raise SystemExit(128 + signal.SIGTERM)
        return None
    with _handed_on(child) as received:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status < 0:
            undo()
    if -status in CRASHES and not received:
        return signal.Signals(-status)
    if status < 0 and received:
        raise SystemExit(128 + received[0])
    raise SystemExit(128 - status if status < 0 else status)


@contextmanager
def _handed_on(child: int) -> Iterator[list[int]]:
    """Send the child what would end us; yield a list of what that was."""
    received: list[int] = []

    def hand_on(number: int, _: FrameType | None) -> None:
        received.append(number)
        with suppress(ProcessLookupError):
            os.kill(child, number)

    handlers = {number: signal.signal(number, hand_on) for number in stores.ENDING}
    yield received
    for number, handler in handlers.items():
        signal.signal(number, handler)


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
