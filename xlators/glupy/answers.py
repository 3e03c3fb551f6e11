"""What storage translators are asked beside a fop and answer: numbers in xdata, fd counts,
checksums for self-heal."""

from __future__ import annotations

import hashlib
import re
import zlib

from glupy import keys
from glupy.views import Dict, Inode

_COUNTS = keys.OPEN_FD_COUNT, keys.ACTIVE_FD_COUNT
_CHECKSUM_BYTES = 32


def number_in(xdata: Dict | None, key: str) -> int:
    """Return a number in a fop's xdata, 0 if there is none. Without a type it may be text."""
    if xdata is None or key not in xdata:
        return 0
    value = xdata[key]
    if isinstance(value, int):
        return value
    text = re.match(rb"\s*[-+]?\d+", xdata.get_bytes(key) or b"")
    return int(text[0]) if text else 0


def fd_count(answers: Dict, key: str, inode: Inode | None) -> None:
    """Answer one of the two keys that ask how many fds are open."""
    if inode is not None and inode.gfid:
        count = inode.fd_count if key == keys.OPEN_FD_COUNT else inode.active_fd_count
        answers.set_uint(key, count)


def counts(asked: Dict | None, inode: Inode, is_append: bool) -> Dict | None:
    """Answer what a write may ask for: fd counts, and whether it was at the end of the file."""
    if asked is None:
        return None
    answers = Dict()
    for key in _COUNTS:
        if key in asked:
            fd_count(answers, key, inode)
    if keys.WRITE_IS_APPEND in asked:
        answers.set_uint(keys.WRITE_IS_APPEND, int(is_append))
    return answers


def checksums(data: bytes | memoryview, *, fips: bool) -> tuple[int, bytes]:
    """Return the weak and the strong checksum of a range, as rchecksum has them (checksum.c).

    The strong one is SHA-256 with option fips-mode-rchecksum, else MD5.
    """
    strong = hashlib.sha256(data) if fips else hashlib.md5(data, usedforsecurity=False)
    # GlusterFS's weak checksum is Adler-32 begun at 0.
    return zlib.adler32(data, 0), strong.digest().ljust(_CHECKSUM_BYTES, b"\0")
