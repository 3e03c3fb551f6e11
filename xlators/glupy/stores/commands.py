"""The one place that runs the system's commands (losetup, mkfs, mount, dd…)."""

import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals by which an operator or the system asks a command to end."""

_POLL = 0.2
_ENVIRONMENT = {
    **os.environ,
    "LC_ALL": "C",
    # `su` without `-` leaves root without the folders of losetup and mkfs.
    "PATH": os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin",
}


class StoreError(Exception):
    """A store could not be made, used or unmade. Its text is one line for the operator."""


@contextmanager
def held_back() -> Iterator[list[int]]:
    """Keep SIGINT, SIGTERM and SIGHUP back while the block runs.

    Yields the list of the signals that came so far; the first of them is raised again at the end
    of the block. Outside the main thread it does nothing: Python handles signals only there.
    """
    pending: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield pending
        return

    def keep(number: int, _: FrameType | None) -> None:
        pending.append(number)

    handlers = {number: signal.getsignal(number) for number in ENDING}
    try:
        for number in ENDING:
            if handlers[number] is not signal.SIG_IGN:
                signal.signal(number, keep)
        yield pending
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if pending:
            signal.raise_signal(pending[0])


def run(*command: str | Path, timeout: float = 60, grace: float = 10) -> str:
    """Run a command to its end; return what it wrote to standard output.

    A SIGINT, SIGTERM or SIGHUP waits until the command has ended, at most `grace` seconds, so what
    makes or unmakes something is not cut in the middle; after that, or after `timeout` seconds in
    all, the command is killed. It runs in a session of its own: the terminal's Ctrl-C does not
    reach it.

    Raises StoreError, one line, if the command is missing, fails, or takes too long. A command
    that complains on standard output only is quoted from there; one that writes nothing is named
    with its exit status.
    """
    words = [str(word) for word in command]
    name = Path(words[0]).name
    with held_back() as pending:
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=_ENVIRONMENT,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise StoreError(f"{name}: this command is not installed") from None
        except OSError as error:
            raise StoreError(f"{name}: {error.strerror}") from None
        deadline = time.monotonic() + timeout
        interrupted = False
        while True:
            with suppress(subprocess.TimeoutExpired):
                output, errors = process.communicate(timeout=_POLL)
                break
            if pending and not interrupted:
                interrupted = True
                deadline = min(deadline, time.monotonic() + grace)
            if time.monotonic() >= deadline:
                process.kill()
                # One that hangs inside the kernel outlives even this; do not hang with it.
                with suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=2)
                what = "was interrupted" if interrupted else f"did not end within {timeout:g} s"
                raise StoreError(f"`{shlex.join(words)}` {what}")
    if process.returncode:
        lines = [line.strip() for line in (errors or output).splitlines() if line.strip()]
        line = lines[0] if lines else f"failed with status {process.returncode}"
        raise StoreError(line if line.startswith(name) else f"{name}: {line}")
    return output
