"""What a step is, and what it should do."""

import abc
import dataclasses
import os
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from glupy.testing.fuzz.model import FileModel, Handle, VolumeModel
from glupy.testing.fuzz.side import Side

PATIENCE = 60.0
"""Seconds that an answer may take."""
NOTHING: Callable[[], object] = object


class Plan(NamedTuple):
    """What a step should do to a model.

    ``errno`` 0: it should succeed, with ``value`` (None: whatever), its reply's attributes being
    those of ``file`` before and after the ``change``. ``touches``: mtime and ctime of these are
    set; ``marks``: the ctimes of these are.
    """

    errno: int = 0
    value: object = None
    file: FileModel | None = None
    change: Callable[[], object] = NOTHING
    touches: tuple[FileModel, ...] = ()
    marks: tuple[FileModel, ...] = ()


FLAGS = "O_WRONLY", "O_RDWR", "O_APPEND", "O_EXCL", "O_TRUNC", "O_SYNC", "O_DSYNC", "O_DIRECT"
"""The flags of open(2) that steps have, by name."""


def flag_names(value: int) -> str:
    """Flags of open(2), for a reader."""
    names = [name for name in FLAGS if value & getattr(os, name) == getattr(os, name)]
    if "O_SYNC" in names:
        names.remove("O_DSYNC")
    return "|".join(names) or "O_RDONLY"


class Step(abc.ABC):
    """One call."""

    takes_space: ClassVar[bool] = False
    """A full store may refuse it."""

    @property
    def modifies(self) -> bool:
        """It changes a file or a name, if it succeeds: a read-only store refuses it."""
        return True

    @property
    def parts(self) -> "tuple[Step, ...]":
        """Itself, and the calls that it is made of."""
        return (self,)

    @abc.abstractmethod
    def plan(self, volume: VolumeModel) -> Plan:
        """What should happen; nothing has yet."""

    @abc.abstractmethod
    def call(self, side: Side) -> Any:
        """Do it: what it returned, a `Reply` if attributes came with that. Raises OSError."""

    @property
    def fop(self) -> str:
        """Its name, as a reader knows it."""
        return type(self).__name__.lower()

    def arguments(self) -> str:
        """Its arguments, for a reader."""
        shown = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))  # type: ignore[arg-type]
        return ", ".join(
            f"{name} {flag_names(value) if name == 'flags' else value}" for name, value in shown
        )


class ImpossibleError(Exception):
    """A step cannot be where it is: its handle is not open, or not for what it does."""


def opened(volume: VolumeModel, handle: int) -> Handle:
    """What is open by that number. Raises ImpossibleError."""
    try:
        return volume.handles[handle]
    except KeyError:
        raise ImpossibleError(f"handle {handle} is not open here") from None


def touched_by_truncate(volume: VolumeModel, file: FileModel, size: int) -> tuple[FileModel, ...]:
    """The file, if a truncate to this size sets its times."""
    promises = volume.promises
    grows = size > file.size and promises.growing_times
    cuts = size < file.size and (promises.cutting_times or size <= promises.cuts_within)
    return (file,) if grows or cuts else ()


class OnHandle(Step):
    """A call on an open file."""

    handle: int

    def opened(self, volume: VolumeModel) -> Handle:
        """ImpossibleError: in this sequence it is not, for what opened it has failed."""
        return opened(volume, self.handle)
