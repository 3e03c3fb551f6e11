"""A brick's directory, looked into without leaving it.

Every path is taken from an open directory, one name after the other: no symbolic link is followed,
not even the handles', and no mount is crossed unseen. xattrs are reached through /proc/self/fd, as
Linux 6.12 and older have no ``*xattrat``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Set
from typing import NamedTuple

from glupy import keys
from glupy.views import Gfid
from pyposix import handles, xattrs
from pyposix.check.findings import Kind, shown

ROOT = bytes(Gfid.ROOT)
HIDDEN = keys.HIDDEN.encode()
ROOT_TARGET = b"../../.."
GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE})
"""A name that is not there, or is not what it would have to be."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NOATIME


class BadLink(Exception):
    """A directory's handle that does not lead to a directory; ``kind`` says how."""

    def __init__(self, kind: Kind, detail: str) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail


class Place(NamedTuple):
    """A directory that a handle leads to; its gfid is None if it has no usable one."""

    path: bytes
    gfid: bytes | None
    ino: int


class Ground:
    """A brick's directory and its .glusterfs, held open. OSError where not said otherwise."""

    def __init__(self, directory: bytes) -> None:
        """NotADirectoryError or FileNotFoundError also for .glusterfs."""
        with contextlib.ExitStack() as undo:
            self.root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            undo.callback(os.close, self.root)
            self.hidden = os.open(HIDDEN, _DIRECTORY, dir_fd=self.root)
            undo.callback(os.close, self.hidden)
            self.status = os.fstat(self.root)
            self._hashes: set[bytes] = set()
            self._undo = undo.pop_all()

    def close(self) -> None:
        """Let go of the directories."""
        self._undo.close()

    def is_brick(self) -> bool:
        """Whether anything but the name of .glusterfs says that this is a brick."""
        if any(xattrs.find(self.root, key) is not None for key in (keys.GFID, keys.VOLUME_ID)):
            return True
        return self.look(ROOT) is not None

    # ---- by names ----

    @contextlib.contextmanager
    def opened(self, path: bytes) -> Iterator[int]:
        """A directory, by its path from the root, as the number of an open fd."""
        number = os.dup(self.root)
        try:
            for name in path.split(b"/"):
                if name not in (b"", b"."):
                    inner = open_directory(name, number)
                    os.close(number)
                    number = inner
            yield number
        finally:
            os.close(number)

    # ---- handles ----

    def handle(self, gfid: bytes) -> bytes:
        """Return the handle's path from .glusterfs."""
        digits = handles.dashed(gfid)
        return digits[:2] + b"/" + digits[2:4] + b"/" + digits

    def look(self, gfid: bytes) -> os.stat_result | None:
        """Return the handle's attributes; None if there is none."""
        path = self.handle(gfid)
        if not self._has_hash(path[:2], path[:5]):
            return None
        return status(path, self.hidden)

    def target(self, gfid: bytes) -> bytes:
        """Return where a directory's handle leads; FileNotFoundError if there is no link."""
        path = self.handle(gfid)
        if not self._has_hash(path[:2], path[:5]):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        try:
            return os.readlink(path, dir_fd=self.hidden)
        except OSError as error:
            if error.errno in {errno.EINVAL, *GONE}:
                raise FileNotFoundError(errno.ENOENT, "no symbolic link") from None
            raise

    def make_hash(self, gfid: bytes) -> None:
        """Make the directories that the handle lies in; NotADirectoryError if something is."""
        path = self.handle(gfid)
        for folder in path[:2], path[:5]:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700, dir_fd=self.hidden)
        if not self._has_hash(path[:2], path[:5]):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))

    def _has_hash(self, *folders: bytes) -> bool:
        """Whether these are directories of the brick's own: a link could lead anywhere."""
        for folder in folders:
            if folder not in self._hashes:
                found = status(folder, self.hidden)
                if found is None or not stat.S_ISDIR(found.st_mode):
                    return False
                self._hashes.add(folder)
        return True

    def is_link(self, gfid: bytes, found: os.stat_result) -> bool:
        """Whether a handle is a directory's: a symlink's own has its gfid and a second link."""
        if not stat.S_ISLNK(found.st_mode) or found.st_nlink > 1:
            return False
        return xattrs.find(inside(self.hidden, self.handle(gfid)), keys.GFID) is None

    # ---- where directories' handles lead ----

    def names(self, gfid: bytes, seen: set[bytes] | None = None) -> list[bytes]:
        """Return the names from the root to a directory, as the handles tell; raise BadLink.

        ``seen`` is given the gfids on the way, even if that comes to nothing.
        """
        found: list[bytes] = []
        seen = set() if seen is None else seen
        while gfid != ROOT:
            if gfid in seen:
                raise BadLink(Kind.HANDLE_LOOP, f"through {text(gfid)}")
            seen.add(gfid)
            try:
                target = self.target(gfid)
            except FileNotFoundError:
                raise BadLink(Kind.HANDLE_DANGLING, f"{text(gfid)} has no handle") from None
            parsed = parse(target)
            if parsed is None:
                reason = f"the handle of {text(gfid)} leads to {shown(target)}"
                raise BadLink(Kind.HANDLE_DANGLING, reason)
            gfid, name = parsed
            found.append(name)
        return found[::-1]

    def place(self, target: bytes) -> Place:
        """Return the directory that a handle with that target leads to; raise BadLink."""
        parsed = parse(target)
        if parsed is None:
            raise BadLink(Kind.HANDLE_MALFORMED, f"it leads to {shown(target)}")
        path = b"/".join([*self.names(parsed[0]), parsed[1]])
        try:
            with self.opened(path) as number:
                return Place(path, gfid_of(number), os.fstat(number).st_ino)
        except OSError as error:
            if error.errno not in GONE:
                raise
            raise BadLink(Kind.HANDLE_DANGLING, f"no directory {shown(path)}") from None

    def is_name(self, parent: bytes, name: bytes, ino: int, lost: Set[bytes]) -> bool:
        """Whether a name in the directory of that gfid is the file of that inode number.

        It may be, if the way there leads through a handle of the directories that are ``lost``.
        """
        seen: set[bytes] = set()
        found = None
        try:
            with self.opened(b"/".join(self.names(parent, seen))) as number:
                found = status(name, number)
        except BadLink:
            pass
        except OSError as error:
            if error.errno not in GONE:
                raise
        if found is not None and (found.st_dev, found.st_ino) == (self.status.st_dev, ino):
            return True
        return not seen.isdisjoint(lost)


def parse(target: bytes) -> tuple[bytes, bytes] | None:
    """Return the parent's gfid and the name in a directory's handle; None if it is no such."""
    parts = target.split(b"/")
    if len(parts) != 6 or not parts[5] or parts[5] in (b".", b".."):
        return None
    gfid = parse_gfid(parts[4])
    if gfid is None or target != handles.link_target(gfid, parts[5]):
        return None
    return gfid, parts[5]


def text(gfid: bytes) -> str:
    """Return a gfid in its usual form."""
    return handles.dashed(gfid).decode()


def parse_gfid(written: bytes) -> bytes | None:
    """Return the gfid that is written as GlusterFS writes it; None if it is none."""
    try:
        gfid = bytes.fromhex(written.replace(b"-", b"").decode())
    except ValueError:
        return None
    return gfid if len(gfid) == 16 and handles.dashed(gfid) == written else None


def status(name: bytes, folder: int) -> os.stat_result | None:
    """lstat(2) of a name in an open directory; None if it is not there."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno in GONE:
            return None
        raise


def open_directory(name: bytes, folder: int) -> int:
    """Open a directory by its name in another; ELOOP or ENOTDIR if it is anything else."""
    return os.open(name, _DIRECTORY, dir_fd=folder)


def inside(folder: int, name: bytes) -> bytes:
    """Return a path of a name in an open directory, for what takes no directory."""
    return b"/proc/self/fd/%d/%s" % (folder, name)


def gfid_of(target: xattrs.Target) -> bytes | None:
    """Return a file's gfid; None without a usable one."""
    gfid = xattrs.find(target, keys.GFID)
    return gfid if gfid is not None and len(gfid) == 16 else None
