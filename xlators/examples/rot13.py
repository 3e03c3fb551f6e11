"""Keep the letters of all data rotated by 13 on the brick; clients see them as they wrote them.

    glupy run xlators/examples/rot13.py:Rot13 DIR MOUNTPOINT

Then ``echo hello > MOUNTPOINT/file; cat DIR/file`` prints ``uryyb``. DIR should be empty at first:
what is there already is rotated too. Names and xattrs are left alone, and so are the targets of
symbolic links. ``rchecksum`` is the checksum of what the brick has: enough for replicas, which
compare theirs with each other, if each of them has this translator.

What to see here: which fops carry data. Those are writev and readv, but put as well, and a reply's
``xdata``, in which clients ask for the content of small files (performance/quick-read). A vector
without a letter is passed on as it is, without a copy; one with letters becomes new bytes, since
what is in a fop must not be changed in place. Holes and zeros have no letters, so that discard,
zerofill, fallocate and truncate need no handler, and copy_file_range may copy what is there.
"""

import codecs
import re
import string
from collections.abc import Sequence

from glupy import PASS, Dict, Fd, Frame, Loc, Pass, Translator, Vector, fops
from glupy.views import Iobref

CONTENT = "glusterfs.content"  # GF_CONTENT_KEY: in a request a size, in a reply the data

LETTER = re.compile(b"[A-Za-z]")
ROT13 = bytes.maketrans(
    string.ascii_letters.encode(), codecs.encode(string.ascii_letters, "rot13").encode()
)


def rotated(vector: Vector) -> Vector | Sequence[bytes]:
    """Return the data rotated; where nothing changes it is the vector itself."""
    if any(map(LETTER.search, vector)):
        return [bytes(piece).translate(ROT13) for piece in vector]
    return vector


def with_content_rotated(xdata: Dict | None) -> Dict | None:
    """Return a reply's xdata with the content in it, if any, rotated."""
    content = xdata.get_bytes(CONTENT) if xdata is not None else None
    if xdata is None or content is None:
        return xdata
    xdata = xdata.copy()
    xdata[CONTENT] = content.translate(ROT13)
    return xdata


class Rot13(Translator):
    """Rotate what is written, and what is read."""

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
    ) -> fops.Writev:
        # The vector brings its own count and iobref.
        return await self.child.writev(fd, rotated(vector), count, offset, flags, None, xdata)

    async def readv(
        self, frame: Frame, fd: Fd, size: int, offset: int, flags: int, xdata: Dict | None
    ) -> fops.Readv:
        reply = await self.child.readv(fd, size, offset, flags, xdata)
        if not isinstance(reply.vector, Vector):
            return reply  # NULL: nothing was read
        return reply._replace(vector=rotated(reply.vector), iobref=None)

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
        return await self.child.put(
            loc, mode, umask, flags, rotated(vector), count, offset, None, xattr, xdata
        )

    async def lookup(self, frame: Frame, loc: Loc, xdata: Dict | None) -> fops.Lookup | Pass:
        if xdata is None or CONTENT not in xdata:
            return PASS
        reply = await self.child.lookup(loc, xdata)
        return reply._replace(xdata=with_content_rotated(reply.xdata))

    async def readdirp(
        self, frame: Frame, fd: Fd, size: int, offset: int, xdata: Dict | None
    ) -> fops.Readdirp | Pass:
        if xdata is None or CONTENT not in xdata:
            return PASS
        reply = await self.child.readdirp(fd, size, offset, xdata)
        entries = list(reply.entries or ())
        for entry in entries:
            entry.dict = with_content_rotated(entry.dict)
        return reply._replace(entries=entries)
