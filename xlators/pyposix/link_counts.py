"""trusted.pgfid.PARENT-GFID = how many names a file has in that directory, 32 bits big-endian.

Kept while option update-link-count-parent is on, which quota and trash ask for: it leads from a
file to the directories it is in (``ancestry``). Files from before get theirs when looked up.
"""

from __future__ import annotations

import logging

from glupy import keys
from pyposix import xattrs
from pyposix.files import File
from pyposix.handles import dashed
from pyposix.xattrs import Target

_BYTES = 4


class LinkCounts:
    """Keeps those xattrs. That one cannot be written does not fail a fop: the log has a warning.

    ``target`` is the file by its number or by any of its paths, ``parent`` a directory's gfid.
    """

    def __init__(self, log: logging.Logger) -> None:
        self.enabled = False
        self._log = log

    def add(self, file: File, target: Target, parent: bytes) -> None:
        """The file has one more name in that directory."""
        self._change(file, target, parent, 1)

    def remove(self, file: File, target: Target, parent: bytes) -> None:
        """It has one less there. The last name of all takes the xattr with it: no need to call."""
        self._change(file, target, parent, -1)

    def ensure(self, file: File, target: Target, parent: bytes) -> None:
        """It is known to have a name there: count at least that."""
        self._change(file, target, parent, 0)

    def _change(self, file: File, target: Target, parent: bytes, by: int) -> None:
        if not self.enabled:
            return
        key = _key(parent)
        try:
            with file.lock:
                value = xattrs.find(target, key)
                if value is None:
                    # Made before the option was on: its other names there are not known.
                    if by >= 0:
                        _put(target, key, 1)
                elif by:
                    count = _count(value) + by
                    if count > 0:
                        _put(target, key, count)
                    else:
                        xattrs.remove(target, key)
        except OSError as error:
            self._log.warning("the names of %s are not counted: %s", file.gfid.hex(), error)


def parents(target: Target) -> dict[bytes, int]:
    """Return the gfids of the directories that a file has names in, and how many there."""
    found = {}
    for name in xattrs.names(target):
        if name.startswith(keys.PGFID_PREFIX):
            value = xattrs.find(target, name)
            text = name.removeprefix(keys.PGFID_PREFIX).replace("-", "")
            if value is not None and len(text) == 32:
                found[bytes.fromhex(text)] = _count(value)
    return found


def _key(parent: bytes) -> str:
    return keys.PGFID_PREFIX + dashed(parent).decode()


def _count(value: bytes) -> int:
    return int.from_bytes(value[:_BYTES], signed=True)


def _put(target: Target, key: str, count: int) -> None:
    xattrs.put(target, key, count.to_bytes(_BYTES))
