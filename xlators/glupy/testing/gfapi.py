"""A libgfapi client for tests: every call that reaches a fop, with nothing hidden.

A call that fails raises `OSError` with the errno that libgfapi gave. Attributes are
`os.stat_result`, so that they compare with `os.stat` of the file on the brick. Where libgfapi
passes on the attributes before and after a fop, so do we, as `Reply.pre` and `Reply.post`; they
are None if the reply carried none, or not all that stat(2) has.

Offsets and lengths are bytes, times are nanoseconds since the epoch. Paths start at the root of
the volume.

**Threads.** Calls may be made from any thread; they release the GIL, so calls overlap. A call
cannot be interrupted: if a translator never answers, an `*_async` call with `result(timeout)` is
the one to use.

**Lifetime.** A `Client` outlives its files, a file its calls. Closing a client closes its open
files first, closing a file waits for its asynchronous calls: libgfapi drops the answer to a call
whose file was closed. Nothing may be called on a client or file while another thread closes it.
"""

import concurrent.futures
import contextlib
import errno
import fcntl
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, Generic, NamedTuple, Self, TypeVar

import volfiles
from glupy.testing._gfapi import ffi, lib

T = TypeVar("T")
StrPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Buffer = bytes | bytearray | memoryview
Future = concurrent.futures.Future
CData = Any  # a C object: types stop at the extension

ANSWER_TIMEOUT = 60.0
"""Seconds that closing a file waits for each of its asynchronous calls."""

DISCONNECT_TIMEOUT = 2.0

XATTR_SIZE = 64 * 1024  # the kernel's own limit; virtual xattrs may be larger


class LogLevel(IntEnum):
    """libglusterfs' log levels, as glfs_set_logging takes them."""

    CRITICAL = 3
    ERROR = 4
    WARNING = 5
    INFO = 7
    DEBUG = 8
    TRACE = 9


class Reply(NamedTuple, Generic[T]):
    """What a fop returned, and the attributes of its file before and after it."""

    value: T
    pre: os.stat_result | None
    post: os.stat_result | None


class Copied(NamedTuple):
    """The reply to copy_file_range: `pre` and `post` are the target's attributes."""

    value: int
    source: os.stat_result | None
    pre: os.stat_result | None
    post: os.stat_result | None


class Entry(NamedTuple):
    """One name in a directory. `type` is d_type, `offset` is d_off; `stat` came with readdirp."""

    name: str
    ino: int
    type: int
    offset: int
    stat: os.stat_result | None


class Lock(NamedTuple):
    """A byte-range lock: `type` is F_RDLCK, F_WRLCK or F_UNLCK; length 0 reaches to infinity."""

    type: int
    start: int
    length: int
    pid: int


@contextlib.contextmanager
def credentials(uid: int, gid: int, groups: Sequence[int] = ()) -> Iterator[None]:
    """Make this thread's calls as another user; afterwards as the process' own again."""
    try:
        _check(lib.glfs_setfsuid(uid))
        _check(lib.glfs_setfsgid(gid))
        _check(lib.glfs_setfsgroups(len(groups), list(groups)))
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
        with tempfile.TemporaryDirectory() as folder:
            volfile = Path(folder, "client.vol")
            graph.write(volfile)
            self._start(
                "gfapi",
                lambda fs: _check(lib.glfs_set_volfile(fs, os.fsencode(volfile)), volfile),
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
        server = transport.encode(), os.fsencode(host), port
        self._start(
            name,
            lambda fs: _check(lib.glfs_set_volfile_server(fs, *server), host),
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
        self._open: set[_Fd] = set()
        fs = lib.glfs_new(name.encode())
        if fs == ffi.NULL:
            raise _error()
        self._fs: CData | None = fs
        sockets = _sockets()
        try:
            choose_graph(fs)
            _check(lib.glfs_set_logging(fs, os.fsencode(log), log_level), log)
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
            for fd in list(self._open):
                fd.close()
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

    def be_internal(self, pid: int) -> None:
        """Make this thread's calls as a GlusterFS process: one with a negative `pid`, as heal and
        rebalance have (common-utils.h: GF_CLIENT_PID_*); 0: as anyone again."""
        _check(lib.glfs_setfspid(self._handle, pid))

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

    # Names

    def mkdir(self, path: StrPath, mode: int = 0o755) -> None:
        _check(lib.glfs_mkdir(self._handle, os.fsencode(path), mode), path)

    def rmdir(self, path: StrPath) -> None:
        _check(lib.glfs_rmdir(self._handle, os.fsencode(path)), path)

    def mknod(self, path: StrPath, mode: int, device: int = 0) -> None:
        _check(lib.glfs_mknod(self._handle, os.fsencode(path), mode, device), path)

    def unlink(self, path: StrPath) -> None:
        _check(lib.glfs_unlink(self._handle, os.fsencode(path)), path)

    def rename(self, old: StrPath, new: StrPath) -> None:
        _check(lib.glfs_rename(self._handle, os.fsencode(old), os.fsencode(new)), old, new)

    def link(self, old: StrPath, new: StrPath) -> None:
        _check(lib.glfs_link(self._handle, os.fsencode(old), os.fsencode(new)), old, new)

    def symlink(self, target: StrPath, path: StrPath) -> None:
        _check(lib.glfs_symlink(self._handle, os.fsencode(target), os.fsencode(path)), path)

    def readlink(self, path: StrPath) -> str:
        size = os.pathconf("/", "PC_PATH_MAX")
        buffer = ffi.new("char[]", size)
        length = _check(lib.glfs_readlink(self._handle, os.fsencode(path), buffer, size), path)
        return os.fsdecode(bytes(ffi.buffer(buffer, length)))

    # Attributes

    def stat(self, path: StrPath) -> os.stat_result:
        buffer = ffi.new("struct stat *")
        _check(lib.glfs_stat(self._handle, os.fsencode(path), buffer), path)
        return _stat_result(buffer)

    def lstat(self, path: StrPath) -> os.stat_result:
        buffer = ffi.new("struct stat *")
        _check(lib.glfs_lstat(self._handle, os.fsencode(path), buffer), path)
        return _stat_result(buffer)

    def statvfs(self, path: StrPath = "/") -> os.statvfs_result:
        v = ffi.new("struct statvfs *")
        _check(lib.glfs_statvfs(self._handle, os.fsencode(path), v), path)
        sizes = v.f_bsize, v.f_frsize, v.f_blocks, v.f_bfree, v.f_bavail
        files = v.f_files, v.f_ffree, v.f_favail
        return os.statvfs_result((*sizes, *files, v.f_flag, v.f_namemax, v.f_fsid))

    def access(self, path: StrPath, mode: int) -> None:
        """Raises OSError with EACCES, not False, if `mode` (R_OK, W_OK, X_OK) is refused."""
        _check(lib.glfs_access(self._handle, os.fsencode(path), mode), path)

    def truncate(self, path: StrPath, length: int) -> None:
        _check(lib.glfs_truncate(self._handle, os.fsencode(path), length), path)

    def chmod(self, path: StrPath, mode: int) -> None:
        _check(lib.glfs_chmod(self._handle, os.fsencode(path), mode), path)

    def chown(self, path: StrPath, uid: int, gid: int, *, follow: bool = True) -> None:
        call = lib.glfs_chown if follow else lib.glfs_lchown
        _check(call(self._handle, os.fsencode(path), uid, gid), path)

    def utimens(self, path: StrPath, atime: int, mtime: int, *, follow: bool = True) -> None:
        call = lib.glfs_utimens if follow else lib.glfs_lutimens
        _check(call(self._handle, os.fsencode(path), _times(atime, mtime)), path)

    # Extended attributes

    def getxattr(self, path: StrPath, name: str, *, follow: bool = True) -> bytes:
        call = lib.glfs_getxattr if follow else lib.glfs_lgetxattr
        where = self._handle, os.fsencode(path), os.fsencode(name)
        return _sized(lambda buffer, size: call(*where, buffer, size), path)

    def listxattr(self, path: StrPath, *, follow: bool = True) -> list[str]:
        call = lib.glfs_listxattr if follow else lib.glfs_llistxattr
        where = self._handle, os.fsencode(path)
        return _names(_sized(lambda buffer, size: call(*where, buffer, size), path))

    def setxattr(
        self, path: StrPath, name: str, value: bytes, flags: int = 0, *, follow: bool = True
    ) -> None:
        """`flags`: 0, os.XATTR_CREATE or os.XATTR_REPLACE."""
        call = lib.glfs_setxattr if follow else lib.glfs_lsetxattr
        where = self._handle, os.fsencode(path), os.fsencode(name)
        _check(call(*where, value, len(value), flags), path)

    def removexattr(self, path: StrPath, name: str, *, follow: bool = True) -> None:
        call = lib.glfs_removexattr if follow else lib.glfs_lremovexattr
        _check(call(self._handle, os.fsencode(path), os.fsencode(name)), path)


class _Fd:
    """What an open file and an open directory have in common. Made by a `Client`."""

    _close_call: Callable[[CData], int]

    def __init__(self, client: Client, fd: CData, path: StrPath) -> None:
        if fd == ffi.NULL:
            raise _error(path)
        self.client, self.path = client, path
        self._fd: CData | None = fd
        self._calls: set[_Call[Any]] = set()
        client._open.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for asynchronous calls, then close. Closing twice is fine.

        Raises TimeoutError if a call got no answer in `ANSWER_TIMEOUT` seconds; the file is closed
        all the same, and the call's future gets that TimeoutError."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        self.client._open.discard(self)
        calls = list(self._calls)
        concurrent.futures.wait([call.future for call in calls], ANSWER_TIMEOUT)
        _check(self._close_call(fd), self.path)
        error = TimeoutError(errno.ETIMEDOUT, "no answer to an asynchronous call", self.path)
        late = [call for call in calls if call.finish(call.future.set_exception, error)]
        if late:
            _unanswered.extend(late)
            raise error

    @property
    def _handle(self) -> CData:
        if self._fd is None:
            raise ValueError("this file is closed")
        return self._fd

    def fstat(self) -> os.stat_result:
        buffer = ffi.new("struct stat *")
        _check(lib.glfs_fstat(self._handle, buffer), self.path)
        return _stat_result(buffer)

    def fchmod(self, mode: int) -> None:
        _check(lib.glfs_fchmod(self._handle, mode), self.path)

    def fchown(self, uid: int, gid: int) -> None:
        _check(lib.glfs_fchown(self._handle, uid, gid), self.path)

    def futimens(self, atime: int, mtime: int) -> None:
        _check(lib.glfs_futimens(self._handle, _times(atime, mtime)), self.path)

    def fgetxattr(self, name: str) -> bytes:
        where = self._handle, os.fsencode(name)
        return _sized(lambda buf, size: lib.glfs_fgetxattr(*where, buf, size), self.path)

    def flistxattr(self) -> list[str]:
        fd = self._handle
        return _names(_sized(lambda buf, size: lib.glfs_flistxattr(fd, buf, size), self.path))

    def fsetxattr(self, name: str, value: bytes, flags: int = 0) -> None:
        where = self._handle, os.fsencode(name)
        _check(lib.glfs_fsetxattr(*where, value, len(value), flags), self.path)

    def fremovexattr(self, name: str) -> None:
        _check(lib.glfs_fremovexattr(self._handle, os.fsencode(name)), self.path)


class Directory(_Fd):
    """An open directory."""

    _close_call = staticmethod(lib.glfs_closedir)

    def readdir(self, *, plus: bool = False) -> Iterator[Entry]:
        """The entries that follow; `plus` asks for attributes too (readdirp). An error raises
        OSError where it happens, after the entries before it."""
        # libgfapi asks for 512 bytes, more than struct dirent has (glfs.h, glfs_readdir_r)
        storage = ffi.new("char[512]")
        entry = ffi.cast("struct dirent *", storage)
        stat = ffi.new("struct stat *") if plus else None
        found = ffi.new("struct dirent **")
        while True:
            if stat is None:
                _check(lib.glfs_readdir_r(self._handle, entry, found), self.path)
            else:
                _check(lib.glfs_readdirplus_r(self._handle, stat, entry, found), self.path)
            if found[0] == ffi.NULL:
                return
            yield Entry(
                os.fsdecode(ffi.string(entry.d_name)),
                entry.d_ino,
                entry.d_type,
                entry.d_off,
                None if stat is None else _stat_result(stat),
            )


class File(_Fd):
    """An open file."""

    _close_call = staticmethod(lib.glfs_close)

    # Data

    def pread(self, length: int, offset: int) -> Reply[bytes]:
        """Up to `length` bytes, fewer at the end of the file. `pre` is None: a read has none."""
        buffer, post = _uncleared("char[]", length), ffi.new("struct glfs_stat *")
        got = _check(lib.glfs_pread(self._handle, buffer, length, offset, 0, post), self.path)
        return Reply(bytes(ffi.buffer(buffer, got)), None, _attributes(post))

    def pwrite(self, data: Buffer, offset: int) -> Reply[int]:
        """Returns the number of bytes written."""
        source = ffi.from_buffer(data)
        return self._replied(
            lambda pre, post: lib.glfs_pwrite(
                self._handle, source, len(source), offset, 0, pre, post
            )
        )

    def preadv(self, lengths: Sequence[int], offset: int) -> list[bytes]:
        """Read one piece after the other into several buffers; the last ones may come short."""
        buffers = [_uncleared("char[]", length) for length in lengths]
        got = _check(
            lib.glfs_preadv(self._handle, _iovec(buffers, lengths), len(lengths), offset, 0),
            self.path,
        )
        pieces = []
        for buffer, length in zip(buffers, lengths, strict=True):
            pieces.append(bytes(ffi.buffer(buffer, min(length, got))))
            got -= len(pieces[-1])
        return pieces

    def pwritev(self, pieces: Sequence[Buffer], offset: int) -> int:
        buffers = [ffi.from_buffer(piece) for piece in pieces]
        iovec = _iovec(buffers, [len(buffer) for buffer in buffers])
        return _check(lib.glfs_pwritev(self._handle, iovec, len(pieces), offset, 0), self.path)

    def copy_file_range(
        self, offset: int, target: "File", target_offset: int, length: int
    ) -> Copied:
        """Copy from this file to `target` on the brick; may copy less than `length`.

        GlusterFS 10's protocol/client always sends 0 for `offset` (client_copy_file_range fills
        in another member), so another offset is honoured only in a graph without it. And its
        libgfapi leaves the calling thread's THIS on this client, for later clients to crash on:
        so the call is made on a thread of its own, with this process' own credentials."""
        source, pre, post = (ffi.new("struct glfs_stat *") for _ in range(3))
        here, there = ffi.new("off64_t *", offset), ffi.new("off64_t *", target_offset)
        fds = self._handle, here, target._handle, there

        def call() -> int:
            copied = lib.glfs_copy_file_range(*fds, length, 0, source, pre, post)
            return _check(copied, self.path, target.path)

        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            copied = thread.submit(call).result()
        return Copied(copied, _attributes(source), _attributes(pre), _attributes(post))

    # Space

    def discard(self, offset: int, length: int) -> None:
        """Punch a hole. libgfapi keeps the attributes to itself: see `discard_async`."""
        _check(lib.glfs_discard(self._handle, offset, length), self.path)

    def fallocate(self, offset: int, length: int, *, keep_size: bool = False) -> None:
        _check(lib.glfs_fallocate(self._handle, keep_size, offset, length), self.path)

    def zerofill(self, offset: int, length: int) -> None:
        """Write zeros, growing the file if need be. For attributes see `zerofill_async`."""
        _check(lib.glfs_zerofill(self._handle, offset, length), self.path)

    def ftruncate(self, length: int) -> Reply[int]:
        return self._replied(lambda pre, post: lib.glfs_ftruncate(self._handle, length, pre, post))

    def lseek(self, offset: int, whence: int) -> int:
        """With SEEK_DATA or SEEK_HOLE: the fop seek. OSError ENXIO: nothing after `offset`."""
        return _check(lib.glfs_lseek(self._handle, offset, whence), self.path)

    # Durability

    def fsync(self) -> Reply[int]:
        return self._replied(lambda pre, post: lib.glfs_fsync(self._handle, pre, post))

    def fdatasync(self) -> Reply[int]:
        return self._replied(lambda pre, post: lib.glfs_fdatasync(self._handle, pre, post))

    # The same, answered later. The future's value is what the plain call returns; its callbacks
    # run on libgfapi's thread, or on the caller's before the call returns.

    def pread_async(self, length: int, offset: int) -> Future[Reply[bytes]]:
        buffer = _uncleared("char[]", length)
        return self._later(
            lambda answer: lib.glfs_pread_async(self._handle, buffer, length, offset, 0, *answer),
            lambda got: bytes(ffi.buffer(buffer, got)),
        )

    def pwrite_async(self, data: Buffer, offset: int) -> Future[Reply[int]]:
        """`data` must not change before the answer."""
        source = ffi.from_buffer(data)
        return self._later(
            lambda answer: lib.glfs_pwrite_async(
                self._handle, source, len(source), offset, 0, *answer
            ),
            int,
        )

    def discard_async(self, offset: int, length: int) -> Future[Reply[int]]:
        return self._later(
            lambda answer: lib.glfs_discard_async(self._handle, offset, length, *answer), int
        )

    def zerofill_async(self, offset: int, length: int) -> Future[Reply[int]]:
        return self._later(
            lambda answer: lib.glfs_zerofill_async(self._handle, offset, length, *answer), int
        )

    def ftruncate_async(self, length: int) -> Future[Reply[int]]:
        return self._later(
            lambda answer: lib.glfs_ftruncate_async(self._handle, length, *answer), int
        )

    def fsync_async(self) -> Future[Reply[int]]:
        return self._later(lambda answer: lib.glfs_fsync_async(self._handle, *answer), int)

    def fdatasync_async(self) -> Future[Reply[int]]:
        return self._later(lambda answer: lib.glfs_fdatasync_async(self._handle, *answer), int)

    # Locks

    def set_lk_owner(self, owner: bytes) -> None:
        """The owner of locks taken through this file from now on; at most 255 bytes."""
        _check(lib.glfs_fd_set_lkowner(self._handle, owner, len(owner)), self.path)

    def lock(self, type: int, start: int = 0, length: int = 0, *, wait: bool = False) -> None:
        """Take (fcntl.F_RDLCK, F_WRLCK) or drop (F_UNLCK) a byte-range lock. Without `wait` a
        conflict raises OSError EAGAIN."""
        lock = _flock(type, start, length)
        command = fcntl.F_SETLKW if wait else fcntl.F_SETLK
        _check(lib.glfs_posix_lock(self._handle, command, lock), self.path)

    def conflicting_lock(self, type: int, start: int = 0, length: int = 0) -> Lock | None:
        """The lock that would stand in the way of this one, if there is one."""
        lock = _flock(type, start, length)
        _check(lib.glfs_posix_lock(self._handle, fcntl.F_GETLK, lock), self.path)
        if lock.l_type == fcntl.F_UNLCK:
            return None
        return Lock(lock.l_type, lock.l_start, lock.l_len, lock.l_pid)

    def _replied(self, call: Callable[[CData, CData], int]) -> Reply[int]:
        pre, post = ffi.new("struct glfs_stat *"), ffi.new("struct glfs_stat *")
        value = _check(call(pre, post), self.path)
        return Reply(value, _attributes(pre), _attributes(post))

    def _later(
        self, start: Callable[[tuple[CData, CData]], int], value: Callable[[int], T]
    ) -> Future[Reply[T]]:
        call = _Call(self, start, value)
        self._calls.add(call)
        if start((lib.glupy_gfapi_answered, call.handle)) < 0:
            self._calls.discard(call)
            raise _error(self.path)
        return call.future


class _Call(Generic[T]):
    """An asynchronous call on its way. Its file keeps it, and with it (in the closures) the
    buffers that libgfapi works on, until the answer."""

    def __init__(self, file: File, start: Callable[..., int], value: Callable[[int], T]) -> None:
        self.file, self.start, self.value = file, start, value
        self.future: Future[Reply[T]] = Future()
        self.handle = ffi.new_handle(self)

    def answer(self, ret: int, number: int, pre: CData, post: CData) -> None:
        try:
            if ret < 0:
                raise OSError(number, os.strerror(number), self.file.path)
            reply = Reply(self.value(ret), _attributes(pre), _attributes(post))
        except BaseException as error:
            self.finish(self.future.set_exception, error)
        else:
            self.finish(self.future.set_result, reply)
        finally:
            self.file._calls.discard(self)

    def finish(self, settle: Callable[[Any], None], outcome: object) -> bool:
        """Settle the future, unless that was done already; says whether it did."""
        try:
            settle(outcome)
        except concurrent.futures.InvalidStateError:
            return False
        return True


_unanswered: list[_Call[Any]] = []
"""Calls whose file was closed before the answer: libgfapi does not call back for a closed file,
except one that was just being closed, so nothing that it points to may ever go away."""


def _answered(fd: CData, ret: int, pre: CData, post: CData, data: CData) -> None:
    number = ffi.errno
    ffi.from_handle(data).answer(ret, number, pre, post)


ffi.def_extern(name="glupy_gfapi_answered")(_answered)

_uncleared = ffi.new_allocator(should_clear_after_alloc=False)


def _sockets() -> set[str]:
    """The sockets that this process has open right now."""
    sockets = set()
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed since
            if (target := str(fd.readlink())).startswith("socket:"):
                sockets.add(target)
    return sockets


def _error(*paths: StrPath) -> OSError:
    number = ffi.errno
    named = (paths[0], None, *paths[1:]) if paths else ()
    return OSError(number, os.strerror(number), *named)


def _check(ret: int, *paths: StrPath) -> int:
    if ret < 0:
        raise _error(*paths)
    return ret


def _sized(call: Callable[[CData, int], int], path: StrPath) -> bytes:
    """The value of a call that fills a buffer, or says how large it must be."""
    size = XATTR_SIZE
    while True:
        buffer = ffi.new("char[]", size)
        got = call(buffer, size)
        if got >= 0:
            return bytes(ffi.buffer(buffer, got))
        if ffi.errno != errno.ERANGE:
            raise _error(path)
        size = _check(call(ffi.NULL, 0), path)


def _names(value: bytes) -> list[str]:
    return [os.fsdecode(name) for name in value.split(b"\0") if name]


def _times(atime: int, mtime: int) -> CData:
    return ffi.new("struct timespec[2]", [divmod(atime, 10**9), divmod(mtime, 10**9)])


def _flock(type: int, start: int, length: int) -> Any:
    lock = ffi.new("struct flock *")
    lock.l_type, lock.l_whence, lock.l_start, lock.l_len = type, os.SEEK_SET, start, length
    return lock


def _iovec(buffers: Sequence[CData], lengths: Sequence[int]) -> CData:
    return ffi.new("struct iovec[]", list(zip(buffers, lengths, strict=True)))


def _stat_result(stat: Any) -> os.stat_result:
    device, special = stat.st_dev, stat.st_rdev
    times = stat.st_atim, stat.st_mtim, stat.st_ctim
    return _make_stat_result(stat, "st_", device, special, times)


def _attributes(stat: Any) -> os.stat_result | None:
    if stat == ffi.NULL or ~stat.glfs_st_mask & lib.GLFS_STAT_BASIC_STATS:
        return None
    # libgfapi cuts st_dev into halves, but st_rdev as makedev(3) does
    device = stat.glfs_st_dev_major << 32 | stat.glfs_st_dev_minor
    special = os.makedev(stat.glfs_st_rdev_major, stat.glfs_st_rdev_minor)
    times = stat.glfs_st_atime, stat.glfs_st_mtime, stat.glfs_st_ctime
    return _make_stat_result(stat, "glfs_st_", device, special, times)


def _make_stat_result(
    stat: object, prefix: str, device: int, special: int, times: tuple[Any, Any, Any]
) -> os.stat_result:
    def field(name: str) -> int:
        value: int = getattr(stat, prefix + name)
        return value

    named: dict[str, float] = {
        "st_blksize": field("blksize"),
        "st_blocks": field("blocks"),
        "st_rdev": special,
    }
    for name, spec in zip(("atime", "mtime", "ctime"), times, strict=True):
        named[f"st_{name}"] = spec.tv_sec + spec.tv_nsec / 10**9
        named[f"st_{name}_ns"] = spec.tv_sec * 10**9 + spec.tv_nsec
    inode = field("mode"), field("ino"), device, field("nlink")
    owner = field("uid"), field("gid")
    return os.stat_result((*inode, *owner, field("size"), *(t.tv_sec for t in times)), named)
