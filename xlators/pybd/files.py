"""What is remembered of a mapped file as long as GlusterFS has an inode of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Final
from weakref import WeakValueDictionary

from glupy import Lock, linux
from glupy.constants import GF_SET_ATTR_ATIME, GF_SET_ATTR_MTIME
from glupy.gate import Gate
from glupy.views import Iatt
from pybd.device import Device
from pybd.ranges import Range

PLAIN: Final = object()
"""The context of an inode that is known not to be mapped."""


class Times:
    """Times that the file has got, as ``linux.touch`` sets them; zero: those of the stub are right.

    What the stub was told of is kept: attributes that are on their way were maybe read before.
    """

    __slots__ = ("_told", "c")

    def __init__(self) -> None:
        self.c: Final = linux.times()
        self._told: Final = linux.times()

    def taken(self) -> Any:
        """Return a copy of what the stub is to be told; None if it knows all.

        Never ctime alone: a client that has set the others has set the stub's by that.
        """
        times, told = linux.times(self.c[0]), self._told
        if times.ia_atime == told.ia_atime and times.ia_atime_nsec == told.ia_atime_nsec:
            times.ia_atime = times.ia_atime_nsec = 0
        if times.ia_mtime == told.ia_mtime and times.ia_mtime_nsec == told.ia_mtime_nsec:
            times.ia_mtime = times.ia_mtime_nsec = 0
        return times if times.ia_atime or times.ia_mtime else None

    def stored(self, taken: Any) -> None:
        """The stub was told."""
        told = self._told
        if taken.ia_atime:
            told.ia_atime, told.ia_atime_nsec = taken.ia_atime, taken.ia_atime_nsec
        if taken.ia_mtime:
            told.ia_mtime, told.ia_mtime_nsec = taken.ia_mtime, taken.ia_mtime_nsec

    def replaced(self, valid: int) -> None:
        """A client has set some by itself (GF_SET_ATTR_*): those, forwards or backwards."""
        for times in self.c, self._told:
            if valid & GF_SET_ATTR_ATIME:
                times.ia_atime = times.ia_atime_nsec = 0
            if valid & GF_SET_ATTR_MTIME:
                times.ia_mtime = times.ia_mtime_nsec = 0


class File:
    """One mapped file: the context of its inodes. There is one of these for a gfid.

    ``size`` is the file's in bytes, and right from the moment that ``stub`` is there; ``end`` is
    where what is written behind it will have made it end. ``stub`` are
    the stub's attributes as they were last seen; ``fresh``: nothing has changed them since. Who
    changes the size, or the mapping itself, holds ``resizing`` (across awaits); who reads or writes
    the device passes through ``gate`` meanwhile. ``moving``: the data is on its way to the device
    or back from it, so everybody waits for ``resizing``. ``merging``: the xattr says that a merge
    was begun; it is ended first. ``written``: what is written or discarded inside the file, while
    its device is copied. ``unsaved``: the size may not be on the disk yet. ``reported`` is the
    number of the last failure of a sync that an fd was told of; ``reported_anonymous``: an
    anonymous one. ``gone``: the last name is; ``watched``: somebody will look whether it is closed.
    Who gives it a name or takes one holds ``naming``. Who sets the stub's times holds ``storing``,
    and so what a client sets is not lost to a store of older ones.
    """

    __slots__ = (
        "__weakref__",
        "_changes",
        "_lock",
        "_pending",
        "complaint",
        "device",
        "fresh",
        "gate",
        "gfid",
        "gone",
        "kind",
        "mapped",
        "merging",
        "moving",
        "naming",
        "reach",
        "reported",
        "reported_anonymous",
        "resizing",
        "size",
        "storing",
        "stub",
        "times",
        "unsaved",
        "watched",
        "written",
    )

    def __init__(self, gfid: bytes, kind: str) -> None:
        self.gfid: Final = bytes(gfid)
        self.kind = kind
        self.device: Device | None = None
        self.size = 0
        self.reach = 0
        self.stub: Iatt | None = None
        self.fresh = False
        self.mapped = True
        self.moving = False
        self.merging = False
        self.unsaved = True
        self.gone = False
        self.watched = False
        self.complaint = ""
        self.reported = 0
        self.reported_anonymous = 0
        self.written: list[Range] | None = None
        self.times: Final = Times()
        self.resizing: Final = Lock()
        self.storing: Final = Lock()
        self.naming: Final = Lock()
        self.gate: Final = Gate()
        self._lock: Final = threading.Lock()
        self._changes = 0
        self._pending = 0

    @property
    def ready(self) -> bool:
        """Whether its data fops can be answered at once."""
        return (
            self.fresh
            and self.device is not None
            and not (self.moving or self.merging)
            and self.mapped
        )

    @property
    def end(self) -> int:
        """Where what there is of it on the device ends."""
        return max(self.reach, self.size)  # in this order: first the size grows, then nothing does

    @contextlib.contextmanager
    def reaching(self, end: int) -> Iterator[None]:
        """Inside, no discard takes along what is put behind the file's end, up to this one."""
        with self.gate.alone():  # up to the old end one takes what is behind that, too
            self.reach = end
        try:
            yield
        finally:
            self.reach = 0

    # ---- the stub's attributes ----

    def looking(self) -> int:
        """Somebody is about to ask for the stub's attributes: return what ``seen`` wants."""
        return self._changes

    def seen(self, iatt: Iatt, since: int) -> None:
        """These were the stub's attributes after ``looking``, which returned ``since``."""
        with self._lock:
            if self.stub is None:
                self.size = iatt.ia_size
            self._take(iatt, certain=since == self._changes)

    def changing(self) -> int:
        """Something is about to change the stub's attributes; return what ``changed`` wants."""
        with self._lock:
            self._changes += 1
            self._pending += 1
            self.fresh = False
            return self._changes

    def changed(self, after: Iatt | None, since: int) -> None:
        """It is done, and these are the attributes, unless something else changed them since."""
        with self._lock:
            alone = since == self._changes
            self._changes += 1
            self._pending -= 1
            if after is not None and self.stub is not None:
                self._take(after, certain=alone)

    def _take(self, iatt: Iatt, *, certain: bool) -> None:
        """Keep attributes, if they are not older than the stub's: what changes them sets ctime.

        ``certain``: nothing has begun or ended since they were asked for.
        """
        stub = self.stub
        if certain or stub is None or (not self.fresh and _ctime(iatt) >= _ctime(stub)):
            self.stub = iatt.copy()
            self.fresh = certain and not self._pending


def _ctime(iatt: Iatt) -> tuple[int, int]:
    return iatt.c.ia_ctime, iatt.c.ia_ctime_nsec


class Files:
    """All mapped files that are remembered, by gfid."""

    def __init__(self) -> None:
        self._files: WeakValueDictionary[bytes, File] = WeakValueDictionary()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Any:
        with self._lock:
            return iter(list(self._files.values()))

    def find(self, gfid: bytes) -> File | None:
        """Return the file of a gfid, if it is remembered."""
        return self._files.get(bytes(gfid))

    def add(self, gfid: bytes, kind: str) -> File | None:
        """Remember a file that is to be mapped: who finds it waits. None: it was remembered."""
        file = File(gfid, kind)
        file.mapped, file.moving = False, True
        with self._lock:
            return file if self._files.setdefault(file.gfid, file) is file else None

    def of(self, gfid: bytes, kind: str) -> File:
        """Return the file of a gfid; remembered as long as somebody holds it."""
        file = File(gfid, kind)
        with self._lock:
            return self._files.setdefault(file.gfid, file)

    def drop(self, file: File) -> None:
        """It is mapped no more: who asks for the gfid again gets a new one."""
        with self._lock:
            if self._files.get(file.gfid) is file:
                del self._files[file.gfid]
