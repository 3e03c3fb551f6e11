"""From a file to its paths, and to the directories above it (``glusterfs.ancestry.*``).

Quota asks: of a file that it knows by its gfid only, it needs all the directories whose limits
apply. A directory's handle says what is above it, a file's ``link_counts`` which it is in.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from glupy.views import Dict, Dirent, Gfid, Iatt, Inode
from glupy.views.base import store_gfid
from pyposix import link_counts
from pyposix.handles import Handles
from pyposix.iatt import DIRECTORY

if TYPE_CHECKING:
    from pyposix.brick import Brick

_ROOT = bytes(Gfid.ROOT)


class _Name(NamedTuple):
    """One name of a file: the gfid of the directory it is in, and itself."""

    parent: bytes
    name: bytes


def paths(brick: Brick, gfid: bytes, path: bytes, kind: int) -> str:
    """Return all paths of a file from the volume's root, with colons between; ``kind`` is ia_type.

    ENODATA if they are not known: only a directory's are while update-link-count-parent is off.
    """
    handles = brick._handles
    if kind == DIRECTORY:
        found = [_joined(handles.names(gfid))]
    else:
        found = [_joined([*handles.names(each.parent), each.name]) for each in _names(brick, path)]
    if not found:
        raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
    return b":".join(found).decode("utf-8", "surrogateescape")


def entries(brick: Brick, inode: Inode, xdata: Dict) -> list[Dirent]:
    """Return the directories from the root down to a file, and the file, as entries.

    For each directory that the file has names in, one after the other: the first entry of each is
    "/". ENODATA as for ``paths``.
    """
    gfid = inode.gfid
    if inode.c.ia_type == DIRECTORY:
        return list(_way_to(brick, gfid, inode, xdata))
    found: list[Dirent] = []
    names = _names(brick, brick._handles.path(gfid))
    for parent, group in itertools.groupby(names, lambda each: each.parent):
        found += _way_to(brick, parent, inode, xdata)
        folder = brick._handles.directory(parent).rstrip(b"/") + b"/"
        for each in group:
            path = folder + each.name
            iatt = brick._stats.of_path(path, brick._file(inode, gfid))
            found.append(_entry(brick, path, each.name, iatt, inode, xdata))
    return found


def _way_to(brick: Brick, gfid: bytes, known: Inode, xdata: Dict) -> Iterator[Dirent]:
    """Yield the directories from the root down to one, both included."""
    path, name = brick._base, b"/"
    for following in [*brick._handles.names(gfid), None]:
        iatt, _ = brick._stats.look(path)
        here = iatt.ia_gfid
        inode = known.find(here)
        if inode is None:
            inode = known.new()
            store_gfid(inode.c.gfid, here)
        yield _entry(brick, path, name, iatt, inode, xdata)
        if following is not None:
            path = brick._handles.directory(here).rstrip(b"/") + b"/" + following
            name = following


def _entry(brick: Brick, path: bytes, name: bytes, iatt: Iatt, inode: Inode, xdata: Dict) -> Dirent:
    answers = brick._requests.answer(xdata, path, inode, iatt)
    text = name.decode("utf-8", "surrogateescape")
    return Dirent(text, d_stat=iatt, dict=answers, inode=inode)


def _names(brick: Brick, path: bytes) -> list[_Name]:
    """Return the names of a file that is no directory, as many as are counted for each parent."""
    if not brick._link_counts.enabled:
        raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
    number = os.lstat(path).st_ino
    found = []
    for parent, count in link_counts.parents(path).items():
        try:
            names = list(_names_in(brick._handles, parent, number, count))
        except OSError as error:
            brick.log.debug("a parent of %r, %s: %s", path, parent.hex(), error)
        else:
            found += [_Name(parent, name) for name in names]
    return found


def _names_in(handles: Handles, parent: bytes, number: int, count: int) -> Iterator[bytes]:
    with os.scandir(handles.directory(parent)) as listed:
        same = (each.name for each in listed if each.inode() == number)
        yield from itertools.islice(same, max(count, 0))


def _joined(names: list[bytes]) -> bytes:
    return b"/" + b"/".join(names)
