"""Mapping a file to a device and back, copies of devices, and the devices that nobody has any more.

What says that a file is mapped is its xattr, set or removed by one system call. A device has its
name's half form (``identity.half``) before and after that moment, so whenever the brick is killed
the xattr alone says what such a device is: the file's, or nobody's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from glupy import Dict, Gfid, Loc, sleep, timers
from glupy.constants import GF_SEEK_DATA, GF_SEEK_HOLE, GF_SET_ATTR_ATIME, GF_SET_ATTR_MTIME
from glupy.keys import GFID
from glupy.views import Fd, Iatt, Inode, Vector
from pybd import device as devices
from pybd import identity, mapping
from pybd.base import REGULAR, Base, set_mapped, set_plain, value_in, with_key
from pybd.device import Device, failed
from pybd.files import File
from pybd.mapping import Mapping
from pybd.ranges import Range, rounded_up, union

_AT_A_TIME = 1 << 20
_SETTLED_AFTER = 0.02  # seconds: more than the file system's clock ticks in
_ROOT_SECONDS = 0.5
_CLOSED_SECONDS = 5.0
_ROUNDS = 3
GONE = errno.ENOENT, errno.ESTALE
# Translators above keep the size of such a file in an xattr of their own.
_SIZED_ABOVE = "trusted.ec.size", "trusted.glusterfs.shard.file-size"


class Stub:
    """The file below, by its loc; and by an fd where its bytes are wanted too."""

    def __init__(self, child: Any, loc: Loc, fd: Fd | None = None) -> None:
        self._child = child
        self.loc = loc
        self._fd = fd

    @property
    def fd(self) -> Fd:
        """The fd. Of a file that is just being made there is none."""
        if self._fd is None:
            raise failed(errno.EINVAL)
        return self._fd

    @property
    def is_open(self) -> bool:
        """Whether there is an fd."""
        return self._fd is not None

    async def stat(self) -> Iatt:
        """Return its attributes, valid for ever."""
        reply = await self._child.stat(self.loc)
        found: Iatt = reply.buf.copy()
        return found

    async def truncate(self, size: int) -> Iatt:
        """Set its size, and return its attributes."""
        reply = await self._child.truncate(self.loc, size)
        found: Iatt = reply.postbuf
        return found

    async def get(self, key: str) -> str | None:
        """Return the value of an xattr; None without one."""
        try:
            reply = await self._child.getxattr(self.loc, key)
        except OSError:
            return None
        return os.fsdecode(reply.dict.get_bytes(key) or b"")

    async def has(self, key: str) -> bool:
        """Say whether it has an xattr."""
        return await self.get(key) is not None

    async def mapping(self) -> Mapping:
        """Return what its xattr says. EIO if there is none."""
        value = await self.get(mapping.KEY)
        if value is None:
            raise failed(errno.EIO)
        return mapping.stored(value)

    async def set(self, key: str, value: str) -> None:
        """Set an xattr."""
        await self._child.setxattr(self.loc, Dict({key: value.encode()}), 0)

    async def remove(self, key: str) -> None:
        """Remove an xattr."""
        await self._child.removexattr(self.loc, key)

    async def set_times(self, of: Iatt) -> None:
        """Give it the times of modification and access that those attributes have."""
        await self._child.setattr(self.loc, of, GF_SET_ATTR_MTIME | GF_SET_ATTR_ATIME)

    async def data(self, size: int) -> AsyncIterator[Range]:
        """Yield where it has data."""
        at = 0
        while at < size:
            try:
                first = (await self._child.seek(self.fd, at, GF_SEEK_DATA)).offset
                behind = (await self._child.seek(self.fd, first, GF_SEEK_HOLE)).offset
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                first, behind = at, size
            yield first, min(behind, size)
            at = behind


class AlreadyMapped(OSError):
    """EEXIST: the file is mapped, or on its way."""

    def __init__(self) -> None:
        super().__init__(errno.EEXIST, os.strerror(errno.EEXIST))


class Moving(Base):
    """Maps and unmaps. What it does to a file, it does while ``resizing`` is held."""

    @contextlib.asynccontextmanager
    async def arriving(self, file: File | None) -> AsyncIterator[File]:
        """In this block an added file is mapped, or not after all: who finds its gfid waits for it.

        The stub need not be there yet. EEXIST for None: it is mapped, or on its way.
        """
        if file is None:
            raise AlreadyMapped
        async with file.resizing:
            try:
                yield file
            finally:
                if not file.mapped:
                    self.files.drop(file)
                file.moving = False

    async def map_file(
        self, inode: Inode, gfid: bytes, wanted: Mapping, *, keeps_size: bool = False
    ) -> None:
        """Map a regular file, and move its data to the device.

        The file's size is then the one that is given, unless ``keeps_size``: then that is only how
        large the device is at first. EEXIST if it is mapped, EINVAL for a size that would cut off
        data, EOPNOTSUPP if it is no regular file or the pool has no such devices, ENODEV without a
        pool, ENOSPC without space.
        """
        async with self.arriving(self.files.add(gfid, wanted.kind)) as file:
            await self.map_arriving(inode, file, wanted, keeps_size=keeps_size)

    async def map_arriving(
        self, inode: Inode, file: File, wanted: Mapping, *, keeps_size: bool
    ) -> None:
        """Map a file that is ``arriving``, as ``map_file`` does."""
        stub = Stub(
            self.child,
            Loc(inode=inode, gfid=file.gfid),
            inode.anonymous_fd() if inode.gfid else None,
        )
        if await stub.has(mapping.KEY):
            raise AlreadyMapped
        before = await stub.stat()
        if before.c.ia_type != REGULAR or wanted.kind not in self.pool.kinds:
            raise failed(errno.EOPNOTSUPP)
        file.seen(before, file.looking())
        with self._marked(inode, file):
            await self._move_in(stub, file, before, wanted, keeps_size)

    @contextlib.contextmanager
    def _marked(self, inode: Inode, file: File) -> Iterator[None]:
        """Inside, who has an inode of this file waits; afterwards he knows what it has become."""
        set_mapped(inode, file)
        self._tell_linked(file)
        try:
            yield
        except BaseException:
            if not file.mapped:
                set_plain(inode)
            raise
        finally:
            if file.mapped:
                self._tell_linked(file)

    def _tell_linked(self, file: File) -> None:
        """The inode at hand may not be the one that others have of the file."""
        root = self.root
        linked = root.find(file.gfid) if root is not None else None
        if linked is not None and linked.ctx is not file:
            set_mapped(linked, file)

    async def _move_in(
        self, stub: Stub, file: File, before: Iatt, wanted: Mapping, keeps_size: bool
    ) -> None:
        if wanted.size is not None and not keeps_size:
            for key in _SIZED_ABOVE:
                keeps_size = keeps_size or await stub.has(key)
        half, name = self.identity.half(file.gfid), self.identity.name(file.gfid)
        self.pool.check()
        if self.pool.find(name) is not None:
            raise OSError(errno.EEXIST, f"there is a device {name} already")
        self.pool.remove(half)  # of an attempt that was killed
        old = before.ia_size
        size = _size(old, None if keeps_size else wanted.size)
        room = rounded_up(max(size, wanted.size or 0, 1), self.pool.extent)
        self.pool.make(half, room, wanted.kind, self.identity.tag)
        with self._half(half) as opened:
            device = opened()
            if not self.pool.fresh_is_zero:
                device.clear(0, device.size)
            seen = before
            while True:
                if old:
                    self._check_free(wanted.kind, [each async for each in stub.data(old)])
                    await self._copy_in(stub, device, old)
                device.sync()
                # What was on its way to the file when we came may arrive late.
                if stub.is_open:  # to a new file nothing was
                    await sleep(_SETTLED_AFTER)
                now = await stub.stat()
                if _same(seen, now):
                    break
                seen, old = now, now.ia_size
                size = _size(old, None if keeps_size else wanted.size)
                device.clear(0, device.size)
                if size > device.size:
                    room = rounded_up(size, self.pool.extent)
                    self.grow(half, device, device.size, room)
            await self._commit(stub, file, Mapping(wanted.kind, room), old, size)
        # It is mapped. What the stub has left nobody reads: it goes now, or when it is unmapped.
        file.device = device
        file.size = size
        file.mapped = True
        with contextlib.suppress(OSError):
            await self._empty(stub, old)
        if old or size != old:
            with contextlib.suppress(OSError):
                await stub.set_times(seen)
        since = file.looking()
        file.seen(await stub.stat(), since)

    def _check_free(self, kind: str, data: list[Range]) -> None:
        """ENOSPC if the pool has no room for what is to be copied, and its reserve.

        Without this the kernel would find out when it writes, and that is EIO.
        """
        if kind == mapping.THIN:  # a thick one has its space
            room = self.pool.room()
            needed = sum(behind - first for first, behind in data)
            if (room.free - needed) * 100 < room.size * self.option("reserve"):
                raise failed(errno.ENOSPC)

    async def _empty(self, stub: Stub, size: int) -> None:
        """Have a stub be a hole."""
        if size:
            async for first, behind in stub.data(size):
                await self.child.discard(stub.fd, first, behind - first)

    @contextlib.contextmanager
    def _half(self, name: str) -> Iterator[Callable[[], Device]]:
        """What is done with a device that has just been made; it goes again if that fails. Open it
        by what this yields."""
        opened: list[Device] = []

        def open_it() -> Device:
            opened.append(self.pool.open(name))
            return opened[-1]

        try:
            yield open_it
        except BaseException:
            for device in opened:
                device.close()  # so that it can go
            self.pool.remove(name)
            raise

    async def _commit(self, stub: Stub, file: File, mapped: Mapping, old: int, size: int) -> None:
        """Say that a file is mapped, and give it its size and its device a name. If that fails, it
        is not, and has the old size."""
        try:
            if size > old:
                await stub.truncate(size)
            await stub.set(mapping.KEY, str(mapped))
            try:
                self.pool.rename(self.identity.half(file.gfid), self.identity.name(file.gfid))
            except BaseException:
                await stub.remove(mapping.KEY)
                raise
        except BaseException:
            if size > old:
                with contextlib.suppress(OSError):
                    await stub.truncate(old)
            raise

    async def _copy_in(self, stub: Stub, device: Device, size: int) -> None:
        async for first, behind in stub.data(size):
            at = first
            while at < behind:
                wanted = min(_AT_A_TIME, behind - at)
                reply = await self.child.readv(stub.fd, wanted, at, 0)
                vector = reply.vector
                data = bytes(vector) if isinstance(vector, Vector) else b""
                if not data:
                    break
                os.pwrite(device.number, data, at)
                at += len(data)

    async def unmap_file(self, inode: Inode, file: File) -> None:
        """Make a mapped file plain again, with its data. ENODATA if it is not mapped."""
        fd = inode.anonymous_fd()
        stub = Stub(self.child, Loc(inode=inode, gfid=file.gfid), fd)
        async with file.resizing:
            if not file.mapped:
                raise failed(errno.ENODATA)
            device = self.device(file)
            with file.gate.alone():  # who is inside ends first
                file.moving = True
            half, name = self.identity.half(file.gfid), self.identity.name(file.gfid)
            try:
                before = self.shown(file)
                # What was there before it was mapped, or a kill has left of another attempt.
                await self._empty(stub, file.size)
                try:
                    for first, behind in devices.data_ranges(device, 0, file.size):
                        await self._copy_out(fd, device, first, behind)
                    await self.child.fsync(fd, 0)
                except BaseException:
                    with contextlib.suppress(OSError):
                        await self.child.discard(fd, 0, file.size)
                    raise
                self.pool.rename(name, half)
                try:
                    await stub.remove(mapping.KEY)
                except BaseException:
                    self.pool.rename(half, name)
                    raise
                self.unmappings += 1
                file.mapped = False
                file.device = None
                del device
                self.files.drop(file)
                set_plain(inode)
                with contextlib.suppress(OSError):
                    await stub.remove(mapping.ORIGIN)
                with contextlib.suppress(OSError):
                    await stub.set_times(before)
            finally:
                file.moving = False
            self._remove_device(half)

    async def _copy_out(self, fd: Fd, device: Device, first: int, behind: int) -> None:
        at = first
        while at < behind:
            data = os.pread(device.number, min(_AT_A_TIME, behind - at), at)
            if not data:
                return
            if devices.has_data(data):
                await self.child.writev(fd, data, 1, at, 0, None)
            at += len(data)

    # ---- copies ----

    async def copy_file(self, source: File, text: str, *, is_snapshot: bool) -> None:
        """Map the file of a gfid to a copy of this one's device: ``clone`` and ``snapshot``.

        EINVAL if that file is not a regular, empty one of this brick, EEXIST if it is mapped.
        """
        gfid, size = mapping.parse_copy(text)
        inode, iatt = await self._by_gfid(gfid)
        stub = Stub(self.child, Loc(inode=inode, gfid=gfid))
        if await stub.has(mapping.KEY):
            raise AlreadyMapped
        if iatt.c.ia_type != REGULAR:
            raise OSError(errno.EINVAL, "the target is not a regular file")
        async with self.arriving(self.files.add(gfid, source.kind)) as target, source.resizing:
            if not source.mapped:
                raise failed(errno.EINVAL)
            target.seen(iatt, target.looking())
            with self._marked(inode, target):
                await sleep(_SETTLED_AFTER)
                if (await stub.stat()).ia_size:
                    raise OSError(errno.EINVAL, "the target is not empty")
                await self._copy_device(
                    source, target, stub, max(size or 0, source.size), is_snapshot
                )

    async def _copy_device(
        self, source: File, target: File, stub: Stub, size: int, is_snapshot: bool
    ) -> None:
        """Make a device with the contents of another one, up to ``size``, and map a file to it.

        ``resizing`` of both is held; who writes inside the source waits for the last bit only.
        """
        half = self._half_copy(self.device(source), source, target.gfid)
        with self._half(half) as opened:
            room = rounded_up(max(size, 1), self.pool.extent)
            if size > source.size:
                copy = target.device = opened()
                self.grow(half, copy, source.size, size)
                copy.sync()
            if is_snapshot:
                await stub.set(mapping.ORIGIN, str(Gfid(source.gfid)))
            await self._commit(stub, target, Mapping(source.kind, room), 0, size)
        target.size = size
        target.mapped = True
        since = target.looking()
        target.seen(await stub.stat(), since)

    def _half_copy(self, device: Device, source: File, gfid: bytes) -> str:
        name, half = self.identity.name(source.gfid), self.identity.half(gfid)
        self.pool.remove(half)
        device.sync()  # most of it: what comes now has others wait
        with source.gate.alone():
            device.sync()
            if self.pool.snapshot(name, half, self.identity.tag):
                return half
            source.written = []
        try:
            data = devices.data_ranges(device, 0, source.size)
            self._check_free(source.kind, data)
            self.pool.make(half, device.size, source.kind, self.identity.tag)
            with self._half(half) as opened:
                copy = opened()
                if not self.pool.fresh_is_zero:
                    copy.clear(0, copy.size)
                devices.copy(device, copy, data)
                for _ in range(_ROUNDS):
                    with source.gate.alone():
                        again, source.written = source.written, []
                    devices.copy(device, copy, union(again, source.size))
                with source.gate.alone():
                    devices.copy(device, copy, union(source.written, source.size))
                    source.written = None
                copy.sync()
        finally:
            with source.gate.alone():
                source.written = None
        return half

    # ---- merges ----

    async def merge_file(self, inode: Inode, snapshot: File) -> None:
        """Give a snapshot's contents to the file it was made of, and remove the snapshot.

        That file's xattr says so first. What is then done is done once the snapshot's device has
        the file's name; ``settle`` looks at those names if a kill comes between.
        """
        value = await Stub(self.child, Loc(inode=inode, gfid=snapshot.gfid)).get(mapping.ORIGIN)
        if value is None:
            raise OSError(errno.EINVAL, "that is no snapshot")
        gfid, _ = mapping.parse_copy(value)
        parent, path = inode.parent(), inode.path
        if parent is None or path is None:
            raise failed(errno.EINVAL)
        name = Loc(
            path=path,
            name=path.rpartition("/")[2],
            inode=inode,
            parent=parent,
            gfid=snapshot.gfid,
            pargfid=parent.gfid,
        )
        there, origin = await self._mapped_by_gfid(gfid)
        if origin is None or origin is snapshot:
            raise OSError(errno.EINVAL, "what it was made of is not mapped any more")
        stub = Stub(self.child, Loc(inode=there, gfid=gfid))
        async with origin.resizing, snapshot.resizing:
            if not origin.mapped or not snapshot.mapped or origin.merging:
                raise failed(errno.EAGAIN)
            await self._refuse_names(inode, snapshot)
            self.pool.remove(self.identity.half(gfid))  # of an attempt that was killed
            stored = await stub.mapping()
            merging = mapping.Merging(snapshot.gfid, snapshot.size)
            origin.merging = True
            try:
                await stub.set(mapping.KEY, str(stored._replace(merging=merging)))
                self._exchange(origin, snapshot)
            finally:
                await self._end_merge(origin, stub, name)

    async def _refuse_names(self, inode: Inode, snapshot: File) -> None:
        now = await Stub(self.child, Loc(inode=inode, gfid=snapshot.gfid)).stat()
        if now.ia_nlink > 1:
            raise OSError(errno.EMLINK, "the snapshot has other names")

    def _exchange(self, origin: File, snapshot: File) -> None:
        """Give the snapshot's device the name of the other one's, which is half a device then."""
        name = self.identity.name(origin.gfid)
        with origin.gate.alone(), snapshot.gate.alone():
            for each in (origin, snapshot):
                if each.device is not None:
                    each.device.sync()
                    each.device = None
            self.pool.rename(name, self.identity.half(origin.gfid))
            self.pool.rename(self.identity.name(snapshot.gfid), name)
            origin.size = snapshot.size
            snapshot.gone, snapshot.mapped = True, False

    async def settle(self, inode: Inode, file: File) -> None:
        """End a merge into a file that was begun, as a kill may have left it."""
        stub = Stub(self.child, Loc(inode=inode, gfid=file.gfid))
        async with file.resizing:
            if file.merging and file.mapped:
                await self._end_merge(file, stub, None)

    async def _end_merge(self, file: File, stub: Stub, snapshot: Loc | None) -> None:
        """Have a file be as before a merge, or as after it, when the snapshot is gone.

        ``snapshot`` is that file's name, if it is known. ``resizing`` is held.
        """
        stored = await stub.mapping()
        name, half = self.identity.name(file.gfid), self.identity.half(file.gfid)
        if stored.merging is not None:
            gfid, size = stored.merging
            there = self.pool.find(name) is not None
            if self.pool.find(self.identity.name(gfid)) is not None:
                if not there:
                    self.pool.rename(half, name)
            elif there:
                with self.changes(file) as change:
                    change(await stub.truncate(size))
                file.size = size
                for each in [snapshot] if snapshot is not None else await self._names_of(gfid):
                    await self.child.unlink(each, 0)
            else:
                raise OSError(errno.EIO, "the devices of a merge are missing")
            await stub.set(mapping.KEY, str(stored._replace(merging=None)))
            self._remove_device(half)
        file.merging = False

    async def _names_of(self, gfid: bytes) -> list[Loc]:
        """Return the names of a mapped file, found by a look at all of the brick."""
        found = []
        for path, each in self._mapped_names():
            if each == gfid:
                parent, _ = await self._by_gfid(os.getxattr(path.parent, GFID))
                inode = parent.new()
                whole = "/" / path.relative_to(self.identity.directory)
                loc = Loc(
                    path=str(whole), name=path.name, inode=inode, parent=parent, pargfid=parent.gfid
                )
                await self.child.lookup(loc)
                found.append(loc)
        return found

    async def origin_of(self, loc: Loc) -> bytes:
        """Return the gfid of the file that a snapshot was made of, as text. ENODATA if none."""
        reply = await self.child.getxattr(loc, mapping.ORIGIN)
        assert reply.dict is not None
        return reply.dict.get_bytes(mapping.ORIGIN) or b""

    async def _mapped_by_gfid(self, gfid: bytes) -> tuple[Inode, File | None]:
        """Return what a gfid is to this brick, and what is remembered of it; None: it is plain."""
        root = self.root
        assert root is not None, "a client asks"
        inode = root.find(gfid) or root.new()
        try:
            return inode, await self.looked(Loc(inode=inode, gfid=gfid))
        except OSError as error:
            if error.errno in GONE:
                return inode, None
            raise

    async def looked(self, loc: Loc) -> File | None:
        """Look a file up; return what is remembered of it, None if it is plain."""
        inode = loc.inode
        since = self.looking(inode)
        reply = await self.child.lookup(loc, with_key(None))
        if inode is None or reply.buf is None:
            return None
        file = self.note(inode, reply.buf, value_in(reply.xdata), since)
        if file is not None and file.merging:
            await self.settle(inode, file)
        return file

    async def _by_gfid(self, gfid: bytes) -> tuple[Inode, Iatt]:
        root = self.root
        assert root is not None, "a client asks"
        inode = root.find(gfid) or root.new()
        try:
            reply = await self.child.lookup(Loc(inode=inode, gfid=gfid))
        except OSError as error:
            if error.errno in GONE:
                raise OSError(errno.EINVAL, f"there is no file {Gfid(gfid)} here") from None
            raise
        assert reply.buf is not None
        return inode, reply.buf.copy()

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

    # ---- devices that nobody has any more ----

    def _remove_device(self, name: str) -> None:
        try:
            self.pool.remove(name)
        except OSError as error:
            self.log.warning("device %s is left for later: %s", name, error.strerror)

    def lost(self, file: File) -> None:
        """The last name of a file is gone: remove its device, or look again later.

        Nobody tells when an anonymous fd is given back. No inode is held meanwhile; with the last
        of a file ``forget`` removes its device.
        """
        file.gone = True
        self._reclaim_once_closed(file)

    def _reclaim_once_closed(self, file: File) -> None:
        root = self.root
        inode = root.find(file.gfid) if root is not None else None
        if inode is None or inode.active_fd_count == 0:
            self.spawn(self.reclaim(file))
            return
        reference = weakref.ref(self)

        def again() -> None:
            translator = reference()
            if translator is not None and not translator._closing and file.gone:
                translator._reclaim_once_closed(file)

        timers.call_later(_CLOSED_SECONDS, again)

    async def reclaim(self, file: File) -> None:
        """The last name of a file is gone, and nobody uses it: remove its device."""
        with file.gate.alone():
            if not file.mapped:
                return  # another thread was first
            file.mapped = False
            file.device = None
        self.files.drop(file)
        name = self.identity.name(file.gfid)
        with contextlib.suppress(OSError):  # `patrol` will see
            known = self.pool.find(name)
            if known is not None and known.tag == self.identity.tag:
                self._remove_device(name)

    async def patrol(self) -> None:
        """Look for devices without files at the start, and now and again.

        posix purges files by itself: what was open when the brick ended (unlink/), and trees that
        rmdir has moved to landfill/.
        """
        if self.root is None:  # until the first client comes
            self._patrol_later(_ROOT_SECONDS)
            return
        try:
            await self.look_for_orphans()
        except OSError as error:
            self.log.warning("devices cannot be looked through: %s", error.strerror or error)
        self._patrol_later(self.option("reclaim-interval"))

    def _patrol_later(self, seconds: float) -> None:
        """No call stack is held meanwhile: a graph that ends would wait for it (glfs_fini)."""
        reference = weakref.ref(self)

        def again() -> None:
            translator = reference()
            if translator is not None and not translator._closing:
                translator.spawn(translator.patrol())

        timers.call_later(seconds, again)

    async def look_for_orphans(self) -> list[str]:
        """Remove devices whose file is gone; report those whose file is there but not mapped.

        Return the names of those that are reported.
        """
        reported, lost = [], []
        for known in self.pool.devices():
            name = identity.parse(known.name)
            if name is None or known.tag != self.identity.tag:
                continue
            if self.identity.brick != name.brick:
                continue
            file = self.files.find(name.gfid)
            if file is not None and name.half:
                await self._name_whole(file, known.name)
                continue
            if file is not None and file.gone:
                continue
            state = await self._state_of(name.gfid)
            if file is not None and state is not None:
                continue
            if file is None and self.files.find(name.gfid) is not None:
                continue  # mapped meanwhile
            if state is None:
                lost.append((known.name, name.gfid, file))
            elif name.half and not state:
                self._remove_device(known.name)
                self.log.info("device %s removed: it never was its file's", known.name)
            elif name.half:
                await self._mapped_by_gfid(name.gfid)  # that ends a merge
                whole = self.identity.name(name.gfid)
                if self.pool.find(known.name) is None:
                    continue
                if self.pool.find(whole) is not None:
                    self._remove_device(known.name)
                else:
                    self.pool.rename(known.name, whole)
            elif not state:
                reported.append(known.name)
                self.say_once(
                    known.name,
                    "device %s: its file is not mapped to it; it is kept "
                    "(glupy pool remove --device removes it)",
                    known.name,
                )
        # Of a brick that was restored without .glusterfs, or has lost a handle, posix finds files
        # by their names only.
        there = {gfid for _, gfid in self._mapped_names()} if lost else set()
        for device, gfid, file in lost:
            if gfid in there:
                reported.append(device)
                self.say_once(
                    device,
                    "device %s: its file is there, but has no handle in .glusterfs; it is kept "
                    "(glupy brick check --repair makes handles)",
                    device,
                )
            elif self.files.find(gfid) is not file or await self._state_of(gfid) is not None:
                continue  # it is there again: heal makes files with the gfids that they had
            elif file is not None:
                self.lost(file)
            else:
                self._remove_device(device)
                self.log.info("device %s removed: its file is gone", device)
        return reported

    def _mapped_names(self) -> Iterator[tuple[Path, bytes]]:
        """Yield the names of all mapped files that have some on the brick, and their gfids."""
        for folder, folders, names in os.walk(self.identity.directory):
            if folder == self.identity.directory and ".glusterfs" in folders:
                folders.remove(".glusterfs")
            for name in names:
                with contextlib.suppress(OSError):
                    path = Path(folder) / name
                    os.getxattr(path, mapping.KEY, follow_symlinks=False)
                    yield path, os.getxattr(path, GFID, follow_symlinks=False)

    async def _name_whole(self, file: File, half: str) -> None:
        """A command that outlived a killed brick may have given a device its half form since."""
        async with file.resizing:
            if not file.mapped or self.pool.find(half) is None:
                return
            whole = self.identity.name(file.gfid)
            if self.pool.find(whole) is None:
                self.pool.rename(half, whole)
            else:
                self._remove_device(half)

    async def _state_of(self, gfid: bytes) -> bool | None:
        """Say whether the file of a gfid is mapped; None if there is no such file."""
        root = self.root
        assert root is not None
        loc = Loc(inode=root.new(), gfid=gfid)
        try:
            await self.child.lookup(loc)
            await self.child.getxattr(loc, mapping.KEY)
        except OSError as error:
            if error.errno in GONE:
                return None
            if error.errno == errno.ENODATA:
                return False
            raise
        return True


def _size(old: int, wanted: int | None) -> int:
    """Return the size of a file that had ``old`` bytes."""
    if wanted is None:
        return old
    if wanted < old:
        raise OSError(errno.EINVAL, f"the file has {old} bytes, more than {wanted}")
    return wanted


def _same(one: Iatt, other: Iatt) -> bool:
    return (one.ia_size, one.ia_mtime, one.ia_mtime_nsec) == (
        other.ia_size,
        other.ia_mtime,
        other.ia_mtime_nsec,
    )
