"""Xattrs that are on no disk: getxattr makes them up."""

from __future__ import annotations

import errno
import os
import uuid
from typing import TYPE_CHECKING

from glupy.views import Inode
from glupy.views.base import encoded
from pyposix import gfid2path, keys
from pyposix.iatt import DIRECTORY

if TYPE_CHECKING:
    from pyposix.brick import Brick


def value(
    brick: Brick, name: str, path: bytes, inode: Inode, written: str | None
) -> str | bytes | int | None:
    """Return the value of a virtual xattr; None if there is none of that name.

    ``path`` is where the file is, ``written`` its path in the volume if known. ENODATA if it has
    no such value.
    """
    if name in keys.PATHINFO:
        return _pathinfo(brick, path, written)
    if name == keys.NODE_UUID:
        return _node_uuid(brick)
    if name == keys.INODE_PATH:
        return inode.path
    if name == keys.GFID_TO_PATH:
        return _recorded_paths(brick, path, inode)
    if name == keys.OPEN_FD_COUNT:
        return int(inode.fd_count > 0)
    if name.startswith(keys.REAL_FILENAME):
        return _real_filename(path, name.removeprefix(keys.REAL_FILENAME))
    return None


def _pathinfo(brick: Brick, path: bytes, written: str | None) -> str:
    """Where the file is: geo-replication, Hadoop and people ask."""
    node = _node_uuid(brick) if brick.option("node-uuid-pathinfo") else None
    if written and written.startswith("/"):
        path = brick._base + encoded(written)
    base, real = _text(brick._base), _text(path)
    return f"<POSIX({base}):{node or brick._hostname}:{real}>"


def _node_uuid(brick: Brick) -> str | None:
    try:
        return str(uuid.UUID(brick.option("glusterd-uuid") or ""))
    except ValueError:
        return None


def _recorded_paths(brick: Brick, path: bytes, inode: Inode) -> str | bytes:
    if not brick.option("gfid2path"):
        raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
    if inode.c.ia_type == DIRECTORY:
        return _text(b"/" + b"/".join(brick._handles.names(inode.gfid)))
    separator = encoded(brick.option("gfid2path-separator"))
    return separator.join(gfid2path.paths(brick._handles, path))


def _real_filename(path: bytes, name: str) -> str:
    """The entry whose name differs in case only, for Samba."""
    wanted = name.lower()
    for each in map(_text, os.listdir(path)):
        if each.lower() == wanted:
            return each
    raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
