"""What ``--repair`` does about a finding, on a brick that nobody serves.

No data is removed but what the brick itself would remove: leftovers in unlink and landfill. What
cannot stay where it is, and has no other link, goes to .glusterfs/lost+found, under its name there.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from glupy import keys
from pyposix import gfid2path, handles, xattrs
from pyposix.check.findings import Finding, Kind, shown
from pyposix.check.ground import (
    HIDDEN,
    ROOT,
    ROOT_TARGET,
    BadLink,
    Ground,
    gfid_of,
    inside,
    open_directory,
    status,
    text,
)
from pyposix.check.names import Folder, Inner, walk

LOST = b"lost+found"


class Outcome(NamedTuple):
    """What was done about a finding, in a few words."""

    mended: bool
    what: str


class _LeftError(Exception):
    """It is not for this program to decide; the text says why."""


class Repair:
    """Mends findings of a brick. Each must be as it was found: nobody else may work there."""

    def __init__(self, ground: Ground, *, volume_id: bytes | None = None) -> None:
        """``volume_id``: what the brick is to carry if it carries none."""
        self._ground = ground
        self._volume_id = volume_id

    def mend(self, finding: Finding) -> Outcome:
        """Do what is to be done about a finding; raises nothing that the kernel reports."""
        act = _ACTS.get(finding.kind)
        if act is None:
            return Outcome(False, finding.kind.repair.removeprefix("left: "))
        try:
            return Outcome(True, act(self, finding))
        except _LeftError as reason:
            return Outcome(False, str(reason))
        except OSError as error:
            return Outcome(False, error.strerror or str(error))

    # ---- the root ----

    def _set_volume_id(self, _finding: Finding) -> str:
        if self._volume_id is None:
            raise _LeftError("say with --volume-id which it is")
        if xattrs.find(self._ground.root, keys.VOLUME_ID) is not None:
            raise _LeftError("it may be another volume's brick")
        xattrs.put(self._ground.root, keys.VOLUME_ID, self._volume_id, os.XATTR_CREATE)
        return "set"

    def _set_root_gfid(self, _finding: Finding) -> str:
        if xattrs.find(self._ground.root, keys.GFID) is not None:
            raise _LeftError("it may be a directory from inside a brick")
        xattrs.put(self._ground.root, keys.GFID, ROOT, os.XATTR_CREATE)
        return "set"

    def _link_root(self, _finding: Finding) -> str:
        done = self._clear(ROOT)
        os.symlink(ROOT_TARGET, self._ground.handle(ROOT), dir_fd=self._ground.hidden)
        return done + "rewritten"

    # ---- handles ----

    def _set_gfid(self, finding: Finding) -> str:
        if finding.gfid is None:
            raise _LeftError("no handle tells its gfid")
        with self._file(finding.path) as (number, name):
            xattrs.put(inside(number, name), keys.GFID, finding.gfid)
        return f"set to {text(finding.gfid)}"

    def _make_handle(self, finding: Finding) -> str:
        if finding.path.startswith(HIDDEN + b"/"):  # no name belongs to it
            return self._set_aside(finding.path)
        gfid = finding.gfid
        assert gfid is not None
        with self._file(finding.path) as (number, name):
            found = os.stat(name, dir_fd=number, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                done = self._clear(gfid)
                self._link(number, name, gfid)
                return done + "linked"
            if finding.parent is None:
                raise _LeftError("its directory has no gfid")
            done = self._clear(gfid)
            target = handles.link_target(finding.parent, name)
            os.symlink(target, self._ground.handle(gfid), dir_fd=self._ground.hidden)
            return f"{done}now leads to {shown(target)}"

    def _link(self, number: int, name: bytes, gfid: bytes) -> None:
        os.link(
            name,
            self._ground.handle(gfid),
            src_dir_fd=number,
            dst_dir_fd=self._ground.hidden,
            follow_symlinks=False,
        )

    def _clear(self, gfid: bytes) -> str:
        """Make room for a handle; say what was done with what is there."""
        self._ground.make_hash(gfid)
        path = self._ground.handle(gfid)
        if status(path, self._ground.hidden) is None:
            return ""
        return self._set_aside(HIDDEN + b"/" + path) + "; "

    def _set_aside(self, path: bytes) -> str:
        """Take something away from among the handles without losing data."""
        with self._file(path) as (number, name):
            found = os.stat(name, dir_fd=number, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode) and found.st_nlink > 1:
                os.unlink(name, dir_fd=number)
                return "one of its file's links removed"
            if stat.S_ISLNK(found.st_mode) and gfid_of(inside(number, name)) is None:
                target = os.readlink(name, dir_fd=number)
                os.unlink(name, dir_fd=number)
                return f"a link to {shown(target)} removed"
            return self._keep(number, name)

    def _keep(self, number: int, name: bytes) -> str:
        with contextlib.suppress(FileExistsError):
            os.mkdir(LOST, 0o700, dir_fd=self._ground.hidden)
        with self._ground.opened(HIDDEN + b"/" + LOST) as lost:
            free = next(new for new in _new_names(name) if status(new, lost) is None)
            os.rename(name, free, src_dir_fd=number, dst_dir_fd=lost)
        return f"moved to {shown(b'/'.join([HIDDEN, LOST, free]))}"

    def _put_aside(self, finding: Finding) -> str:
        return self._set_aside(finding.path)

    def _keep_orphan(self, finding: Finding) -> str:
        with self._file(finding.path) as (number, name):
            return self._keep(number, name)

    def _put_in_place(self, finding: Finding) -> str:
        gfid = finding.gfid
        assert gfid is not None
        self._ground.make_hash(gfid)
        if status(self._ground.handle(gfid), self._ground.hidden) is not None:
            return self._set_aside(finding.path)
        with self._file(finding.path) as (number, name):
            handle = self._ground.handle(gfid)
            os.rename(name, handle, src_dir_fd=number, dst_dir_fd=self._ground.hidden)
        return f"moved to {shown(HIDDEN + b'/' + handle)}"

    # ---- xattrs ----

    def _set_record(self, finding: Finding) -> str:
        assert finding.record is not None
        key, value = finding.record
        with self._file(finding.path) as (number, name):
            xattrs.put(inside(number, name), key, value, os.XATTR_CREATE)
        return "set"

    def _remove_record(self, finding: Finding) -> str:
        assert finding.record is not None
        with self._file(finding.path) as (number, name):
            xattrs.remove(inside(number, name), finding.record[0])
        return "removed"

    def _remove_mdata(self, finding: Finding) -> str:
        with self._file(finding.path) as (number, name):
            xattrs.remove(inside(number, name), keys.MDATA)
        return "removed"

    # ---- leftovers ----

    def _remove_orphan(self, finding: Finding) -> str:
        return self._remove(finding.path, _unlink)

    def _remove_tree(self, finding: Finding) -> str:
        return self._remove(finding.path, self._remove_file)

    def _remove(self, path: bytes, remove_file: _RemoveFile) -> str:
        """Remove a file, or a directory with all that is in it and their handles."""
        with self._file(path) as (number, name):
            found = os.stat(name, dir_fd=number, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                remove_file(number, name, found)
                return "removed"
            top = Folder(open_directory(name, number), path + b"/", None, sound=False)
        directories, files = [path], 0
        for folder, name in walk(top, _fail):
            found = os.stat(name, dir_fd=folder.number, follow_symlinks=False)
            if found.st_dev != self._ground.status.st_dev:
                raise _LeftError("another file system is mounted inside")
            if stat.S_ISDIR(found.st_mode):
                directories.append(folder.path + name)
                folder.inner.append(Inner(name, None, sound=False))
            else:
                remove_file(folder.number, name, found)
                files += 1
        for directory in reversed(directories):  # what is inside was found later
            self._remove_directory(directory)
        return f"removed with {files} files and {len(directories) - 1} directories inside"

    def _remove_file(self, number: int, name: bytes, found: os.stat_result) -> None:
        gfid = gfid_of(inside(number, name))
        handle = self._ground.look(gfid) if gfid else None
        if gfid and handle is not None and handle.st_ino == found.st_ino and found.st_nlink <= 2:
            os.unlink(self._ground.handle(gfid), dir_fd=self._ground.hidden)
        elif parent := gfid_of(number):  # it has other names, which stay
            key = gfid2path.record_key(handles.dashed(parent) + b"/" + name)
            if xattrs.find(inside(number, name), key) is not None:
                xattrs.remove(inside(number, name), key)
        os.unlink(name, dir_fd=number)

    def _remove_directory(self, path: bytes) -> None:
        with self._file(path) as (number, name):
            gfid = gfid_of(inside(number, name))
            os.rmdir(name, dir_fd=number)
        handle = self._ground.look(gfid) if gfid else None
        if gfid and handle is not None and self._ground.is_link(gfid, handle):
            with contextlib.suppress(BadLink):
                if self._ground.place(self._ground.target(gfid)).gfid == gfid:
                    return  # a directory of that gfid is there again
            os.unlink(self._ground.handle(gfid), dir_fd=self._ground.hidden)

    # ---- paths ----

    @contextlib.contextmanager
    def _file(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        """The directory that a path ends in, open, and the last name."""
        above, _, name = path.rpartition(b"/")
        with self._ground.opened(above) as number:
            yield number, name


_RemoveFile = Callable[[int, bytes, os.stat_result], None]


def _unlink(number: int, name: bytes, _found: os.stat_result) -> None:
    os.unlink(name, dir_fd=number)


def _fail(_path: bytes, error: OSError) -> None:
    raise error


def _new_names(name: bytes) -> Iterator[bytes]:
    yield name
    for number in itertools.count(1):
        yield b"%s.%d" % (name, number)


_ACTS: dict[Kind, Callable[[Repair, Finding], str]] = {
    Kind.VOLUME_ID: Repair._set_volume_id,
    Kind.ROOT_GFID: Repair._set_root_gfid,
    Kind.ROOT_HANDLE: Repair._link_root,
    Kind.GFID_MISSING: Repair._set_gfid,
    Kind.GFID_MALFORMED: Repair._set_gfid,
    Kind.HANDLE_MISSING: Repair._make_handle,
    Kind.HANDLE_ORPHAN: Repair._keep_orphan,
    Kind.HANDLE_MISMATCH: Repair._make_handle,
    Kind.HANDLE_KIND: Repair._make_handle,
    Kind.HANDLE_MISPLACED: Repair._put_in_place,
    Kind.HANDLE_MALFORMED: Repair._make_handle,
    Kind.HANDLE_DANGLING: Repair._make_handle,
    Kind.HANDLE_LOOP: Repair._make_handle,
    Kind.HANDLE_ASTRAY: Repair._make_handle,
    Kind.GFID2PATH_MALFORMED: Repair._remove_record,
    Kind.GFID2PATH_STALE: Repair._remove_record,
    Kind.GFID2PATH_MISSING: Repair._set_record,
    Kind.MDATA_MALFORMED: Repair._remove_mdata,
    Kind.UNLINK_LEFTOVER: Repair._remove_orphan,
    Kind.LANDFILL_LEFTOVER: Repair._remove_tree,
    Kind.UNEXPECTED_ENTRY: Repair._put_aside,
}
