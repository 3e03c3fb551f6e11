"""The Hypothesis state machine that makes up sequences.

It draws what is worth trying, without knowing what is wrong anywhere: offsets and lengths around
the boundaries of blocks, pages, shards and stripes, counted from the start or the end of a file or
from where something happened last; a few names and handles, so that they meet each other.
"""

import os
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from hypothesis.stateful import RuleBasedStateMachine

from glupy.testing.fuzz import steps
from glupy.testing.fuzz.model import FileModel
from glupy.testing.fuzz.outcome import Mismatch
from glupy.testing.fuzz.runner import Runner
from glupy.testing.strategies import BOUNDARIES, KIB, MIB

if TYPE_CHECKING:
    from glupy.testing.fuzz.search import Search

NAMES = "a", "b", "c"
CONTENTS = 70_000
"""Bytes of files that are made because a rule wants one."""
ALIGNED = 4096
"""What O_DIRECT wants offsets and lengths to be multiples of."""


class Origin(StrEnum):
    """What a `Place` is counted from."""

    START = "start of the file"
    END = "end of the file"
    LAST = "where something happened last"


class Place(NamedTuple):
    """An offset near a boundary: number ``boundary`` of those there are."""

    origin: Origin
    boundary: int
    delta: int


AROUND = 0, 4 * KIB, -4 * KIB
WHOLE = 0
"""The length of a whole shard or stripe: as far as the target's last boundary of its own is."""
MARKS = 5
"""How many ctimes are set between two waits."""
LONGEST = 16 * MIB
"""No range is longer, however large a shard is."""


class SpoiledError(KeyboardInterrupt):
    """No sequence can be tried any more: what one has left cannot be removed."""


class SequenceMachine(RuleBasedStateMachine):
    """One instance is one sequence. Subclasses have the rules, and say on what."""

    search: ClassVar["Search"]

    def __init__(self) -> None:
        if self.search.ground.spoiled:
            raise SpoiledError
        super().__init__()
        self.runner = self.search.current = Runner(self.search.ground, self.search.against)
        self.wrong: str | None = None
        self._marked = 0

    def teardown(self) -> None:
        """What is not seen at once is seen now."""
        try:
            if self.wrong is None:
                self._guarded(self.runner.verify)
        finally:
            try:
                self._guarded(self.runner.clean)
            finally:
                self.search.ended(self.runner, self.wrong)

    # ---- how ----

    def _do(self, step: steps.Step) -> None:
        if self.search.stopped:
            raise KeyboardInterrupt  # which Hypothesis lets pass
        if self.runner.against is not None and step.fop in self.runner.promises.unsupported:
            return  # one may do it
        if self.runner.promises.checked_flags or self._may(step):
            self._guarded(lambda: self.runner.perform(step))

    def _mark(self, step: steps.Step) -> None:
        """Do what sets a ctime and no other time: sometimes when the clock has ticked since all
        that was before, or it would not show."""
        self._marked += 1
        if self._marked % MARKS == 1 and self.runner.promises.times and not self.runner.may_fail:
            self._do(steps.Wait())
        self._do(step)

    def _may(self, step: steps.Step) -> bool:
        """Whether the handle of a step is open for what that does."""
        if not isinstance(step, steps.OnHandle):
            return True
        handle = self.runner.volume.handles[step.handle]
        return handle.reads if isinstance(step, steps.Read) else handle.writes or not step.modifies

    def _guarded(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except Mismatch as error:
            self.wrong = self.wrong or str(error)
            raise

    def _handle(self, which: int) -> int | None:
        """A handle that is open: if there is none, that of a new file or an old one.

        None: it could not be opened, and that was right."""
        handles = list(self.runner.volume.handles)
        if handles:
            return handles[which % len(handles)]
        if self.runner.ground.readonly:
            self._do(steps.Open(which, NAMES[which], os.O_RDONLY))
        elif self.runner.ground.kept:
            self._do(steps.Open(which, next(iter(self.runner.ground.kept)), os.O_RDWR))
        else:
            self._do(steps.Create(which, NAMES[which]))
            if which and which in self.runner.volume.handles:
                self._do(steps.Write(which, 0, CONTENTS, which))  # faults show where there is data
                if which > 1:
                    self._age(which)  # and where times are old
        return which if which in self.runner.volume.handles else None

    def _age(self, handle: int) -> None:
        promises = self.runner.promises
        if self.runner.ground.readonly and not promises.failed_setattrs:
            return
        if promises.times and (promises.nameless or self._file(handle).links):
            self._do(steps.Age(handle))

    def _free(self, handle: int) -> None:
        if handle in self.runner.volume.handles:
            self._do(steps.Close(handle))

    def _name(self, name: str) -> str:
        """One that there is, most often."""
        there = self.runner.volume.names
        return name if name in there or name == NAMES[-1] else next(iter(there), name)

    def _file(self, handle: int) -> FileModel:
        return self.runner.volume.handles[handle].file

    def _open_as(self, handle: int) -> list[int]:
        """All handles of the same file."""
        opened = self.runner.volume.handles
        return [each for each in opened if opened[each].file is opened[handle].file]

    def _is_direct(self, handle: int) -> bool:
        return bool(self.runner.volume.handles[handle].flags & os.O_DIRECT)

    def _place(self, file: FileModel, place: Place) -> int:
        if place.origin is Origin.START:
            boundaries = *BOUNDARIES, *self.runner.ground.boundaries
            start = boundaries[place.boundary % len(boundaries)]
        else:
            start = file.size if place.origin is Origin.END else file.last
            start += AROUND[place.boundary]
        return max(0, start + place.delta)

    def _size(self, file: FileModel, place: Place) -> int:
        """A size that a truncate may give a file."""
        size, promises = self._place(file, place), self.runner.promises
        if size >= file.size:
            return size
        if within := promises.cuts_within:
            size = max(size, (file.size - 1) // within * within + 1)
        return size + (size in promises.wrong_sizes)

    def _offset(self, handle: int, place: Place) -> int:
        return self._place(self._file(handle), place)

    def _range(self, handle: int, place: Place, length: int) -> tuple[int, int]:
        offset, length = self._offset(handle, place), self._length(length)
        if self._is_direct(handle):
            offset -= offset % ALIGNED
            length += -length % ALIGNED
        return offset, length

    def _length(self, length: int) -> int:
        return length or min(max(self.runner.ground.boundaries, default=1), LONGEST)

    def _range_by_name(self, name: str, place: Place, length: int) -> tuple[int, int]:
        file = self.runner.volume.names.get(name)
        return self._place(file, place) if file else 0, self._length(length)
