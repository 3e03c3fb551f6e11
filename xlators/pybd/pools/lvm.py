"""A pool of logical volumes: thick ones of a volume group, and thin ones of a thin pool in it.

``lvm:VG`` makes thick ones only, ``lvm:VG/THINPOOL`` both. What LVM knows is asked by its command,
as JSON; what is asked at each fop, such as what a thin volume really holds, of device-mapper, which
is cheap. Sources: lvm(8), lvs(8), lvcreate(8), linux/dm-ioctl.h, the kernel's
Documentation/admin-guide/device-mapper/thin-provisioning.rst, drivers/md/dm-thin.c and
drivers/scsi/sd.c.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import json
import mmap
import os
import re
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from glupy.errors import OptionError
from pybd.device import Device
from pybd.mapping import THICK, THIN
from pybd.pools import Known, Room
from pybd.ranges import rounded_up

_TAG = "glupy.brick="
_TIMEOUT = 120.0
_NAME = re.compile(r"[A-Za-z0-9+_.][A-Za-z0-9+_.-]*")

# linux/dm-ioctl.h
_DM_TABLE_STATUS = 0xC138FD0C
_DM_VERSION = 4, 0, 0
_DM_NOFLUSH_FLAG = 1 << 11
_HEAD = struct.Struct("=3I2IIiIIIQ128s129s7x")
_TARGET = struct.Struct("=QQiI16s")
_DM_START_AT = 16
_DM_ROOM = 16384

# What LVM says, in the words of its messages, and what that is to a client.
_MEANINGS = (
    (re.compile(r"volume group \S+ not found|is not a thin pool", re.I), errno.ENODEV),
    (re.compile(r"failed to find", re.I), errno.ENOENT),
    (re.compile(r"already exists", re.I), errno.EEXIST),
    (re.compile(r"insufficient|not enough|free extents|no free|free space", re.I), errno.ENOSPC),
    (re.compile(r"in use|is used by|busy", re.I), errno.EBUSY),
)

_CONFIG = "log/report_command_log=0"
"""Complaints go to stderr: Debian 13's LVM puts them into the report, if that is JSON."""

# Of the page of a SCSI disk that tells of logical block provisioning (SBC-4, 6.6.9)
_LBPRZ_BYTE, _LBPRZ = 5, 0x04


class LogicalVolume(Device):
    """A logical volume that is open. ``chunk`` is that of its thin pool; 0: it is thick."""

    def __init__(self, number: int, *, chunk: int) -> None:
        self._thin = chunk > 0
        self._id = os.fstat(number).st_rdev  # its name may change
        # dm-thin discards whole chunks only, and what it has no chunk for reads as zeros.
        super().__init__(
            number,
            granule=chunk or mmap.PAGESIZE,
            unit=chunk or rounded_up(_granularity(self._id), mmap.PAGESIZE),
            discards_to_zeros=self._thin,
            lbprz=None if self._thin else _lbprz(self._id),
        )

    def blocks(self) -> int:
        """Return the blocks of 512 bytes that the pool has mapped for it."""
        return _held(_status(self._id)) if self._thin else super().blocks()

    def has_room(self, offset: int, length: int) -> bool:
        """A thin volume cannot tell."""
        return not self._thin


class LvmPool:
    """The pool ``lvm:VG`` or ``lvm:VG/THINPOOL``."""

    fresh_is_zero = False
    """A thick volume has what the disk had; a thin one is asked to be zeroed, which costs it
    nothing: it has no chunks yet."""

    def __init__(self, where: str, *, sector_size: int = 512) -> None:
        self.group, slash, self.thin_pool = where.partition("/")
        names = [self.group, self.thin_pool] if slash else [self.group]
        if not all(map(_NAME.fullmatch, names)):
            raise OptionError(f"option pool: {where!r} is not VG or VG/THINPOOL")
        self.kinds: tuple[str, ...] = (THIN, THICK) if slash else (THICK,)
        self._sizes: tuple[int, int] | None = None

    @property
    def extent(self) -> int:
        """The volume group's extent size."""
        return self._measured()[0]

    def check(self) -> None:
        """ENODEV if the volume group or its thin pool is missing, or of no use."""
        self._sizes = None
        self._measured()

    def _measured(self) -> tuple[int, int]:
        """Return the sizes of an extent and of a chunk; 0 without a thin pool."""
        if self._sizes is None:
            if not self.thin_pool:
                found = self._report("vgs", "vg_extent_size", self.group)[0]
                self._sizes = int(found["vg_extent_size"]), 0
            else:
                self._sizes = self._thin_pool_sizes(f"{self.group}/{self.thin_pool}")
        return self._sizes

    def _thin_pool_sizes(self, whole: str) -> tuple[int, int]:
        try:
            found = self._report("lvs", "vg_extent_size,segtype,chunk_size,zero", whole)[0]
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            raise OSError(errno.ENODEV, f"there is no thin pool {whole}") from None
        if found["segtype"] != "thin-pool":
            raise OSError(errno.ENODEV, f"{whole} is no thin pool")
        if found["zero"] != "zero":
            # A chunk that is written in part would show what somebody else had in it.
            raise OSError(errno.ENODEV, f"{whole} gives out old data: lvchange --zero y {whole}")
        return int(found["vg_extent_size"]), int(found["chunk_size"])

    def make(self, name: str, size: int, kind: str, tag: str) -> None:
        """Make a volume; a thick one has what the disk had."""
        size = rounded_up(size, self.extent)
        words = ["--name", name, "--addtag", _TAG + tag, "--yes", "--wipesignatures", "n"]
        if kind == THIN:
            pool = f"{self.group}/{self.thin_pool}"
            _lvm("lvcreate", *words, "--virtualsize", f"{size}b", "--thinpool", pool)
        else:
            _lvm("lvcreate", *words, "--zero", "n", "--size", f"{size}b", self.group)

    def find(self, name: str) -> Known | None:
        """Ask LVM."""
        try:
            return next(iter(self._volumes(f"{self.group}/{name}")), None)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
        return None

    def open(self, name: str) -> LogicalVolume:
        """Open the volume, activated if need be.

        EBUSY if a command of a brick that was killed still resizes it after 2 minutes.
        """
        number = self._opened(name)
        try:
            _wait_for_resize(number)
            kind = _status(os.fstat(number).st_rdev)[0].type
            if kind == "error":  # whether it is thin it does not say then
                whole = f"{self.group}/{name}"
                raise OSError(errno.EIO, f"was removed by force: lvchange --refresh {whole}")
            chunk = self._measured()[1] if kind == "thin" else 0
        except BaseException:
            os.close(number)
            raise
        return LogicalVolume(number, chunk=chunk)

    def _opened(self, name: str) -> int:
        node = Path("/dev/mapper", self._held_as(name))
        try:
            return os.open(node, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
                raise
        _lvm("lvchange", "--activate", "y", "--ignoreactivationskip", f"{self.group}/{name}")
        return os.open(node, os.O_RDWR | os.O_CLOEXEC)

    def _held_as(self, name: str, layer: str = "") -> str:
        """Return the name that device-mapper has for a volume."""
        return "-".join(each.replace("-", "--") for each in (self.group, name)) + layer

    def resize(self, name: str, size: int) -> None:
        """Set the size of the volume.

        Should this brick be killed meanwhile the command goes on, maybe before it has LVM's lock.
        So it has a lock of ours, on the volume, which ``open`` waits for: else the next brick would
        write where this one still cuts.
        """
        size, whole = rounded_up(size, self.extent), f"{self.group}/{name}"
        number = self._opened(name)
        try:
            fcntl.flock(number, fcntl.LOCK_SH)
            # As its stdin, which LVM leaves open.
            _lvm("lvresize", "--force", "--yes", "--size", f"{size}b", whole, stdin=number)
        finally:
            os.close(number)

    def rename(self, old: str, new: str) -> None:
        """Rename the volume."""
        _lvm("lvrename", self.group, old, new)

    def remove(self, name: str) -> None:
        """Remove the volume; a thin one's chunks go back to the pool."""
        try:
            _lvm("lvremove", "--yes", f"{self.group}/{name}")
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    @contextlib.contextmanager
    def unused(self, name: str) -> Iterator[None]:
        """Ask LVM; it removes nothing that was opened meanwhile."""
        whole = f"{self.group}/{name}"
        if self._report("lvs", "lv_device_open", whole)[0]["lv_device_open"]:
            raise OSError(errno.EBUSY, f"{name} is in use")
        yield

    def snapshot(self, name: str, new: str, tag: str) -> bool:
        """A thin volume shares its chunks; of a thick one there is none."""
        whole = f"{self.group}/{name}"
        if self._report("lvs", "segtype", whole)[0]["segtype"] != "thin":
            return False
        words = ["--name", new, "--addtag", _TAG + tag, "--setactivationskip", "n"]
        _lvm("lvcreate", "--yes", "--snapshot", *words, whole)
        return True

    def devices(self) -> list[Known]:
        """Ask LVM for all volumes of the group, but the thin pool's own."""
        return [each for each in self._volumes(self.group) if each.name != self.thin_pool]

    def room(self) -> Room:
        """What the thin pool has; without one, the volume group."""
        if self.thin_pool:
            return self._thin_room()
        found = self._report("vgs", "vg_size,vg_free", self.group)[0]
        return Room(int(found["vg_size"]), int(found["vg_free"]), 0)

    def _thin_room(self) -> Room:
        for layer in "-tpool", "":  # there is only one as long as it has no volumes
            with contextlib.suppress(OSError):
                (found,) = _status(self._held_as(self.thin_pool, layer))
                chunks = re.match(r"\d+ \S+ (\d+)/(\d+) ", found.params)
                if found.type == "thin-pool" and chunks:
                    used, size = map(int, chunks.groups())
                    chunk = self._measured()[1]
                    return Room(size * chunk, (size - used) * chunk, 0)
        # It is not active, or has failed.
        row = self._report("lvs", "lv_size,data_percent", f"{self.group}/{self.thin_pool}")[0]
        room = int(row["lv_size"])
        return Room(room, room - int(room * float(row["data_percent"] or 0) / 100), 0)

    def blocks(self, name: str) -> int:
        """Ask device-mapper, or LVM if the volume is not active: it does not know a thin one's."""
        try:
            return _held(_status(self._held_as(name)))
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        found = self._report("lvs", "segtype,lv_size", f"{self.group}/{name}")[0]
        return 0 if found["segtype"] == "thin" else int(found["lv_size"]) // 512

    def _volumes(self, what: str) -> list[Known]:
        return [
            Known(each["lv_name"], _tag_of(each["lv_tags"]), int(each["lv_size"]))
            for each in self._report("lvs", "lv_name,lv_tags,lv_size", what)
        ]

    def _report(self, command: str, fields: str, what: str) -> list[dict[str, Any]]:
        options = ["--reportformat", "json", "--units", "b", "--nosuffix", "--options", fields]
        answer = json.loads(_lvm(command, *options, what))
        rows: list[dict[str, Any]] = next(iter(answer["report"][0].values()))
        if not rows and command == "lvs" and "/" in what:
            raise OSError(errno.ENOENT, f"there is no logical volume {what}")
        return rows


def _tag_of(tags: str) -> str:
    found = (each for each in tags.split(",") if each.startswith(_TAG))
    return next(found, "").removeprefix(_TAG)


def _wait_for_resize(number: int) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise OSError(errno.EBUSY, "an earlier brick's lvresize has no end") from None
            time.sleep(0.1)
    fcntl.flock(number, fcntl.LOCK_UN)


def _lvm(*words: str, stdin: int = subprocess.DEVNULL) -> str:
    """Run a command of LVM; return what it prints. OSError with the first line of its complaint."""
    environment = {**os.environ, "LC_ALL": "C", "LVM_SUPPRESS_FD_WARNINGS": "1"}
    environment["PATH"] = environment.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            ["lvm", words[0], "--config", _CONFIG, *words[1:]],
            stdin=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=_TIMEOUT,
            check=False,
        )
    except FileNotFoundError:
        raise OSError(errno.ENODEV, "the command lvm is not installed") from None
    except subprocess.TimeoutExpired:
        raise OSError(errno.EIO, f"lvm {words[0]} did not end in {_TIMEOUT:g} s") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines()]
        said = [line for line in lines if line and not line.startswith("WARNING")]
        whole = " ".join(said)
        number = next((number for words_, number in _MEANINGS if words_.search(whole)), errno.EIO)
        raise OSError(number, said[0] if said else f"lvm {words[0]} failed")
    return done.stdout


# ---- device-mapper ----


class _Target(NamedTuple):
    """One part of a mapped device: its sectors of 512 bytes, and what its target says of itself."""

    sectors: int
    type: str
    params: str


@functools.cache
def _control() -> int:
    return os.open("/dev/mapper/control", os.O_RDONLY | os.O_CLOEXEC)


def _status(device: str | int) -> list[_Target]:
    """Return the parts of a mapped device (DM_TABLE_STATUS), by its name or number.

    OSError ENXIO if there is none.
    """
    name, number = (device.encode(), 0) if isinstance(device, str) else (b"", device)
    request = bytearray(_DM_ROOM)
    counts = 0, 0, _DM_NOFLUSH_FLAG, 0, 0
    _HEAD.pack_into(request, 0, *_DM_VERSION, _DM_ROOM, _HEAD.size, *counts, number, name, b"")
    fcntl.ioctl(_control(), _DM_TABLE_STATUS, request)
    start, count = struct.unpack_from("=2I", request, _DM_START_AT)
    found, at = [], start
    for _ in range(count):
        _, sectors, _, behind, kind = _TARGET.unpack_from(request, at)
        params = bytes(request[at + _TARGET.size :]).split(b"\0", 1)[0]
        found.append(_Target(sectors, kind.rstrip(b"\0").decode(), params.decode()))
        at = start + behind
    if not found:
        raise OSError(errno.ENXIO, "the device has no table")
    return found


def _held(parts: list[_Target]) -> int:
    """Return the sectors of 512 bytes that a volume has: a thin one those that are mapped."""
    if parts[0].type != "thin":
        return sum(each.sectors for each in parts)
    with contextlib.suppress(ValueError, IndexError):
        return int(parts[0].params.split()[0])
    raise OSError(errno.EIO, f"the thin volume says {parts[0].params or 'nothing'}")


# ---- disks ----


def _folder(device: int) -> Path:
    return Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")


def _granularity(device: int) -> int:
    """Return what a device discards at least; 0 if it does not say."""
    try:
        return int((_folder(device) / "queue/discard_granularity").read_text())
    except (OSError, ValueError):
        return 0


def _lbprz(device: int) -> bool | None:
    """Say whether the SCSI disks below a device promise that what is unmapped reads as zeros.

    None: there are none below. It tells what PUNCH_HOLE would do there, too: without that promise
    the kernel writes zeros (sd_config_write_same), and with it, unless the disk can unmap by WRITE
    SAME.
    """
    found = [_disk_lbprz(each) for each in _disks(_folder(device).resolve())]
    scsi = [each for each in found if each is not None]
    return all(scsi) if scsi else None


def _disks(folder: Path) -> Iterator[Path]:
    if (folder / "partition").exists():
        folder = folder.parent
    below = folder / "slaves"
    parts = list(below.iterdir()) if below.is_dir() else []
    if not parts:
        yield folder
    for part in parts:
        yield from _disks(part.resolve())


def _disk_lbprz(disk: Path) -> bool | None:
    modes = list(disk.glob("device/scsi_disk/*/zeroing_mode"))
    if not modes:
        return None
    with contextlib.suppress(OSError, IndexError):
        if (disk / "device/vpd_pgb2").read_bytes()[_LBPRZ_BYTE] & _LBPRZ:
            return True
    with contextlib.suppress(OSError):
        return modes[0].read_text().strip().endswith("_unmap")
    return False
