"""Fops on xattrs: the one that maps a file, the names of copies, and what clients do not see."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable
from typing import Any

from glupy import PASS, Gfid, Pass, fops, keys
from glupy.views import Dict, Fd, Frame, Inode, Loc
from pybd import mapping
from pybd.copies import Copies
from pybd.device import failed
from pybd.files import PLAIN, File
from pybd.inodes import file_of, is_pointer
from pybd.mapping import KEY
from pybd.stub import Stub

_ORDERS = (mapping.CLONE, mapping.SNAPSHOT, mapping.MERGE)
_ASKED = (mapping.VOLUME_TYPE, mapping.VOLUME_CAPS, mapping.LIST_ORIGIN)
_HIDDEN = KEY, mapping.ORIGIN


class Xattrs(Copies):
    """Fops on xattrs. GlusterFS's own clients (pid < 0) copy files with all their xattrs: to them
    the key is an xattr like others, but one that they cannot take away."""

    def setxattr(
        self, frame: Frame, loc: Loc, dict: Dict, flags: int, xdata: Dict | None
    ) -> Pass | Awaitable[fops.Setxattr]:
        """Map a file, copy its device, or set xattrs."""
        inode = loc.inode
        if inode is None or self.is_arbiter:
            return PASS
        if self._is_order(dict):
            return self._ordered(frame, inode, dict, flags, loc, None, xdata)
        if (file := file_of(inode)) is not None:
            return self._changed(file, self.child.setxattr(loc, dict, flags, xdata))
        return PASS

    def fsetxattr(
        self, frame: Frame, fd: Fd, dict: Dict, flags: int, xdata: Dict | None
    ) -> Pass | Awaitable[fops.Fsetxattr]:
        """The same by an fd."""
        inode = fd.inode
        if self.is_arbiter:
            return PASS
        if self._is_order(dict):
            return self._ordered(frame, inode, dict, flags, None, fd, xdata)
        if (file := file_of(inode)) is not None:
            return self._changed(file, self.child.fsetxattr(fd, dict, flags, xdata))
        return PASS

    @staticmethod
    def _is_order(dict: Dict) -> bool:
        return KEY in dict or any(each in dict for each in _ORDERS)

    async def _ordered(
        self,
        frame: Frame,
        inode: Inode,
        dict: Dict,
        flags: int,
        loc: Loc | None,
        fd: Fd | None,
        xdata: Dict | None,
    ) -> Any:
        rest = dict.copy()
        orders = {}
        for key in (KEY, *_ORDERS):
            value = rest.get_bytes(key)
            if value is not None:
                orders[key] = os.fsdecode(value)
                del rest[key]
        gfid = inode.gfid or (loc.gfid if loc is not None else inode.gfid)
        for key, text in orders.items():
            try:
                await self._obey(inode, gfid, key, text, frame.pid)
            except OSError as error:
                what = "is not mapped to" if key == KEY else f"{key} fails:"
                self.log.error("%s %s %s: %s", gfid, what, text, error.strerror or error)
                raise
        made = fops.Setxattr if loc is not None else fops.Fsetxattr
        if len(rest):
            if loc is not None:
                wind: Any = self.child.setxattr(loc, rest, flags, xdata)
            else:
                assert fd is not None
                wind = self.child.fsetxattr(fd, rest, flags, xdata)
            known = file_of(inode)
            return await (self._changed(known, wind) if known is not None else wind)
        known = file_of(inode)
        if known is None or known.stub is None:
            return made()
        now = self.shown(known)
        return made(Dict({keys.DHT_IATT: now, keys.POSTSTAT: now}))

    async def _obey(self, inode: Inode, gfid: bytes, key: str, text: str, pid: int) -> None:
        if key == KEY:
            await self._map(inode, gfid, text, pid)
            return
        file = await self.learn(inode.anonymous_fd())
        if file is None:
            raise OSError(errno.EINVAL, "that file is not mapped")
        if key == mapping.MERGE:
            await self.merge_file(inode, file)
        else:
            await self.copy_file(file, text, is_snapshot=key == mapping.SNAPSHOT)

    async def _map(self, inode: Inode, gfid: bytes, text: str, pid: int) -> None:
        internal = pid < 0
        wanted = mapping.stored(text) if internal else mapping.parse(text)
        if inode.gfid:
            file = await self.learn(inode.anonymous_fd())
            if file is not None:
                if not internal:
                    raise failed(errno.EEXIST)
                if pid == keys.PID_REBALANCE:
                    await self._clear(file)
                return
            if pid == keys.PID_REBALANCE:
                # It fills the file now. What clients have changed here since it began it gives up
                # for; what is left of a move before would show where nothing is copied.
                stub = Stub(self.child, Loc(inode=inode, gfid=gfid), inode.anonymous_fd())
                await self.empty(stub, (await stub.stat()).ia_size)
        await self.map_file(inode, gfid, wanted, keeps_size=internal)

    async def _clear(self, file: File) -> None:
        """Take away what a rebalance that was killed has left in a file that one is to fill."""
        async with file.resizing:
            device = self.device(file)
            if file.stub is not None and is_pointer(file.stub.mode):
                with file.gate.alone():
                    device.clear(0, file.size)

    async def _changed(self, file: File, wind: Awaitable[Any]) -> Any:
        """Xattrs of a mapped file change; the attributes in the reply are to be the file's."""
        with self.changes(file) as change:
            reply = await wind
            return reply._replace(xdata=self.shown_in(file, reply.xdata, change))

    def removexattr(self, frame: Frame, loc: Loc, name: str, xdata: Dict | None) -> Any:
        """Unmap a file, or remove xattrs: one, or with an empty name those in xdata."""
        return self._remove(
            frame,
            loc.inode,
            name,
            xdata,
            fops.Removexattr,
            lambda xdata: self.child.removexattr(loc, name, xdata),
        )

    def fremovexattr(self, frame: Frame, fd: Fd, name: str, xdata: Dict | None) -> Any:
        """The same by an fd."""
        return self._remove(
            frame,
            fd.inode,
            name,
            xdata,
            fops.Fremovexattr,
            lambda xdata: self.child.fremovexattr(fd, name, xdata),
        )

    def _remove(
        self,
        frame: Frame,
        inode: Inode | None,
        name: str,
        xdata: Dict | None,
        made: Any,
        wind: Any,
    ) -> Any:
        if inode is None or self.is_arbiter:
            return PASS
        if name == KEY:
            if frame.pid < 0:
                return made()
            return self._unmap(inode, made)
        if not name and xdata is not None and KEY in xdata:
            xdata = xdata.copy()
            del xdata[KEY]
            if frame.pid >= 0:
                raise failed(errno.EPERM)
            if not any(key.startswith(keys.NAMESPACES) for key in xdata):
                return made()
            return self._unless_mapped(inode, wind(xdata))
        if (file := file_of(inode)) is not None:
            return self._changed(file, wind(xdata))
        return PASS

    async def _unless_mapped(self, inode: Inode, wind: Awaitable[Any]) -> Any:
        known = file_of(inode)
        return await (self._changed(known, wind) if known is not None else wind)

    async def _unmap(self, inode: Inode, made: Any) -> Any:
        file = await self.learn(inode.anonymous_fd())
        if file is None:
            raise failed(errno.ENODATA)
        try:
            await self.unmap_file(inode, file)
        except OSError as error:
            self.log.error("%s is not unmapped: %s", Gfid(file.gfid), error.strerror or error)
            raise
        return made()

    def getxattr(
        self, frame: Frame, loc: Loc, name: str | None, xdata: Dict | None
    ) -> Pass | Awaitable[fops.Getxattr] | fops.Getxattr:
        """What the pool can, and all xattrs but our own."""
        if name in _ASKED:
            return self._told(loc, name, fops.Getxattr)
        if name is None or name == "":
            if frame.pid < 0 or (loc.inode is not None and loc.inode.ctx is PLAIN):
                return PASS
            return self._listed(self.child.getxattr(loc, name, xdata))
        return PASS

    def fgetxattr(
        self, frame: Frame, fd: Fd, name: str | None, xdata: Dict | None
    ) -> Pass | Awaitable[fops.Fgetxattr] | fops.Fgetxattr:
        """The same by an fd."""
        if name in _ASKED:
            return self._told(Loc(inode=fd.inode, gfid=fd.inode.gfid), name, fops.Fgetxattr)
        if name is None or name == "":
            if frame.pid < 0 or fd.inode.ctx is PLAIN:
                return PASS
            return self._listed(self.child.fgetxattr(fd, name, xdata))
        return PASS

    async def _told(self, loc: Loc, name: str | None, made: Any) -> Any:
        if name == mapping.LIST_ORIGIN:
            return made(Dict({name: await self.origin_of(loc)}))
        number = mapping.TYPE_BD
        if name == mapping.VOLUME_CAPS:
            number = mapping.CAPS_BD | mapping.CAPS_COPY | mapping.CAPS_SNAPSHOT | mapping.CAPS_ZERO
            if mapping.THIN in self.pool.kinds:
                number |= mapping.CAPS_THIN
        return made(Dict({str(name): str(number).encode()}))

    async def _listed(self, wind: Awaitable[Any]) -> Any:
        reply = await wind
        found = reply.dict
        if found is None or not any(key in found for key in _HIDDEN):
            return reply
        shown = found.copy()
        for key in _HIDDEN:
            if key in shown:
                del shown[key]
        return reply._replace(dict=shown)
