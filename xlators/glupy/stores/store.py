"""A store: a file system on a loop device over a sparse file, mounted for a brick."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import geteuid, truncate
from pathlib import Path

from glupy.stores.commands import StoreError
from glupy.stores.loops import attach, blocks, detach, devices_of
from glupy.stores.mounts import FileSystem, make_file_system, mount, mounts, settled, unmount


@dataclass(frozen=True, slots=True)
class Store:
    """A mounted store. Holds no resource: it only names what the kernel holds."""

    image: Path
    """The loop file; its blocks in use are what a discard gives back."""
    device: Path
    """The loop device, /dev/loopN."""
    folder: Path
    """Where its file system is mounted; a brick's directory goes below it."""

    @property
    def blocks(self) -> int:
        """The blocks of 512 bytes that the loop file uses right now."""
        return blocks(self.image)

    def settled_blocks(self) -> int:
        """Return `blocks` once the file system has committed and the figure has come to rest."""
        return settled(lambda: self.blocks, self.folder)


def make(
    image: Path,
    size: int,
    folder: Path,
    *,
    kind: FileSystem | str = FileSystem.EXT4,
    options: Sequence[str] = ("discard",),
) -> Store:
    """Make a store and leave it mounted on `folder` (made if missing); `unmake` takes it away.

    `image` is the loop file to make, which must not exist yet; `size` its apparent size in bytes;
    `options` are the mount's. What was made is unmade again if a step fails or is interrupted.
    """
    if geteuid() != 0:
        raise StoreError("a store needs root: loop devices and mounts are made")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        image.touch(exist_ok=False)
    except OSError as error:
        raise StoreError(f"{error.filename}: {error.strerror}") from None
    try:
        truncate(image, size)
        device = attach(image)
        make_file_system(device, kind)
        mount(device, folder, options)
        return Store(image, device, folder)
    except BaseException:
        unmake(image)
        raise


def find(image: Path) -> Store | None:
    """Return the mounted store over this loop file, whoever made it, or None."""
    for device in devices_of(image):
        for mount_ in mounts():
            if mount_.source == str(device):
                return Store(image, device, mount_.folder)
    return None


def unmake(image: Path) -> None:
    """Unmount a store, detach its loop device and remove its loop file, as far as they exist."""
    try:
        while found := find(image):
            unmount(found.folder)
    finally:
        try:
            detach(image)
        finally:
            image.unlink(missing_ok=True)


@contextmanager
def store(
    image: Path,
    size: int,
    folder: Path,
    *,
    kind: FileSystem | str = FileSystem.EXT4,
    options: Sequence[str] = ("discard",),
) -> Iterator[Store]:
    """Make a store for as long as the block runs; arguments as for `make`."""
    if image.exists():
        raise StoreError(f"{image}: exists already")
    try:
        yield make(image, size, folder, kind=kind, options=options)
    finally:
        unmake(image)
