"""Xattrs of a file that is given by its number (an open fd) or by its path, symlinks not followed.

All raise OSError. Names are str as GlusterFS has them: UTF-8 with surrogates for other bytes.
"""

from __future__ import annotations

import errno
import os

from glupy import keys
from glupy.views import Dict
from glupy.views.base import encoded_name

Target = int | bytes
"""A file: the number of an open fd, or a path."""


def _follow(target: Target) -> bool:
    return isinstance(target, int)  # os refuses an fd together with "do not follow"


def get(target: Target, name: str) -> bytes:
    """Return the value; ENODATA if there is none."""
    return os.getxattr(target, encoded_name(name), follow_symlinks=_follow(target))


def find(target: Target, name: str) -> bytes | None:
    """Return the value, or None if there is none."""
    try:
        return os.getxattr(target, encoded_name(name), follow_symlinks=_follow(target))
    except OSError as error:
        if error.errno == errno.ENODATA:
            return None
        raise


def put(target: Target, name: str, value: bytes, flags: int = 0) -> None:
    """Store a value; ``flags`` are os.XATTR_CREATE or os.XATTR_REPLACE."""
    os.setxattr(target, encoded_name(name), value, flags, follow_symlinks=_follow(target))


def remove(target: Target, name: str) -> None:
    """Remove one; ENODATA if there is none."""
    os.removexattr(target, encoded_name(name), follow_symlinks=_follow(target))


def names(target: Target) -> list[str]:
    """Return the names of all."""
    found = os.listxattr(target, follow_symlinks=_follow(target))
    # os decodes as for file names; here it is always UTF-8.
    return [os.fsencode(name).decode("utf-8", "surrogateescape") for name in found]


def gfid_req(xdata: Dict) -> bytes | None:
    """Return the gfid that the client chose for a new file; None if there is none."""
    found = xdata.get_bytes(keys.GFID_REQ)
    return found if found is not None and len(found) == 16 and any(found) else None
