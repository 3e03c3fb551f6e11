"""Two calls at once."""

import os
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from glupy.testing.fuzz.model import VolumeModel
from glupy.testing.fuzz.side import Side
from glupy.testing.fuzz.steps import base
from glupy.testing.fuzz.steps.base import ImpossibleError, Plan, Step
from glupy.testing.fuzz.steps.data import OnRange, Read
from glupy.testing.gfapi import Reply


@dataclass(frozen=True)
class Together(Step):
    """Two asynchronous calls, whose ranges do not meet: in either order they come to the same."""

    first: OnRange
    second: OnRange

    @property
    def parts(self) -> tuple[Step, ...]:
        return self, *self.calls

    @property
    def calls(self) -> tuple[OnRange, OnRange]:
        return self.first, self.second

    def plan(self, volume: VolumeModel) -> Plan:
        for part in self.calls:
            opened = part.opened(volume)
            if not opened.reads or not opened.writes or opened.flags & os.O_APPEND:
                raise ImpossibleError(f"handle {part.handle} is not open for that")
            if isinstance(part, Read) and part.offset + part.length > opened.file.size:
                raise ImpossibleError("where that read ends depends on which call is first")
        if self.first.opened(volume).file is not self.second.opened(volume).file:
            raise ImpossibleError("those are two files")
        plans = [part.plan(volume) for part in self.calls]

        def change() -> None:
            for plan in plans:
                plan.change()

        return Plan(
            value=[plan.value for plan in plans],
            change=change,
            touches=tuple(file for plan in plans for file in plan.touches),
        )

    def call(self, side: Side) -> tuple[Reply[Any], Reply[Any]]:
        with ThreadPoolExecutor(1) as thread:  # without a brick in between a call ends as it starts
            started = thread.submit(self.first.start, side)
            second = self.second.start(side)
            first = started.result()
        wait([first, second], base.PATIENCE)
        return first.result(0), second.result(0)

    def arguments(self) -> str:
        return "; ".join(f"{part.fop} {part.arguments()}" for part in self.calls)
