"""What all fops share: the options, the start, which file is mapped, and its true attributes."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import CoroutineType
from typing import Any, NamedTuple

from glupy import PASS, FopError, Gfid, Option, OptionError, Translator, keys, linux
from glupy.constants import (
    GF_SET_ATTR_ATIME,
    GF_SET_ATTR_MTIME,
    MDATA_CTIME,
    MDATA_MTIME,
)
from glupy.enums import Event, FileType
from glupy.options import seconds
from glupy.views import Dict, Fd, Frame, Iatt, Inode, Loc
from pybd import mapping, pools
from pybd.device import Device, failed
from pybd.files import PLAIN, File, Files
from pybd.identity import Identity
from pybd.mapping import KEY
from pybd.rules import Rules

REGULAR = int(FileType.IFREG)
_UNKNOWN = int(FileType.INVAL)
MODIFIED = MDATA_MTIME | MDATA_CTIME
_ATTEMPTS = 100
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
_ATTRIBUTES = keys.PRESTAT, keys.POSTSTAT, keys.DHT_IATT
MOST = (1 << 63) - 1
"""The largest offset that the kernel knows."""
ARBITER = "features/arbiter"


class Base(Translator):
    """Knows which files are mapped, opens their devices, and corrects what posix says of them."""

    # Data of plain files is nothing to us.
    passed_fops = (
        "open",
        "readv",
        "writev",
        "ftruncate",
        "flush",
        "fsync",
        "rchecksum",
        "discard",
        "zerofill",
        "fallocate",
        "seek",
        "stat",
        "fstat",
        "setattr",
        "fsetattr",
    )

    options = (
        Option("pool", description="Where devices come from: loop:DIR, lvm:VG, lvm:VG/THINPOOL."),
        Option(
            "sector-size",
            int,
            default=512,
            minimum=512,
            maximum=4096,
            description="Of loop devices, in bytes: 512 or 4096.",
        ),
        Option(
            "map",
            default=None,
            description="Which new files are mapped: GLOB=thin or GLOB=lv[:SIZE], with spaces "
            "between. The first that fits the name counts; SIZE is the device's at first.",
        ),
        Option(
            "reserve",
            float,
            default=1.0,
            minimum=0,
            maximum=100,
            description="Percent of the pool that stay free: then only what has its space already "
            "is written.",
        ),
        Option(
            "reclaim-interval",
            seconds,
            default=600,
            minimum=1,
            maximum=86400,
            description="How often devices are looked for whose files posix has purged by itself.",
        ),
    )

    def init(self) -> None:
        """Find the pool and the brick's identity. A pool that is missing is no reason to fail:
        files that are not mapped are served."""
        spec = self.option("pool")
        if spec is None:
            raise OptionError("option pool is missing: loop:DIR, lvm:VG or lvm:VG/THINPOOL")
        self.pool = pools.find(spec, sector_size=self.option("sector-size"))
        leaf = self.child
        while leaf.children:
            leaf = leaf.children[0]
        options = leaf.options
        if "directory" not in options:
            raise OptionError(f"pybd needs a storage translator below it, and {leaf.type} is none")
        volume_id = options.get("volume-id", "")
        self.identity = Identity(str(volume_id), str(options["directory"]))
        self.files = Files()
        self.unmappings = 0
        self.is_arbiter = ARBITER in self.types_above
        self.rules = Rules.parse(self.option("map"))
        self._room_until = 0.0
        self._doubted = 0.0
        self._is_short = False
        self._says_once: set[str] = set()
        try:
            self.pool.check()
        except OSError as error:
            self.log.error("pool %s: %s: mapped files cannot be used", spec, error.strerror)

    def reconfigure(self) -> None:
        """Option ``map`` may change; another pool needs a restart."""
        self.rules = Rules.parse(self.option("map"))

    def fini(self) -> None:
        """Let go of the devices: their kernel detaches what is a loop device."""
        for file in self.files:
            file.device = None

    def dump_priv(self) -> dict[str, object]:
        """What a statedump shows."""
        known = list(self.files)
        return {
            "pool": self.option("pool"),
            "brick": self.identity.tag,
            "device-prefix": self.identity.name(bytes(16))[:-37],
            "mapped-files": len(known),
            "open-devices": sum(file.device is not None for file in known),
            "pool-is-full": self._is_short,
        }

    def forget(self, inode: Inode) -> None:
        """The last that GlusterFS knows of a file: store its times, close its device."""
        file = inode.ctx
        if not isinstance(file, File):
            return
        if file.gone:
            self.spawn(self.reclaim(file))
        elif (taken := file.times.taken()) is not None:
            gfid, fresh = file.gfid, inode.new()
            self._store_late(file, Loc(inode=fresh, gfid=gfid), taken)

    def release(self, fd: Fd) -> None:
        """A mapped file is closed: store its times; or remove its device, if it has no name."""
        inode = fd.inode
        file = inode.ctx
        if not isinstance(file, File):
            return
        if file.gone:
            if inode.active_fd_count == 0:
                self.spawn(self.reclaim(file))
        elif (taken := file.times.taken()) is not None:
            self._store_late(file, Loc(inode=inode.ref(), gfid=file.gfid), taken)

    def _store_late(self, file: File, loc: Loc, taken: Any) -> None:
        async def store() -> None:
            with contextlib.suppress(OSError):  # removed meanwhile
                await self.store_times(
                    file, lambda iatt, valid: self.child.setattr(loc, iatt, valid)
                )

        self.spawn(store(), ctime=(taken.ia_ctime, taken.ia_ctime_nsec))

    def notify(self, event: Event | int, data: Any) -> int:
        """Once the leaf is up, look for devices that have lost their files."""
        if event == Event.CHILD_UP:
            self.spawn(self.patrol())
        return super().notify(event, data)

    async def patrol(self) -> None:
        """Look for devices without files, now and again."""
        raise NotImplementedError

    async def settle(self, inode: Inode, file: File) -> None:
        """End a merge into a file that was begun."""
        raise NotImplementedError

    async def unmap_file(self, inode: Inode, file: File) -> None:
        """Make a mapped file plain again, with its data."""
        raise NotImplementedError

    async def reclaim(self, file: File) -> None:
        """The last name of a file is gone, and nobody uses it: remove its device."""
        raise NotImplementedError

    def say_once(self, key: str, message: str, *arguments: object) -> None:
        """Log an error, but not the same one at each fop."""
        if key not in self._says_once:
            self._says_once.add(key)
            self.log.error(message, *arguments)

    def _remove_device(self, name: str) -> None:
        try:
            self.pool.remove(name)
        except OSError as error:
            self.log.warning("device %s is left for later: %s", name, error.strerror)

    def give_up(self, gfid: bytes) -> None:
        """Remove a file's half device, once it is on the disk that the file is not mapped to it."""
        half = self.identity.half(gfid)
        try:
            with contextlib.suppress(FileNotFoundError):  # a file without a name
                self.sync_stub(gfid)
            self.pool.remove(half)
        except OSError as error:
            self.log.warning("device %s is left for later: %s", half, error.strerror)

    @property
    def root(self) -> Inode | None:
        """The inode of the brick's root, for the table it is in; None before there is a client."""
        table = self._this.itable
        above = self._this
        while not table and above.parents:
            above = above.parents.xlator
            table = above.itable
        if not table:
            return None
        return self._view(Inode, table.root)  # type: ignore[no-any-return]

    # ---- which file is mapped ----

    def note(
        self, inode: Inode | None, iatt: Iatt, value: bytes | None, since: Seen
    ) -> File | None:
        """What a reply tells of an inode: its attributes, and what its xattr says (None: nothing).

        ``since`` is what ``looking`` said before the fop.
        """
        if inode is None or iatt.c.ia_type != REGULAR or self.is_arbiter:
            return None
        known = file_of(inode)
        if known is not None:
            # Only this process maps and unmaps: what we remember counts.
            known.seen(iatt, since.changes)
            return known if known.mapped else None
        if value is not None and since.unmappings != self.unmappings:
            set_unknown(inode)  # that may have been this file
            return None
        if value is None:
            other = self.files.find(iatt.ia_gfid)
            if other is None:
                if inode.ctx is not PLAIN:
                    set_plain(inode)
                return None
            file = other  # on its way to a device
        else:
            try:
                stored = mapping.stored(os.fsdecode(value))
            except OSError:
                self.say_once(
                    iatt.ia_gfid.hex(), "%s: its xattr says %r: not mapped", iatt.ia_gfid, value
                )
                set_plain(inode)
                return None
            file = self.files.of(iatt.ia_gfid, stored.kind)
            file.merging = file.merging or stored.merging is not None
        set_mapped(inode, file)
        file.seen(iatt, since.changes)
        return file if file.mapped else None

    def looking(self, inode: Inode | None) -> Seen:
        """Return what ``note`` wants: how far changes are when somebody begins to look."""
        known = file_of(inode)
        return Seen(known.looking() if known is not None else -1, self.unmappings)

    async def learn(self, fd: Fd) -> File | None:
        """Return the mapped file of an fd, None if it is plain, by asking posix if need be."""
        inode = fd.inode
        if not may_be_mapped(inode):
            return None
        for _ in range(_ATTEMPTS):
            known = inode.ctx
            if known is PLAIN:
                return None
            if known is None:
                unsure = Seen(-1, self.unmappings)
                value = await self._stored(fd)
                reply = await self.child.fstat(fd)
                assert reply.buf is not None
                self.note(inode, reply.buf, value, unsure)
                if reply.buf.c.ia_type != REGULAR or self.is_arbiter:
                    return None
                continue
            file: File = known
            if file.moving:
                async with file.resizing:
                    continue
            if not file.mapped:
                if inode.ctx is file:
                    del inode.ctx
                continue
            if file.merging:
                await self.settle(inode, file)
            if not file.fresh:
                since = file.looking()
                reply = await self.child.fstat(fd)
                assert reply.buf is not None
                file.seen(reply.buf, since)
            return file
        raise failed(errno.EIO)

    async def _stored(self, fd: Fd) -> bytes | None:
        """Return the xattr that says whether a file is mapped."""
        try:
            reply = await self.child.fgetxattr(fd, KEY)
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                return None
            raise
        return None if reply.dict is None else reply.dict.get_bytes(KEY)

    # ---- its device ----

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

    def sync(self, file: File, device: Device, fd: Fd, *, data_only: bool = True) -> None:
        """Have what was written on a device on its disk, as a fop on this fd asks.

        What was lost each fd is told once, as of a plain file (the kernel's errseq_t): since it was
        opened, or before that if no fd was told. All anonymous ones are one.
        """
        known = file.reported_anonymous if fd.anonymous else fd.ctx or 0
        try:
            device.sync(data_only=data_only)
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
        name = str(Gfid(gfid))
        folder = Path(self.identity.directory, ".glusterfs", name[:2], name[2:4])
        number = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
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

    # ---- attributes ----

    def shown(self, file: File) -> Iatt:
        """Return the attributes of a file as clients are to see them."""
        stub, device = file.stub, file.device
        assert stub is not None
        iatt = Iatt()
        if device is not None and device.counted >= 0:
            linux.show_over(iatt, stub, file.size, file.times.c, fd=device.counted)
        else:
            linux.show_over(iatt, stub, file.size, file.times.c, blocks=self.blocks(file))
        return iatt

    def show(
        self, file: File, iatt: Iatt | None, *, size: int | None = None, blocks: int | None = None
    ) -> None:
        """Make of a stub's attributes those of the file: its size, blocks and times."""
        if iatt is None or not file.mapped:
            return
        if size is None:
            size = file.size
        if blocks is None:
            blocks = self.blocks(file)
        linux.show_over(iatt, iatt, size, file.times.c, blocks=blocks)

    def shown_in(
        self, file: File, xdata: Dict | None, change: Callable[[Iatt], None] = lambda iatt: None
    ) -> Dict | None:
        """Make of attributes of the stub in a reply's xdata those of the file; ``change`` gets
        those of afterwards."""
        shown = Dict()
        for key in _ATTRIBUTES:
            if xdata is not None and key in xdata and isinstance(value := xdata[key], Iatt):
                if key != keys.PRESTAT:
                    change(value)
                self.show(file, value)
                shown[key] = value
        if xdata is None or not len(shown):
            return xdata
        xdata = xdata.copy()
        xdata.update(shown)
        return xdata

    def touch(self, frame: Frame, file: File, flags: int = MODIFIED) -> None:
        """Set the times that a fop sets; the stub is told of them later."""
        linux.touch(file.times.c, frame, flags)

    async def store_times(
        self, file: File, wind: Callable[[Iatt, int], Awaitable[Any]], frame: Frame | None = None
    ) -> None:
        """Have the stub keep the times of its file. ``frame``: nothing was awaited in it yet."""
        if file.times.taken() is None:
            return
        async with file.storing:
            taken = file.times.taken()
            if taken is None:
                return
            iatt, valid = Iatt(), 0
            c = iatt.c
            if taken.ia_atime:
                c.ia_atime, c.ia_atime_nsec = taken.ia_atime, taken.ia_atime_nsec
                valid |= GF_SET_ATTR_ATIME
            if taken.ia_mtime:
                c.ia_mtime, c.ia_mtime_nsec = taken.ia_mtime, taken.ia_mtime_nsec
                valid |= GF_SET_ATTR_MTIME
            if frame is not None and not frame.ctime[0]:
                frame.ctime = taken.ia_ctime, taken.ia_ctime_nsec
            with self.changes(file) as change:
                reply = await wind(iatt, valid)
                change(reply.postop_stbuf)
            file.times.stored(taken)

    @contextlib.contextmanager
    def changes(self, file: File) -> Iterator[Callable[[Iatt | None], None]]:
        """Inside, the stub's attributes change; call what this yields with them afterwards."""
        after: list[Iatt | None] = [None]

        def change(iatt: Iatt | None) -> None:
            after[0] = iatt

        since = file.changing()
        try:
            yield change
        finally:
            file.changed(after[0], since)


def on_fd(
    core: Callable[..., Any],
) -> Callable[..., Any]:
    """Make a handler of a data fop on an fd: of a plain file it passes, of a mapped one ``core``
    (self, frame, file, fd, …) answers, at once if all is known.

    ``core`` may return a coroutine, or ``LATER`` if the mapping changes meanwhile. That a device
    has failed is EIO to the client, and one line in the log.
    """
    name = core.__name__

    @functools.wraps(core)
    def handler(self: Base, frame: Frame, fd: Fd, *arguments: Any) -> Any:
        inode = fd.inode
        file = inode.ctx
        if file is PLAIN or not may_be_mapped(inode):
            return PASS
        if file is not None and file.ready:
            try:
                answer = core(self, frame, file, fd, *arguments)
            except OSError as error:
                raise self.told(file, error) from None
            if isinstance(answer, CoroutineType):
                return _finished(self, frame, fd, arguments, file, answer)
            if answer is not LATER:
                return answer
        return _later(self, frame, fd, arguments)

    async def _finished(
        self: Base, frame: Frame, fd: Fd, arguments: tuple[Any, ...], file: File, answer: Any
    ) -> Any:
        with self.telling(file):
            answer = await answer
        return answer if answer is not LATER else await _later(self, frame, fd, arguments)

    async def _later(self: Base, frame: Frame, fd: Fd, arguments: tuple[Any, ...]) -> Any:
        for _ in range(_ATTEMPTS):
            file = await self.learn(fd)
            if file is None:
                return await getattr(self.child, name)(fd, *arguments)
            try:
                self.device(file)
            except OSError:
                if file.mapped:
                    raise
                continue
            with self.telling(file):
                answer = core(self, frame, file, fd, *arguments)
                if isinstance(answer, CoroutineType):
                    answer = await answer
            if answer is not LATER:
                return answer
        raise failed(errno.EIO)

    return handler


def file_of(inode: Inode | None) -> File | None:
    """Return the file that an inode is known to be, if that is mapped or on its way."""
    file = inode.ctx if inode is not None else None
    return file if isinstance(file, File) and (file.mapped or file.moving) else None


class Seen(NamedTuple):
    """How far changes were when somebody began to look at a file."""

    changes: int
    """Those of the file; -1 if it was not known."""
    unmappings: int
    """Of any file."""


def set_plain(inode: Inode) -> None:
    """A file is not mapped: from now on its data passes us by."""
    inode.ctx = PLAIN
    inode.passes = True


def set_mapped(inode: Inode, file: File) -> None:
    """A file is mapped, or about to be: ask us."""
    if inode.passes:
        inode.passes = False
    inode.ctx = file


def set_unknown(inode: Inode) -> None:
    """Whether a file is mapped is to be asked again."""
    if inode.passes:
        inode.passes = False
    if inode.ctx is not None:
        del inode.ctx


def may_be_mapped(inode: Inode) -> bool:
    """Say whether it is a regular file, or not known yet what it is."""
    return inode.c.ia_type in (REGULAR, _UNKNOWN)


def is_pointer(mode: int) -> bool:
    """Say whether it is DHT's pointer to where the file is, or the file is on its way here."""
    return stat.S_IMODE(mode) == stat.S_ISVTX


LATER = object()
"""What a ``core`` returns, or its coroutine, if the file is no longer what it was."""


def value_in(xdata: Dict | None) -> bytes | None:
    """Return what a reply says of the xattr that maps a file; None if nothing."""
    return None if xdata is None else xdata.get_bytes(KEY)


def cleaned(xdata: Dict | None, asked: Dict | None) -> Dict | None:
    """Return a reply's xdata without our key, unless the caller asked for it himself."""
    if asked is None:
        return None
    if xdata is not None and KEY in xdata and KEY not in asked:
        xdata = xdata.copy()
        del xdata[KEY]
    return xdata


def with_key(xdata: Dict | None) -> Dict:
    """Return a request's xdata with our key in it: posix then tells what the xattr says."""
    asked = xdata.copy() if xdata is not None else Dict()
    asked.set_int(KEY, 0)
    return asked
