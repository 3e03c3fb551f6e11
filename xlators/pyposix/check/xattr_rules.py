"""The xattrs of a file that must agree with its names, or with themselves: gfid2path and mdata.

A name need not be recorded beyond 500 names, nor if there is no room for xattrs. While the option
gfid2path is off, none is, and what was recorded before stays whatever becomes of the name.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Set

from glupy import keys
from pyposix import gfid2path, handles, xattrs
from pyposix.check.findings import Finding, Kind, shown
from pyposix.check.ground import Ground, parse_gfid
from pyposix.metadata import Times

SECOND = 1_000_000_000
_MAPPING = re.compile(rb"(thin|lv)(:[0-9]+)?(,merge=[0-9a-f]{32}:[0-9]+)?")
_SPARE = 512
"""Bytes of a block for what an xattr takes besides its name and value."""


class XattrRules:
    """Looks at the xattrs of one file. OSError if they cannot be read."""

    def __init__(self, ground: Ground, *, recorded: bool) -> None:
        """``recorded``: names and records must agree; else a record need only be well-formed."""
        self._ground = ground
        self._recorded = recorded
        self._block = os.fstatvfs(ground.root).f_bsize

    def mdata(self, path: bytes, target: xattrs.Target) -> Iterator[Finding]:
        """Check the times of any file."""
        value = xattrs.find(target, keys.MDATA)
        if value is not None and not is_mdata(value):
            yield Finding(Kind.MDATA_MALFORMED, path, f"its value is 0x{value[:64].hex()}")

    def mapping(self, path: bytes, target: xattrs.Target) -> Iterator[Finding]:
        """Check a file whose bytes are on a block device: user/pybd, ``docs/pybd.md``."""
        value = xattrs.find(target, keys.BD)
        if value is None:
            return
        if not _MAPPING.fullmatch(value):
            yield Finding(Kind.MAPPING_MALFORMED, path, f"it is {shown(value)}")
        elif not isinstance(target, int) and _has_data(target):
            yield Finding(Kind.MAPPED_DATA, path)

    def name(
        self, path: bytes, target: xattrs.Target, parent: bytes, name: bytes, names: int
    ) -> Iterator[Finding]:
        """Check that a name of a file is recorded; ``names`` is how many it has, as links say."""
        if not self._recorded or names > gfid2path.MOST_LINKS:
            return
        value = handles.dashed(parent) + b"/" + name
        key = gfid2path.record_key(value)
        if xattrs.find(target, key) is None and self._has_room(target, len(key) + len(value)):
            yield Finding(Kind.GFID2PATH_MISSING, path, shown(value), record=(key, value))

    def only_name(self, path: bytes, target: xattrs.Target, expected: bytes) -> Iterator[Finding]:
        """Check all records of a file that has but one name: ``expected`` is its record."""
        for key, value in _records(target):
            if not is_record(key, value):
                yield _malformed(path, key, value)
            elif self._recorded and value != expected:
                yield _stale(path, key, value)

    def all_names(
        self, path: bytes, target: xattrs.Target, ino: int, lost: Set[bytes]
    ) -> Iterator[Finding]:
        """Check all records of a file wherever its names are; ``ino`` is its inode number.

        A name behind directories that are ``lost``, as their handles are wrong, may be there.
        """
        for key, value in _records(target):
            if not is_record(key, value):
                yield _malformed(path, key, value)
                continue
            if not self._recorded:
                continue
            parent, _, name = value.partition(b"/")
            gfid = parse_gfid(parent)
            if gfid is None or not self._ground.is_name(gfid, name, ino, lost):
                yield _stale(path, key, value)

    def _has_room(self, target: xattrs.Target, needed: int) -> bool:
        names = xattrs.names(target)
        taken = sum(len(name) + len(xattrs.find(target, name) or b"") + 16 for name in names)
        return taken + needed < self._block - _SPARE


def _has_data(path: bytes) -> bool:
    number = os.open(path, os.O_RDONLY)
    try:
        return os.lseek(number, 0, os.SEEK_DATA) >= 0
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return False
    finally:
        os.close(number)


def has_record(target: xattrs.Target) -> bool:
    """Whether any name of a file is recorded."""
    return any(map(gfid2path.is_key, xattrs.names(target)))


def is_record(key: str, value: bytes) -> bool:
    """Whether that is a gfid2path xattr as GlusterFS writes it."""
    parent, slash, name = value.partition(b"/")
    if not slash or not name or b"/" in name or parse_gfid(parent) is None:
        return False
    return gfid2path.record_key(value) == key


def is_mdata(value: bytes) -> bool:
    """Whether that is a value of trusted.glusterfs.mdata: its version, its size, sane times."""
    times = Times.decode(value)
    if times is None:
        return False
    right = times.encode()
    version = slice(0, 1)
    return (
        len(value) == len(right)
        and value[version] == right[version]
        and all(0 <= nanoseconds < SECOND for _, nanoseconds in times)
    )


def _records(target: xattrs.Target) -> Iterator[tuple[str, bytes]]:
    for key in filter(gfid2path.is_key, xattrs.names(target)):
        value = xattrs.find(target, key)
        if value is not None:
            yield key, value


def _malformed(path: bytes, key: str, value: bytes) -> Finding:
    detail = f"{shown(key.encode('utf-8', 'surrogateescape'))} is {shown(value)}"
    return Finding(Kind.GFID2PATH_MALFORMED, path, detail, record=(key, value))


def _stale(path: bytes, key: str, value: bytes) -> Finding:
    return Finding(Kind.GFID2PATH_STALE, path, shown(value), record=(key, value))
