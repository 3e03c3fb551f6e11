"""File systems and their mounts, and figures that have come to rest."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from os.path import realpath
from pathlib import Path
from typing import NamedTuple, TypeVar

from glupy.stores.commands import StoreError, run

_Figure = TypeVar("_Figure")
_BUSY_FOR = 5.0  # seconds that a mount may still be in use, e.g. by a process that ends


READ_ONLY_TIMEOUT = 10.0


class FileSystem(StrEnum):
    """The file systems that a store can have."""

    EXT4 = "ext4"
    XFS = "xfs"
    BTRFS = "btrfs"


# Whole at once, so that the blocks in use change by what is done and not by what the kernel still
# initialises in the background.
_MKFS_OPTIONS = {
    FileSystem.EXT4: ["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    FileSystem.XFS: ["-q", "-f"],
    FileSystem.BTRFS: ["-q", "-f"],
}


class Mount(NamedTuple):
    """A line of /proc/self/mounts."""

    source: str
    folder: Path
    type: str
    options: tuple[str, ...]


def make_file_system(device: Path, kind: FileSystem | str = FileSystem.EXT4) -> None:
    """Make a file system on a block device; what was on it is lost."""
    try:
        kind = FileSystem(kind)
    except ValueError:
        raise StoreError(f"{kind}: not one of {', '.join(FileSystem)}") from None
    run(f"mkfs.{kind}", *_MKFS_OPTIONS[kind], device)


def mounts() -> list[Mount]:
    """Return what is mounted, in the order of mounting."""

    def plain(field: str) -> str:
        return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)

    text = Path("/proc/self/mounts").read_text(errors="surrogateescape")
    rows = (line.split(" ") for line in text.splitlines())
    return [
        Mount(plain(source), Path(plain(folder)), kind, tuple(options.split(",")))
        for source, folder, kind, options, *_ in rows
    ]


def mount_of(folder: Path) -> Mount | None:
    """Return the topmost mount whose mount point is this folder, or None."""
    # Resolving the last part of the path would ask the mounted file system, which may hang.
    point = Path(realpath(folder.parent), folder.name)
    return next((mount for mount in reversed(mounts()) if mount.folder == point), None)


def refuse_mounted(folder: Path) -> None:
    """Raise StoreError if this folder is a mount point."""
    if mount_of(folder):
        raise StoreError(f"{folder}: something is mounted there already")


def mount(device: Path, folder: Path, options: Sequence[str] = ()) -> None:
    """Mount a block device on a folder that is not a mount point yet."""
    refuse_mounted(folder)
    words = ["--options", ",".join(options)] if options else []
    run("mount", *words, device, folder)


def unmount(folder: Path) -> None:
    """Unmount whatever is mounted on a folder; nothing to do is no error.

    A mount that stays busy is taken out of the tree all the same, so that nothing is left behind
    once its last user has gone, and StoreError says so.
    """
    deadline = time.monotonic() + _BUSY_FOR
    while mount_of(folder):
        try:
            run("umount", folder)
        except StoreError as error:
            if time.monotonic() < deadline:
                time.sleep(0.1)
            elif mount_of(folder):
                run("umount", "--lazy", folder)
                raise StoreError(f"{error} (it goes with its last user)") from error


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Have a mounted file system read-only while the block runs, once nobody writes any more.

    Bricks close files some seconds after their clients. StoreError: one is still open after 10 s.
    """
    deadline = time.monotonic() + READ_ONLY_TIMEOUT
    while True:
        try:
            run("mount", "--options", "remount,ro", folder)
            break
        except StoreError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    try:
        yield
    finally:
        run("mount", "--options", "remount,rw", folder)


@contextmanager
def mounted(device: Path, folder: Path, options: Sequence[str] = ()) -> Iterator[Path]:
    """Mount a block device on a folder for as long as the block runs."""
    refuse_mounted(folder)  # what is not ours is not unmounted
    try:
        mount(device, folder, options)
        yield folder
    finally:
        unmount(folder)


def settled(
    read: Callable[[], _Figure], *folders: Path, quiet: float = 1.0, timeout: float = 30.0
) -> _Figure:
    """Return a figure once it has come to rest.

    A file system gives blocks back only after it has committed its journal, and then in the
    background. So the file systems of these folders are synced, in the order given (the upper one
    first), again and again until `read` answers the same for `quiet` seconds.

    Raises StoreError if that does not happen within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    figure, since = None, 0.0
    while True:
        for folder in folders:
            run("sync", "--file-system", folder)
        new, now = read(), time.monotonic()
        if figure is None or new != figure:
            figure, since = new, now
        if now - since >= quiet:
            return new
        if now >= deadline:
            raise StoreError(f"the figures did not come to rest within {timeout:g} s: {new}")
        time.sleep(0.1)
