"""Xattrs that are on no disk: getxattr makes them up, some of them for other fops' xdata too."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from typing import TYPE_CHECKING

from glupy import keys
from glupy.views import Dict, Iatt, Inode
from glupy.views.base import encoded
from pyposix import acl_text, ancestry, gfid2path, signature
from pyposix.iatt import DIRECTORY, SYMLINK
from pyposix.xattrs import Target

if TYPE_CHECKING:
    from pyposix.brick import Brick


def answer(brick: Brick, name: str, path: bytes, inode: Inode, written: str | None) -> Dict | None:
    """Return the answer for a virtual xattr; None if there is none of that name.

    ``path`` is where the file is, ``written`` its path in the volume if known. ENODATA if it has
    no such value.
    """
    if name.startswith(keys.GET_SIGNATURE):
        return signature.of(path)
    if name == keys.OPEN_FD_COUNT:
        found = Dict()
        found.set_uint(name, int(inode.fd_count > 0))
        return found
    value = _value(brick, name, path, inode, written)
    return None if value is None else Dict({name: value})


def answer_of_fd(brick: Brick, name: str, number: int, inode: Inode) -> Dict | None:
    """The same of an open file, where fewer are known."""
    if name.startswith(keys.GET_SIGNATURE):
        return signature.of(number)
    if name == keys.OPEN_FD_COUNT:
        found = Dict()
        found.set_uint(name, 1)
        return found
    if name.startswith(keys.REAL_FILENAME):
        path = brick._handles.directory(inode.gfid)
        return Dict({name: _real_filename(path, name.removeprefix(keys.REAL_FILENAME))})
    return None


def is_requested(key: str) -> bool:
    """Say whether a key in a fop's xdata is one that ``requested`` answers."""
    return key == keys.ANCESTRY_PATH or acl_text.is_key(key)


def requested(brick: Brick, key: str, target: Target, iatt: Iatt) -> str | None:
    """Return what a fop's xdata asks for; None if there is no such thing of this file."""
    kind = iatt.c.ia_type
    with contextlib.suppress(OSError):
        if key == keys.ANCESTRY_PATH:
            if isinstance(target, bytes):
                return ancestry.paths(brick, iatt.ia_gfid, target, kind)
        elif key.startswith(keys.DEFAULT_ACL_TEXT):
            if isinstance(target, bytes) and kind == DIRECTORY:
                return acl_text.get(target, key, kind)
        elif kind != SYMLINK:
            return acl_text.get(target, key, kind)
    return None


def _value(
    brick: Brick, name: str, path: bytes, inode: Inode, written: str | None
) -> str | bytes | None:
    if acl_text.is_key(name):
        return acl_text.get(path, name, inode.c.ia_type)
    if name.startswith(keys.REAL_FILENAME):
        return _real_filename(path, name.removeprefix(keys.REAL_FILENAME))
    if name in keys.PATHINFO:
        return _pathinfo(brick, path, written)
    if name == keys.NODE_UUID:
        return node_uuid(brick)
    if name == keys.INODE_PATH:
        return inode.path
    if name == keys.GFID_TO_PATH:
        return _recorded_paths(brick, path, inode)
    if name == keys.ANCESTRY_PATH:
        return ancestry.paths(brick, inode.gfid, path, inode.c.ia_type)
    return None


def _pathinfo(brick: Brick, path: bytes, written: str | None) -> str:
    """Where the file is: geo-replication, Hadoop and people ask."""
    node = node_uuid(brick) if brick.option("node-uuid-pathinfo") else None
    if written and written.startswith("/"):
        path = brick._base + encoded(written)
    base, real = _text(brick._base), _text(path)
    return f"<POSIX({base}):{node or brick._hostname}:{real}>"


def node_uuid(brick: Brick) -> str | None:
    """Return the UUID of the brick's glusterd; None without a (valid) one in the options."""
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
    """The entry whose name differs in the case of ASCII letters only, for Samba."""
    wanted = encoded(name).lower()
    for each in b".", b"..", *os.listdir(path):
        if each.lower() == wanted:
            return _text(each)
    raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
