"""Copies of devices: clones, snapshots, and what is merged back."""

from __future__ import annotations

import contextlib
import errno

from glupy import Gfid, Loc, sleep
from glupy.views import Iatt, Inode
from pybd import device as devices
from pybd import mapping
from pybd.by_gfid import ByGfid
from pybd.device import Device, failed
from pybd.files import File
from pybd.inodes import REGULAR
from pybd.mapping import Mapping
from pybd.moving import SETTLED_AFTER, AlreadyMapped, Moving, Undecided
from pybd.ranges import rounded_up, union
from pybd.stub import Stub

_ROUNDS = 3
"""How often what was written while it was copied is copied again, while others go on."""


class Copies(Moving, ByGfid):
    """The orders ``clone``, ``snapshot`` and ``merge``."""

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
                await sleep(SETTLED_AFTER)
                await self._empty(stub)
                await self._copy_device(
                    source, target, stub, max(size or 0, source.size), is_snapshot
                )

    async def _empty(self, stub: Stub) -> Iatt:
        """Return the attributes of an empty file; EINVAL if it is not."""
        found = await stub.stat()
        if found.ia_size:
            raise OSError(errno.EINVAL, "the target is not empty")
        return found

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
            else:
                await stub.drop(mapping.ORIGIN)  # of a snapshot that was killed
            try:
                before = await self._empty(stub)  # a write may have come late
                await self._commit(stub, target, Mapping(source.kind, room), before, size)
            except Undecided:
                raise  # it may be one
            except BaseException:
                if is_snapshot:
                    with contextlib.suppress(OSError):
                        await stub.remove(mapping.ORIGIN)
                raise
        target.size = size
        target.mapped = True
        await self._look(stub, target)

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
        there, origin = await self._mapped_by_gfid(gfid)
        if origin is None or origin is snapshot:
            raise OSError(errno.EINVAL, "what it was made of is not mapped any more")
        stub = Stub(self.child, Loc(inode=there, gfid=gfid))
        # One after the other: each of two files may be a snapshot of the other one.
        async with self.merges, origin.resizing, snapshot.resizing:
            if not (origin.mapped and snapshot.mapped) or origin.merging or snapshot.merging:
                raise failed(errno.EAGAIN)
            await self._refuse_names(inode, snapshot)
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
            for each in (origin, snapshot):
                self.device(each)  # there, whole, and ours
            self.pool.remove(self.identity.half(gfid))  # of an attempt that was killed
            stored = await stub.mapping()
            merging = mapping.Merging(snapshot.gfid, snapshot.size)
            origin.merging = True
            try:
                await stub.set(mapping.KEY, str(stored._replace(merging=merging)))
                self.sync_stub(gfid)
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
        self.files.drop(snapshot)

    async def settle(self, inode: Inode, file: File) -> None:
        """End a merge into a file that was begun, as a kill may have left it."""
        stub = Stub(self.child, Loc(inode=inode, gfid=file.gfid))
        async with file.resizing:
            if not file.merging or not file.mapped:
                return
            try:
                await self._end_merge(file, stub, None)
            except OSError as error:
                self._complain(file, f"a merge cannot be ended: {error.strerror or error}")
                raise failed(errno.EIO) from None

    async def _end_merge(self, file: File, stub: Stub, snapshot: Loc | None) -> None:
        """Have a file be as before a merge, or as after it, when the snapshot is gone.

        ``snapshot`` is that file's name, if it is known. ``resizing`` is held.
        """
        stored = await stub.mapping()
        name, half = self.identity.name(file.gfid), self.identity.half(file.gfid)
        if stored.merging is not None:
            gfid, size = stored.merging
            # The file's device was renamed to half, then the snapshot's to its; the half goes last.
            names = name, half, self.identity.name(gfid)
            there, half_there, other = (self.pool.find(each) is not None for each in names)
            is_done = there and half_there and not other
            if not there:
                self.pool.rename(half, name)
            elif is_done:
                with self.changes(file) as change:
                    change(await stub.truncate(size))
                file.size = size
                for each in [snapshot] if snapshot is not None else await self._names_of(gfid):
                    await self._remove_name(each, gfid)
            await stub.set(mapping.KEY, str(stored._replace(merging=None)))
            if is_done:
                self.give_up(file.gfid)
        file.merging = False

    async def _remove_name(self, loc: Loc, gfid: bytes) -> None:
        """Remove a name, if it is still this file's."""
        with contextlib.suppress(FileNotFoundError):
            reply = await self.child.lookup(loc)
            if reply.buf is not None and reply.buf.ia_gfid == gfid:
                await self.child.unlink(loc, 0)

    async def origin_of(self, loc: Loc) -> bytes:
        """Return the gfid of the file that a snapshot was made of, as text. ENODATA if none."""
        reply = await self.child.getxattr(loc, mapping.ORIGIN)
        assert reply.dict is not None
        return reply.dict.get_bytes(mapping.ORIGIN) or b""
