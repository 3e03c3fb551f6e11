"""A pool of sparse files in a directory, attached as loop devices: works on any kernel.

A device is the file DIRECTORY/NAME; its owner's tag is an xattr of it. It is attached while a brick
has it open, and detached by the kernel with the last close (LO_FLAGS_AUTOCLEAR), however the brick
ends. Sources: loop(4), the kernel's drivers/block/loop.c.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from glupy import extents
from glupy.errors import OptionError
from pybd.device import Device
from pybd.mapping import THIN
from pybd.pools import Known, Room

_TAG = "user.glupy.brick"
_EXTENT = 4 << 20
_SECTORS = 512, 4096

# linux/loop.h, linux/major.h, linux/fs.h
_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LOOP_SET_CAPACITY = 0x4C07
_LO_FLAGS_AUTOCLEAR = 4
_LOOP_MAJOR = 7
_FICLONE = 0x40049409
# struct loop_config: fd, block_size; of loop_info64 device, inode, rdevice, offset, sizelimit,
# number, encrypt type and key size, flags, file name and the rest.
_CONFIG = struct.Struct("=II5Q4I64s112x64x")
_NAME_BYTES = 63

_PATIENCE = 10.0  # seconds, for a brick that is just ending to let go of a file


class LoopDevice(Device):
    """A loop device over a file of the pool. ``counted`` is that file.

    The lock on that file is the loop device's as well, so nobody attaches it a second time while
    the kernel has it: two devices over one file do not see each other's writes.
    """

    def __init__(self, number: int, backing: int) -> None:
        self.counted = backing
        super().__init__(number, unit=os.fstat(backing).st_blksize, discards_to_zeros=True)

    def close(self) -> None:
        """Close the device, and then the file."""
        super().close()  # first: with that close the kernel detaches
        backing, self.counted = self.counted, -1
        if backing >= 0:
            with contextlib.suppress(OSError):
                os.close(backing)

    def measure(self) -> None:
        """The file was resized: have the kernel see it."""
        fcntl.ioctl(self.number, _LOOP_SET_CAPACITY)
        super().measure()

    def blocks(self) -> int:
        """Return the blocks of 512 bytes that the file has."""
        return os.fstat(self.counted).st_blocks

    def has_room(self, offset: int, length: int) -> bool:
        """Say whether a range of the file has blocks."""
        try:
            return os.lseek(self.counted, offset, os.SEEK_HOLE) >= offset + length
        except OSError:
            return False

    allocates = True

    def allocate(self, offset: int, length: int) -> None:
        """Give a range of the file blocks; ENOSPC, and none, if there are not as many.

        Nobody else may write meanwhile.
        """
        self.sync()  # or it is still a gap in the file
        extents.allocate(self.counted, offset, length, keep_size=True)

    def seek(self, offset: int, whence: int) -> int:
        """Ask the file, once all that was written has reached it."""
        self.sync()
        return os.lseek(self.counted, offset, whence)


class LoopPool:
    """The pool ``loop:DIRECTORY``."""

    kinds: tuple[str, ...] = (THIN,)
    extent = _EXTENT
    fresh_is_zero = True

    def __init__(self, where: str, *, sector_size: int = 512) -> None:
        self.folder = Path(where)
        if not self.folder.is_absolute():
            raise OptionError(f"option pool: {where!r} is not an absolute path")
        if sector_size not in _SECTORS:
            raise OptionError(f"option sector-size: {sector_size} is neither 512 nor 4096")
        self._sector_size = sector_size

    def check(self) -> None:
        """ENODEV if the directory is missing."""
        if not self.folder.is_dir():
            raise OSError(errno.ENODEV, f"there is no directory {self.folder}")

    def make(self, name: str, size: int, kind: str, tag: str) -> None:
        """Make a sparse file. It has no name before it has its tag: nobody would know whose it is
        if the brick were killed between the two."""
        self.check()
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flags = os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC
            number = os.open(self.folder, flags, 0o600)
            try:
                os.setxattr(number, _TAG, os.fsencode(tag))
                os.ftruncate(number, size)
                os.fsync(number)
                # With a folder's number os.link follows that link, as open(2) says of O_TMPFILE.
                os.link(f"/proc/self/fd/{number}", self.folder / name, src_dir_fd=folder)
            finally:
                os.close(number)
        finally:
            os.close(folder)
        self._sync()

    def find(self, name: str) -> Known | None:
        """Look at the file."""
        path = self.folder / name
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            self.check()
            return None
        try:
            tag = os.fsdecode(os.getxattr(path, _TAG))
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise
            tag = ""
        return Known(name, tag, size)

    def open(self, name: str) -> LoopDevice:
        """Attach the file to a free loop device.

        EBUSY if another process still has it attached after 10 seconds.
        """
        backing = os.open(self.folder / name, os.O_RDWR | os.O_CLOEXEC)
        try:
            _lock(backing)
            number = self._attach(backing, name)
        except BaseException:
            os.close(backing)
            raise
        return LoopDevice(number, backing)

    def _attach(self, backing: int, name: str) -> int:
        label = name.encode()[:_NAME_BYTES]
        zeros = (0,) * 8
        config = _CONFIG.pack(backing, self._sector_size, *zeros, _LO_FLAGS_AUTOCLEAR, label)
        with Path("/dev/loop-control").open("rb") as control:
            while True:
                minor = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
                number = os.open(_node(minor), os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.ioctl(number, _LOOP_CONFIGURE, config)
                    return number
                except OSError as error:
                    os.close(number)
                    if error.errno != errno.EBUSY:  # else somebody took it meanwhile
                        raise

    def resize(self, name: str, size: int) -> None:
        """Set the file's size."""
        os.truncate(self.folder / name, size)

    def rename(self, old: str, new: str) -> None:
        """Rename the file."""
        if (self.folder / new).exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
        (self.folder / old).rename(self.folder / new)
        self._sync()

    def remove(self, name: str) -> None:
        """Remove the file. Its blocks go with its last user, so it is never busy."""
        (self.folder / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def unused(self, name: str) -> Iterator[None]:
        """Hold the lock that whoever attaches the file holds as long as it is attached."""
        number = os.open(self.folder / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise OSError(errno.EBUSY, f"{name} is in use") from None
        finally:
            os.close(number)

    def snapshot(self, name: str, new: str, tag: str) -> bool:
        """Share the blocks where the file system can (xfs, btrfs: FICLONE)."""
        with (self.folder / name).open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            self.make(new, size, THIN, tag)
            with (self.folder / new).open("r+b") as target:
                try:
                    fcntl.ioctl(target, _FICLONE, source.fileno())
                    os.fsync(target.fileno())
                except OSError as error:
                    self.remove(new)
                    if error.errno in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY):
                        return False
                    raise
        return True

    def devices(self) -> list[Known]:
        """Return what is a regular file in the directory."""
        self.check()
        found = []
        for entry in sorted(self.folder.iterdir()):
            known = self.find(entry.name) if entry.is_file() else None
            if known is not None:
                found.append(known)
        return found

    def room(self) -> Room:
        """Ask the file system."""
        self.check()
        found = os.statvfs(self.folder)
        unit = found.f_frsize
        device = self.folder.stat().st_dev
        return Room(found.f_blocks * unit, found.f_bavail * unit, device)

    def blocks(self, name: str) -> int:
        """Look at the file."""
        return (self.folder / name).stat().st_blocks

    def _sync(self) -> None:
        number = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _lock(backing: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(backing, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise OSError(errno.EBUSY, "another process has this device attached") from None
            time.sleep(0.05)


def _node(minor: int) -> Path:
    """Return /dev/loopN, made where nobody fills /dev (a container)."""
    node = Path(f"/dev/loop{minor}")
    if not node.exists():
        with contextlib.suppress(FileExistsError):
            os.mknod(node, stat.S_IFBLK | 0o660, os.makedev(_LOOP_MAJOR, minor))
    return node
