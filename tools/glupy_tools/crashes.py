"""A command whose process may crash goes on in a child, and the parent sees what becomes of it."""

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from glupy import stores

CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def in_a_child() -> signal.Signals | None:
    """Fork: return None in the child, and in the parent the signal by which that crashed.

    The parent ends as a child does that ended otherwise (SystemExit). Signals that end the parent
    go to the child, which also ends if the parent is killed. Not for a process with threads.
    """
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            raise SystemExit(128 + signal.SIGTERM)
        return None
    with _handed_on(child):
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if -status in CRASHES:
        return signal.Signals(-status)
    raise SystemExit(128 - status if status < 0 else status)


@contextmanager
def _handed_on(child: int) -> Iterator[None]:
    def hand_on(number: int, _: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    handlers = {number: signal.signal(number, hand_on) for number in stores.ENDING}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def clear(folder: Path) -> None:
    """Take away what a crashed process has left here: bricks, loop devices of a pool, stores."""
    for file in folder.rglob("pid"):
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
