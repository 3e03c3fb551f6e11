"""What must hold for a name in the brick: its file has a gfid, and its handle leads back to it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from glupy import keys
from pyposix import handles, xattrs
from pyposix.check.findings import Finding, Kind, shown
from pyposix.check.ground import (
    GONE,
    HIDDEN,
    ROOT,
    BadLink,
    Ground,
    gfid_of,
    inside,
    open_directory,
    parse,
    status,
    text,
)
from pyposix.check.known import Known
from pyposix.check.xattr_rules import XattrRules

TRASH = b".trashcan"
"""features/trash makes directories in there without a gfid, and records no names."""
_NULL = bytes(16)


class Inner(NamedTuple):
    """A directory in another that is still to be entered."""

    name: bytes
    gfid: bytes | None
    sound: bool


@dataclass
class Folder:
    """A directory of the brick that is open: ``number`` is its fd."""

    number: int
    path: bytes
    """Empty for the root; else ends with a slash."""
    gfid: bytes | None
    sound: bool
    """Its gfid is its own, and handles lead to it."""
    inner: list[Inner] = field(default_factory=list)

    @property
    def is_root(self) -> bool:
        """Whether it is the brick's own directory."""
        return not self.path

    @property
    def in_trash(self) -> bool:
        """Whether it is features/trash's, or below that."""
        return self.path.startswith(TRASH + b"/")


def walk(top: Folder, failed: Callable[[bytes, OSError], None]) -> Iterator[tuple[Folder, bytes]]:
    """Yield each name with the directory it is in; ``top`` is closed at the end.

    A directory is entered if it was put into its folder's ``inner``. One that has gone is not; with
    any other error, ``failed`` is called. As many fds are open as the tree is deep.
    """
    folders = [top]
    try:
        yield from _listed(top, failed)
        while folders:
            folder = folders[-1]
            if not folder.inner:
                os.close(folders.pop().number)
                continue
            name, gfid, sound = folder.inner.pop()
            path = folder.path + name + b"/"
            try:
                number = open_directory(name, folder.number)
            except OSError as error:
                if error.errno not in GONE:
                    failed(path[:-1], error)
                continue
            folders.append(Folder(number, path, gfid, sound))
            yield from _listed(folders[-1], failed)
    finally:
        for folder in folders:
            os.close(folder.number)


def _listed(
    folder: Folder, failed: Callable[[bytes, OSError], None]
) -> Iterator[tuple[Folder, bytes]]:
    try:
        with os.scandir(folder.number) as entries:
            for entry in entries:
                yield folder, os.fsencode(entry.name)
    except OSError as error:
        failed(folder.path[:-1] or b".", error)


@dataclass
class Seen:
    """A name's file, and what is wrong with it."""

    status: os.stat_result
    gfid: bytes | None = None
    sound: bool = False
    """The handle leads to it."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_directory(self) -> bool:
        """Whether it is one."""
        return stat.S_ISDIR(self.status.st_mode)


class NameRules:
    """Examines names. OSError if the kernel reports an error."""

    def __init__(self, ground: Ground, known: Known, xattr_rules: XattrRules) -> None:
        self._ground = ground
        self._known = known
        self._xattrs = xattr_rules

    def again(self, path: bytes) -> list[Finding]:
        """Examine a name anew, by its path from the root. One that is gone is not wrong."""
        above, _, name = path.rpartition(b"/")
        try:
            with self._ground.opened(above) as number:
                gfid = gfid_of(number) if above else ROOT
                ino = os.fstat(number).st_ino
                folder = Folder(number, above and above + b"/", gfid, self._leads_to(gfid, ino))
                seen = self.examine(folder, name)
                return seen.findings if seen else []
        except OSError as error:
            if error.errno in GONE:
                return []
            raise

    def examine(self, folder: Folder, name: bytes) -> Seen | None:
        """Say what is wrong with a name and its file; None if there is nothing to be examined."""
        if folder.is_root and name == HIDDEN:
            return None
        found = status(name, folder.number)
        if found is None:
            return None
        path = folder.path + name
        if found.st_dev != self._ground.status.st_dev:
            return Seen(found, findings=[Finding(Kind.OTHER_FILE_SYSTEM, path)])
        seen = Seen(found)
        target = inside(folder.number, name)
        raw = xattrs.find(target, keys.GFID)
        if raw is None:
            if folder.in_trash:
                self._known.quiet.add(found.st_ino)
            elif folder.is_root and name == b"lost+found":  # mkfs made it
                return None
            else:
                seen.findings.append(Finding(Kind.GFID_MISSING, path))
        elif len(raw) != 16 or raw in (_NULL, ROOT):
            seen.findings.append(Finding(Kind.GFID_MALFORMED, path, f"it is 0x{raw[:64].hex()}"))
        else:
            seen.gfid = raw
            if seen.is_directory:
                self._check_directory(folder, name, seen)
            else:
                self._check_file(folder, name, seen)
        if seen.is_directory or found.st_nlink <= 2:
            seen.findings += self._xattrs.mdata(path, target)
            if stat.S_ISREG(found.st_mode):
                seen.findings += self._xattrs.mapping(path, target)
        return seen

    # ---- files ----

    def _check_file(self, folder: Folder, name: bytes, seen: Seen) -> None:
        path, gfid = folder.path + name, seen.gfid
        assert gfid is not None
        handle = self._ground.look(gfid)
        links = seen.status.st_nlink
        if handle is None:
            seen.findings.append(Finding(Kind.HANDLE_MISSING, path, text(gfid), gfid))
        elif handle.st_ino != seen.status.st_ino:
            seen.findings.append(self._other_file(path, gfid, handle))
            return
        else:
            seen.sound = True
            links -= 1
        if folder.in_trash:
            self._known.quiet.add(seen.status.st_ino)
        elif folder.sound and folder.gfid:
            target = inside(folder.number, name)
            seen.findings += self._xattrs.name(path, target, folder.gfid, name, links)
            if links == 1:
                expected = handles.dashed(folder.gfid) + b"/" + name
                seen.findings += self._xattrs.only_name(path, target, expected)

    def _other_file(self, path: bytes, gfid: bytes, handle: os.stat_result) -> Finding:
        if stat.S_ISDIR(handle.st_mode) or self._ground.is_link(gfid, handle):
            return Finding(Kind.HANDLE_KIND, path, f"{text(gfid)} is a directory's", gfid)
        other = gfid_of(inside(self._ground.hidden, self._ground.handle(gfid)))
        if other != gfid:
            what = f"{text(gfid)} is a link to a file with " + (text(other) if other else "no gfid")
        elif handle.st_nlink == 1:
            what = f"{text(gfid)} is a file without names, which this one has replaced"
        else:
            return Finding(Kind.GFID_DUPLICATE, path, text(gfid), gfid)
        return Finding(Kind.HANDLE_MISMATCH, path, what, gfid)

    # ---- directories ----

    def _check_directory(self, folder: Folder, name: bytes, seen: Seen) -> None:
        path, gfid, parent = folder.path + name, seen.gfid, folder.gfid
        assert gfid is not None
        handle = self._ground.look(gfid)

        def wrong(kind: Kind, detail: str) -> None:
            seen.findings.append(Finding(kind, path, detail, gfid, parent=parent))

        if handle is None:
            wrong(Kind.HANDLE_MISSING, text(gfid))
            return
        if not self._ground.is_link(gfid, handle):
            wrong(Kind.HANDLE_KIND, f"{text(gfid)} is no symbolic link of a directory's")
            return
        try:
            target = self._ground.target(gfid)
        except FileNotFoundError:  # it went meanwhile
            wrong(Kind.HANDLE_MISSING, text(gfid))
            return
        # Whether the link itself is right; if its parent's handle is wrong, that is said there.
        own = parse(target)
        fits = own is not None and own[1] == name and (not folder.sound or own[0] == parent)
        if fits and folder.sound:
            seen.sound = True
            return
        try:
            place = self._ground.place(target)
        except BadLink as bad:
            if not fits:
                wrong(bad.kind, bad.detail)
            return
        if place.ino == seen.status.st_ino:
            if not fits:
                wrong(Kind.HANDLE_ASTRAY, f"its parent is said to be {text(own[0])}" if own else "")
        elif place.gfid == gfid:
            wrong(Kind.GFID_DUPLICATE, f"{text(gfid)} is that of {shown(place.path)}")
        else:
            wrong(Kind.HANDLE_ASTRAY, f"{text(gfid)} leads to {shown(place.path)}")

    def _leads_to(self, gfid: bytes | None, ino: int) -> bool:
        if gfid is None:
            return False
        if gfid == ROOT:
            return True
        with contextlib.suppress(BadLink, FileNotFoundError):
            return self._ground.place(self._ground.target(gfid)).ino == ino
        return False
