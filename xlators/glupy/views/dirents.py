"""What readdir and readdirp return: a list of directory entries (``gf_dirent_t``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from glupy._bridge import ffi, lib
from glupy.views.base import ALWAYS, NULL, View, encoded, text
from glupy.views.dict import Dict
from glupy.views.iatt import Iatt
from glupy.views.inode import Inode

DIRENT_BYTES: int = ffi.sizeof("struct _gf_dirent")
"""What an entry counts of a reply's size besides its name and a NUL (posix-inode-fd-ops.c)."""


class Dirent:
    """One entry of a directory.

    ``d_off`` is where the next entry begins (what the client passes to read on), ``d_type`` a
    ``DT_*`` of readdir(3). readdirp fills ``d_stat``, ``dict`` and ``inode`` too.
    """

    __slots__ = ("d_ino", "d_name", "d_off", "d_stat", "d_type", "dict", "inode")

    def __init__(
        self,
        d_name: str,
        d_ino: int = 0,
        d_off: int = 0,
        d_type: int = 0,
        d_stat: Iatt | None = None,
        dict: Dict | None = None,
        inode: Inode | None = None,
    ) -> None:
        self.d_name = d_name
        self.d_ino = d_ino
        self.d_off = d_off
        self.d_type = d_type
        self.d_stat = d_stat
        self.dict = dict
        self.inode = inode

    def __repr__(self) -> str:
        return f"Dirent({self.d_name!r}, ino={self.d_ino}, off={self.d_off}, type={self.d_type})"


class Dirents(View, Sequence[Dirent]):
    """The entries of a reply. Read as a sequence; a changed list is unwound as a new list."""

    __slots__ = ("_entries",)

    def __init__(self, c: Any, scope: Any, owner: Any = None) -> None:
        super().__init__(c, scope, owner)
        self._entries: list[Dirent] | None = None

    @classmethod
    def empty(cls) -> Dirents:
        """Return an empty list of its own, for C to fill."""
        c = ffi.gc(lib.glupy_dirents_new(), lib.glupy_dirents_free)
        if not c:
            raise MemoryError
        return cls(c, ALWAYS)

    def answer(self, make: Callable[[Dirent], Dict | None]) -> None:
        """Give each entry the dict that ``make`` returns for it. Only of a list of its own."""
        head = self.c
        entry = head.next
        while entry != head:
            answers = make(self._entry(entry))
            if answers is not None:
                entry.dict = lib.dict_ref(answers.c)
            entry = entry.next
        self._entries = None

    def _all(self) -> list[Dirent]:
        head = self.c
        if self._entries is None:
            found = []
            entry = head.next
            while entry != head:
                found.append(self._entry(entry))
                entry = entry.next
            self._entries = found
        return self._entries

    def _entry(self, c: Any) -> Dirent:
        scope, owner = self._scope, self._owner
        name = text(c.d_name)
        assert name is not None
        return Dirent(
            name,
            c.d_ino,
            c.d_off,
            c.d_type,
            Iatt(ffi.addressof(c, "d_stat"), scope, owner),
            Dict(c.dict, scope, owner) if c.dict else None,
            Inode(c.inode, scope, owner) if c.inode else None,
        )

    def __len__(self) -> int:
        return len(self._all())

    def __getitem__(self, index: Any) -> Any:
        return self._all()[index]

    def __iter__(self) -> Iterator[Dirent]:
        return iter(self._all())

    def __repr__(self) -> str:
        return f"Dirents({self._all()})"

    __eq__ = View.__eq__
    __hash__ = View.__hash__


def to_c(entries: Dirents | Iterable[Dirent] | None) -> Any:
    """Return the entries as a C list, valid as long as the returned pointer."""
    if entries is None:
        return NULL
    if isinstance(entries, Dirents):
        return entries.c
    head = ffi.gc(lib.glupy_dirents_new(), lib.glupy_dirents_free)
    for entry in entries:
        c = lib.glupy_dirent_add(head, encoded(entry.d_name))
        if not c:
            raise MemoryError
        c.d_ino, c.d_off, c.d_type = entry.d_ino, entry.d_off, entry.d_type
        c.d_len = len(ffi.string(c.d_name))
        if entry.d_stat is not None:
            c.d_stat = entry.d_stat.c[0]
        if entry.dict is not None:
            c.dict = lib.dict_ref(entry.dict.c)
        if entry.inode is not None:
            c.inode = lib.inode_ref(entry.inode.c)
    return head
