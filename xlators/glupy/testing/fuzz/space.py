"""Whether a pool has its space back when files are discarded, and when they are removed."""

import os
import time
from collections.abc import Callable

from glupy.testing.fuzz import steps
from glupy.testing.fuzz.machine import SequenceMachine
from glupy.testing.fuzz.model import FileModel
from glupy.testing.fuzz.outcome import Mismatch

_PATIENCE = 5.0
"""Seconds that a file's space may take to come back: its device is removed after the reply."""


def giving_back(used: Callable[[], int], granule: int) -> type[SequenceMachine]:
    """Return one of the ``rules`` of a search, for the end of each sequence.

    When all of all files is discarded, ``used`` is a granule for each file more than now at most,
    both in bytes. When they are removed then, as they are unless they are kept, it is what it is
    now.
    """
    before = used()

    def check(more: int, what: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while (now := used()) > before + more:
            if time.monotonic() > deadline:
                raise Mismatch(f"{now - before} bytes are in use when all is {what}, not {more}")
            time.sleep(0.02)

    class GivesBack(SequenceMachine):
        """Has no rules of its own."""

        def teardown(self) -> None:
            try:
                if self.wrong is None:
                    self._guarded(self._give_back)
            finally:
                super().teardown()

        def _give_back(self) -> None:
            runner = self.runner
            runner.verify()  # as it is, first
            volume, perform = runner.volume, runner.perform
            for handle in list(volume.handles):
                perform(steps.Close(handle))
            for name, file in volume.names.items():
                perform(steps.Open(0, name, os.O_RDWR))
                if end := _end(file):
                    perform(steps.Truncate(0, end))
                    perform(steps.Discard(0, 0, end))
                    perform(steps.Sync(0))
                perform(steps.Close(0))
            check(len(set(map(id, volume.names.values()))) * granule, "discarded")
            if not runner.ground.kept:
                for name in list(volume.names):
                    perform(steps.Unlink(0, name))
                check(0, "removed")

    return GivesBack


def _end(file: FileModel) -> int:
    """Return how far it reaches, with what is allocated past its end: nothing discards that."""
    allocated = file.may.bit_length() * file.block_size
    return allocated if allocated - file.size >= file.block_size else file.size
