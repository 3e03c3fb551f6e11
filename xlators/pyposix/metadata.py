"""Times that are the client's, not the brick's: the xattr trusted.glusterfs.mdata (option ctime).

Replicas cannot agree on the times of their own file systems. So features/utime on the client sends
its clock with each fop, and which of the times the fop sets (``frame.ctime``, ``frame.flags``), and
the brick keeps them in an xattr. A file without it shows the times of the file system.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from glupy import keys, linux
from glupy.constants import (
    MDATA_ATIME,
    MDATA_CTIME,
    MDATA_MTIME,
    MDATA_PAR_ATIME,
    MDATA_PAR_CTIME,
    MDATA_PAR_MTIME,
)
from glupy.views import Frame, Iatt, Mdata
from glupy.views.base import NULL
from pyposix import xattrs
from pyposix.xattrs import Target

if TYPE_CHECKING:
    from pyposix.files import File

_OWN = MDATA_CTIME | MDATA_MTIME | MDATA_ATIME
_PARENT = MDATA_PAR_CTIME | MDATA_PAR_MTIME | MDATA_PAR_ATIME

# posix_mdata_disk_t, packed: version, flags, then seconds and nanoseconds of each time.
_DISK = struct.Struct(">BQ6q")
_VERSION = 1

Time = tuple[int, int]
"""Seconds and nanoseconds."""


class Times(NamedTuple):
    """The three times of a file."""

    ctime: Time
    mtime: Time
    atime: Time

    @classmethod
    def decode(cls, value: bytes) -> Times | None:
        """Return what is on disk; None if it is too short to be that."""
        if len(value) < _DISK.size:
            return None
        _, _, *numbers = _DISK.unpack_from(value)
        ctime, mtime, atime = zip(numbers[::2], numbers[1::2], strict=True)
        return cls(ctime, mtime, atime)

    def encode(self) -> bytes:
        """Return the bytes for the disk."""
        return _DISK.pack(_VERSION, 0, *self.ctime, *self.mtime, *self.atime)

    @classmethod
    def of_mdata(cls, given: Mdata) -> Times:
        """Return times as a dict carries them."""
        return cls(
            (given.ia_ctime, given.ia_ctime_nsec),
            (given.ia_mtime, given.ia_mtime_nsec),
            (given.ia_atime, given.ia_atime_nsec),
        )

    def mdata(self) -> Mdata:
        """Return them as a dict carries them."""
        seconds, nanoseconds = zip(self.atime, self.mtime, self.ctime, strict=True)
        return Mdata(*seconds, *nanoseconds)

    def later(self, other: Times) -> Times:
        """Return the later of each time."""
        return Times(*map(max, self, other))

    def store(self, iatt: Iatt) -> None:
        """Show these times in attributes."""
        c = iatt.c
        c.ia_ctime, c.ia_ctime_nsec = self.ctime
        c.ia_mtime, c.ia_mtime_nsec = self.mtime
        c.ia_atime, c.ia_atime_nsec = self.atime


class Metadata:
    """Reads and writes the times of files; leaves them to the file system while not ``enabled``.

    That they cannot be stored never fails a fop: it was carried out. The log has a warning.
    """

    def __init__(self, log: logging.Logger, enabled: bool) -> None:
        self.enabled = enabled
        self._log = log

    def shown(self, file: File, target: Target) -> Any:
        """Return a file's times for ``linux.fstat``, from the xattr if they are not known yet."""
        if not self.enabled:
            file.shown = NULL
            return NULL
        with file.lock:
            self._known(file, target)
            return file.shown

    def touch(self, frame: Frame, file: File, target: Target, iatt: Iatt | None = None) -> None:
        """Set the times that the fop sets on its file, and show them in ``iatt``."""
        if self.enabled:
            flags = frame.flags & _OWN
            if flags:
                self._touch(file, target, frame.ctime, flags, iatt)

    def touch_parent(self, frame: Frame, file: File, path: bytes, iatt: Iatt) -> None:
        """Set the times that the fop sets on the directory it changed."""
        if self.enabled:
            flags = frame.flags & _PARENT
            if flags:
                own = (
                    (MDATA_CTIME if flags & MDATA_PAR_CTIME else 0)
                    | (MDATA_MTIME if flags & MDATA_PAR_MTIME else 0)
                    | (MDATA_ATIME if flags & MDATA_PAR_ATIME else 0)
                )
                self._touch(file, path, frame.ctime, own, iatt)

    def touch_copy(
        self,
        frame: Frame,
        source: File,
        source_number: int,
        source_iatt: Iatt,
        target: File,
        target_number: int,
        target_iatt: Iatt,
    ) -> None:
        """Set the times after a copy: the source was read, the target written."""
        if self.enabled:
            flags = frame.flags
            if flags & (MDATA_CTIME | MDATA_MTIME):
                own = flags & (MDATA_CTIME | MDATA_MTIME)
                self._touch(target, target_number, frame.ctime, own, target_iatt)
            if flags & MDATA_ATIME:
                self._touch(source, source_number, frame.ctime, MDATA_ATIME, source_iatt)

    def _touch(self, file: File, target: Target, when: Time, flags: int, iatt: Iatt | None) -> None:
        with file.lock:
            old = self._known(file, target)
            if old is None:
                new = Times(when, when, when)
            else:
                new = Times(
                    max(when, old.ctime) if flags & MDATA_CTIME else old.ctime,
                    max(when, old.mtime) if flags & MDATA_MTIME else old.mtime,
                    max(when, old.atime) if flags & MDATA_ATIME else old.atime,
                )
            if new != old:
                self._write(file, target, new)
        if iatt is not None:
            new.store(iatt)

    def set_times(
        self, file: File, target: Target, now: Time, mtime: Time | None, atime: Time | None
    ) -> None:
        """Set times as utimensat(2) does, backwards too; only of a file that has some already."""
        if self.enabled:
            with file.lock:
                old = self._known(file, target)
                if old is not None:
                    new = Times(max(now, old.ctime), mtime or old.mtime, atime or old.atime)
                    self._write(file, target, new)

    def merge(self, file: File, target: Target, times: Times) -> None:
        """Take over times that a heal or a lookup brings: the later of each. Raises OSError."""
        with file.lock:
            old = self._known(file, target)
            new = times if old is None else old.later(times)
            xattrs.put(target, keys.MDATA, new.encode())
            self._remember(file, new)

    def merge_stored(self, file: File, target: Target, value: bytes) -> None:
        """Take over times as the xattr has them. EINVAL if they are none."""
        times = Times.decode(value)
        if times is None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self.merge(file, target, times)

    @staticmethod
    def begin(file: File) -> None:
        """The file is new: it has no times of its own yet."""
        with file.lock:
            file.times, file.shown = None, NULL

    @staticmethod
    def forget(file: File) -> None:
        """The xattr may have changed, or the option: read it again."""
        with file.lock:
            file.times = file.shown = None

    def _known(self, file: File, target: Target) -> Times | None:
        if file.shown is None:
            value = xattrs.find(target, keys.MDATA)
            self._remember(file, None if value is None else Times.decode(value))
        return file.times

    def _remember(self, file: File, times: Times | None) -> None:
        file.times = times
        file.shown = linux.times(times.mdata()) if times is not None and self.enabled else NULL

    def _write(self, file: File, target: Target, times: Times) -> None:
        self._remember(file, times)
        try:
            xattrs.put(target, keys.MDATA, times.encode())
        except OSError as error:
            self._log.warning("the times of %s cannot be stored: %s", file.gfid.hex(), error)
