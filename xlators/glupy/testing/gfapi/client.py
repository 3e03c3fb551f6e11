"""Clients: what has a path, and what opens files."""

import contextlib
import dataclasses
import errno
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Self, Unpack

import volfiles
from glupy.testing._gfapi import ffi, lib
from glupy.testing.gfapi.answers import (
    CData,
    Entry,
    Settable,
    StrPath,
    check,
    failure,
    glfs_stat,
    names_in,
    readlink,
    sized,
    stat_result,
    statvfs_result,
    timespecs,
)
from glupy.testing.gfapi.files import Directory, File, Handle
from glupy.testing.gfapi.objects import Object
from glupy.testing.gfapi.upcalls import Upcalls, listen, unlisten

DISCONNECT_TIMEOUT = 2.0


class LogLevel(IntEnum):
    """libglusterfs' log levels, as glfs_set_logging takes them."""

    CRITICAL = 3
    ERROR = 4
    WARNING = 5
    INFO = 7
    DEBUG = 8
    TRACE = 9


@contextlib.contextmanager
def credentials(uid: int, gid: int, groups: Sequence[int] = ()) -> Iterator[None]:
    """Make this thread's calls as another user; afterwards as the process' own again."""
    try:
        check(lib.glfs_setfsuid(uid))
        check(lib.glfs_setfsgid(gid))
        check(lib.glfs_setfsgroups(len(groups), list(groups)))
        yield
    finally:
        lib.glfs_setfsuid(os.geteuid())
        lib.glfs_setfsgid(os.getegid())
        lib.glfs_setfsgroups(0, ffi.NULL)


class Client:
    """A connection to a volume, or a whole graph in this process (`glfs_set_volfile`).

    `graph` is a `volfiles.Graph`, the text of a volfile, or the path of one (an `os.PathLike`).
    Raises VolfileError for what is no volfile, and OSError if an xlator does not start or the
    bottom of the graph is not up. GlusterFS 10's parser never recovers from a volfile that it
    refused, so what is wrong is found before; of a type that is not installed it is told
    nevertheless, and then no client starts in this process any more.

    glfs_fini takes up to 10 s for a graph with protocol/client: it drops the connection at once,
    then waits until a timer of the RPC layer fires that it can no longer cancel (GlusterFS 10:
    gf_timer_call_cancel refuses once cleanup has started). With `background_fini` a daemon thread
    waits instead and `close` returns once the connections are gone, so that a brick may go after
    it; nothing leaks, and the end of the process does not wait. A graph without protocol/client
    needs no such help.

    A protocol/client of `graph` has one event thread unless its option ``event-threads`` says
    otherwise, not two: glfs_fini waits for the end of the first alone, and another may log by a
    context that was freed (event-epoll.c; SIGSEGV). It answers all replies, one after the other.
    """

    def __init__(
        self,
        graph: volfiles.Graph | str | os.PathLike[str] | os.PathLike[bytes],
        *,
        log: StrPath = "/dev/null",
        log_level: LogLevel = LogLevel.INFO,
        background_fini: bool = False,
    ) -> None:
        if isinstance(graph, os.PathLike):
            graph = volfiles.read(Path(os.fsdecode(graph)))
        elif not isinstance(graph, volfiles.Graph):
            graph = volfiles.parse(str(graph))
        self._graph: volfiles.Graph | None = graph
        with tempfile.TemporaryDirectory() as folder:
            volfile = Path(folder, "client.vol")
            _with_one_event_thread(graph).write(volfile)
            self._start(
                "gfapi",
                lambda fs: check(lib.glfs_set_volfile(fs, os.fsencode(volfile)), volfile),
                log,
                log_level,
                background_fini,
            )

    @classmethod
    def of_volume(
        cls,
        name: str,
        host: str = "localhost",
        *,
        port: int = 0,
        transport: str = "tcp",
        log: StrPath = "/dev/null",
        log_level: LogLevel = LogLevel.INFO,
        background_fini: bool = False,
    ) -> Self:
        """A client of a volume that glusterd at `host` serves. With transport "unix" `host` is
        the path of glusterd's socket; port 0 is glusterd's own."""
        self = cls.__new__(cls)
        self._graph = None
        server = transport.encode(), os.fsencode(host), port
        self._start(
            name,
            lambda fs: check(lib.glfs_set_volfile_server(fs, *server), host),
            log,
            log_level,
            background_fini,
        )
        return self

    def _start(
        self,
        name: str,
        choose_graph: Callable[[CData], int],
        log: StrPath,
        log_level: LogLevel,
        background_fini: bool,
    ) -> None:
        self.log = Path(os.fsdecode(log))
        self._background_fini = background_fini
        self._sockets: set[str] = set()
        self._open: set[Handle | Object] = set()
        fs = lib.glfs_new(name.encode())
        if fs == ffi.NULL:
            raise failure()
        self._fs: CData | None = fs
        sockets = _sockets()
        try:
            choose_graph(fs)
            check(lib.glfs_set_logging(fs, os.fsencode(log), log_level), log)
            if lib.glfs_init(fs) < 0:
                number = ffi.errno or errno.EIO
                raise OSError(number, f"glfs_init: {os.strerror(number)}; see", str(self.log))
            self._sockets = _sockets() - sockets
        except BaseException:
            # Not glfs_fini: of a client that did not start it frees the context and leaves the
            # thread of its timers, which would flush that context's log two minutes later (glfs.c:
            # gf_timer_registry_destroy is for the started only).
            self._fs = None
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open and end the client (glfs_fini). Closing twice is fine."""
        fs, self._fs = self._fs, None
        if fs is None:
            return
        try:
            for each in list(self._open):
                each.close()
            unlisten(fs)
        finally:
            if self._background_fini:
                threading.Thread(target=lib.glfs_fini, args=(fs,), daemon=True).start()
                deadline = time.monotonic() + DISCONNECT_TIMEOUT
                while self._sockets & _sockets() and time.monotonic() < deadline:
                    time.sleep(0.001)
            else:
                lib.glfs_fini(fs)

    @property
    def _handle(self) -> CData:
        if self._fs is None:
            raise ValueError("this client is closed")
        return self._fs

    @property
    def graph(self) -> volfiles.Graph:
        """What it was made of, or what glusterd has told it last."""
        if self._graph is not None:
            return self._graph
        size = -int(lib.glfs_get_volfile(self._handle, ffi.NULL, 0))
        buffer = ffi.new("char[]", size)
        lib.glfs_get_volfile(self._handle, buffer, size)
        return volfiles.parse(bytes(ffi.buffer(buffer)).decode())

    def be_internal(self, pid: int) -> None:
        """Make this thread's calls as a GlusterFS process: one with a negative `pid`, as heal and
        rebalance have (common-utils.h: GF_CLIENT_PID_*); 0: as anyone again."""
        check(lib.glfs_setfspid(self._handle, pid))

    def listen(self) -> Upcalls:
        """What bricks tell this client from now on, one after the other in a queue.

        A recalled lease is told of here; glfs_h_poll_upcall, the other way to ask, leaves it out.
        """
        return listen(self._handle)

    def ipc(self, number: int) -> None:
        """The fop by which GlusterFS's xlators talk to each other; a leaf knows no `number`."""
        check(lib.glfs_ipc(self._handle, number, ffi.NULL, ffi.NULL))

    # Files and directories

    def open(self, path: StrPath, flags: int = os.O_RDWR) -> "File":
        """Open a file that exists (libgfapi ignores O_CREAT here: see `creat`)."""
        return File(self, lib.glfs_open(self._handle, os.fsencode(path), flags), path)

    def creat(self, path: StrPath, flags: int = os.O_RDWR, mode: int = 0o644) -> "File":
        """Open a file, creating it if need be; O_EXCL in `flags` insists on creating."""
        return File(self, lib.glfs_creat(self._handle, os.fsencode(path), flags, mode), path)

    def opendir(self, path: StrPath) -> "Directory":
        return Directory(self, lib.glfs_opendir(self._handle, os.fsencode(path)), path)

    def readdir(self, path: StrPath, *, plus: bool = False) -> list[Entry]:
        """All entries of a directory, `.` and `..` included; with `plus`, by readdirp."""
        with self.opendir(path) as directory:
            return list(directory.readdir(plus=plus))

    def chdir(self, path: StrPath) -> None:
        """Have relative paths begin there (see `Directory.fchdir`, too)."""
        check(lib.glfs_chdir(self._handle, os.fsencode(path)), path)

    def realpath(self, path: StrPath) -> str:
        """The path that symbolic links lead to."""
        buffer = ffi.new("char[]", os.pathconf("/", "PC_PATH_MAX") + 1)
        if lib.glfs_realpath(self._handle, os.fsencode(path), buffer) == ffi.NULL:
            raise failure(path)
        return os.fsdecode(ffi.string(buffer))

    # Files by their gfid

    def find(self, path: StrPath, *, follow: bool = False) -> Object:
        """What has this path; a symbolic link is not followed unless told so."""
        raw = os.fsencode(path)
        where = self._handle, ffi.NULL, raw, ffi.NULL, follow
        return Object(self, lib.glfs_h_lookupat(*where), path)

    def by_gfid(self, gfid: bytes) -> Object:
        """The file of this gfid (16 bytes), by a lookup without a name unless this client knows it.

        ENOENT: there is none."""
        handle = ffi.new("unsigned char[]", gfid)
        found = lib.glfs_h_create_from_handle(self._handle, handle, len(gfid), ffi.NULL)
        return Object(self, found, gfid.hex())

    # Names

    def mkdir(self, path: StrPath, mode: int = 0o755) -> None:
        check(lib.glfs_mkdir(self._handle, os.fsencode(path), mode), path)

    def rmdir(self, path: StrPath) -> None:
        check(lib.glfs_rmdir(self._handle, os.fsencode(path)), path)

    def mknod(self, path: StrPath, mode: int, device: int = 0) -> None:
        check(lib.glfs_mknod(self._handle, os.fsencode(path), mode, device), path)

    def unlink(self, path: StrPath) -> None:
        check(lib.glfs_unlink(self._handle, os.fsencode(path)), path)

    def rename(self, old: StrPath, new: StrPath) -> None:
        check(lib.glfs_rename(self._handle, os.fsencode(old), os.fsencode(new)), old, new)

    def link(self, old: StrPath, new: StrPath) -> None:
        check(lib.glfs_link(self._handle, os.fsencode(old), os.fsencode(new)), old, new)

    def symlink(self, target: StrPath, path: StrPath) -> None:
        check(lib.glfs_symlink(self._handle, os.fsencode(target), os.fsencode(path)), path)

    def readlink(self, path: StrPath) -> str:
        where = self._handle, os.fsencode(path)
        return readlink(lambda *buffer: lib.glfs_readlink(*where, *buffer), path)

    # Attributes

    def stat(self, path: StrPath) -> os.stat_result:
        buffer = ffi.new("struct stat *")
        check(lib.glfs_stat(self._handle, os.fsencode(path), buffer), path)
        return stat_result(buffer)

    def lstat(self, path: StrPath) -> os.stat_result:
        buffer = ffi.new("struct stat *")
        check(lib.glfs_lstat(self._handle, os.fsencode(path), buffer), path)
        return stat_result(buffer)

    def statvfs(self, path: StrPath = "/") -> os.statvfs_result:
        where = self._handle, os.fsencode(path)
        return statvfs_result(lambda buffer: lib.glfs_statvfs(*where, buffer), path)

    def access(self, path: StrPath, mode: int) -> None:
        """Raises OSError with EACCES, not False, if `mode` (R_OK, W_OK, X_OK) is refused."""
        check(lib.glfs_access(self._handle, os.fsencode(path), mode), path)

    def truncate(self, path: StrPath, length: int) -> None:
        check(lib.glfs_truncate(self._handle, os.fsencode(path), length), path)

    def chmod(self, path: StrPath, mode: int) -> None:
        check(lib.glfs_chmod(self._handle, os.fsencode(path), mode), path)

    def chown(self, path: StrPath, uid: int, gid: int, *, follow: bool = True) -> None:
        call = lib.glfs_chown if follow else lib.glfs_lchown
        check(call(self._handle, os.fsencode(path), uid, gid), path)

    def setattr(self, path: StrPath, *, follow: bool = True, **wanted: Unpack[Settable]) -> None:
        """Whatever of its attributes is given; nothing: its ctime alone."""
        where = self._handle, os.fsencode(path)
        check(lib.glfs_setattr(*where, glfs_stat(wanted), follow), path)

    def utimens(self, path: StrPath, atime: int, mtime: int, *, follow: bool = True) -> None:
        call = lib.glfs_utimens if follow else lib.glfs_lutimens
        check(call(self._handle, os.fsencode(path), timespecs(atime, mtime)), path)

    # Extended attributes

    def getxattr(self, path: StrPath, name: str, *, follow: bool = True) -> bytes:
        call = lib.glfs_getxattr if follow else lib.glfs_lgetxattr
        where = self._handle, os.fsencode(path), os.fsencode(name)
        return sized(lambda buffer, size: call(*where, buffer, size), path)

    def listxattr(self, path: StrPath, *, follow: bool = True) -> list[str]:
        call = lib.glfs_listxattr if follow else lib.glfs_llistxattr
        where = self._handle, os.fsencode(path)
        return names_in(sized(lambda buffer, size: call(*where, buffer, size), path))

    def setxattr(
        self, path: StrPath, name: str, value: bytes, flags: int = 0, *, follow: bool = True
    ) -> None:
        """`flags`: 0, os.XATTR_CREATE or os.XATTR_REPLACE."""
        call = lib.glfs_setxattr if follow else lib.glfs_lsetxattr
        where = self._handle, os.fsencode(path), os.fsencode(name)
        check(call(*where, value, len(value), flags), path)

    def removexattr(self, path: StrPath, name: str, *, follow: bool = True) -> None:
        call = lib.glfs_removexattr if follow else lib.glfs_lremovexattr
        check(call(self._handle, os.fsencode(path), os.fsencode(name)), path)


def _with_one_event_thread(graph: volfiles.Graph) -> volfiles.Graph:
    return volfiles.Graph(
        [
            dataclasses.replace(each, options={"event-threads": "1", **each.options})
            if each.type == "protocol/client"
            else each
            for each in graph
        ]
    )


def _sockets() -> set[str]:
    """The sockets that this process has open right now."""
    sockets = set()
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed since
            if (target := str(fd.readlink())).startswith("socket:"):
                sockets.add(target)
    return sockets
