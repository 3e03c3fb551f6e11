"""Pools: where devices come from. One small protocol, and ``find`` by what option ``pool`` says.

A pool knows devices by name only; whose they are is in ``pybd.identity``. Its calls block: on the
disk, or on a command of LVM. All raise OSError: ENODEV if the pool is not there, ENOSPC if it is
full, ENOENT and EEXIST for names.
"""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from glupy import loading
from glupy.errors import OptionError
from pybd.device import Device

GROUP = "glupy.pools"
"""Entry points of pools: ``NAME = package.module:Class`` is the pool of ``pool=NAME:WHERE``."""


class Known(NamedTuple):
    """A device of a pool: its name, the tag of its owner, its size in bytes."""

    name: str
    tag: str
    size: int


class Room(NamedTuple):
    """The size of a pool and what is free, in bytes; ``st_dev`` of its file system, 0 if none."""

    size: int
    free: int
    st_dev: int


class Pool(Protocol):
    """What pybd asks of a pool. ``WHERE`` of ``NAME:WHERE`` is given to the class."""

    kinds: tuple[str, ...]
    """Of ``thin`` and ``lv``, what ``make`` can make."""
    fresh_is_zero: bool
    """Whether what was never written reads as zeros; if not, pybd zeroes it first."""

    def __init__(self, where: str, *, sector_size: int = 512) -> None:
        """Raise OptionError if that can be no pool. It need not be there yet."""

    @property
    def extent(self) -> int:
        """Sizes are multiples of this, in bytes."""

    def check(self) -> None:
        """Raise OSError ENODEV if the pool is not there."""

    def make(self, name: str, size: int, kind: str, tag: str) -> None:
        """Make a device."""

    def find(self, name: str) -> Known | None:
        """Return a device; None if there is none of that name."""

    def open(self, name: str) -> Device:
        """Open a device for reading and writing."""

    def resize(self, name: str, size: int) -> None:
        """Set the size of a device, which may be open: then ``Device.measure`` comes next."""

    def rename(self, old: str, new: str) -> None:
        """Rename a device, which may be open. EEXIST if the new name is taken."""

    def remove(self, name: str) -> None:
        """Remove a device and give its space back; no error if there is none.

        Whether it is open is for ``unused`` to say.
        """

    def unused(self, name: str) -> AbstractContextManager[None]:
        """Keep others from opening a device while the block runs. EBUSY if one has it open."""

    def snapshot(self, name: str, new: str, tag: str) -> bool:
        """Make a device that shares the contents of another one, at once.

        False: this pool cannot do that, the contents must be copied.
        """

    def devices(self) -> list[Known]:
        """Return all devices of the pool."""

    def room(self) -> Room:
        """Return how much there is."""

    def blocks(self, name: str) -> int:
        """Return the blocks of 512 bytes that a device holds, without opening it."""


def find(spec: str, *, sector_size: int = 512) -> Pool:
    """Return the pool that ``loop:DIR``, ``lvm:VG`` or ``lvm:VG/THINPOOL`` names.

    OptionError, one line, if it names none.
    """
    kind, colon, where = spec.partition(":")
    registered = loading.registrations(GROUP)
    if not colon or not where or kind not in registered:
        known = ", ".join(f"{each}:…" for each in sorted(registered)) or "none"
        raise OptionError(f"option pool: {spec!r} is not one of {known}")
    module, _, name = registered[kind].partition(":")
    cls: type[Pool] = getattr(importlib.import_module(module), name)
    return cls(where, sector_size=sector_size)
