"""A mounted file system as a target: the same calls, by the kernel's own system calls.

What the kernel does not say, the attributes before and after a call, is asked for around it.
"""

import mmap
import os
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Self, TypeVar

from glupy import linux
from glupy.testing.gfapi import Copied, Reply

T = TypeVar("T")
_PUNCH = linux.FALLOC_FL_PUNCH_HOLE | linux.FALLOC_FL_KEEP_SIZE


class LocalFile:
    """An open file."""

    def __init__(self, path: Path, flags: int) -> None:
        self._number = os.open(path, flags | os.O_CLOEXEC, 0o644)
        self._is_direct = bool(flags & os.O_DIRECT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._number)

    def fstat(self) -> os.stat_result:
        return os.fstat(self._number)

    def pread(self, length: int, offset: int) -> Reply[bytes]:
        if self._is_direct:
            with mmap.mmap(-1, length) as memory:
                data = memory[: os.preadv(self._number, [memory], offset)]
        else:
            data = os.pread(self._number, length, offset)
        return Reply(data, None, self.fstat())

    def pread_async(self, length: int, offset: int) -> Future[Reply[bytes]]:
        return _answered(self.pread(length, offset))

    def preadv(self, lengths: list[int], offset: int) -> list[bytes]:
        buffers = [bytearray(length) for length in lengths]
        done = os.preadv(self._number, buffers, offset)
        return [b"".join(buffers)[:done]]

    def preadv_async(self, lengths: list[int], offset: int) -> Future[Reply[list[bytes]]]:
        return _answered(Reply(self.preadv(lengths, offset), None, self.fstat()))

    def pwrite(self, data: bytes, offset: int) -> Reply[int]:
        if not self._is_direct:
            return self._replied(lambda: os.pwrite(self._number, data, offset))
        with mmap.mmap(-1, len(data)) as memory:  # O_DIRECT wants it aligned
            memory[:] = data
            return self._replied(lambda: os.pwrite(self._number, memory, offset))

    def pwritev(self, pieces: list[bytes], offset: int) -> int:
        return os.pwritev(self._number, pieces, offset)

    def pwritev_async(self, pieces: list[bytes], offset: int) -> Future[Reply[int]]:
        return _answered(self._replied(lambda: self.pwritev(pieces, offset)))

    def pwrite_async(self, data: bytes, offset: int) -> Future[Reply[int]]:
        return _answered(self.pwrite(data, offset))

    def discard(self, offset: int, length: int) -> None:
        linux.fallocate(self._number, _PUNCH, offset, length)

    def discard_async(self, offset: int, length: int) -> Future[Reply[int]]:
        return _answered(self._replied(lambda: self.discard(offset, length)))

    def fallocate(self, offset: int, length: int, *, keep_size: bool = False) -> None:
        mode = linux.FALLOC_FL_KEEP_SIZE if keep_size else 0
        linux.fallocate(self._number, mode, offset, length)

    def zerofill(self, offset: int, length: int) -> None:
        linux.fallocate(self._number, linux.FALLOC_FL_ZERO_RANGE, offset, length)

    def zerofill_async(self, offset: int, length: int) -> Future[Reply[int]]:
        return _answered(self._replied(lambda: self.zerofill(offset, length)))

    def ftruncate(self, length: int) -> Reply[int]:
        return self._replied(lambda: os.ftruncate(self._number, length))

    def ftruncate_async(self, length: int) -> Future[Reply[int]]:
        return _answered(self.ftruncate(length))

    def futimens(self, atime: int, mtime: int) -> None:
        os.utime(self._number, ns=(atime, mtime))

    def fsetxattr(self, name: str, value: bytes, flags: int = 0) -> None:
        os.setxattr(self._number, name, value, flags)

    def fgetxattr(self, name: str) -> bytes:
        return os.getxattr(self._number, name)

    def flistxattr(self) -> list[str]:
        return os.listxattr(self._number)

    def fremovexattr(self, name: str) -> None:
        os.removexattr(self._number, name)

    def fsync(self) -> Reply[int]:
        return self._replied(lambda: os.fsync(self._number))

    def fdatasync(self) -> Reply[int]:
        return self._replied(lambda: os.fdatasync(self._number))

    def fsync_async(self) -> Future[Reply[int]]:
        return _answered(self.fsync())

    def fdatasync_async(self) -> Future[Reply[int]]:
        return _answered(self.fdatasync())

    def lseek(self, offset: int, whence: int) -> int:
        return os.lseek(self._number, offset, whence)

    def copy_file_range(
        self, offset: int, target: "LocalFile", target_offset: int, length: int
    ) -> Copied:
        pre = target.fstat()
        done = os.copy_file_range(self._number, target._number, length, offset, target_offset)
        return Copied(done, self.fstat(), pre, target.fstat())

    def _replied(self, call: Callable[[], int | None]) -> Reply[int]:
        pre = self.fstat()
        value = call()
        return Reply(value or 0, pre, self.fstat())


class LocalObject:
    """A file that is opened for each call: the kernel has no other way."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, length: int, offset: int) -> bytes:
        with LocalFile(self._path, os.O_RDONLY) as file:
            return file.pread(length, offset).value

    def write(self, data: bytes, offset: int) -> int:
        with LocalFile(self._path, os.O_WRONLY) as file:
            return file.pwrite(data, offset).value


class Folder:
    """A client of what is mounted, or of what lies there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, path: str) -> Path:
        return self._folder / path.strip("/")

    def open(self, path: str, flags: int = os.O_RDWR) -> LocalFile:
        return LocalFile(self._path(path), flags)

    def creat(self, path: str, flags: int = os.O_RDWR) -> LocalFile:
        return LocalFile(self._path(path), flags | os.O_CREAT)

    def find(self, path: str) -> AbstractContextManager[LocalObject]:
        return nullcontext(LocalObject(self._path(path)))

    def chmod(self, path: str, mode: int) -> None:
        self._path(path).chmod(mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.chown(self._path(path), uid, gid)

    def stat(self, path: str) -> os.stat_result:
        return self._path(path).stat()

    def truncate(self, path: str, length: int) -> None:
        os.truncate(self._path(path), length)

    def link(self, old: str, new: str) -> None:
        self._path(new).hardlink_to(self._path(old))

    def rename(self, old: str, new: str) -> None:
        self._path(old).rename(self._path(new))

    def unlink(self, path: str) -> None:
        self._path(path).unlink()

    def getxattr(self, path: str, name: str) -> bytes:
        return os.getxattr(self._path(path), name)

    def setxattr(self, path: str, name: str, value: bytes, flags: int = 0) -> None:
        os.setxattr(self._path(path), name, value, flags)

    def removexattr(self, path: str, name: str) -> None:
        os.removexattr(self._path(path), name)

    def listxattr(self, path: str) -> list[str]:
        return os.listxattr(self._path(path))

    def readdir(self, path: str) -> list[Path]:
        return list(self._path(path).iterdir())


def _answered(reply: Reply[T]) -> Future[Reply[T]]:
    future: Future[Reply[T]] = Future()
    future.set_result(reply)
    return future
