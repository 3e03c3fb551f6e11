"""Loop files and loop devices."""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from glupy.stores.commands import StoreError, run

_CONTROL = Path("/dev/loop-control")
_GET_FREE = 0x4C82  # LOOP_CTL_GET_FREE, <linux/loop.h>
_MAJOR = 7  # LOOP_MAJOR, <linux/major.h>
_RELEASED_WITHIN = 10.0  # seconds


def blocks(image: Path) -> int:
    """Return the blocks of 512 bytes that a file uses."""
    return image.stat().st_blocks


def devices_of(image: Path) -> list[Path]:
    """Return the loop devices that are backed by the file at this path, e.g. /dev/loop3.

    Asks only the kernel's list: a file on a file system that hangs is not touched.
    """
    # The kernel marks a file that was removed or replaced meanwhile.
    names = {os.path.realpath(image), os.path.realpath(image) + " (deleted)"}
    found = []
    for entry in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):  # a device that is released right now
            if entry.read_text(errors="surrogateescape").rstrip("\n") in names:
                found.append(Path("/dev", entry.parts[3]))
    return sorted(found)


def attach(image: Path) -> Path:
    """Attach a file to a free loop device and return the device.

    Makes a further /dev/loopN where the free ones have no node, as in a container whose /dev the
    kernel does not fill. A file that is attached already is refused: two devices over one file
    do not see each other's writes.
    """
    _refuse_attached(image)
    attempts = 5
    while True:
        _make_node(_free_number())
        try:
            return Path(run("losetup", "--find", "--show", image).strip())
        except StoreError:
            # Somebody else took the number, and the next one has no node yet.
            attempts -= 1
            number = _free_number()
            if not attempts or _node(number).exists():
                raise


def detach(image: Path) -> None:
    """Detach a file from every loop device that it backs; nothing to do is no error.

    Raises StoreError if a device is still in use after 10 s (the kernel then detaches it when its
    last user goes).
    """
    for device in devices_of(image):
        with suppress(StoreError):  # somebody else was faster, or the loop below tells
            run("losetup", "--detach", device)
    deadline = time.monotonic() + _RELEASED_WITHIN
    while left := devices_of(image):
        if time.monotonic() > deadline:
            raise StoreError(f"{left[0]}: still in use, it goes with its last user")
        time.sleep(0.05)


@contextmanager
def loop_device(image: Path) -> Iterator[Path]:
    """Attach a file to a loop device for as long as the block runs."""
    _refuse_attached(image)  # what is not ours is not detached
    try:
        yield attach(image)
    finally:
        detach(image)


def _refuse_attached(image: Path) -> None:
    if attached := devices_of(image):
        raise StoreError(f"{image}: is attached already, to {attached[0]}")


def _node(number: int) -> Path:
    return Path(f"/dev/loop{number}")


def _free_number() -> int:
    try:
        with _CONTROL.open("rb") as control:
            return fcntl.ioctl(control, _GET_FREE)
    except FileNotFoundError:
        raise StoreError(
            f"no loop devices: {_CONTROL} is missing (modprobe loop, or give it to the container)"
        ) from None
    except OSError as error:
        why = "needs root" if error.errno in (errno.EACCES, errno.EPERM) else error.strerror
        raise StoreError(f"no loop devices: {_CONTROL}: {why}") from None


def _make_node(number: int) -> None:
    node = _node(number)
    if node.is_block_device():
        return
    try:
        with suppress(FileExistsError):
            os.mknod(node, stat.S_IFBLK | 0o660, os.makedev(_MAJOR, number))
    except OSError as error:
        raise StoreError(f"{node}: cannot be made: {error.strerror}") from None
