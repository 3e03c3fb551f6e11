"""trusted.gfid2path.HASH = "PARENT-GFID/NAME": from a file to its names. One for each hard link."""

from __future__ import annotations

import errno
import logging
import os

from glupy import keys
from glupy.constants import xxh64
from pyposix import xattrs
from pyposix.handles import Handles, dashed
from pyposix.xattrs import Target

MOST_LINKS = 500
"""A name beyond that many is not recorded."""


class Gfid2path:
    """Keeps those xattrs. That one cannot be written or removed does not fail a fop."""

    def __init__(self, log: logging.Logger, enabled: bool) -> None:
        self.enabled = enabled
        self._log = log

    def add(self, target: Target, parent: bytes, name: bytes) -> None:
        """Record a new name."""
        record = self.record(parent, name)
        if record is not None:
            try:
                os.setxattr(target, *record, os.XATTR_CREATE, follow_symlinks=type(target) is int)
            except OSError as error:
                self.unrecorded(record[1], error.errno or errno.EIO)

    def record(self, parent: bytes, name: bytes) -> tuple[bytes, bytes] | None:
        """Return the key and the value that record a name; None if none is recorded."""
        if not self.enabled:
            return None
        value = dashed(parent) + b"/" + name
        return record_key(value).encode(), value

    def unrecorded(self, value: bytes, number: int) -> None:
        """Tell the log that a name could not be recorded, with which errno."""
        self._log.warning("the name %r cannot be recorded: %s", value, os.strerror(number))

    def remove(self, target: Target, parent: bytes, name: bytes) -> None:
        """Forget a name."""
        if self.enabled:
            value = dashed(parent) + b"/" + name
            try:
                xattrs.remove(target, record_key(value))
            except OSError as error:
                if error.errno != errno.ENODATA:
                    self._log.warning("the name %r stays recorded: %s", value, error)


def record_key(value: bytes) -> str:
    """Return the xattr that records a name: ``value`` is PARENT-GFID/NAME."""
    return keys.GFID2PATH_PREFIX + xxh64(value)


def is_key(name: str) -> bool:
    """Say whether that is the name of such an xattr: hidden from clients, not theirs to set."""
    return name.startswith(keys.GFID2PATH_PREFIX)


def paths(handles: Handles, target: Target) -> list[bytes]:
    """Return all recorded paths of a file, from the volume's root; ENODATA if there are none."""
    found = []
    for key in filter(is_key, xattrs.names(target)):
        value = xattrs.get(target, key)
        parent, _, name = value.partition(b"/")
        folders = handles.names(bytes.fromhex(parent.replace(b"-", b"").decode()))
        found.append(b"/" + b"/".join([*folders, name]))
    if not found:
        raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
    return found
