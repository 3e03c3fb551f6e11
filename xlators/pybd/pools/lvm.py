"""A pool of logical volumes: thick ones of a volume group, and thin ones of a thin pool in it.

``lvm:VG`` makes thick ones only, ``lvm:VG/THINPOOL`` both. What LVM knows is asked by its command,
as JSON; what a thin volume really holds is asked of device-mapper, which is cheap. Sources: lvm(8),
lvs(8), lvcreate(8), linux/dm-ioctl.h, the kernel's drivers/md/dm-thin.c.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import struct
import subprocess
import threading
from pathlib import Path
from typing import Any

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
_DM_ROOM = 4096

# What LVM says, in the words of its messages, and what that is to a client.
_MEANINGS = (
    (re.compile(r"not found", re.I), errno.ENODEV),
    (re.compile(r"failed to find", re.I), errno.ENOENT),
    (re.compile(r"already exists", re.I), errno.EEXIST),
    (re.compile(r"insufficient|not enough|free extents|no free|out of", re.I), errno.ENOSPC),
    (re.compile(r"in use|is used by|busy|open", re.I), errno.EBUSY),
)


class LogicalVolume(Device):
    """A logical volume that is open. ``held`` is the name that device-mapper has for it."""

    def __init__(self, number: int, held: str, *, chunk: int) -> None:
        self._held = held
        self._thin = chunk > 0
        # dm-thin discards whole chunks only, and what it has no chunk for reads as zeros.
        super().__init__(number, granule=chunk, discards_to_zeros=self._thin)

    def blocks(self) -> int:
        """Return the blocks of 512 bytes that the pool has mapped for it."""
        return _mapped(self._held) if self._thin else super().blocks()

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
        self.kinds = (THIN, THICK) if slash else (THICK,)
        self._extent = 0
        self._chunk = 0
        self._lock = threading.Lock()

    @property
    def extent(self) -> int:
        """The volume group's extent size."""
        if not self._extent:
            report = self._report("vgs", "vg_extent_size", self.group)
            self._extent = int(report[0]["vg_extent_size"])
        return self._extent

    def check(self) -> None:
        """ENODEV if the volume group or its thin pool is missing."""
        self._extent = 0
        self._chunk = 0
        _ = self.extent
        if self.thin_pool:
            self._chunk_size()

    def _chunk_size(self) -> int:
        if not self._chunk:
            found = self._report("lvs", "chunk_size", f"{self.group}/{self.thin_pool}")
            self._chunk = int(found[0]["chunk_size"])
            if not self._chunk:
                raise OSError(errno.ENODEV, f"{self.group}/{self.thin_pool} is no thin pool")
        return self._chunk

    def make(self, name: str, size: int, kind: str, tag: str) -> None:
        """Make a volume; a thick one has what the disk had."""
        size = rounded_up(size, self.extent)
        words = ["--name", name, "--addtag", _TAG + tag, "--yes", "--wipesignatures", "n"]
        words += ["--setautoactivation", "n"]
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
        """Activate the volume and open it."""
        whole = f"{self.group}/{name}"
        _lvm("lvchange", "--activate", "y", "--ignoreactivationskip", whole)
        found = self._report("lvs", "lv_dm_path,segtype", whole)[0]
        path = found["lv_dm_path"]
        number = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        chunk = self._chunk_size() if found["segtype"] == "thin" else 0
        try:
            return LogicalVolume(number, Path(path).name, chunk=chunk)
        except BaseException:
            os.close(number)
            raise

    def resize(self, name: str, size: int) -> None:
        """Set the size of the volume."""
        size = rounded_up(size, self.extent)
        _lvm("lvresize", "--force", "--yes", "--size", f"{size}b", f"{self.group}/{name}")

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

    def snapshot(self, name: str, new: str, tag: str) -> bool:
        """A thin volume shares its chunks; of a thick one there is none."""
        whole = f"{self.group}/{name}"
        if self._report("lvs", "segtype", whole)[0]["segtype"] != "thin":
            return False
        words = ["--name", new, "--addtag", _TAG + tag, "--setactivationskip", "n"]
        _lvm("lvcreate", "--yes", "--snapshot", *words, "--setautoactivation", "n", whole)
        return True

    def devices(self) -> list[Known]:
        """Ask LVM for all volumes of the group, but the thin pool's own."""
        return [each for each in self._volumes(self.group) if each.name != self.thin_pool]

    def room(self) -> Room:
        """What the thin pool has; without one, the volume group."""
        if self.thin_pool:
            whole = f"{self.group}/{self.thin_pool}"
            found = self._report("lvs", "lv_size,data_percent", whole)[0]
            size = int(found["lv_size"])
            used = size * float(found["data_percent"] or 0) / 100
            return Room(size, size - int(used), 0)
        found = self._report("vgs", "vg_size,vg_free", self.group)[0]
        return Room(int(found["vg_size"]), int(found["vg_free"]), 0)

    def blocks(self, name: str) -> int:
        """Ask device-mapper, or LVM if the volume is not active."""
        fields = "lv_dm_path,segtype,lv_size,lv_active"
        found = self._report("lvs", fields, f"{self.group}/{name}")[0]
        if found["segtype"] != "thin":
            return int(found["lv_size"]) // 512
        if not found["lv_active"]:
            return 0
        return _mapped(Path(found["lv_dm_path"]).name)

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


def _lvm(*words: str) -> str:
    """Run a command of LVM; return what it prints. OSError with the first line of its complaint."""
    environment = {**os.environ, "LC_ALL": "C", "LVM_SUPPRESS_FD_WARNINGS": "1"}
    environment["PATH"] = environment.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            ["lvm", *words],
            stdin=subprocess.DEVNULL,
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
        said = " ".join(done.stderr.split()) or f"lvm {words[0]} failed"
        number = next((number for words_, number in _MEANINGS if words_.search(said)), errno.EIO)
        raise OSError(number, said)
    return done.stdout


def _mapped(held: str) -> int:
    """Return the sectors of 512 bytes that a thin volume has mapped (DM_TABLE_STATUS)."""
    request = bytearray(_DM_ROOM)
    name = held.encode().ljust(128, b"\0")
    _HEAD.pack_into(
        request, 0, *_DM_VERSION, _DM_ROOM, _HEAD.size, 0, 0, _DM_NOFLUSH_FLAG, 0, 0, 0, name, b""
    )
    with open("/dev/mapper/control", "rb") as control:  # noqa: PTH123
        fcntl.ioctl(control, _DM_TABLE_STATUS, request)
    start = struct.unpack_from("=I", request, 16)[0]
    text = bytes(request[start + _TARGET.size :]).split(b"\0", 1)[0]
    with contextlib.suppress(ValueError, IndexError):
        return int(text.split()[0])
    raise OSError(errno.EIO, f"{held}: {text.decode(errors='replace') or 'no status'}")
