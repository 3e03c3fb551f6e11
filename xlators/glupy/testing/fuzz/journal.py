"""The calls of a sequence as it is done, for a process that outlives the one which does them."""

import pickle
from pathlib import Path

from glupy.testing.fuzz.steps import Step


class Journal:
    """Writes each call to a file before it is made. ``path`` must not be anyone else's to write."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)

    def begin(self) -> None:
        """What follows is another sequence."""
        self._file.truncate(0)
        self._file.seek(0)

    def note(self, step: Step) -> None:
        """This is about to be done."""
        self._file.write(pickle.dumps(step))


def read(path: Path) -> list[Step]:
    """The calls of the last sequence; none if there is no such file."""
    steps: list[Step] = []
    if path.exists():
        with path.open("rb") as file:
            while file.peek(1):
                steps.append(pickle.load(file))  # written by a child of this process
    return steps
