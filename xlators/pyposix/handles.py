"""The handles: .glusterfs/xx/yy/GFID, by which a file is found without its name.

A file that is not a directory has a hard link there. A directory has a symbolic link
``../../pp/qq/PARENT-GFID/NAME``, so that the kernel resolves it through its ancestors' handles.
Whatever else lies in .glusterfs belongs to others.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import stat
from collections.abc import Iterator

from glupy import keys, linux
from glupy.views import Gfid
from pyposix import xattrs
from pyposix.files import File

_ROOT = bytes(Gfid.ROOT)
# As loosely as GlusterFS reads them: ../../xx/yy/GFID/NAME.
_LINK = re.compile(rb"\.\./\.\./../../([0-9a-fA-F-]{36})/([^/]+)", re.DOTALL)


def dashed(gfid: bytes) -> bytes:
    """Return a gfid in its usual form, as bytes."""
    text = gfid.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}".encode()


class Handles:
    """The handles of one brick. Paths are absolute, as bytes. All raise OSError."""

    def __init__(self, base: bytes, log: logging.Logger) -> None:
        self.base = base
        self.folder = base + b"/" + keys.HIDDEN.encode()
        self._landfill = self.folder + b"/landfill"
        self._orphans = self.folder + b"/unlink"
        self._log = log

    def set_up(self) -> None:
        """Make what is missing of .glusterfs, and empty what a crash left in unlink."""
        for folder, mode in [
            (self.folder, 0o600),
            *((self.folder + f"/{n:02x}".encode(), 0o700) for n in range(256)),
            (self._landfill, 0o755),
            (self._orphans, 0o600),
        ]:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, mode)
        self._link_root()
        self._take_old_landfill()
        for name in os.listdir(self._orphans):
            with contextlib.suppress(OSError):
                os.unlink(self._orphans + b"/" + name)

    def _link_root(self) -> None:
        root = self.path(_ROOT)
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.dirname(root), 0o700)
        with contextlib.suppress(FileExistsError):
            os.symlink(b"../../..", root)
        if not os.path.samefile(root, self.base):
            raise OSError(
                errno.EINVAL, f"{os.fsdecode(root)} does not lead to {os.fsdecode(self.base)}"
            )

    def _take_old_landfill(self) -> None:
        old = self.base + b"/.landfill"
        if os.path.isdir(old) and xattrs.find(old, keys.GFID) is None:
            os.rename(old, self._landfill + b"/" + dashed(Gfid.random()))

    # ---- paths ----

    def path(self, gfid: bytes) -> bytes:
        """Return the handle: the file itself, or a directory's symbolic link."""
        text = gfid.hex()
        return (
            (
                f"/{text[:2]}/{text[2:4]}/"
                f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
            )
            .encode()
            .join((self.folder, b""))
        )

    def orphan(self, gfid: bytes) -> bytes:
        """Return where a file without names stays while it is open."""
        return self._orphans + b"/" + dashed(gfid)

    def in_landfill(self, gfid: bytes) -> bytes:
        """Return where a whole tree goes that is to be removed."""
        return self._landfill + b"/" + dashed(gfid)

    def directory(self, gfid: bytes) -> bytes:
        """Return a path of a directory, for lstat and for names behind it."""
        if gfid == _ROOT:
            return self.base
        path, tail = self.path(gfid), b"/"
        while True:
            try:
                os.stat(path + tail)
            except OSError as error:
                # More levels than the kernel follows at once: put in one after the other.
                if error.errno != errno.ELOOP:
                    return path + tail
                parent, name = self._read(path)
                path, tail = self.path(parent), b"/" + name + tail
            else:
                return path + tail

    def names(self, gfid: bytes) -> list[bytes]:
        """Return the names on the way from the root to a directory."""
        found: list[bytes] = []
        while gfid != _ROOT:
            gfid, name = self._read(self.path(gfid))
            found.append(name)
        return found[::-1]

    def _read(self, handle: bytes) -> tuple[bytes, bytes]:
        target = os.readlink(handle)
        match = _LINK.fullmatch(target)
        if match is None:
            self._log.error("%r is not a handle of a directory: it leads to %r", handle, target)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return bytes.fromhex(match[1].replace(b"-", b"").decode()), match[2]

    # ---- making and removing ----

    def ensure(self, file: File, path: bytes, parent: bytes, name: bytes, mode: int) -> None:
        """The same as ``add`` where most probably nothing is missing."""
        gfid = file.gfid
        is_directory = stat.S_ISDIR(mode)
        with contextlib.suppress(OSError):
            if linux.same(self.path(gfid), path, follow=is_directory):
                return
        self.add(gfid, path, parent, name, mode)
        if not is_directory and xattrs.find(self.path(gfid), keys.GFID) != gfid:
            self.remove(gfid)  # the name has got another file since
        if is_directory:
            with file.renames:
                if self._leads_astray(gfid) and xattrs.find(path, keys.GFID) == gfid:
                    self._log.warning("the handle of %r led elsewhere: a rename was cut off", path)
                    with self._leading(gfid, parent, name):
                        pass

    def add(
        self, gfid: bytes, path: bytes, parent: bytes, name: bytes, mode: int, number: int = -1
    ) -> None:
        """Make sure that there is a handle of the file at ``path``: ``name`` in ``parent``; or of
        the one that is open as ``number``.

        ESTALE if the handle is another file's.
        """
        handle = self.path(gfid)
        try:
            linux.link_handle(path, handle, self.target(parent, name, mode), number)
        except OSError as error:
            if error.errno == errno.ESTALE:
                self._log.warning("%r is not the handle of %r", handle, path)
            raise

    def target(self, parent: bytes, name: bytes, mode: int) -> bytes | None:
        """Return where a directory's handle leads; None for what has a hard link."""
        return link_target(parent, name) if stat.S_ISDIR(mode) else None

    def leads_to(self, gfid: bytes, parent: bytes, name: bytes) -> bool:
        """Say whether the handle is a directory's with that name in that parent."""
        try:
            return os.readlink(self.path(gfid)) == link_target(parent, name)
        except OSError:
            return False

    def leads_home(self, gfid: bytes) -> bool:
        """Say whether the handle leads to a directory with that gfid."""
        try:
            return xattrs.find(self.directory(gfid) + b"/", keys.GFID) == gfid
        except OSError:
            return False

    def _leads_astray(self, gfid: bytes) -> bool:
        """Say whether the handle is a directory's, not a file, and leads to no such directory."""
        status = os.lstat(self.path(gfid))
        return stat.S_ISLNK(status.st_mode) and status.st_nlink == 1 and not self.leads_home(gfid)

    def rename_directory(
        self, gfid: bytes, path: bytes, new_path: bytes, parent: bytes, name: bytes
    ) -> None:
        """Rename a directory, and have its handle lead to where it is then.

        The caller sees to it that nobody else renames it meanwhile.
        """
        with self._leading(gfid, parent, name):
            os.rename(path, new_path)

    @contextlib.contextmanager
    def _leading(self, gfid: bytes, parent: bytes, name: bytes) -> Iterator[None]:
        """Have a directory's handle lead there, at the end of a ``with`` that succeeds.

        At no moment is there none.
        """
        new = self.orphan(gfid)
        os.symlink(link_target(parent, name), new)
        try:
            yield
            os.rename(new, self.path(gfid))
        except BaseException:
            os.unlink(new)
            raise

    def remove(self, gfid: bytes) -> None:
        """Remove a handle, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(gfid))

    def keep_orphan(self, gfid: bytes) -> None:
        """The last name is gone, but the file is open: keep it out of the handles' way."""
        os.rename(self.path(gfid), self.orphan(gfid))

    def remove_orphan(self, gfid: bytes) -> None:
        """Nobody has it open any more."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.orphan(gfid))

    def remove_stale(self, gfid: bytes) -> None:
        """Remove a directory's handle that leads nowhere."""
        handle = self.path(gfid)
        with contextlib.suppress(OSError):
            if not os.path.isdir(handle) and os.lstat(handle).st_nlink == 1:
                self._log.warning("%r leads nowhere: removed", handle)
                os.unlink(handle)


def link_target(parent: bytes, name: bytes) -> bytes:
    """Return where the handle of the directory ``name`` in ``parent`` leads."""
    text = parent.hex()
    return f"../../{text[:2]}/{text[2:4]}/".encode() + dashed(parent) + b"/" + name
