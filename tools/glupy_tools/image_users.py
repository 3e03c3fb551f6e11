"""Who has a file system on the demo's image: this machine, or a virtual machine."""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import click

from glupy import stores
from glupy.testing import guest
from glupy.testing.qemu import Images
from glupy_tools.failures import CommandError

DISKS = {
    "virtio-scsi": ("virtio_scsi", "virtio-scsi-pci", "scsi-hd", "/dev/sda"),
    "virtio-blk": ("virtio_blk", None, "virtio-blk-pci", "/dev/vdb"),
}
"""Of each kind of disk: the guest's module, QEMU's controller and device, the guest's device."""

# As on the host's file systems: nothing is left to do in the background.
_WHOLE = "-E", "lazy_itable_init=0,lazy_journal_init=0"
_BOOTS_WITHIN = 300.0
_COMMAND_WITHIN = 300.0
_GIB = 1 << 30
_NEEDED = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "modprobe": "kmod",
}
"""The programs that a guest needs, and Debian's packages that have them."""


class User(Protocol):
    """Has a file system on the image, mounted with `-o discard` on `folder`."""

    folder: Path
    source: str
    """Where the bytes come from that are written."""

    def run(self, *command: str | Path) -> None:
        """Run a command where the folder is. StoreError or CommandError, one line, if it fails."""

    def keep(self) -> None:
        """Say how to look around; return when there is nothing more to do."""


class Loop:
    """This machine, with a loop device over the image in the FUSE mount."""

    # Random, so that no file system on the way can shrink it.
    source = "/dev/urandom"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str | Path) -> None:
        stores.run(*command, timeout=_COMMAND_WITHIN, grace=0)

    def keep(self) -> None:
        click.echo(f"{self.folder}  the file system in the image", err=True)


@contextmanager
def by_loop(image: Path, folder: Path) -> Iterator[User]:
    """Have the image used by a loop device for as long as the block runs; `folder` is made."""
    folder.mkdir()
    with stores.loop_device(image) as device:
        stores.make_file_system(device)
        with stores.mounted(device, folder, ["discard"]):
            yield Loop(folder)


@dataclass(frozen=True)
class Disk:
    """How a guest has the image."""

    kind: str
    """A key of `DISKS`."""
    discard: str
    """unmap or ignore: what QEMU does with the guest's discards."""
    accelerator: str
    """KVM or TCG."""

    def __str__(self) -> str:
        return f"a guest ({self.accelerator}) has it as {self.kind}, discard={self.discard}"


def disk(kind: str, discard: str) -> Disk:
    """Return how a guest will have the image, if guests can run here.

    The first time this downloads their kernel. Raises CommandError if something is missing.
    """
    for program, package in _NEEDED.items():
        if shutil.which(program) is None:
            raise CommandError(f"a guest needs {program} (apt-get install {package})")
    try:
        return Disk(kind, discard, guest.accelerator())
    except guest.GuestError as error:
        raise _explained(error) from None


class Guest:
    """A virtual machine, with the image as a disk that QEMU's gluster driver reaches."""

    folder = Path("/mnt")
    # An emulated processor would take half a minute to make that many random ones.
    source = "/dev/zero"

    def __init__(self, machine: guest.Machine) -> None:
        self._machine = machine

    def run(self, *command: str | Path, timeout: float = _COMMAND_WITHIN) -> None:
        try:
            done = self._machine.run(command, timeout=timeout)
        except guest.GuestError as error:
            raise _explained(error) from None
        if done.returncode:
            lines = done.stdout.strip().splitlines() or [f"status {done.returncode}"]
            raise CommandError(f"{command[0]} in the guest: {lines[0]}")

    def keep(self) -> None:
        click.echo(f"What you type is done in the guest; {self.folder} is there.", err=True)
        with suppress(EOFError):
            while True:
                self._machine.run(["sh", "-c", input("guest# ")], echo=sys.stdout)


@contextmanager
def in_guest(images: Images, image: str, folder: Path, disk: Disk) -> Iterator[User]:
    """Have an image of a volume used in a guest for as long as the block runs.

    `folder` is made, for the guest's files and its QEMU's log.
    """
    folder.mkdir()
    module, controller, device, name = DISKS[disk.kind]
    node = images.node(image, discard=disk.discard) | {
        "cache": {"direct": True},
        "logfile": str(folder / "gluster.log"),
    }
    devices = ["-blockdev", json.dumps(node)]
    if controller:
        devices += ["-device", controller]
    devices += ["-device", f"{device},drive=image"]
    try:
        with guest.machine(
            folder,
            cwd=Path("/"),
            modules=[module],
            memory=_GIB,
            disk=_GIB,
            devices=devices,
        ) as machine:
            user = Guest(machine)
            user.run("true", timeout=_BOOTS_WITHIN)
            user.run("mkfs.ext4", "-q", *_WHOLE, name)
            user.run("mount", "-o", "discard", name, user.folder)
            yield user
    except guest.GuestError as error:
        raise _explained(error) from None


def _explained(error: guest.GuestError) -> CommandError:
    first, *more = str(error).splitlines()
    if "Unknown driver 'gluster'" in str(error):
        return CommandError("QEMU has no gluster driver (apt-get install qemu-block-extra)")
    return CommandError(f"{first}: {more[-1]}" if more else first)
