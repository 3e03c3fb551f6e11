"""What makes a change of times show."""

import time
from dataclasses import dataclass

from glupy.testing.fuzz.model import VolumeModel
from glupy.testing.fuzz.side import Side
from glupy.testing.fuzz.steps.base import OnHandle, Plan, Step

LONG_AGO = 1_000_000_000 * 10**9
"""In nanoseconds: in 2001."""


@dataclass(frozen=True)
class Age(OnHandle):
    """futimens: a long-past mtime, so that the next change shows in it."""

    handle: int

    def plan(self, volume: VolumeModel) -> Plan:
        file = self.opened(volume).file

        def change() -> None:
            file.times.pop("mtime", None)
            file.since["mtime"] = LONG_AGO
            if volume.promises.set_times:
                file.until["mtime"] = LONG_AGO

        return Plan(change=change, marks=(file,))

    def call(self, side: Side) -> None:
        side.files[self.handle].futimens(LONG_AGO, LONG_AGO)


@dataclass(frozen=True)
class Wait(Step):
    """Wait until file systems have another time: what changes a file now has a later mtime."""

    modifies = False

    def plan(self, volume: VolumeModel) -> Plan:
        def change() -> None:
            volume.waited = coarse_time()

        return Plan(change=change)

    def call(self, side: Side) -> None:
        before = time.time_ns()  # clients' times are as fine as this
        while coarse_time() <= before:
            time.sleep(0.001)


_CLOCK_REALTIME_COARSE = 5  # linux/time.h


def coarse_time() -> int:
    """This machine's time in nanoseconds, as coarse as file systems have it: a few milliseconds."""
    return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)
