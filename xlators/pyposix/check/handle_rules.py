"""What must hold for a handle: it is in its place, and there is a file that it is the handle of."""

from __future__ import annotations

import os
import re
import stat
from typing import NamedTuple

from glupy import keys
from pyposix import xattrs
from pyposix.check.findings import Finding, Kind, shown
from pyposix.check.ground import (
    HIDDEN,
    ROOT,
    BadLink,
    Ground,
    Place,
    gfid_of,
    inside,
    parse_gfid,
    status,
    text,
)
from pyposix.check.known import Known
from pyposix.check.xattr_rules import XattrRules

_DEPTH = 2
_HASH = re.compile(rb"[0-9a-f]{2}(/[0-9a-f]{2})?")


def is_hash(path: bytes) -> bool:
    """Whether a path in .glusterfs is one of a hash directory: ``xx`` or ``xx/yy``."""
    return _HASH.fullmatch(path) is not None


class Suspicion(NamedTuple):
    """A finding, and the one that must be seen again for it to be true: often itself."""

    finding: Finding
    basis: Finding


class HandleRules:
    """Examines what lies in the hash directories, after all names. OSError as from the kernel."""

    def __init__(
        self, ground: Ground, known: Known, xattr_rules: XattrRules, *, complete: bool
    ) -> None:
        """``complete``: every name in the brick was seen, and none has come or gone since."""
        self._ground = ground
        self._known = known
        self._xattrs = xattr_rules
        self._complete = complete

    def again(self, path: bytes) -> list[Finding]:
        """Examine a handle anew, by its path from the root."""
        found = self.examine(path.removeprefix(HIDDEN + b"/"))
        return [suspicion.basis for suspicion in found]

    def examine(self, path: bytes) -> list[Suspicion]:
        """Say what is wrong with ``xx``, ``xx/yy`` or ``xx/yy/NAME`` in .glusterfs.

        Nothing is, if it is not there.
        """
        found = status(path, self._ground.hidden)
        if found is None:
            return []
        if path.count(b"/") < _DEPTH:
            if stat.S_ISDIR(found.st_mode) and is_hash(path):
                return []
            return [_plain(Kind.UNEXPECTED_ENTRY, path, stat.filemode(found.st_mode))]
        name = path.rpartition(b"/")[2]
        gfid = parse_gfid(name)
        if gfid is None:
            return [_plain(Kind.UNEXPECTED_ENTRY, path, stat.filemode(found.st_mode))]
        in_place = self._ground.handle(gfid) == path
        if found.st_ino in self._known.quiet:
            return []
        if in_place and (gfid == ROOT or gfid in self._known.blamed):
            return []
        # Two links, and a name has shown that one of them is its handle: this one.
        if found.st_nlink <= 2 and found.st_ino in self._known.sound:
            return []
        if stat.S_ISDIR(found.st_mode):
            return [_plain(Kind.HANDLE_KIND, path, "it is a directory", gfid)]
        target = inside(self._ground.hidden, path)
        own = xattrs.find(target, keys.GFID)
        if stat.S_ISLNK(found.st_mode) and found.st_nlink == 1 and own is None:
            return self._directory(path, gfid, in_place)
        return self._file(path, gfid, found, in_place)

    # ---- directories' ----

    def _directory(self, path: bytes, gfid: bytes, in_place: bool) -> list[Suspicion]:
        target = os.readlink(path, dir_fd=self._ground.hidden)
        leads = shown(target)
        if not in_place:
            return self._misplaced(path, gfid, self._place_of(target))
        try:
            place = self._ground.place(target)
        except BadLink as bad:
            return [_plain(bad.kind, path, bad.detail, gfid)]
        if place.gfid == gfid:
            return []
        doubt = self._known.doubts.pop(place.ino, None)
        if doubt is None:
            return [_plain(Kind.HANDLE_ASTRAY, path, f"it leads to {leads}", gfid)]
        return [self._explained(doubt, gfid)]

    def _place_of(self, target: bytes) -> Place | None:
        try:
            return self._ground.place(target)
        except BadLink:
            return None

    # ---- all others' ----

    def _file(
        self, path: bytes, gfid: bytes, found: os.stat_result, in_place: bool
    ) -> list[Suspicion]:
        target = inside(self._ground.hidden, path)
        own = gfid_of(target)
        doubt = self._known.doubts.get(found.st_ino)
        if not in_place:
            return self._misplaced(path, gfid, Place(path, own, found.st_ino))
        if doubt is not None and gfid != doubt.gfid:
            del self._known.doubts[found.st_ino]
            return [self._explained(doubt, gfid)]
        if found.st_nlink == 1 or (self._complete and found.st_ino not in self._known.sound):
            links = f"{found.st_nlink} links, {found.st_size} bytes"
            return [_plain(Kind.HANDLE_ORPHAN, path, links + self._last_name(target), gfid)]
        if own != gfid and own is not None:
            what = f"its file's gfid is {text(own)}"
            return [_plain(Kind.HANDLE_MISMATCH, path, what, gfid)]
        if own is None:  # while live: the name's finding, if there is one, comes again
            return []
        shown_path = HIDDEN + b"/" + path
        findings = [
            *self._xattrs.mdata(shown_path, target),
            *(self._xattrs.mapping(shown_path, target) if stat.S_ISREG(found.st_mode) else ()),
            *self._xattrs.all_names(shown_path, target, found.st_ino, self._known.lost),
        ]
        return [Suspicion(finding, finding) for finding in findings]

    def _last_name(self, target: bytes) -> str:
        for key in filter(lambda key: key.startswith(keys.GFID2PATH_PREFIX), xattrs.names(target)):
            parent, _, name = (xattrs.find(target, key) or b"").partition(b"/")
            return f", once {shown(name)} in directory {shown(parent)}"
        return ""

    # ---- what names have left in doubt ----

    def _misplaced(self, path: bytes, gfid: bytes, place: Place | None) -> list[Suspicion]:
        """It may be what its file lacks; moved to its place, it is not looked at once more."""
        self._known.blamed.add(gfid)
        if place is not None:
            doubt = self._known.doubts.get(place.ino)
            if doubt is not None and doubt.gfid == gfid:
                del self._known.doubts[place.ino]
                finding = Finding(Kind.HANDLE_MISPLACED, HIDDEN + b"/" + path, "", gfid)
                return [Suspicion(finding, finding)]
        return [_plain(Kind.HANDLE_MISPLACED, path, "", gfid)]

    def _explained(self, doubt: Finding, gfid: bytes) -> Suspicion:
        """A handle leads to a file that was in doubt: it has no gfid, or another one."""
        if doubt.kind is Kind.HANDLE_MISSING:
            detail = f"the file's is {doubt.detail}, the handle's {text(gfid)}"
            return Suspicion(Finding(Kind.GFID_MISMATCH, doubt.path, detail, gfid), doubt)
        detail = ", ".join(filter(None, [doubt.detail, f"its handle is {text(gfid)}"]))
        return Suspicion(Finding(doubt.kind, doubt.path, detail, gfid), doubt)


def _plain(kind: Kind, path: bytes, detail: str, gfid: bytes | None = None) -> Suspicion:
    finding = Finding(kind, HIDDEN + b"/" + path, detail, gfid)
    return Suspicion(finding, finding)
