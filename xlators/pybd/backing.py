"""The device of a mapped file: opened, synced, and what is told of it when it fails."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

from glupy import FopError, Gfid, linux
from glupy.views import Fd
from pybd import mapping
from pybd.device import Device, failed
from pybd.files import File
from pybd.life import Life

_DOUBTED_SECONDS = 1.0  # to look may take a command of LVM's
# How calls on a disk that is broken, or away, fail (the kernel's block/blk-core.c, blk_errors).
_BROKEN = (
    errno.EIO,
    errno.EBADE,
    errno.EILSEQ,
    errno.ENODATA,
    errno.ENODEV,
    errno.ENOLINK,
    errno.EREMOTEIO,
    errno.ETIMEDOUT,
)


class Backing(Life):
    """Opens devices, and has things on the disk."""

    def device(self, file: File) -> Device:
        """Return the device of a file, opened if need be. EIO, and one line in the log, if it is
        missing or another brick's."""
        device = file.device
        if device is not None:
            return device
        with file.gate.alone():
            if not file.mapped:
                raise failed(errno.EIO)  # unmapped this very moment
            if file.device is None:
                name = self.identity.name(file.gfid)
                try:
                    self._check_owner(file, name)
                    device = self.pool.open(name)
                    if device.size < file.size:
                        self._complete(file, name, device)
                    file.device = device
                except OSError as error:
                    self._complain(file, str(error.strerror or error))
                    raise failed(errno.EIO) from error
                file.complaint = ""
            return file.device

    def _complete(self, file: File, name: str, device: Device) -> None:
        """When the power was cut the brick's disk had a new size, and the pool's had it not yet."""
        message = "%s: device %s has %d bytes, the file has %d: those behind are zeros"
        self.log.warning(message, Gfid(file.gfid), name, device.size, file.size)
        self.grow(name, device, device.size, file.size)

    def grow(self, name: str, device: Device, old: int, end: int, start: int | None = None) -> None:
        """Have a device of this name reach to ``end``."""
        raise NotImplementedError

    def sync(self, file: File, device: Device, fd: Fd) -> None:
        """Have what was written on a device on its disk, as a fop on this fd asks.

        What was lost each fd is told once, as of a plain file (the kernel's errseq_t): since it was
        opened, or before that if no fd was told. All anonymous ones are one.
        """
        known = file.reported_anonymous if fd.anonymous else fd.ctx or 0
        try:
            device.sync()
            if device.failure.number > known:
                raise failed(device.failure.errno)
        except OSError:
            file.reported = device.failure.number
            if fd.anonymous:
                file.reported_anonymous = file.reported
            else:
                fd.ctx = file.reported
            raise

    def told(self, file: File, error: OSError) -> OSError:
        """Return what a client is told of a failed call: EIO if the device has failed, and the log
        says so. What the stub has failed with its own translator has told of."""
        if error.errno not in _BROKEN or isinstance(error, FopError):
            return error
        now = time.monotonic()
        if file.kind == mapping.THIN and now >= self._doubted + _DOUBTED_SECONDS:
            self._doubted, self._room_until = now, 0.0  # is it that the pool is full?
        told = failed(errno.EIO)
        # The pool has words of its own; the kernel has many numbers for one fault.
        is_ours = error.strerror != os.strerror(error.errno)
        if not file.complaint:
            self._complain(file, str(error.strerror if is_ours else told.strerror))
        return told

    @contextlib.contextmanager
    def telling(self, file: File) -> Iterator[None]:
        """Inside, a file's device may fail: ``told``."""
        try:
            yield
        except OSError as error:
            raise self.told(file, error) from None

    def _complain(self, file: File, complaint: str) -> None:
        """Log what is wrong with a device, but not the same at each fop."""
        if complaint != file.complaint:
            file.complaint = complaint
            name = self.identity.name(file.gfid)
            self.log.error("%s: device %s: %s", Gfid(file.gfid), name, complaint)

    def _check_owner(self, file: File, name: str) -> None:
        known = self.pool.find(name)
        half = self.identity.half(file.gfid)
        if known is None:
            # Killed while it was mapped or unmapped; the xattr says that it is the file's.
            known = self.pool.find(half)
            if known is not None and known.tag == self.identity.tag:
                self.pool.rename(half, name)
        if known is None:
            raise OSError(errno.ENOENT, "is missing, or was never this brick's")
        if known.tag != self.identity.tag:
            raise OSError(errno.EACCES, f"belongs to {known.tag or 'nobody'}, not to this brick")

    def sync_stub(self, gfid: bytes) -> None:
        """Have what was changed of a file below on the disk, its xattrs too.

        By its handle: a fop wants an fd, and nobody may have linked an inode of it yet.
        """
        number = os.open(self._handle(gfid), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.fsync(number)
        finally:
            os.close(number)

    def marks(self, gfid: bytes) -> tuple[int, int] | None:
        """Return what a write to the file below changes, by the kernel's clock: a client's own
        (features/utime) may be behind another's. None of a file that has no handle yet.

        Who writes at the moment is waited for, and so are those who wait for that: a change of
        xattrs needs the lock that writes have (the kernel's fs/xattr.c), though there is no such.
        """
        handle = self._handle(gfid)
        try:
            with contextlib.suppress(OSError):
                os.removexattr(handle, "trusted.glupy.none", follow_symlinks=False)
            stat = os.lstat(handle)
        except FileNotFoundError:
            return None
        return stat.st_size, stat.st_mtime_ns

    def has_handle(self, gfid: bytes) -> bool:
        """Say whether a file can be found by its gfid."""
        return os.path.lexists(self._handle(gfid))

    def _handle(self, gfid: bytes) -> Path:
        name = str(Gfid(gfid))
        return Path(self.identity.directory, ".glusterfs", name[:2], name[2:4], name)

    def sync_brick(self) -> None:
        """Have all that was changed below on the disk. ENODEV if the brick is no longer there.

        syncfs(2) says nothing of a file system that errors have made read-only; fsync does.
        """
        number = os.open(self.identity.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if os.fstat(number).st_dev != self._file_system:
                raise failed(errno.ENODEV)
            linux.syncfs(number)
            os.fsync(number)
        finally:
            os.close(number)

    def blocks(self, file: File) -> int:
        """Return the blocks of 512 bytes that a file has in the pool; 0 if that cannot be told."""
        device = file.device
        try:
            if device is not None:
                return device.blocks()
            return self.pool.blocks(self.identity.name(file.gfid))
        except OSError:
            return 0

    def give_up(self, gfid: bytes) -> None:
        """Remove a file's half device, once it is on the disk that the file is not mapped to it."""
        half = self.identity.half(gfid)
        try:
            try:
                self.sync_stub(gfid)
            except FileNotFoundError:  # a file without a name
                self.sync_brick()
            file = self.files.find(gfid)
            if file is None or file.mapped:  # or whoever maps it anew has removed it
                self.pool.remove(half)
        except OSError as error:
            self.log.warning("device %s is left for later: %s", half, error.strerror)
