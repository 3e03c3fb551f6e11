"""Open files and directories, and the calls on them that are still to be answered."""

from __future__ import annotations

import concurrent.futures
import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Self, Unpack

from glupy.testing._gfapi import ffi, lib
from glupy.testing.gfapi.answers import (
    CData,
    Copied,
    Entry,
    Lock,
    Reply,
    Settable,
    StrPath,
    T,
    attributes,
    check,
    entry,
    failure,
    flock,
    glfs_stat,
    iovecs,
    names_in,
    on_its_own_thread,
    sized,
    stat_result,
    timespecs,
)
from glupy.testing.gfapi.leases import Leased

if TYPE_CHECKING:
    from glupy.testing.gfapi.client import Client

Buffer = bytes | bytearray | memoryview
Future = concurrent.futures.Future

ANSWER_TIMEOUT = 60.0
"""Seconds that closing a file waits for each of its asynchronous calls."""

_uncleared = ffi.new_allocator(should_clear_after_alloc=False)


class Handle:
    """What an open file and an open directory have in common. Made by a `Client`."""

    _close_call: Callable[[CData], int]

    def __init__(self, client: Client, fd: CData, path: StrPath) -> None:
        if fd == ffi.NULL:
            raise failure(path)
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
        check(self._close_call(fd), self.path)
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
        check(lib.glfs_fstat(self._handle, buffer), self.path)
        return stat_result(buffer)

    def fchmod(self, mode: int) -> None:
        check(lib.glfs_fchmod(self._handle, mode), self.path)

    def fchown(self, uid: int, gid: int) -> None:
        check(lib.glfs_fchown(self._handle, uid, gid), self.path)

    def fsetattr(self, **wanted: Unpack[Settable]) -> None:
        """Whatever of its attributes is given; nothing: its ctime alone."""
        check(lib.glfs_fsetattr(self._handle, glfs_stat(wanted)), self.path)

    def futimens(self, atime: int, mtime: int) -> None:
        check(lib.glfs_futimens(self._handle, timespecs(atime, mtime)), self.path)

    def fgetxattr(self, name: str) -> bytes:
        where = self._handle, os.fsencode(name)
        return sized(lambda buf, size: lib.glfs_fgetxattr(*where, buf, size), self.path)

    def flistxattr(self) -> list[str]:
        fd = self._handle
        return names_in(sized(lambda buf, size: lib.glfs_flistxattr(fd, buf, size), self.path))

    def fsetxattr(self, name: str, value: bytes, flags: int = 0) -> None:
        where = self._handle, os.fsencode(name)
        check(lib.glfs_fsetxattr(*where, value, len(value), flags), self.path)

    def fremovexattr(self, name: str) -> None:
        check(lib.glfs_fremovexattr(self._handle, os.fsencode(name)), self.path)


class Directory(Handle):
    """An open directory."""

    _close_call = staticmethod(lib.glfs_closedir)

    def readdir(self, *, plus: bool = False) -> Iterator[Entry]:
        """The entries that follow; `plus` asks for attributes too (readdirp). An error raises
        OSError where it happens, after the entries before it."""
        stat = ffi.new("struct stat *") if plus else ffi.NULL
        found, own_buffer = ffi.new("struct dirent **"), ffi.NULL  # libgfapi's for this directory
        while True:
            check(lib.glfs_readdirplus_r(self._handle, stat, own_buffer, found), self.path)
            if found[0] == ffi.NULL:
                return
            yield entry(found[0], stat_result(stat) if plus else None)

    def tell(self) -> int:
        """Where the next entry is: the `offset` of the one before."""
        return int(lib.glfs_telldir(self._handle))

    def seek(self, offset: int) -> None:
        """Go on behind the entry of this `offset`; 0: from the start."""
        lib.glfs_seekdir(self._handle, offset)

    def fchdir(self) -> None:
        """Have the client's relative paths begin here."""
        check(lib.glfs_fchdir(self._handle), self.path)


class File(Handle, Leased):
    """An open file."""

    _close_call = staticmethod(lib.glfs_close)

    def _call_lease(self, lease: CData) -> int:
        return int(lib.glfs_lease(self._handle, lease, ffi.NULL, ffi.NULL))

    # Data

    def pread(self, length: int, offset: int) -> Reply[bytes]:
        """Up to `length` bytes, fewer at the end of the file. `pre` is None: a read has none."""
        buffer, post = _uncleared("char[]", length), ffi.new("struct glfs_stat *")
        got = check(lib.glfs_pread(self._handle, buffer, length, offset, 0, post), self.path)
        return Reply(bytes(ffi.buffer(buffer, got)), None, attributes(post))

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
        iovec = iovecs(buffers, lengths)
        got = check(lib.glfs_preadv(self._handle, iovec, len(lengths), offset, 0), self.path)
        return _pieces(buffers, got)

    def pwritev(self, pieces: Sequence[Buffer], offset: int) -> int:
        buffers = [ffi.from_buffer(piece) for piece in pieces]
        iovec = iovecs(buffers, [len(buffer) for buffer in buffers])
        return check(lib.glfs_pwritev(self._handle, iovec, len(pieces), offset, 0), self.path)

    def copy_file_range(self, offset: int, target: File, target_offset: int, length: int) -> Copied:
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
            return check(copied, self.path, target.path)

        copied = on_its_own_thread(call)
        return Copied(copied, attributes(source), attributes(pre), attributes(post))

    # Space

    def discard(self, offset: int, length: int) -> None:
        """Punch a hole. libgfapi keeps the attributes to itself: see `discard_async`."""
        check(lib.glfs_discard(self._handle, offset, length), self.path)

    def fallocate(self, offset: int, length: int, *, keep_size: bool = False) -> None:
        check(lib.glfs_fallocate(self._handle, keep_size, offset, length), self.path)

    def zerofill(self, offset: int, length: int) -> None:
        """Write zeros, growing the file if need be. For attributes see `zerofill_async`."""
        check(lib.glfs_zerofill(self._handle, offset, length), self.path)

    def ftruncate(self, length: int) -> Reply[int]:
        return self._replied(lambda pre, post: lib.glfs_ftruncate(self._handle, length, pre, post))

    def lseek(self, offset: int, whence: int) -> int:
        """With SEEK_DATA or SEEK_HOLE: the fop seek. OSError ENXIO: nothing after `offset`."""
        return check(lib.glfs_lseek(self._handle, offset, whence), self.path)

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

    def preadv_async(self, lengths: Sequence[int], offset: int) -> Future[Reply[list[bytes]]]:
        buffers = [_uncleared("char[]", length) for length in lengths]
        iovec = iovecs(buffers, lengths)
        return self._later(
            lambda answer: lib.glfs_preadv_async(
                self._handle, iovec, len(lengths), offset, 0, *answer
            ),
            lambda got: _pieces(buffers, got),
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

    def pwritev_async(self, pieces: Sequence[Buffer], offset: int) -> Future[Reply[int]]:
        """`pieces` must not change before the answer."""
        buffers = [ffi.from_buffer(piece) for piece in pieces]
        iovec = iovecs(buffers, [len(buffer) for buffer in buffers])
        return self._later(
            lambda answer: lib.glfs_pwritev_async(
                self._handle, iovec, len(buffers), offset, 0, *answer
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
        check(lib.glfs_fd_set_lkowner(self._handle, owner, len(owner)), self.path)

    def lock(
        self,
        type: int,
        start: int = 0,
        length: int = 0,
        *,
        wait: bool = False,
        mandatory: bool = False,
    ) -> None:
        """Take (fcntl.F_RDLCK, F_WRLCK) or drop (F_UNLCK) a byte-range lock. Without `wait` a
        conflict raises OSError EAGAIN. One that is `mandatory` others' reads and writes meet, too,
        if features/locks has the option ``mandatory-locking`` optimal."""
        command = fcntl.F_SETLKW if wait else fcntl.F_SETLK
        mode = lib.GLFS_LK_MANDATORY if mandatory else lib.GLFS_LK_ADVISORY
        self._lock(command, flock(type, start, length), mode)

    def conflicting_lock(self, type: int, start: int = 0, length: int = 0) -> Lock | None:
        """The lock that would stand in the way of this one, if there is one."""
        lock = flock(type, start, length)
        self._lock(fcntl.F_GETLK, lock, lib.GLFS_LK_ADVISORY)
        if lock.l_type == fcntl.F_UNLCK:
            return None
        return Lock(lock.l_type, lock.l_start, lock.l_len, lock.l_pid)

    def _lock(self, command: int, lock: CData, mode: int) -> None:
        check(lib.glfs_file_lock(self._handle, command, lock, mode), self.path)

    def _replied(self, call: Callable[[CData, CData], int]) -> Reply[int]:
        pre, post = ffi.new("struct glfs_stat *"), ffi.new("struct glfs_stat *")
        value = check(call(pre, post), self.path)
        return Reply(value, attributes(pre), attributes(post))

    def _later(
        self, start: Callable[[tuple[CData, CData]], int], value: Callable[[int], T]
    ) -> Future[Reply[T]]:
        call = _Call(self, start, value)
        self._calls.add(call)
        if start((lib.glupy_gfapi_answered, call.handle)) < 0:
            self._calls.discard(call)
            raise failure(self.path)
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
            reply = Reply(self.value(ret), attributes(pre), attributes(post))
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


def _pieces(buffers: Sequence[CData], got: int) -> list[bytes]:
    """What was read into one buffer after the other."""
    pieces = []
    for buffer in buffers:
        pieces.append(bytes(ffi.buffer(buffer, min(len(buffer), got))))
        got -= len(pieces[-1])
    return pieces


_unanswered: list[_Call[Any]] = []
"""Calls whose file was closed before the answer: libgfapi does not call back for a closed file,
except one that was just being closed, so nothing that it points to may ever go away."""


def _answered(fd: CData, ret: int, pre: CData, post: CData, data: CData) -> None:
    number = ffi.errno
    ffi.from_handle(data).answer(ret, number, pre, post)


ffi.def_extern(name="glupy_gfapi_answered")(_answered)
