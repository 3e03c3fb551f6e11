"""Fops that return or set attributes: posix knows all of them but a mapped file's own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import Any

from glupy import PASS, Pass, fops, keys
from glupy.answers import number_in
from glupy.constants import GF_SET_ATTR_ATIME, GF_SET_ATTR_MTIME
from glupy.views import Dict, Fd, Frame, Iatt, Inode, Loc
from pybd.base import Base, Seen, on_fd
from pybd.files import PLAIN, File
from pybd.inodes import file_of
from pybd.mapping import cleaned, value_in, with_key


class Attributes(Base):
    """Fops on attributes."""

    async def lookup(self, frame: Frame, loc: Loc, xdata: Dict | None) -> fops.Lookup:
        """Find a file: learn whether it is mapped, and answer for the device if so."""
        since = self.looking(loc.inode)
        reply = await self.child.lookup(loc, with_key(xdata))
        answers = reply.xdata
        buf = reply.buf
        if buf is None:
            return reply
        file = self.note(loc.inode, buf, value_in(answers), since)
        hidden = cleaned(answers, xdata)
        if file is not None:
            if file.merging and loc.inode is not None:
                await self.settle(loc.inode, file)
            self.show(file, buf)
            hidden = self._with_content(file, hidden, xdata)
        return reply._replace(xdata=hidden)

    def _with_content(self, file: File, answers: Dict | None, asked: Dict | None) -> Dict | None:
        """Give a small file's content, if it was asked for: the stub has only zeros."""
        if asked is None or keys.CONTENT not in asked:
            return answers
        answers = answers.copy() if answers is not None else Dict()
        if keys.CONTENT in answers:
            del answers[keys.CONTENT]
        if file.size <= number_in(asked, keys.CONTENT):
            with contextlib.suppress(OSError):
                device = self.device(file)  # open as long as we have it
                answers[keys.CONTENT] = os.pread(device.number, file.size, 0)
        return answers

    def stat(self, frame: Frame, loc: Loc, xdata: Dict | None) -> Pass | Awaitable[fops.Stat]:
        """Attributes of a file."""
        inode = loc.inode
        if inode is None or inode.ctx is PLAIN:
            return PASS
        return self._stat(inode, loc, xdata)

    async def _stat(self, inode: Inode, loc: Loc, xdata: Dict | None) -> fops.Stat:
        since = self.looking(inode)
        if file_of(inode) is None:
            reply = await self.child.stat(loc, with_key(xdata))
            value = value_in(reply.xdata)
        else:
            reply = await self.child.stat(loc, xdata)
            value = None
        buf = reply.buf
        answers = cleaned(reply.xdata, xdata)
        if buf is not None and (value is not None or isinstance(inode.ctx, File)):
            file = self.note(inode, buf, value, since)
            if file is not None:
                if file.merging:
                    await self.settle(inode, file)
                self.show(file, buf)
                answers = self._with_content(file, answers, xdata)
        return reply._replace(xdata=answers)

    @on_fd
    def fstat(self, frame: Frame, file: File, fd: Fd, xdata: Dict | None) -> Any:
        """Attributes of an open file: of the stub they are known, unless xdata asks for more."""
        if xdata is None and file.fresh:
            return fops.Fstat(self.shown(file))
        return self._fstat(file, fd, xdata)

    async def _fstat(self, file: File, fd: Fd, xdata: Dict | None) -> fops.Fstat:
        since = file.looking()
        reply = await self.child.fstat(fd, xdata)
        if reply.buf is not None:
            file.seen(reply.buf, since)
            self.show(file, reply.buf)
        return reply

    def setattr(
        self, frame: Frame, loc: Loc, stbuf: Iatt, valid: int, xdata: Dict | None
    ) -> Pass | Awaitable[fops.Setattr]:
        """Set attributes of a file."""
        inode = loc.inode
        file = file_of(inode)
        if file is None:
            return PASS
        return self._setattr(file, loc, stbuf, valid, xdata)

    async def _setattr(
        self, file: File, loc: Loc, stbuf: Iatt, valid: int, xdata: Dict | None
    ) -> Any:
        reply = await self._set(file, valid, lambda: self.child.setattr(loc, stbuf, valid, xdata))
        return reply._replace(xdata=self._with_content(file, reply.xdata, xdata))

    def fsetattr(
        self, frame: Frame, fd: Fd, stbuf: Iatt, valid: int, xdata: Dict | None
    ) -> Pass | Awaitable[fops.Fsetattr]:
        """Set attributes of an open file."""
        file = file_of(fd.inode)
        if file is None:
            return PASS
        return self._set(file, valid, lambda: self.child.fsetattr(fd, stbuf, valid, xdata))

    async def _set(self, file: File, valid: int, wind: Callable[[], Awaitable[Any]]) -> Any:
        times = valid & (GF_SET_ATTR_ATIME | GF_SET_ATTR_MTIME)
        async with file.storing if times else contextlib.nullcontext():
            with self.changes(file) as change:
                reply = await wind()
                change(reply.postop_stbuf)
            self.show(file, reply.preop_stbuf)
            file.times.replaced(times)
            self.show(file, reply.postop_stbuf)
        return reply

    async def readdirp(
        self, frame: Frame, fd: Fd, size: int, offset: int, xdata: Dict | None
    ) -> fops.Readdirp:
        """List a directory with attributes: its entries' inodes are linked without a lookup."""
        # Seen before we asked what changes of a file are going on: never fresh.
        unsure = Seen(-1, self.unmappings)
        reply = await self.child.readdirp(fd, size, offset, with_key(xdata))
        entries = list(reply.entries or ())
        changed = xdata is None
        for entry in entries:
            value = value_in(entry.dict)
            if value is not None or xdata is None:
                entry.dict = cleaned(entry.dict, xdata)
                changed = True
            inode, iatt = entry.inode, entry.d_stat
            if inode is None or iatt is None:
                continue
            if value is not None or isinstance(inode.ctx, File):
                file = self.note(inode, iatt, value, unsure)
                if file is not None:
                    if file.merging:
                        with contextlib.suppress(OSError):  # who uses it is told
                            await self.settle(inode, file)
                    self.show(file, iatt)
                    changed = True
                    entry.dict = self._with_content(file, entry.dict, xdata)
        return reply._replace(entries=entries) if changed else reply
