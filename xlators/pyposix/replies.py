"""What clients ask for along with a fop: keys in its xdata, answered in the reply's xdata."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from glupy import keys, linux
from glupy.answers import fd_count, number_in
from glupy.views import Dict, Iatt, Inode
from pyposix import cloudsync, gfid2path, virtual_xattr, xattrs
from pyposix.iatt import REGULAR
from pyposix.xattrs import Target

if TYPE_CHECKING:
    from pyposix.brick import Brick

# Never listed: GlusterFS's own, and what quota's marker and geo-replication keep.
_UNLISTED = frozenset([keys.GFID, keys.VOLUME_ID, "security.selinux"])
_UNLISTED_PATTERNS = (
    "trusted.glusterfs.quota.*",
    "trusted.glusterfs.*.xtime",
    "*.glusterfs.*.stime",
    "*.glusterfs.*.xtime",
    "*.glusterfs.lockinfo",
    "*.glusterfs.*.entry_stime",
    "*.glusterfs.volume-mark.*",
)
_WILD = frozenset("*?[\\")
# What quota's marker keeps of a file for each parent; it asks for all of them as if a parent's gfid
# were missing. What looks like the first and not like the second is no pattern.
_CONTRIBUTIONS = "trusted.*.*.contri"
_ALL_CONTRIBUTIONS = re.compile(r"trusted\.+[^.]+\.+[^.]+\.+contri(.*\.contri)?", re.DOTALL)
_COUNTS = keys.OPEN_FD_COUNT, keys.ACTIVE_FD_COUNT


class Requests:
    """Answers them, for every fop that returns attributes."""

    def __init__(self, brick: Brick) -> None:
        self._brick = brick

    def looked(
        self, asked: Dict | None, target: Target, inode: Inode | None, iatt: Iatt
    ) -> Dict | None:
        """Return the answers of a fop that looks at a file: where its data is, too."""
        answers = self.answer(asked, target, inode, iatt)
        if asked is not None and answers is not None:
            cloudsync.tell(answers, asked, target)
            cloudsync.show_size(asked, target, iatt)
        return answers

    def answer(
        self,
        asked: Dict | None,
        target: Target,
        inode: Inode | None,
        iatt: Iatt,
        *,
        data: bool = True,
    ) -> Dict | None:
        """Return the answers; None if there was no xdata. What cannot be had is left out.

        Besides the keys that are handled here, each key is the name of an xattr, or a pattern.
        ``data`` says whether a file's bytes and its size are to be had.
        """
        if asked is None:
            return None
        answers = Dict()
        stored: list[str] | None = None
        wanted = list(asked)
        for key in wanted:
            if key in _COUNTS:
                fd_count(answers, key, inode)
            elif key == keys.CONTENT:
                if data and keys.BD not in (stored := _names(target) if stored is None else stored):
                    _content(answers, number_in(asked, key), target, iatt)
            elif key == keys.GET_SIZE:
                if data and iatt.c.ia_type == REGULAR:
                    answers.set_uint(key, iatt.ia_size, 64)
            elif key == keys.REQUEST_LINK_COUNT:
                answers[key] = asked[key]
            elif key.startswith(keys.NAMESPACES) or not _WILD.isdisjoint(key):
                if stored is None:
                    stored = _names(target)
                _copy(answers, target, _matching(stored, key))
            elif virtual_xattr.is_requested(key):
                value = virtual_xattr.requested(self._brick, key, target, iatt)
                if value is not None:
                    answers[key] = value
        if keys.LIST_XATTR in wanted:
            listed = _names(target) if stored is None else stored
            _copy(answers, target, (n for n in listed if _is_listed(n) and n not in answers))
        return answers


def _content(answers: Dict, limit: int, target: Target, iatt: Iatt) -> None:
    """A whole small file, of at most that many bytes."""
    size = iatt.ia_size
    if iatt.c.ia_type != REGULAR or not isinstance(target, bytes) or limit < size:
        return
    with contextlib.suppress(OSError):
        number = os.open(target, os.O_RDONLY)
        try:
            answers[keys.CONTENT] = os.pread(number, size, 0)
        finally:
            os.close(number)


def attributes(before: Iatt | None, after: Iatt) -> Dict:
    """Return attributes as xdata: of fops on xattrs, whose replies have no room for them."""
    answers = Dict({keys.DHT_IATT: after, keys.POSTSTAT: after})
    if before is not None:
        answers[keys.PRESTAT] = before
    return answers


def _names(target: Target) -> list[str]:
    try:
        return xattrs.names(target)
    except OSError:
        return []


def _matching(stored: list[str], key: str) -> list[str]:
    wild = not _WILD.isdisjoint(key)
    if key.endswith(".contri") and linux.matches(_CONTRIBUTIONS, key):
        wild = _ALL_CONTRIBUTIONS.fullmatch(key) is not None
        key = _CONTRIBUTIONS if wild else key
    if wild:
        return [name for name in stored if linux.matches(key, name)]
    return [key] if key in stored else []


def _is_listed(name: str) -> bool:
    return (
        name not in _UNLISTED
        and not gfid2path.is_key(name)
        and not any(fnmatch.fnmatchcase(name, pattern) for pattern in _UNLISTED_PATTERNS)
    )


def _copy(answers: Dict, target: Target, names: Iterable[str]) -> None:
    for name in names:
        try:
            answers[name] = xattrs.get(target, name)
        except OSError:
            continue
