"""The janitor: empties .glusterfs/landfill, where rmdir with flags has moved whole trees."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from glupy import keys
from glupy.views import Gfid
from pyposix import xattrs
from pyposix.handles import Handles
from pyposix.jobs import Stopped


def purge(handles: Handles, stopped: Stopped) -> None:
    """Remove everything in the landfill, with its handles, until told to stop.

    What cannot be removed now stays for the next time. A directory's own directories are moved up
    into the landfill before it goes, so that no tree is too deep.
    """
    landfill = os.path.dirname(handles.in_landfill(Gfid.NULL))
    while not stopped():
        moved = [_remove(handles, path, stopped) for path in _entries(landfill)]
        if not any(moved):
            return


def _remove(handles: Handles, path: bytes, stopped: Stopped) -> bool:
    """Remove a file, or a directory; return whether it had directories, which are above it now."""
    moved = False
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            _remove_file(handles, path, status)
            return False
        for child in _entries(path):
            if stopped():
                return False
            with contextlib.suppress(OSError):
                status = os.lstat(child)
                if stat.S_ISDIR(status.st_mode):
                    os.rename(child, handles.in_landfill(Gfid.random()))
                    moved = True
                else:
                    _remove_file(handles, child, status)
        gfid = xattrs.find(path, keys.GFID)
        os.rmdir(path)
        if gfid:
            _remove_stale(handles, gfid)
    return moved


def _remove_file(handles: Handles, path: bytes, status: os.stat_result) -> None:
    gfid = xattrs.find(path, keys.GFID)
    os.unlink(path)
    if gfid and status.st_nlink == 2:  # this name and the handle: no other name is left
        handles.remove(gfid)


def _remove_stale(handles: Handles, gfid: bytes) -> None:
    """Remove a directory's handle, unless it leads to a directory with that gfid: a healed one."""
    handle = handles.path(gfid)
    if os.path.islink(handle) and not handles.leads_home(gfid):
        os.unlink(handle)


def _entries(folder: bytes) -> Iterator[bytes]:
    for name in os.listdir(folder):
        yield folder + b"/" + name
