"""Bricks restarted one at a time: clients and heal have come back before the next one goes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from glupy import stores
from glupy_tools import gluster, volume_state
from glupy_tools.failures import CommandError

END_TIMEOUT = 30.0
START_TIMEOUT = 60.0
CLIENT_TIMEOUT = 120.0
"""Clients try again every few seconds."""
TELL_INTERVAL = 10.0
"""Seconds between lines that say what is left to be healed."""
_POLL = 0.5
_MULTIPLEX = "cluster.brick-multiplex"


def refuse_unfit(volume: gluster.Volume) -> None:
    """Raise CommandError if the bricks of a started volume cannot be restarted one at a time."""
    if not volume.redundant:
        raise CommandError(f"{volume.name} is neither replicated nor dispersed: stop it first")
    setting = gluster.xml("volume", "get", volume.name, _MULTIPLEX).findtext(".//Value") or "off"
    if setting.split()[0] in ("on", "enable", "yes", "true", "1"):
        raise CommandError(f"{_MULTIPLEX} is on, bricks share a process: stop the volume first")


def restart(name: str, here: str, *, everything: bool = False) -> Iterator[str]:
    """Restart this host's bricks that do not run what their settings ask for; or all of them.

    Yields what is done, a line each; heal may take hours, so what is left is told now and then.
    CommandError, with the reason from its log, if one does not come back: the others are left
    as they are.
    """
    (volume,) = gluster.volumes(name)
    ours = [brick for brick in volume.bricks if brick.host == here]
    todo = ours if everything else waiting(volume, here)
    # One that is down already costs nothing more.
    for brick in sorted(todo, key=lambda brick: brick.pid is not None):
        if brick.pid is not None:
            yield from _settle(volume)
        yield f"restarting {brick.name}"
        with stores.held_back():  # whoever interrupts this has no brick that is down
            pid = gluster.pids(name).get(brick.name)  # it may be another one by now
            if brick.pid is None and pid is not None:
                continue  # it came with the one before: `start force` starts all
            if pid is not None:
                _end(pid)
            _start(name, brick)
    if todo:
        yield from _settle(volume)


def waiting(volume: gluster.Volume, here: str) -> list[gluster.Brick]:
    """Return this host's bricks that run something else than what their settings ask for."""
    return [brick for brick in volume.bricks if brick.host == here and _differs(volume, brick)]


def _differs(volume: gluster.Volume, brick: gluster.Brick) -> bool:
    wanted = volume_state.asked(volume, brick)
    runs = volume_state.running(brick, wanted.translators)
    return runs is None or not runs.same(wanted)


def _end(pid: int) -> None:
    """End a brick. glusterd takes it for one that runs until process 1 has taken note of it."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    try:
        _wait(lambda: not Path(f"/proc/{pid}").exists(), END_TIMEOUT, f"process {pid} does not end")
    except CommandError:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        _wait(lambda: not Path(f"/proc/{pid}").exists(), END_TIMEOUT, f"process {pid} does not end")


def _start(name: str, brick: gluster.Brick) -> None:
    # Its complaint says no more than that a brick does not start.
    with suppress(stores.StoreError, CommandError):
        gluster.run("volume", "start", name, "force")
        _wait(lambda: brick.name in gluster.pids(name), START_TIMEOUT, "")
        return
    raise CommandError(f"{brick.name} does not start: {volume_state.why(brick)}")


def _settle(volume: gluster.Volume) -> Iterator[str]:
    """Wait until all bricks have all clients, and nothing is to be healed."""
    name = volume.name
    tell = time.monotonic() + TELL_INTERVAL

    def has_clients() -> bool:
        running = gluster.pids(name)
        for brick in volume.bricks:
            if brick.name not in running:
                raise CommandError(f"{brick.name} is down: nothing more is restarted")
        counts = gluster.clients(name)
        numbers = [counts.get(brick.name, 0) for brick in volume.bricks]
        return min(numbers) == max(numbers)

    while True:
        _wait(has_clients, CLIENT_TIMEOUT, f"{name}: clients have not come back to all bricks")
        # A daemon that has just started cannot tell, or heal.
        left = None
        with suppress(stores.StoreError, CommandError):
            left = gluster.pending(name)
            if left == 0:
                return
            gluster.run("volume", "heal", name)
        if time.monotonic() > tell:
            yield "waiting for heal" if left is None else f"{left} entries are to be healed"
            tell = time.monotonic() + TELL_INTERVAL
        time.sleep(_POLL)


def _wait(done: Callable[[], bool], timeout: float, complaint: str) -> None:
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            raise CommandError(complaint)
        time.sleep(_POLL)
