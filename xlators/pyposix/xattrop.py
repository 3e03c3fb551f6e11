"""xattrop and fxattrop: arithmetic on xattrs, each one in one step. Replication counts with it."""

from __future__ import annotations

import errno
import os
import struct

from glupy import fops, keys
from glupy.constants import (
    GF_XATTROP_ADD_ARRAY,
    GF_XATTROP_ADD_ARRAY64,
    GF_XATTROP_ADD_ARRAY64_WITH_DEFAULT,
    GF_XATTROP_ADD_ARRAY_WITH_DEFAULT,
    GF_XATTROP_GET_AND_SET,
)
from glupy.views import Dict, Fd, Frame, Loc
from pyposix import xattrs
from pyposix.brick import Brick
from pyposix.files import File
from pyposix.iatt import REGULAR
from pyposix.xattrs import Target

# Bytes of a number, and whether defaults follow the numbers.
_ARRAYS = {
    GF_XATTROP_ADD_ARRAY: (4, False),
    GF_XATTROP_ADD_ARRAY64: (8, False),
    GF_XATTROP_ADD_ARRAY_WITH_DEFAULT: (4, True),
    GF_XATTROP_ADD_ARRAY64_WITH_DEFAULT: (8, True),
}


class XattrOps(Brick):
    """Both fops."""

    def xattrop(
        self, frame: Frame, loc: Loc, optype: int, xattr: Dict, xdata: Dict | None
    ) -> fops.Xattrop:
        """Change every xattr in ``xattr`` by the value there; return what it is then.

        Numbers are big-endian. Where all are zero nothing is written, and no xattr made.
        """
        path, file = self._locate(loc)
        results = self._operate(file, path, optype, xattr)
        if xdata is None:
            return fops.Xattrop(results)
        buf = self._stats.of_path(path, file)
        answers = self._requests.answer(xdata, path, loc.inode, buf)
        return fops.Xattrop(results, _with_mode(answers, xdata, buf.c.ia_type, buf.mode))

    def fxattrop(
        self, frame: Frame, fd: Fd, optype: int, xattr: Dict, xdata: Dict | None
    ) -> fops.Fxattrop:
        """The same of an open file."""
        opened = self._opened(fd)
        number, file = opened.number, opened.file
        if number < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        results = self._operate(file, number, optype, xattr)
        if xdata is None:
            return fops.Fxattrop(results)
        buf = self._stats.of_fd(number, file)
        answers = self._requests.answer(xdata, number, fd.inode, buf)
        return fops.Fxattrop(results, _with_mode(answers, xdata, buf.c.ia_type, buf.mode))

    def _operate(self, file: File, target: Target, optype: int, given: Dict) -> Dict:
        results = Dict()
        for name in given:
            operand = given.get_bytes(name) or b""
            with file.counters:
                old = xattrs.find(target, name)
                if optype == GF_XATTROP_GET_AND_SET:
                    xattrs.put(target, name, operand)
                    if old is not None:
                        results[name] = old
                    continue
                new = combine(optype, old or b"", operand)
                if any(operand):
                    xattrs.put(target, name, new)
                results[name] = new
        return results


def combine(optype: int, old: bytes, operand: bytes) -> bytes:
    """Return the sum of two arrays of big-endian numbers, wrapping around.

    ``old`` may be short: what is missing is 0. With defaults, the second half of ``operand`` is
    added too where the old number is 0. Where all of ``operand`` is 0 the old numbers stay. EINVAL
    for an unknown ``optype``, ERANGE if ``old`` is longer.
    """
    if not any(operand) and optype not in _ARRAYS:
        return old.ljust(len(operand), b"\0")
    if optype not in _ARRAYS:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    width, defaults = _ARRAYS[optype]
    length = len(operand) // 2 if defaults else len(operand)
    if len(old) > length:
        raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
    old = old.ljust(length, b"\0")
    if not any(operand):
        return old
    count = length // width
    array = struct.Struct(f">{count}{'i' if width == 4 else 'q'}")
    numbers, added = array.unpack_from(old), array.unpack_from(operand)
    if defaults:
        more = array.unpack_from(operand, count * width)
        added = tuple(
            addend if number else addend + default
            for number, addend, default in zip(numbers, added, more, strict=True)
        )
    total = b"".join(
        (number + addend & (1 << 8 * width) - 1).to_bytes(width)
        for number, addend in zip(numbers, added, strict=True)
    )
    return total + old[count * width :]


def _with_mode(answers: Dict | None, xdata: Dict, kind: int, mode: int) -> Dict | None:
    if answers is not None and kind == REGULAR and keys.DHT_MODE in xdata:
        answers.set_int(keys.DHT_MODE, mode)
    return answers
