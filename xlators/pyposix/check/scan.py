"""A check from beginning to end: the root, all names, what waits for removal, all handles.

Nothing is changed. The names come first; each shows its handle to be right, and what no name has
shown then is looked at among the handles. See ``Known`` for what is kept meanwhile.

A brick that is served changes during the check. So there every suspicion is looked at again, some
times in a second and a half, and is a finding only if it is the same each time. Two things are then
no findings: leftovers, which may be in use, and an orphan that has a second link somewhere.
"""

from __future__ import annotations

import itertools
import os
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from glupy import keys
from pyposix import xattrs
from pyposix.check.findings import Finding, Kind, path_of
from pyposix.check.ground import (
    GONE,
    HIDDEN,
    ROOT,
    ROOT_TARGET,
    Ground,
    inside,
    open_directory,
    status,
)
from pyposix.check.handle_rules import HandleRules, Suspicion, is_hash
from pyposix.check.known import Known
from pyposix.check.names import Folder, Inner, NameRules, Seen, walk
from pyposix.check.xattr_rules import XattrRules, has_record

_LOOKS = 0.1, 0.2, 0.4, 0.8
"""Seconds before each further look at a suspicion on a live brick."""
_BATCH = 1000
_SAMPLE = 1000
_DOUBTFUL = frozenset({Kind.GFID_MISSING, Kind.GFID_MALFORMED})
_BLAMING = frozenset(
    {
        Kind.HANDLE_MISMATCH,
        Kind.HANDLE_KIND,
        Kind.HANDLE_MALFORMED,
        Kind.HANDLE_DANGLING,
        Kind.HANDLE_LOOP,
        Kind.HANDLE_ASTRAY,
    }
)


@dataclass
class Counts:
    """How much was looked at so far."""

    files: int = 0
    """Names that are not directories."""
    directories: int = 0
    handles: int = 0


class Scan:
    """One check of a brick; ``findings`` is to be called once. All raise OSError."""

    def __init__(
        self,
        ground: Ground,
        *,
        live: bool,
        recorded: bool | None = None,
        volume_id: bytes | None = None,
    ) -> None:
        """``recorded``: names and gfid2path xattrs must agree. None: if 3 files of 4 have some.

        ``volume_id``: what the brick must carry; without it, it need only be well-formed, and be
        there if glusterd made the brick.
        """
        self.counts = Counts()
        self._ground = ground
        self._live = live
        self._volume_id = volume_id
        self._known = Known()
        recorded = self._names_are_recorded() if recorded is None else recorded
        self._xattrs = XattrRules(ground, recorded=recorded)
        self._names = NameRules(ground, self._known, self._xattrs)
        self._handles = HandleRules(ground, self._known, self._xattrs, complete=not live)
        self._failed: list[Finding] = []

    def findings(self) -> Iterator[Finding]:
        """Yield what is wrong, as it is found; a finding may be mended before the next is asked.

        Few are kept back until the end: files without a gfid, and files with other links whose
        handle is missing.
        """
        yield from self._root()
        yield from self._settled(self._tree())
        if self._failed:  # then some names were not seen
            self._handles = HandleRules(self._ground, self._known, self._xattrs, complete=False)
        yield from self._leftovers()
        yield from self._settled(self._hashes())
        yield from self._settled(Suspicion(each, each) for each in self._known.doubts.values())
        yield from self._failed

    # ---- the root ----

    def _root(self) -> Iterator[Finding]:
        root, here = self._ground.root, path_of([])
        found = xattrs.find(root, keys.VOLUME_ID)
        if found is None:
            by_glusterd = status(b"indices", self._ground.hidden) is not None
            if by_glusterd or self._volume_id:
                yield Finding(Kind.VOLUME_ID, here, f"no {keys.VOLUME_ID}")
        elif len(found) != 16 or self._volume_id not in (None, found):
            yield Finding(Kind.VOLUME_ID, here, f"it is 0x{found[:64].hex()}")
        gfid = xattrs.find(root, keys.GFID)
        if gfid != ROOT:
            detail = "it has none" if gfid is None else f"it is 0x{gfid[:64].hex()}"
            yield Finding(Kind.ROOT_GFID, here, detail)
        path = HIDDEN + b"/" + self._ground.handle(ROOT)
        try:
            target = self._ground.target(ROOT)
        except FileNotFoundError:
            yield Finding(Kind.ROOT_HANDLE, path, "there is no such link", ROOT)
        else:
            if target != ROOT_TARGET:
                yield Finding(Kind.ROOT_HANDLE, path, "it leads elsewhere", ROOT)
        yield from self._xattrs.mdata(here, root)

    # ---- names ----

    def _tree(self) -> Iterator[Suspicion]:
        top = Folder(os.dup(self._ground.root), b"", ROOT, sound=True)
        for folder, name in walk(top, self._note):
            try:
                seen = self._names.examine(folder, name)
            except OSError as error:
                self._note(folder.path + name, error)
                continue
            if seen is None:
                continue
            if seen.is_directory:
                self.counts.directories += 1
            else:
                self.counts.files += 1
            mended = bool(seen.findings)
            for finding in seen.findings:
                if seen.is_directory and finding.gfid:
                    self._known.lost.add(finding.gfid)
                if self._is_doubt(finding, seen):
                    self._known.doubts.setdefault(seen.status.st_ino, finding)
                    continue
                if finding.kind in _BLAMING and finding.gfid is not None:
                    self._known.blamed.add(finding.gfid)
                yield Suspicion(finding, finding)
            if mended and not self._live:  # perhaps by now
                seen = self._names.examine(folder, name) or seen
            self._learn(folder, name, seen)

    def _is_doubt(self, finding: Finding, seen: Seen) -> bool:
        if finding.kind is Kind.HANDLE_MISSING:
            return seen.is_directory or seen.status.st_nlink > 1
        return finding.kind in _DOUBTFUL

    def _learn(self, folder: Folder, name: bytes, seen: Seen) -> None:
        if seen.is_directory:
            other = any(each.kind is Kind.OTHER_FILE_SYSTEM for each in seen.findings)
            if not other:
                folder.inner.append(Inner(name, seen.gfid, seen.sound))
            if seen.gfid and not any(each.gfid for each in seen.findings):
                link = self._ground.look(seen.gfid)
                if link is not None:
                    self._known.sound.add(link.st_ino)
        elif seen.sound:
            self._known.sound.add(seen.status.st_ino)

    def _note(self, path: bytes, error: OSError) -> None:
        if error.errno not in GONE:
            finding = Finding(Kind.UNREADABLE, path, error.strerror or str(error))
            self._failed.append(finding)

    # ---- what waits for removal ----

    def _leftovers(self) -> Iterator[Finding]:
        for kind, name in (Kind.UNLINK_LEFTOVER, b"unlink"), (Kind.LANDFILL_LEFTOVER, b"landfill"):
            found = status(name, self._ground.hidden)
            if found is None:
                continue
            path = HIDDEN + b"/" + name
            if not stat.S_ISDIR(found.st_mode):
                yield Finding(Kind.UNEXPECTED_ENTRY, path, stat.filemode(found.st_mode))
                continue
            self._learn_leftovers(path + b"/", open_directory(name, self._ground.hidden))
            if not self._live:
                with self._ground.opened(path) as number:
                    left = sorted(map(os.fsencode, os.listdir(number)))
                for each in left:
                    yield Finding(kind, path + b"/" + each)

    def _learn_leftovers(self, path: bytes, number: int) -> None:
        """Their handles go with them."""
        top = Folder(number, path, None, sound=False)
        for folder, name in walk(top, self._note):
            found = status(name, folder.number)
            if found is None or found.st_dev != self._ground.status.st_dev:
                continue
            self._known.quiet.add(found.st_ino)
            if stat.S_ISDIR(found.st_mode):
                folder.inner.append(Inner(name, None, sound=False))
                gfid = xattrs.find(inside(folder.number, name), keys.GFID)
                link = self._ground.look(gfid) if gfid and len(gfid) == 16 else None
                if link is not None and stat.S_ISLNK(link.st_mode):
                    self._known.quiet.add(link.st_ino)

    # ---- handles ----

    def _hashes(self) -> Iterator[Suspicion]:
        for first in filter(is_hash, self._entries(b"")):  # what has another name is others'
            yield from self._examined(first)
            for second in self._entries(first):
                yield from self._examined(second)
                if is_hash(second):
                    for handle in self._entries(second):
                        self.counts.handles += 1
                        yield from self._examined(handle)

    def _examined(self, path: bytes) -> Iterator[Suspicion]:
        try:
            yield from self._handles.examine(path)
        except OSError as error:
            self._note(HIDDEN + b"/" + path, error)

    def _entries(self, path: bytes) -> list[bytes]:
        """Return the paths in a directory of .glusterfs; none if it is no directory."""
        try:
            with self._ground.opened(HIDDEN + b"/" + path) as number:
                names = sorted(map(os.fsencode, os.listdir(number)))
        except OSError as error:
            self._note(HIDDEN + b"/" + path, error)
            return []
        return [path + b"/" + name if path else name for name in names]

    def _names_are_recorded(self) -> bool:
        """Look at files' handles until there were enough: gfids are random, so is the sample."""
        seen = recorded = 0
        for first in filter(is_hash, self._entries(b"")):
            for second in filter(is_hash, self._entries(first)):
                for handle in self._entries(second):
                    found = status(handle, self._ground.hidden)
                    if found is not None and not stat.S_ISLNK(found.st_mode):
                        seen += 1
                        recorded += has_record(inside(self._ground.hidden, handle))
                if seen >= _SAMPLE:
                    return recorded * 4 >= seen * 3
        return seen > 0 and recorded * 4 >= seen * 3

    # ---- looking again ----

    def _settled(self, suspicions: Iterable[Suspicion]) -> Iterator[Finding]:
        if not self._live:
            for suspicion in suspicions:
                yield suspicion.finding
            return
        coming = iter(suspicions)
        while batch := list(itertools.islice(coming, _BATCH)):
            for seconds in _LOOKS:
                if batch:
                    time.sleep(seconds)
                    batch = [each for each in batch if self._still(each.basis)]
            for suspicion in batch:
                yield suspicion.finding

    def _still(self, finding: Finding) -> bool:
        path = finding.path
        try:
            if path.startswith(HIDDEN + b"/"):
                return finding in self._handles.again(path)
            return finding in self._names.again(path)
        except OSError as error:
            self._note(path, error)
            return False
