"""Translators that do all but one thing right."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from glupy import FopError, Translator, fops, linux
from glupy.constants import GF_SEEK_HOLE, GF_SET_ATTR_GID, GF_SET_ATTR_MTIME
from glupy.enums import FileType
from glupy.views import Dict, Fd, Frame, Iatt, Inode, Iobref, Loc, Vector

BLOCK = 4096


class DiscardBeginsAByteEarly(Translator):
    async def discard(self, frame: Frame, fd: Fd, offset: int, len: int, xdata: Any) -> Any:
        early = 1 if offset and len else 0
        return await self.child.discard(fd, offset - early, len + early, xdata)


class DiscardBeginsAByteLate(Translator):
    async def discard(self, frame: Frame, fd: Fd, offset: int, len: int, xdata: Any) -> Any:
        late = 1 if len > 1 else 0
        return await self.child.discard(fd, offset + late, len - late, xdata)


class DiscardEndsAByteEarly(Translator):
    async def discard(self, frame: Frame, fd: Fd, offset: int, len: int, xdata: Any) -> Any:
        return await self.child.discard(fd, offset, len - 1 if len > 1 else len, xdata)


class DiscardEndsAByteLate(Translator):
    async def discard(self, frame: Frame, fd: Fd, offset: int, len: int, xdata: Any) -> Any:
        return await self.child.discard(fd, offset, len + 1 if len else 0, xdata)


class DiscardLeavesTheTail(Translator):
    async def discard(self, frame: Frame, fd: Fd, offset: int, len: int, xdata: Any) -> Any:
        whole = (offset + len) // BLOCK * BLOCK - offset
        return await self.child.discard(fd, offset, whole if whole > 0 else len, xdata)


class DiscardOnlyWritesZeros(Translator):
    async def discard(self, frame: Frame, fd: Fd, offset: int, len: int, xdata: Any) -> Any:
        before = (await self.child.fstat(fd)).buf
        assert before is not None
        inside = min(offset + len, before.ia_size) - offset
        if inside <= 0:
            return await self.child.discard(fd, offset, len, xdata)
        done = await self.child.zerofill(fd, offset, inside)
        return fops.Discard(done.preop_stbuf, done.postop_stbuf)


class DiscardGrowsTheFile(Translator):
    async def discard(self, frame: Frame, fd: Fd, offset: int, len: int, xdata: Any) -> Any:
        done = await self.child.discard(fd, offset, len, xdata)
        assert done.postop_stbuf is not None
        if offset + len > done.postop_stbuf.ia_size:
            grown = await self.child.ftruncate(fd, offset + len)
            return fops.Discard(done.preop_stbuf, grown.postbuf)
        return done


class DiscardTellsWhatWasBefore(Translator):
    async def discard(self, frame: Frame, fd: Fd, offset: int, len: int, xdata: Any) -> Any:
        done = await self.child.discard(fd, offset, len, xdata)
        return done._replace(postop_stbuf=done.preop_stbuf)


class DiscardAcceptsNothing(Translator):
    async def discard(self, frame: Frame, fd: Fd, offset: int, len: int, xdata: Any) -> Any:
        return await self.child.discard(fd, offset, len or 1, xdata)


class ReadsAreStaleAfterADiscard(Translator):
    """What was read last of a file is kept, and a discard does not matter to it."""

    def init(self) -> None:
        self.cache: dict[bytes, tuple[int, bytes]] = {}

    def key(self, frame: Frame, inode: Inode) -> bytes:
        return bytes(inode.gfid)

    async def readv(
        self, frame: Frame, fd: Fd, size: int, offset: int, flags: int, xdata: Any
    ) -> Any:
        key = self.key(frame, fd.inode)
        reply = await self.child.readv(fd, size, offset, flags, xdata)
        if not reply.op_ret or not isinstance(reply.vector, Vector):
            return reply
        data = bytearray(bytes(reply.vector))
        at, kept = self.cache.get(key, (0, b""))
        first, behind = max(offset, at), min(offset + len(data), at + len(kept))
        if first < behind:
            data[first - offset : behind - offset] = kept[first - at : behind - at]
        else:
            self.cache[key] = offset, bytes(data)
        return reply._replace(vector=bytes(data), count=1, iobref=None)

    def drop(self, frame: Frame, inode: Inode, first: int) -> None:
        key = self.key(frame, inode)
        at, kept = self.cache.get(key, (0, b""))
        if first < at + len(kept):
            del self.cache[key]

    async def writev(
        self, frame: Frame, fd: Fd, vector: Vector, count: int, offset: int, *arguments: Any
    ) -> Any:
        self.drop(frame, fd.inode, offset)
        return await self.child.writev(fd, vector, count, offset, *arguments)

    async def zerofill(self, frame: Frame, fd: Fd, offset: int, len: int, xdata: Any) -> Any:
        self.drop(frame, fd.inode, offset)
        return await self.child.zerofill(fd, offset, len, xdata)

    async def ftruncate(self, frame: Frame, fd: Fd, offset: int, xdata: Any) -> Any:
        self.drop(frame, fd.inode, offset)
        return await self.child.ftruncate(fd, offset, xdata)

    async def truncate(self, frame: Frame, loc: Loc, offset: int, xdata: Any) -> Any:
        assert loc.inode is not None
        self.drop(frame, loc.inode, offset)
        return await self.child.truncate(loc, offset, xdata)

    async def copy_file_range(
        self, frame: Frame, fd_in: Fd, off_in: int, fd_out: Fd, off_out: int, *arguments: Any
    ) -> Any:
        self.drop(frame, fd_out.inode, off_out)
        return await self.child.copy_file_range(fd_in, off_in, fd_out, off_out, *arguments)


class SecondClientReadsStale(ReadsAreStaleAfterADiscard):
    """What each client has read is kept, and what another one does to it does not matter."""

    def key(self, frame: Frame, inode: Inode) -> bytes:
        uid = frame.client.uid if frame.client is not None else None
        return super().key(frame, inode) + str(uid).encode()

    async def discard(self, frame: Frame, fd: Fd, offset: int, len: int, xdata: Any) -> Any:
        self.drop(frame, fd.inode, offset)
        return await self.child.discard(fd, offset, len, xdata)

    async def open(self, frame: Frame, loc: Loc, flags: int, fd: Fd, xdata: Any) -> Any:
        if flags & os.O_TRUNC:
            self.drop(frame, fd.inode, 0)
        return await self.child.open(loc, flags, fd, xdata)


class FallocateForgetsKeepSize(Translator):
    async def fallocate(
        self, frame: Frame, fd: Fd, keep_size: int, offset: int, len: int, xdata: Any
    ) -> Any:
        return await self.child.fallocate(fd, 0, offset, len, xdata)


class FallocateZeroes(Translator):
    async def fallocate(
        self, frame: Frame, fd: Fd, keep_size: int, offset: int, len: int, xdata: Any
    ) -> Any:
        done = await self.child.fallocate(fd, keep_size, offset, len, xdata)
        assert done.postop_stbuf is not None
        inside = min(offset + len, done.postop_stbuf.ia_size) - offset
        if inside > 0:
            await self.child.zerofill(fd, offset, inside)
        return done


class ZerofillKeepsTheSize(Translator):
    async def zerofill(self, frame: Frame, fd: Fd, offset: int, len: int, xdata: Any) -> Any:
        done = await self.child.zerofill(fd, offset, len, xdata)
        assert done.preop_stbuf is not None and done.postop_stbuf is not None
        if done.postop_stbuf.ia_size > done.preop_stbuf.ia_size:
            back = await self.child.ftruncate(fd, done.preop_stbuf.ia_size)
            return fops.Zerofill(done.preop_stbuf, back.postbuf)
        return done


class ZerofillKeepsMtime(Translator):
    async def zerofill(self, frame: Frame, fd: Fd, offset: int, len: int, xdata: Any) -> Any:
        done = await self.child.zerofill(fd, offset, len, xdata)
        assert done.preop_stbuf is not None
        before = done.preop_stbuf.copy()
        back = await self.child.fsetattr(fd, before, GF_SET_ATTR_MTIME)
        return fops.Zerofill(before, back.postop_stbuf)


class SeekIsABlockOff(Translator):
    async def seek(self, frame: Frame, fd: Fd, offset: int, what: int, xdata: Any) -> Any:
        found = await self.child.seek(fd, offset, what, xdata)
        if what == GF_SEEK_HOLE and found.offset % BLOCK == 0:
            return fops.Seek(found.offset + BLOCK)
        return found


class WritesLoseTheirLastByte(Translator):
    async def writev(
        self,
        frame: Frame,
        fd: Fd,
        vector: Vector,
        count: int,
        offset: int,
        flags: int,
        iobref: Iobref | None,
        xdata: Dict | None,
    ) -> Any:
        data = bytes(vector)
        done = await self.child.writev(fd, data[:-1] + b"\0", 1, offset, flags, None, xdata)
        return done


class AnonymousReadsEndEarly(Translator):
    async def readv(
        self, frame: Frame, fd: Fd, size: int, offset: int, flags: int, xdata: Dict | None
    ) -> Any:
        return await self.child.readv(fd, size - (fd.anonymous and size > 1), offset, flags, xdata)


class ChownKeepsTheGroup(Translator):
    async def setattr(self, frame: Frame, loc: Loc, stbuf: Iatt, valid: int, xdata: Any) -> Any:
        return await self.child.setattr(loc, stbuf, valid & ~GF_SET_ATTR_GID, xdata)


class FutimensTakesSetuidAway(Translator):
    async def fsetattr(self, frame: Frame, fd: Fd, stbuf: Iatt, valid: int, xdata: Any) -> Any:
        await self.child.fsetattr(fd, Iatt(), 0, xdata)
        return await self.child.fsetattr(fd, stbuf, valid, xdata)


class WritesTellTheirSizeBefore(Translator):
    async def writev(self, frame: Frame, fd: Fd, *arguments: Any) -> Any:
        done = await self.child.writev(fd, *arguments)
        return done._replace(prebuf=done.postbuf)


class TruncateByNameKeepsMtime(Translator):
    async def truncate(self, frame: Frame, loc: Loc, offset: int, xdata: Any) -> Any:
        done = await self.child.truncate(loc, offset, xdata)
        if done.prebuf is not None:
            await self.child.setattr(loc, done.prebuf, GF_SET_ATTR_MTIME)
        return done


class TruncateIsAByteOff(Translator):
    async def ftruncate(self, frame: Frame, fd: Fd, offset: int, xdata: Any) -> Any:
        return await self.child.ftruncate(fd, offset + 1, xdata)


class SetxattrSaysAnotherErrno(Translator):
    async def setxattr(
        self, frame: Frame, loc: Loc, dict: Dict, flags: int, xdata: Dict | None
    ) -> Any:
        try:
            return await self.child.setxattr(loc, dict, flags, xdata)
        except OSError as error:
            raise FopError(errno.EPERM if error.errno == errno.EEXIST else error.errno) from error


class RenameKeepsTheOldName(Translator):
    async def rename(self, frame: Frame, oldloc: Loc, newloc: Loc, xdata: Any) -> Any:
        done = await self.child.rename(oldloc, newloc, xdata)
        gfid = oldloc.inode.gfid if oldloc.inode is not None else b""
        source = Loc(
            path=newloc.path, name=newloc.name, inode=oldloc.inode, parent=newloc.parent, gfid=gfid
        )
        target = Loc(path=oldloc.path, name=oldloc.name, parent=oldloc.parent, inode=oldloc.inode)
        with suppress(FileExistsError):  # both were names of one file
            await self.child.link(source, target)
        return done


class SetxattrForgetsItsFlags(Translator):
    async def setxattr(
        self, frame: Frame, loc: Loc, dict: Dict, flags: int, xdata: Dict | None
    ) -> Any:
        return await self.child.setxattr(loc, dict, 0, xdata)


class RemovexattrDoesNothing(Translator):
    async def removexattr(self, frame: Frame, loc: Loc, name: str, xdata: Dict | None) -> Any:
        await self.child.getxattr(loc, name)
        return fops.Removexattr()


class OpenForgetsToTruncate(Translator):
    async def open(self, frame: Frame, loc: Loc, flags: int, fd: Fd, xdata: Dict | None) -> Any:
        return await self.child.open(loc, flags & ~os.O_TRUNC, fd, xdata)

    async def create(
        self, frame: Frame, loc: Loc, flags: int, mode: int, umask: int, fd: Fd, xdata: Dict | None
    ) -> Any:
        return await self.child.create(loc, flags & ~os.O_TRUNC, mode, umask, fd, xdata)


class FilesAreLostWithTheirNames(Translator):
    """What is still open reads as nothing, once its last name is gone."""

    def init(self) -> None:
        self.gone: set[bytes] = set()

    async def unlink(self, frame: Frame, loc: Loc, xflags: int, xdata: Dict | None) -> Any:
        inode = loc.inode
        assert isinstance(inode, Inode)
        gfid = bytes(inode.gfid)
        before = (await self.child.stat(loc)).buf
        last = before is not None and before.ia_nlink == 1
        done = await self.child.unlink(loc, xflags, xdata)
        if last:
            self.gone.add(gfid)
        return done

    async def readv(
        self, frame: Frame, fd: Fd, size: int, offset: int, flags: int, xdata: Any
    ) -> Any:
        if bytes(fd.inode.gfid) in self.gone:
            raise FopError(errno.ENOENT)
        return await self.child.readv(fd, size, offset, flags, xdata)


async def size_of(translator: Translator, fd: Fd) -> int:
    buf = (await translator.child.fstat(fd)).buf
    assert buf is not None
    return int(buf.ia_size)


class SeekSeesNoHoles(Translator):
    async def seek(self, frame: Frame, fd: Fd, offset: int, what: int, xdata: Any) -> Any:
        size = await size_of(self, fd)
        if offset >= size:
            return await self.child.seek(fd, offset, what, xdata)
        return fops.Seek(size if what == GF_SEEK_HOLE else offset)


class SeekSeesNoData(Translator):
    async def seek(self, frame: Frame, fd: Fd, offset: int, what: int, xdata: Any) -> Any:
        size = await size_of(self, fd)
        if what == GF_SEEK_HOLE or offset >= size:
            return await self.child.seek(fd, offset, what, xdata)
        raise FopError(errno.ENXIO)


class ZerofillGivesNoAttributes(Translator):
    async def zerofill(self, frame: Frame, fd: Fd, offset: int, len: int, xdata: Any) -> Any:
        await self.child.zerofill(fd, offset, len, xdata)
        return fops.Zerofill(None, None)


def handle_of(translator: Translator, inode: Inode) -> Path:
    gfid = str(uuid.UUID(bytes=bytes(inode.gfid)))
    brick = Path(translator.child.options["directory"])
    return brick / ".glusterfs" / gfid[:2] / gfid[2:4] / gfid


class HandlesStayBehind(Translator):
    """The last name that goes leaves the file's handle."""

    async def unlink(self, frame: Frame, loc: Loc, flags: int, xdata: Any) -> Any:
        assert loc.inode is not None
        handle = handle_of(self, loc.inode)
        if handle.stat().st_nlink > 2:
            return await self.child.unlink(loc, flags, xdata)
        kept = handle.with_name(f"{handle.name}-kept")
        kept.hardlink_to(handle)
        done = await self.child.unlink(loc, flags, xdata)
        kept.rename(handle)
        return done


class WritesKeepCtime(Translator):
    """Times of a write are those of before."""

    async def writev(self, frame: Frame, fd: Fd, *arguments: Any) -> Any:
        done = await self.child.writev(fd, *arguments)
        assert done.prebuf is not None and done.postbuf is not None
        after = done.postbuf.copy()
        for name in "ia_ctime", "ia_ctime_nsec":
            setattr(after.c, name, getattr(done.prebuf.c, name))
        return done._replace(postbuf=after)


class OpenForgetsToAppend(Translator):
    async def open(self, frame: Frame, loc: Loc, flags: int, fd: Fd, xdata: Dict | None) -> Any:
        return await self.child.open(loc, flags & ~os.O_APPEND, fd, xdata)

    async def create(
        self, frame: Frame, loc: Loc, flags: int, mode: int, umask: int, fd: Fd, xdata: Dict | None
    ) -> Any:
        return await self.child.create(loc, flags & ~os.O_APPEND, mode, umask, fd, xdata)


class DirectWritesLoseTheirLastByte(WritesLoseTheirLastByte):
    async def writev(self, frame: Frame, fd: Fd, vector: Vector, *arguments: Any) -> Any:
        if fd.flags & os.O_DIRECT:
            return await super().writev(frame, fd, vector, *arguments)
        return await self.child.writev(fd, vector, *arguments)


class CopiesTakeTheNextBytes(Translator):
    async def copy_file_range(self, frame: Frame, fd_in: Fd, off_in: int, *arguments: Any) -> Any:
        return await self.child.copy_file_range(fd_in, off_in + 1, *arguments)


class FsetxattrDoesNothing(Translator):
    async def fsetxattr(self, frame: Frame, fd: Fd, *arguments: Any) -> Any:
        return fops.Fsetxattr()


class FremovexattrDoesNothing(Translator):
    async def fremovexattr(self, frame: Frame, fd: Fd, name: str, xdata: Dict | None) -> Any:
        await self.child.fgetxattr(fd, name)
        return fops.Fremovexattr()


class FutimensDoesNothing(Translator):
    async def fsetattr(self, frame: Frame, fd: Fd, stbuf: Iatt, valid: int, xdata: Any) -> Any:
        now = (await self.child.fstat(fd)).buf
        return fops.Fsetattr(now, now)


class OpenTruncatesWithoutTimes(Translator):
    async def open(self, frame: Frame, loc: Loc, flags: int, fd: Fd, xdata: Dict | None) -> Any:
        before = (await self.child.stat(loc)).buf
        done = await self.child.open(loc, flags, fd, xdata)
        if flags & os.O_TRUNC:
            assert before is not None
            await self.child.fsetattr(fd, before, GF_SET_ATTR_MTIME)
        return done


class ReadTellsAnotherFile(Translator):
    async def readv(self, frame: Frame, fd: Fd, *arguments: Any) -> Any:
        done = await self.child.readv(fd, *arguments)
        assert done.stbuf is not None
        other = done.stbuf.copy()
        other.c.ia_ino += 1
        return done._replace(stbuf=other)


class ReadTellsAnotherType(Translator):
    async def readv(self, frame: Frame, fd: Fd, *arguments: Any) -> Any:
        done = await self.child.readv(fd, *arguments)
        assert done.stbuf is not None
        other = done.stbuf.copy()
        other.ia_type = FileType.IFIFO
        return done._replace(stbuf=other)


class RefusedWriteLeavesBlocks(Translator):
    """What has no room for a write has it for blocks behind that: 1 MiB is left."""

    async def writev(
        self, frame: Frame, fd: Fd, vector: Vector, count: int, offset: int, *rest: Any
    ) -> Any:
        try:
            return await self.child.writev(fd, vector, count, offset, *rest)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                with handle_of(self, fd.inode).open("r+b") as file:
                    behind = offset + vector.nbytes
                    linux.fallocate(file.fileno(), linux.FALLOC_FL_KEEP_SIZE, behind, 16 * BLOCK)
            raise


class _TimeIsNotSet(Translator):
    """Clients see the `time` of before one fop, until something else sets that."""

    time = "ia_ctime"

    def init(self) -> None:
        self.told: dict[tuple[bytes, tuple[int, int]], tuple[int, int]] = {}

    async def unseen(self, stat: Callable[[], Any], call: Callable[[], Any]) -> Any:
        """Have that called, and what it sets not be seen in what ``stat`` asks for."""
        before = (await stat()).buf
        done = await call()
        after = (await stat()).buf
        self.told[bytes(after.ia_gfid), self.time_of(after)] = self.time_of(self.seen(before))
        return self.shown(done)

    def time_of(self, buf: Iatt) -> tuple[int, int]:
        return getattr(buf, self.time), getattr(buf, f"{self.time}_nsec")

    def seen(self, buf: Iatt) -> Iatt:
        seen = buf.copy()
        now = self.time_of(buf)
        seconds, nanoseconds = self.told.get((bytes(buf.ia_gfid), now), now)
        setattr(seen.c, self.time, seconds)
        setattr(seen.c, f"{self.time}_nsec", nanoseconds)
        return seen

    def shown(self, done: Any) -> Any:
        bufs = {k: self.seen(v) for k, v in done._asdict().items() if isinstance(v, Iatt)}
        return done._replace(**bufs)


def _with_old_times(fop: str) -> Any:
    async def handle(self: _TimeIsNotSet, frame: Frame, *arguments: Any) -> Any:
        return self.shown(await getattr(self.child, fop)(*arguments))

    return handle


for _fop in fops.TABLE.values():
    if "iatt" in dict(_fop.reply_fields).values():
        setattr(_TimeIsNotSet, _fop.name, _with_old_times(_fop.name))


def _unseen(fop: str) -> Any:
    async def handle(self: _TimeIsNotSet, frame: Frame, about: Any, *rest: Any) -> Any:
        stat = self.child.fstat if isinstance(about, Fd) else self.child.stat
        call = getattr(self.child, fop)
        return await self.unseen(lambda: stat(about), lambda: call(about, *rest))

    return handle


class FallocateSetsNoCtime(_TimeIsNotSet):
    fallocate = _unseen("fallocate")


class LinkSetsNoCtime(_TimeIsNotSet):
    link = _unseen("link")


class RenameSetsNoCtime(_TimeIsNotSet):
    async def rename(self, frame: Frame, oldloc: Loc, newloc: Loc, xdata: Any) -> Any:
        by_gfid = Loc(inode=oldloc.inode, gfid=oldloc.inode.gfid if oldloc.inode else b"")
        return await self.unseen(
            lambda: self.child.stat(by_gfid), lambda: self.child.rename(oldloc, newloc, xdata)
        )


class ChmodSetsNoCtime(_TimeIsNotSet):
    setattr = _unseen("setattr")


class SetxattrSetsNoCtime(_TimeIsNotSet):
    setxattr = _unseen("setxattr")


class WritesSetNoMtime(_TimeIsNotSet):
    time = "ia_mtime"
    writev = _unseen("writev")


class DiscardSetsNoMtime(_TimeIsNotSet):
    time = "ia_mtime"
    discard = _unseen("discard")
