"""The translator's options and start, and what all fops need: which file is meant, and where."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from glupy import Option, OptionError, Translator, keys
from glupy._bridge import ffi
from glupy.constants import (
    EVENT_POSIX_ACL_NOT_SUPPORTED,
    EVENT_POSIX_ALREADY_PART_OF_VOLUME,
    EVENT_POSIX_BRICK_NOT_IN_VOLUME,
    EVENT_POSIX_BRICK_VERIFICATION_FAILED,
    EVENT_POSIX_HEALTH_CHECK_FAILED,
)
from glupy.options import path, percent_or_size
from glupy.views import Dict, Fd, Gfid, Inode, Loc
from glupy.views.base import encoded
from pyposix import janitor, virtual_xattr, xattrs
from pyposix.batch_fsync import BatchFsync, Mode
from pyposix.files import File, Files, OpenFile
from pyposix.gfid2path import Gfid2path
from pyposix.handles import Handles
from pyposix.health import HealthCheck
from pyposix.iatt import DIRECTORY, REGULAR, Stats
from pyposix.jobs import Job, Stopped
from pyposix.link_counts import LinkCounts
from pyposix.metadata import Metadata
from pyposix.replies import Requests
from pyposix.reserve import Reserve

PATH_MAX = 4096
OPEN_FILES = 1048576
SEPARATOR_CHARACTERS = 7
_ROOT = bytes(Gfid.ROOT)
_HIDDEN = keys.HIDDEN.encode()
_INVALID = 0  # an inode's type before it is linked


class Entry(NamedTuple):
    """A name in a directory, whether there is a file of that name or not."""

    path: bytes
    folder: bytes  # the directory's path
    name: bytes
    parent: File


class Brick(Translator):
    """A directory that is served, found, checked and prepared.

    ``_locate``, ``_entry`` and ``_opened`` say what a loc or an fd means; all raise OSError.
    """

    leaf = True
    options: ClassVar = [
        Option("directory", path, description="The brick: a directory with user xattrs."),
        Option("volume-id", description="UUID that the brick must carry already."),
        Option("hostname"),
        Option("glusterd-uuid"),
        Option("node-uuid-pathinfo", bool, default=False),
        Option("brick-uid", int, default=-1, minimum=-1),
        Option("brick-gid", int, default=-1, minimum=-1),
        Option("o-direct", bool, default=False),
        Option("linux-aio", bool, default=False),
        Option("linux-io_uring", bool, default=False),
        Option("batch-fsync-mode", default="reverse-fsync", choices=list(Mode)),
        Option("batch-fsync-delay-usec", int, default=0, minimum=0),
        Option("reserve", percent_or_size, default=1, minimum=0),
        Option("export-statfs-size", bool, default=True),
        Option("shared-brick-count", int, default=1),
        Option("health-check-interval", int, default=30, minimum=0),
        Option("health-check-timeout", int, default=20, minimum=0),
        Option("janitor-sleep-duration", int, default=10, minimum=1),
        Option("disable-landfill-purge", bool, default=False),
        Option("background-unlink", bool, default=False),
        Option("mandate-attribute", bool, default=True),
        Option("update-link-count-parent", bool, default=False),
        Option("gfid2path", bool, default=True),
        Option("gfid2path-separator", default=":"),
        Option("ctime", bool, default=True),
        Option("fips-mode-rchecksum", bool, default=False),
        Option("force-create-mode", int, default=0, minimum=0, maximum=0o777),
        Option("force-directory-mode", int, default=0, minimum=0, maximum=0o777),
        Option("create-mask", int, default=0o777, minimum=0, maximum=0o777),
        Option("create-directory-mask", int, default=0o777, minimum=0, maximum=0o777),
        Option("max-hardlinks", int, default=100, minimum=0),
    ]

    # ---- life ----

    def init(self) -> None:
        """Check that the directory is what the volfile says, and prepare it."""
        self._check_options()
        self._hostname = self.option("hostname") or socket.gethostname()
        self._check_directory()
        os.umask(0)  # masking is the client's business
        _raise_open_files(self._base)
        self._has_pybd = "user/pybd" in self.types_above
        self._held = os.open(self._base, os.O_RDONLY | os.O_DIRECTORY)  # keeps it mounted
        try:
            self._handles = Handles(self._base, self.log)
            self._handles.set_up()
        except BaseException:
            os.close(self._held)
            raise
        self._files = Files()
        # CPython lets go of the GIL between statements only: no sum is lost.
        self._read_bytes = self._written_bytes = 0
        self._metadata = Metadata(self.log, self.option("ctime"))
        self._stats = Stats(self._files, self._metadata)
        self._gfid2path = Gfid2path(self.log, self.option("gfid2path"))
        self._requests = Requests(self)
        self._link_counts = LinkCounts(self.log)
        self._batches = BatchFsync()
        self._health: HealthCheck | None = None
        self._janitor: Job | None = None
        try:
            self._configure()
        except BaseException:
            self.fini()
            raise

    def fini(self) -> None:
        """Let go of the directory. Open files close with their contexts."""
        if self._health is not None:
            self._health.close()
        if self._janitor is not None:
            self._janitor.stop()
            self._janitor.join()
        os.close(self._held)

    def reconfigure(self) -> None:
        """Take over changed options; another directory needs a new brick."""
        self._check_options()
        self._hostname = self.option("hostname") or socket.gethostname()
        self._metadata.enabled = self.option("ctime")
        for file in self._files:
            self._metadata.forget(file)
        self._gfid2path.enabled = self.option("gfid2path")
        self._configure()

    def dump_priv(self) -> Mapping[str, object]:
        """What a statedump shows."""
        return {
            "base_path": os.fsdecode(self._base),
            "base_path_length": len(self._base),
            "files": len(self._files),
            "max_read": self._read_bytes,
            "max_write": self._written_bytes,
            "reserve": self._reserve.amount,
            "full": self._reserve.full(),
        }

    def _tell(self, event: int, **fields: str | bytes) -> None:
        """Tell glustereventsd of something that concerns this brick."""
        shown = [f"{key}={os.fsdecode(value)}" for key, value in fields.items()]
        place = f"brick={self._hostname}:{os.fsdecode(self._base)}"
        self.gf_event(event, ";".join([*shown, place]))

    def _configure(self) -> None:
        self._reserve = Reserve(self._base, self.option("reserve"))
        self._direct = os.O_DIRECT if self.option("o-direct") else 0
        uid, gid = self.option("brick-uid"), self.option("brick-gid")
        if uid != -1 or gid != -1:
            os.chown(self._base, uid, gid)
        self._link_counts.enabled = self.option("update-link-count-parent")
        self._batches.mode = Mode(self.option("batch-fsync-mode"))
        self._batches.delay = self.option("batch-fsync-delay-usec") / 1e6
        self._configure_health()
        self._configure_janitor()
        if self.option("node-uuid-pathinfo") and virtual_xattr.node_uuid(self) is None:
            self.log.info("there is no glusterd-uuid: pathinfo shows the host's name instead")
        for name in "linux-aio", "linux-io_uring":
            if self.option(name):
                self.log.info("%s has no effect: io-threads' threads read and write", name)

    def _configure_health(self) -> None:
        interval = self.option("health-check-interval")
        timeout = self.option("health-check-timeout")
        if self._health is not None:
            if self._health.settings == (interval, timeout):
                return
            self._health.stop()
            self._health = None
        if interval:
            self._health = HealthCheck(self, self._handles.folder, interval, timeout, self._sick)

    def _sick(self, path: bytes, problem: OSError) -> None:
        error = os.strerror(problem.errno or errno.EIO)
        self._tell(EVENT_POSIX_HEALTH_CHECK_FAILED, op="write_and_read", path=path, error=error)

    def _configure_janitor(self) -> None:
        seconds = self.option("janitor-sleep-duration")
        if self._janitor is None or self._janitor.seconds != seconds:
            if self._janitor is not None:
                self._janitor.stop()
            self._janitor = Job(self, seconds, self._clean)
        if self.option("disable-landfill-purge"):
            self.log.warning("the landfill will not be purged: it may fill the brick")

    def _clean(self, stopped: Stopped) -> None:
        if not self.option("disable-landfill-purge"):
            try:
                janitor.purge(self._handles, stopped)
            except OSError as error:
                self.log.error("the landfill cannot be purged: %s", error)

    def _check_options(self) -> None:
        separator = self.option("gfid2path-separator")
        if len(encoded(separator)) > SEPARATOR_CHARACTERS:
            raise OptionError(
                f"option gfid2path-separator: '{separator}' is longer than {SEPARATOR_CHARACTERS}"
            )

    def _check_directory(self) -> None:
        written = self.option("directory")
        if written is None:
            raise OptionError("option directory is missing: the directory to serve")
        base = encoded(written.rstrip("/") or "/")
        if not os.path.isdir(base):
            raise OptionError(f"option directory: {written} is not a directory")
        self._base = base
        self._check_xattrs(written, base)
        self._check_volume_id(written, base)
        self._check_root(written, base)
        self._check_acls(written, base)

    def _check_xattrs(self, written: str, base: bytes) -> None:
        try:
            xattrs.find(base, "user.x")
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            if self.option("mandate-attribute"):
                raise OptionError(f"{written} is on a file system without user xattrs") from error
            self.log.warning("%s is on a file system without user xattrs", written)

    def _check_volume_id(self, written: str, base: bytes) -> None:
        wanted = self.option("volume-id")
        if wanted is None:
            return
        try:
            expected = uuid.UUID(wanted)
        except ValueError:
            raise OptionError(f"option volume-id: '{wanted}' is not a UUID") from None
        try:
            found = xattrs.find(base, keys.VOLUME_ID)
        except OSError:
            self._tell(EVENT_POSIX_BRICK_VERIFICATION_FAILED)
            raise
        if found is None:
            self._tell(EVENT_POSIX_BRICK_NOT_IN_VOLUME)
            raise OptionError(
                f"{written} has no {keys.VOLUME_ID}: it is not a brick of this volume"
            )
        if len(found) != len(expected.bytes):
            self._tell(EVENT_POSIX_BRICK_VERIFICATION_FAILED)
            raise OptionError(f"{written} has a {keys.VOLUME_ID} that is no UUID: {found.hex()}")
        if found != expected.bytes:
            identity = {"volume-id": str(uuid.UUID(bytes=found))}
            self._tell(EVENT_POSIX_ALREADY_PART_OF_VOLUME, **identity)
            raise OptionError(f"{written} is a brick of volume {found.hex()}, not {expected.hex}")

    def _check_root(self, written: str, base: bytes) -> None:
        found = xattrs.find(base, keys.GFID)
        if found is None:
            xattrs.put(base, keys.GFID, _ROOT, os.XATTR_CREATE)
        elif found != _ROOT:
            raise OptionError(
                f"{written} has the gfid {found.hex()}: it is not the root of a volume"
            )

    def _check_acls(self, written: str, base: bytes) -> None:
        try:
            xattrs.find(base, keys.ACL_ACCESS)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            self.log.warning("%s is on a file system without access control lists", written)
            self._tell(EVENT_POSIX_ACL_NOT_SUPPORTED)

    # ---- which file ----

    def _remembered(self, inode: Inode, gfid: bytes) -> File:
        """Return what is remembered of a file, and tie it to its inode.

        An inode that is another file's already is left alone: a name may have a new file by now.
        """
        file: File | None = inode.ctx
        if file is None or file.gfid != gfid:
            file = self._files[gfid]
            linked = inode.gfid
            if not linked or linked == gfid:
                inode.ctx = file
        return file

    def _file(self, inode: Inode | None, gfid: bytes) -> File:
        """Return the file of an inode, or of a gfid where the caller has no linked inode of it."""
        if inode is not None:
            file: File | None = inode.ctx
            if file is not None:
                return file
            if inode.gfid:
                return self._remembered(inode, inode.gfid)
        return self._files[gfid]

    def _locate(self, loc: Loc) -> tuple[bytes, File]:
        """Return where a file is, and which it is. ESTALE if the loc does not say."""
        file: File | None = loc.ctx
        inode = loc.c.inode
        kind = inode.ia_type if inode else _INVALID
        if file is None:
            gfid = loc.target()
            if not gfid:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            file = self._file(loc.inode, gfid)
        if kind == DIRECTORY:
            real = self._real(loc)
            if real is not None:
                return real, file
            return self._handles.directory(file.gfid), file
        handle = file.handle
        if handle is None:
            handle = file.handle = self._handles.path(file.gfid)
        if kind == _INVALID and is_directory_handle(handle):
            return self._handles.directory(file.gfid), file
        return handle, file

    def _real(self, loc: Loc) -> bytes | None:
        """Return the real path for a loc's, if that has one, unless the kernel takes none so long.

        A path that does not begin at the root is one of a gfid: "<gfid:…>/name".
        """
        written = _raw(loc.c.path)
        if not written.startswith(b"/"):
            return None
        real = self._base + written
        return real if len(real) < PATH_MAX else None

    def _entry(self, loc: Loc) -> Entry:
        """Return where an entry is, or is to be. ESTALE if the loc does not say."""
        name = _raw(loc.c.name)
        directory: File | None = loc.parent_ctx
        if directory is None:
            gfid = loc.directory()
            if not gfid:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            directory = self._file(loc.parent, gfid)
        if not name or b"/" in name:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        if name == _HIDDEN and directory.gfid == _ROOT:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        path = self._real(loc)
        if path is None:
            folder = self._handles.directory(directory.gfid).rstrip(b"/") + b"/"
            return Entry(folder + name, folder, name, directory)
        return Entry(path, path.rpartition(b"/")[0], name, directory)

    # ---- which open file ----

    def _opened(self, fd: Fd) -> OpenFile:
        """Return the open file of an fd, opened now if it is anonymous."""
        opened: OpenFile | None = fd.ctx
        return self._open_anonymous(fd) if opened is None else opened

    def _open_anonymous(self, fd: Fd) -> OpenFile:
        if not fd.anonymous:
            raise OSError(errno.EINVAL, "an fd that was not opened here")
        inode = fd.inode
        gfid, flags, kind = inode.gfid, fd.flags, inode.c.ia_type
        if not gfid:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))  # never linked
        file = self._remembered(inode, gfid)
        number = -1
        if kind == DIRECTORY:
            number = os.open(self._handles.directory(gfid), os.O_RDONLY | os.O_DIRECTORY)
        elif kind == REGULAR:
            with contextlib.suppress(FileNotFoundError):
                self._refuse_mapped(file, self._handles.path(gfid))
            try:
                number = os.open(self._handles.path(gfid), flags)
            except FileNotFoundError:
                if not file.orphan:
                    raise
                number = os.open(self._handles.orphan(gfid), flags)
        made = OpenFile(file, number, flags)
        opened: OpenFile = fd.ctx_or(lambda: made)
        if opened is not made:
            made.close()
        return opened

    def _refuse_mapped(self, file: File, path: bytes) -> None:
        """EIO for the bytes of a file that are on a block device, if no user/pybd is above.

        Here are only zeros, and what was written here nobody would find again.
        """
        if self._has_pybd:
            return
        if file.mapped is None:
            file.mapped = xattrs.find(path, keys.BD) is not None
            if file.mapped:
                self.log.error(
                    "%s is mapped to a block device, and no user/pybd is above: EIO",
                    Gfid(file.gfid),
                )
        if file.mapped:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    # ---- other callbacks ----

    def release(self, fd: Fd) -> None:
        """Close; a file without names goes with its last fd."""
        opened: OpenFile = fd.ctx
        opened.close()
        if opened.file.orphan and fd.inode.active_fd_count == 0:
            self._bury(opened.file)

    def releasedir(self, fd: Fd) -> None:
        """Close."""
        opened: OpenFile = fd.ctx
        opened.close()

    def forget(self, inode: Inode) -> None:
        """A file without names goes with its inode, but not with one that was never linked."""
        file: File = inode.ctx
        if file.orphan and inode.gfid == file.gfid:
            self._bury(file)

    def _bury(self, file: File) -> None:
        file.orphan = False
        self._handles.remove_orphan(file.gfid)

    def _asked(self, xdata: Dict | None, key: str) -> bool:
        return xdata is not None and key in xdata


def _raw(c: Any) -> bytes:
    """Return a C string as it is; paths are bytes here. Empty if it is NULL."""
    return ffi.string(c) if c else b""


def is_directory_handle(handle: bytes) -> bool:
    """Say whether a handle is a directory's symbolic link; a symlink's own has a second link."""
    try:
        return os.path.islink(handle) and os.lstat(handle).st_nlink == 1
    except OSError:
        return False


def _raise_open_files(base: bytes) -> None:
    """Allow as many open files as GlusterFS's own bricks have; as many as we may, if not root."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
