"""Who serves a brick: what runs GlusterFS's library and holds the brick's directory open.

C posix and pyposix both hold it from init to the end. A brick that is served from another pid
namespace (another container, another machine on a shared disk) is not seen.
"""

from __future__ import annotations

import os
import time

from pyposix.check.ground import Ground

_LIBRARY = b"libglusterfs.so"


def servers(ground: Ground) -> list[int]:
    """Return the pids of the processes that serve this brick; this process is not looked at."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return sorted(pid for pid in pids if pid != os.getpid() and _serves(pid, ground))


class Watch:
    """Asks again and again whether a brick has come to be served, each second at most."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._looked = time.monotonic()

    def served(self) -> bool:
        """Say whether somebody serves it; False if that was asked less than a second ago."""
        now = time.monotonic()
        if now - self._looked < 1:
            return False
        self._looked = now
        return bool(servers(self._ground))


def _serves(pid: int, ground: Ground) -> bool:
    root = ground.status
    try:
        with open(f"/proc/{pid}/maps", "rb") as maps:
            if _LIBRARY not in maps.read():
                return False
        with os.scandir(f"/proc/{pid}/fd") as numbers:
            return any(_is(number.path, root) for number in numbers)
    except OSError:  # it has ended
        return False


def _is(path: str, wanted: os.stat_result) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)
