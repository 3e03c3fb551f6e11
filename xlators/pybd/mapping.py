"""The xattr that maps a file to a device, and other words that the old BD translator had."""

from __future__ import annotations

import errno
from typing import NamedTuple

from glupy import keys
from glupy.constants import bytesize
from glupy.views import Dict

KEY = keys.BD
ORIGIN = "trusted.glusterfs.bd.origin"
"""Of a snapshot, the gfid of the file that it was made of: for ``merge`` and ``list-origin``."""

CLONE, SNAPSHOT, MERGE = "clone", "snapshot", "merge"
VOLUME_TYPE, VOLUME_CAPS, LIST_ORIGIN = "volume.type", "volume.caps", "list-origin"

CAPS_BD, CAPS_THIN, CAPS_COPY, CAPS_SNAPSHOT, CAPS_ZERO = 0x01, 0x02, 0x04, 0x08, 0x20
TYPE_BD = 1

THIN, THICK = "thin", "lv"
_KINDS = THIN, THICK
_MERGING = ",merge="


class Merging(NamedTuple):
    """A snapshot whose device is to be the file's, and the size that the file is to have then."""

    gfid: bytes
    size: int


class Mapping(NamedTuple):
    """What the xattr says: the kind of device, its size in bytes if it was given, and what is
    being merged into the file."""

    kind: str
    size: int | None
    merging: Merging | None = None

    def __str__(self) -> str:
        text = self.kind if self.size is None else f"{self.kind}:{self.size}"
        if self.merging is not None:
            text += f"{_MERGING}{self.merging.gfid.hex()}:{self.merging.size}"
        return text


def parse(text: str) -> Mapping:
    """Return what ``thin``, ``thin:10GB`` or ``lv:4096`` says. OSError EINVAL if it is neither."""
    kind, colon, size = text.strip("\0 \n").partition(":")
    if kind not in _KINDS or (colon and not size):
        raise OSError(errno.EINVAL, f"{text!r} is not thin, lv, thin:SIZE or lv:SIZE")
    return Mapping(kind, _size(size) if colon else None)


def stored(text: str) -> Mapping:
    """Return what the xattr of a file says; a client may not say all of that. OSError EINVAL."""
    plain, comma, copy = text.strip("\0 \n").partition(_MERGING)
    if not comma:
        return parse(plain)
    gfid, size = parse_copy(copy)
    return parse(plain)._replace(merging=Merging(gfid, size or 0))


def parse_copy(text: str) -> tuple[bytes, int | None]:
    """Return the gfid and the size in ``GFID[:SIZE]``, what clone and snapshot are told."""
    gfid, colon, size = text.strip("\0 \n").partition(":")
    try:
        number = bytes.fromhex(gfid.replace("-", ""))
    except ValueError:
        number = b""
    if len(number) != 16 or not any(number):
        raise OSError(errno.EINVAL, f"{text!r} is not GFID or GFID:SIZE")
    return number, _size(size) if colon else None


def _size(text: str) -> int:
    try:
        return bytesize(text)
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error)) from None


def value_in(xdata: Dict | None) -> bytes | None:
    """Return what a reply says of the xattr that maps a file; None if nothing."""
    return None if xdata is None else xdata.get_bytes(KEY)


def cleaned(xdata: Dict | None, asked: Dict | None) -> Dict | None:
    """Return a reply's xdata without our key, unless the caller asked for it himself."""
    if asked is None:
        return None
    if xdata is not None and KEY in xdata and KEY not in asked:
        xdata = xdata.copy()
        del xdata[KEY]
    return xdata


def with_key(xdata: Dict | None) -> Dict:
    """Return a request's xdata with our key in it: posix then tells what the xattr says."""
    asked = xdata.copy() if xdata is not None else Dict()
    asked.set_int(KEY, 0)
    return asked
