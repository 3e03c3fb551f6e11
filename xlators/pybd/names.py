"""Fops that give a file its names or take them away: by the last one its device goes too."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import AsyncIterator, Awaitable
from typing import TypeGuard

from glupy import PASS, Loc, Pass, fops, keys, linux
from glupy.views import Dict, Fd, Frame, Iatt, Inode, Iobref, Vector
from pybd.by_gfid import GONE
from pybd.data import SYNC
from pybd.device import failed
from pybd.files import PLAIN, File
from pybd.inodes import (
    REGULAR,
    file_of,
    is_of,
    is_pointer,
    set_mapped,
    set_plain,
    set_unknown,
)
from pybd.mapping import KEY, Mapping
from pybd.moving import AlreadyMapped, Moving
from pybd.orphans import Orphans
from pybd.stub import Stub


class Names(Moving, Orphans):
    """Fops on names.

    The key that maps a file is none of the xattrs that a new one may come with. A client is told so
    (EINVAL): he would get an xattr without a device, and setxattr tells him why it fails. Of what
    GlusterFS's own make (pid < 0) it is left out: they set all xattrs by setxattr, too.
    """

    async def create(
        self,
        frame: Frame,
        loc: Loc,
        flags: int,
        mode: int,
        umask: int,
        fd: Fd,
        xdata: Dict | None,
    ) -> fops.Create:
        """Make a file, or open the one that is there; EIO instead of cutting it, if its device is
        missing."""
        xdata = _without_key(frame, xdata)
        cuts = bool(flags & os.O_TRUNC) and not flags & os.O_EXCL
        async with self._new(loc, mode, xdata) as new:
            former = await self._named(loc) if cuts else None
            if former is not None:
                reply = await self._cut(
                    frame, *former, fd, self.child.create(loc, flags, mode, umask, fd, xdata)
                )
                if fd.inode.ctx is former[1]:
                    return reply
            else:
                reply = await self.child.create(loc, flags, mode, umask, fd, xdata)
            fd.ctx = 0  # for `release`, should the file be mapped while it is open
            if flags & os.O_EXCL:
                if loc.inode is not None:
                    set_plain(loc.inode)
            elif not _is(new, reply.buf) and (cuts or not _is_asked(xdata, reply.buf)):
                await self._found(frame, fd, reply.buf, cuts=cuts)
            await self._map_new(loc, reply.buf, new)
        return reply

    async def _cut(
        self, frame: Frame, inode: Inode, file: File, fd: Fd, wind: Awaitable[fops.Create]
    ) -> fops.Create:
        """Create where a mapped file is, and cut that: it stays mapped meanwhile."""
        async with self.held(inode, file):
            if not file.mapped:
                return await wind
            self.device(file)  # EIO leaves the stub as long as it is
            async with self.cutting(inode, file):
                with self.changes(file):
                    reply = await wind
            if reply.buf is not None and reply.buf.ia_gfid == file.gfid:
                set_mapped(fd.inode, file)
                fd.ctx = file.reported
                self.touch(frame, file)
                await self.emptied(file, fd)
                self.show(file, reply.buf)
        return reply

    async def _found(self, frame: Frame, fd: Fd, buf: Iatt | None, *, cuts: bool) -> None:
        """What a create has opened was there before: it may be mapped."""
        file = await self.learn(fd)
        if file is None:
            return
        fd.ctx = file.reported
        if cuts:
            async with self.held(fd.inode, file):
                if not file.mapped:
                    return
                self.touch(frame, file)
                await self.emptied(file, fd)
        self.show(file, buf)

    async def _named(self, loc: Loc) -> tuple[Inode, File] | None:
        """Return the mapped file that has this name, and an inode of it. Loc's inode gets its file
        later, and that may be another one then."""
        if loc.inode is None or self.is_arbiter:
            return None
        inode, parent = loc.inode.new(), loc.parent
        there = Loc(path=loc.path, name=loc.name, inode=inode, parent=parent, pargfid=loc.pargfid)
        try:
            file = await self._there(there)
            return (inode, file) if file is not None else None
        finally:
            set_unknown(inode)  # or its `forget` would be the file's

    async def _there(self, loc: Loc) -> File | None:
        """Return the mapped file that a loc means now; None if it is plain, or there is none."""
        try:
            return await self.looked(loc)
        except OSError as error:
            if error.errno not in GONE:
                raise
            return None

    async def mknod(
        self, frame: Frame, loc: Loc, mode: int, rdev: int, umask: int, xdata: Dict | None
    ) -> fops.Mknod:
        """Make a file or a device."""
        xdata = _without_key(frame, xdata)
        async with self._new(loc, mode, xdata) as new:
            reply = await self.child.mknod(loc, mode, rdev, umask, xdata)
            await self._map_new(loc, reply.buf, new)
        return reply

    async def mkdir(
        self, frame: Frame, loc: Loc, mode: int, umask: int, xdata: Dict | None
    ) -> Pass | fops.Mkdir:
        """Make a directory, which no xattr maps."""
        if xdata is None or KEY not in xdata:
            return PASS
        return await self.child.mkdir(loc, mode, umask, _without_key(frame, xdata))

    async def symlink(
        self, frame: Frame, linkname: str, loc: Loc, umask: int, xdata: Dict | None
    ) -> Pass | fops.Symlink:
        """Make a symbolic link, which no xattr maps."""
        if xdata is None or KEY not in xdata:
            return PASS
        return await self.child.symlink(linkname, loc, umask, _without_key(frame, xdata))

    async def put(
        self,
        frame: Frame,
        loc: Loc,
        mode: int,
        umask: int,
        flags: int,
        vector: Vector,
        count: int,
        offset: int,
        iobref: Iobref | None,
        xattr: Dict | None,
        xdata: Dict | None,
    ) -> fops.Put:
        """Make a file with its data, or write into the one that is there."""
        xattr, xdata = _without_key(frame, xattr), _without_key(frame, xdata)
        is_new = not flags or flags & os.O_EXCL  # no flags: as in create
        file = None if is_new else await self._there(loc) or file_of(loc.inode)
        # Empty first, then mapped: so the data goes to where it belongs.
        if file is None and self._rule(loc.name) is not None:
            async with self._new(loc, mode, xdata) as new:
                reply = await self.child.put(loc, mode, umask, flags, b"", 1, 0, None, xattr, xdata)
                await self._map_new(loc, reply.buf, new)
            file = file_of(loc.inode) or await self._there(loc)
            flags = flags & ~os.O_EXCL or os.O_RDWR
        while file is not None:
            async with self.held(loc.inode, file):
                if file.mapped:
                    with self.telling(file):
                        wind = self.child.put(
                            loc, mode, umask, flags, b"", 1, 0, None, xattr, xdata
                        )
                        return await self._put_into(frame, file, loc, flags, vector, offset, wind)
            file = await self._there(loc) or file_of(loc.inode)  # it was unmapped meanwhile
        return await self.child.put(
            loc, mode, umask, flags, vector, count, offset, iobref, xattr, xdata
        )

    async def _put_into(
        self,
        frame: Frame,
        file: File,
        loc: Loc,
        flags: int,
        vector: Vector,
        offset: int,
        wind: Awaitable[fops.Put],
    ) -> fops.Put:
        """Write to a mapped file's device what comes with a put: ``resizing`` is held."""
        device = self.device(file)
        known = device.failure
        if flags & os.O_APPEND:
            offset = 0 if flags & os.O_TRUNC else file.size
        end = offset + vector.nbytes if vector.nbytes else 0
        self.check_room(device, offset, vector.nbytes)
        stub = Stub(self.child, Loc(inode=loc.inode, gfid=file.gfid))
        assert loc.inode is not None
        async with self.cutting(loc.inode, file):
            with self.changes(file) as change:
                reply = await wind
                change(reply.buf)
        if flags & os.O_TRUNC:
            self.trim(file, device, 0)
        grows = end > file.size
        if grows:
            self.make_room(file, device, offset, end)
        with file.reaching(end):
            if linux.pwritev(device.number, vector, offset) < vector.nbytes:
                raise failed(errno.EIO)
            if grows:
                file.unsaved = True
                with self.changes(file) as change:
                    change(await stub.truncate(end))
                with file.gate.alone():
                    file.size = end
        if flags & SYNC:
            device.sync()
            if device.failure is not known:  # somebody else was told of it
                raise failed(device.failure.errno)
            await self.sync_size(file, loc.inode.anonymous_fd())
        self.touch(frame, file)
        return reply._replace(buf=self.shown(file))

    async def link(self, frame: Frame, oldloc: Loc, newloc: Loc, xdata: Dict | None) -> fops.Link:
        """Give a file one more name."""
        file = await self._victim(oldloc)
        if file is None:
            return await self.child.link(oldloc, newloc, xdata)
        async with file.naming:
            with self.changes(file) as change:
                reply = await self.child.link(oldloc, newloc, xdata)
                change(reply.buf)
        self.show(file, reply.buf)
        return reply

    def unlink(
        self, frame: Frame, loc: Loc, xflags: int, xdata: Dict | None
    ) -> Pass | Awaitable[fops.Unlink]:
        """Take a name away.

        Nothing is written down first: a device says by its own name and tag whose it is, so that
        what a crash leaves behind is found by ``patrol``.
        """
        if loc.ctx is PLAIN:
            return PASS
        return self._unlink(loc, xflags, xdata)

    async def _unlink(self, loc: Loc, xflags: int, xdata: Dict | None) -> fops.Unlink:
        file = await self._victim(loc)
        if file is None:
            return await self.child.unlink(loc, xflags, xdata)
        counts = xdata is not None and keys.GET_BLOCK_COUNT in xdata  # features/shard does
        blocks = self.shown(file).ia_blocks if counts else 0
        async with file.naming:  # posix counts a file's names before it takes the last one
            had_handle = self.has_handle(file.gfid)
            with self.changes(file):
                reply = await self.child.unlink(loc, xflags, xdata)
            await self._lost_a_name(file, loc.inode, had_handle=had_handle)
        answers = self.shown_in(file, reply.xdata)
        if answers is not None and keys.GET_BLOCK_COUNT in answers:
            answers = answers.copy()
            answers.set_uint(keys.GET_BLOCK_COUNT, blocks, 64)
        return reply._replace(xdata=answers)

    async def rename(
        self, frame: Frame, oldloc: Loc, newloc: Loc, xdata: Dict | None
    ) -> fops.Rename:
        """Give a file another name, maybe one that was another file's."""
        file = await self._victim(oldloc)
        victim = await self._victim(newloc) if newloc.inode is not None else None
        if victim is file:
            victim = None  # two names of one file: both stay
        async with contextlib.AsyncExitStack() as named:
            renamed = (each for each in (file, victim) if each is not None)
            for each in sorted(renamed, key=lambda each: each.gfid):
                await named.enter_async_context(each.naming)
            had_handle = victim is not None and self.has_handle(victim.gfid)
            reply = await self._rename(file, oldloc, newloc, xdata)
            if victim is not None:
                victim.changed(None, victim.changing())
                await self._lost_a_name(victim, newloc.inode, had_handle=had_handle)
        inode, buf = oldloc.inode, reply.buf
        if file is not None or not self.rules or inode is None or buf is None:
            return reply
        if is_of(inode, buf.ia_gfid):
            await self._map_renamed(Loc(name=newloc.name, inode=inode, gfid=buf.ia_gfid), buf)
        return reply

    async def _rename(
        self, file: File | None, oldloc: Loc, newloc: Loc, xdata: Dict | None
    ) -> fops.Rename:
        if file is None:
            return await self.child.rename(oldloc, newloc, xdata)
        with self.changes(file) as change:
            reply = await self.child.rename(oldloc, newloc, xdata)
            is_its = reply.buf is not None and file.gfid == reply.buf.ia_gfid
            change(reply.buf if is_its else None)
        if is_its:
            self.show(file, reply.buf)
        return reply

    async def _victim(self, loc: Loc) -> File | None:
        """Return the mapped file that a loc means; None if it is plain, or no file."""
        inode = loc.inode
        if inode is None or inode.ctx is PLAIN or self.is_arbiter:
            return None
        file = file_of(inode)
        if file is not None:
            return file
        if inode.c.ia_type != REGULAR:
            return None
        try:
            return await self.learn(inode.anonymous_fd())
        except OSError as error:
            if error.errno not in GONE:
                raise
            return None  # the name has another file by now, or this one has no handle

    async def _lost_a_name(self, file: File, inode: Inode | None, *, had_handle: bool) -> None:
        """If that was the last one the device goes: now, or when nobody has the file open.

        What a brick has lost the handle of is found by its names only, by ``patrol``."""
        if inode is None or not had_handle:
            return
        try:
            await self.child.stat(Loc(inode=inode, gfid=file.gfid))
            return
        except OSError as error:
            if error.errno not in GONE:
                return  # posix cannot tell: `patrol` will see
        self.lost(file)

    def _rule(self, name: str | None) -> Mapping | None:
        """Return what option ``map`` says of a name."""
        return None if self.is_arbiter else self.rules.find(name)

    @contextlib.asynccontextmanager
    async def _new(self, loc: Loc, mode: int, xdata: Dict | None) -> AsyncIterator[File | None]:
        """In this block a file is made. If it is to be mapped it is ``arriving`` already: others
        may see it before we have the reply."""
        gfid = None if xdata is None else xdata.get_bytes(keys.GFID_REQ)
        former = self.files.find(gfid) if gfid else None
        found = None if is_pointer(mode) else self._rule(loc.name)
        if former is not None and former.mapped:
            async with former.naming:
                was_gone, former.gone = former.gone, False  # it may have its name again at once
                try:
                    yield None
                except BaseException:
                    if was_gone:
                        self.lost(former)
                    raise
                await self._made_again(former, loc, found, was_gone)
            return
        new = self.files.add(gfid, found.kind) if gfid and found is not None else None
        async with contextlib.nullcontext() if new is None else self.arriving(new):
            yield new

    async def _made_again(
        self, former: File, loc: Loc, found: Mapping | None, was_gone: bool
    ) -> None:
        """Heal, or a rebalance that goes back, has made a file with the gfid of one that we know:
        it is that one, with one more name, or the only one; or all that there is of that one is an
        fd, and its device is not the new file's."""
        is_mapped = await self._state_of(former.gfid)
        if is_mapped:
            former.gone = False  # whose last name went while this one came
        elif is_mapped is None and was_gone:
            self.lost(former)
        elif is_mapped is False:
            replaced = await self.replace(former)
            if replaced and found is not None and loc.inode is not None:
                mapping = self.map_file(loc.inode, former.gfid, found, keeps_size=True)
                await self._try(loc, mapping)

    async def _map_new(self, loc: Loc, buf: Iatt | None, new: File | None) -> None:
        """Map a file that was made, and is ``arriving``; unless what was found is another one, or
        has other names already (heal gives it one more by mknod)."""
        if _is(new, buf) and loc.inode is not None and buf is not None and buf.ia_nlink == 1:
            found = self._rule(loc.name)
            if found is not None and buf.c.ia_type == REGULAR and not is_pointer(buf.mode):
                await self._try(loc, self.map_arriving(loc.inode, new, found, keeps_size=True))

    async def _map_renamed(self, loc: Loc, buf: Iatt) -> None:
        """Map a plain file whose new name says so."""
        found = self._rule(loc.name)
        if found is None or loc.inode is None or buf.c.ia_type != REGULAR:
            return
        if not is_pointer(buf.mode) and file_of(loc.inode) is None:
            await self._try(loc, self.map_file(loc.inode, buf.ia_gfid, found, keeps_size=True))

    async def _try(self, loc: Loc, attempt: Awaitable[None]) -> None:
        """Failing that it stays plain, and the log says why."""
        try:
            await attempt
        except AlreadyMapped:
            pass
        except OSError as error:
            if error.errno not in GONE:
                self.log.error("%s is not mapped: %s", loc.name, error.strerror or error)


def _without_key(frame: Frame, given: Dict | None) -> Dict | None:
    """Return what a new file comes with, but for the key; EINVAL if a client has given that."""
    if given is None or KEY not in given:
        return given
    if frame.pid >= 0:
        raise failed(errno.EINVAL)
    given = given.copy()
    del given[KEY]
    return given


def _is(new: File | None, buf: Iatt | None) -> TypeGuard[File]:
    return new is not None and buf is not None and new.gfid == bytes(buf.ia_gfid)


def _is_asked(xdata: Dict | None, buf: Iatt | None) -> bool:
    """Say whether a file has the gfid that a new one was to get."""
    asked = None if xdata is None else xdata.get_bytes(keys.GFID_REQ)
    return asked is not None and buf is not None and asked == bytes(buf.ia_gfid)
