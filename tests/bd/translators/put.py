"""No client sends put as yet."""

import os

from glupy import Dict, Frame, Gfid, Loc, Translator, fops, keys


class Put(Translator):
    """``setxattr("user.put")`` on the root puts data into a file: ``NAME:FLAGS:OFFSET=DATA``.

    A file whose name begins with ``keyed`` has the key of mapped files among its xattrs.
    """

    async def setxattr(
        self, frame: Frame, loc: Loc, dict: Dict, flags: int, xdata: Dict | None
    ) -> fops.Setxattr:
        order = dict.get_bytes("user.put")
        if order is None:
            return await self.child.setxattr(loc, dict, flags, xdata)
        words, _, data = order.partition(b"=")
        name, flags_, offset = os.fsdecode(words).split(":")
        assert loc.inode is not None
        file = Loc(
            path=f"/{name}",
            name=name,
            parent=loc.inode,
            inode=loc.inode.new(),
            pargfid=loc.inode.gfid,
        )
        asked = Dict({"gfid-req": Gfid.random()})
        # No others: C posix sets them with the flags of open(2), of which O_RDWR is XATTR_REPLACE.
        xattrs = Dict({keys.BD: b"thin:1MB"} if name.startswith("keyed") else {})
        what = [data], 1, int(offset), None, xattrs, asked
        reply = await self.child.put(file, 0o644, 0, int(flags_), *what)
        assert reply.buf is not None
        size = f"{reply.buf.ia_size}".encode()
        await self.child.setxattr(loc, Dict({"user.size": size}), 0)
        return fops.Setxattr()
