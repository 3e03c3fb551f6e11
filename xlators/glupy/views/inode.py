"""Files as GlusterFS knows them: inode, fd and loc; and what a translator remembers of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from glupy._bridge import ffi, lib
from glupy.enums import FileType
from glupy.views.base import ALWAYS, NULL, Gfid, Scope, View, encoded, gfid_of, store_gfid, text

_CHARS = ffi.typeof("char **")


class _WithContext(View):
    """An inode or fd: it carries one Python object for each translator, its context.

    ``inode.ctx = object`` keeps it until the inode is forgotten (an fd: released), until
    ``del inode.ctx``, or until the translator's fini. Where two inodes of one file race, the
    context moves to the one that stays (``ictxmerge``). Each translator sees its own only.
    """

    __slots__ = ()

    @property
    def _contexts(self) -> dict[Any, Any]:
        raise NotImplementedError

    def _mark(self) -> None:
        """Have GlusterFS call forget (release) when this object goes."""

    @property
    def ctx(self) -> Any:
        """What this translator remembers here; None if nothing."""
        return self._contexts.get(self.c)

    @ctx.setter
    def ctx(self, value: Any) -> None:
        contexts, c = self._contexts, self.c
        known = c in contexts
        contexts[c + 0] = value  # a plain pointer: the key must not hold a reference
        if not known:
            self._mark()

    @ctx.deleter
    def ctx(self) -> None:
        self._contexts.pop(self.c, None)

    def ctx_or(self, make: Callable[[], Any]) -> Any:
        """Return the context; if there is none, ``make()`` one. All threads get the same."""
        contexts, c = self._contexts, self.c
        found = contexts.get(c)
        if found is None:
            made = make()
            found = contexts.setdefault(c + 0, made)
            if found is made:
                self._mark()
        return found


class Inode(_WithContext):
    """``inode_t``: a file that GlusterFS has in memory."""

    __slots__ = ()

    @property
    def _contexts(self) -> dict[Any, Any]:
        contexts: dict[Any, Any] = self._scope.translator._inode_contexts
        return contexts

    def _mark(self) -> None:
        lib.quick_mark_inode(self._c, self._scope.translator._this)

    @property
    def passes(self) -> bool:
        """Whether the translator's ``passed_fops`` pass it by, where they are about this inode.

        It can be set back at any time; a fop that is passing then is not called back.
        """
        return bool(lib.quick_passes(self.c, self._scope.translator._this))

    @passes.setter
    def passes(self, value: bool) -> None:
        lib.quick_set_passes(self.c, self._scope.translator._this, value)

    @property
    def gfid(self) -> Gfid:
        """The file's gfid; ``Gfid.NULL`` until the inode is linked (a lookup's reply is)."""
        return gfid_of(self.c.gfid)

    @property
    def ia_type(self) -> FileType:
        """What kind of file it is; INVAL until the inode is linked."""
        return FileType(self.c.ia_type)

    @property
    def path(self) -> str | None:
        """A path of the file from the root of the volume, as far as this process knows it."""
        found = ffi.new(_CHARS)
        if lib.inode_path(self.c, NULL, found) < 0:
            return None
        try:
            return text(found[0])
        finally:
            lib.glupy_free(found[0])

    @property
    def fd_count(self) -> int:
        """How many fds are open."""
        return int(self.c.fd_count)

    @property
    def active_fd_count(self) -> int:
        """How many fds are open and not yet closed by their clients."""
        return int(self.c.active_fd_count)

    def grep(self, name: str) -> Inode | None:
        """Return the inode of an entry of this directory, if GlusterFS has it in memory."""
        c = self.c
        return self._owned(lib.inode_grep(c.table, c, encoded(name)))

    def find(self, gfid: bytes) -> Inode | None:
        """Return the inode of ``gfid`` in the same table, holding a reference; None if unknown."""
        return self._owned(lib.inode_find(self.c.table, bytes(gfid)))

    def new(self) -> Inode:
        """Return a new inode in the same table, not linked yet, holding a reference."""
        made = self._owned(lib.inode_new(self.c.table))
        if made is None:
            raise MemoryError
        return made

    def parent(self) -> Inode | None:
        """Return the inode of a directory that this one is in, if GlusterFS has it in memory."""
        return self._owned(lib.inode_parent(self.c, NULL, NULL))

    def anonymous_fd(self) -> Fd:
        """Return an fd of this file that nobody opened, for reading and writing; its own reference.

        A leaf opens such a file by its gfid. MemoryError if there is none to be had.
        """
        c = lib.fd_anonymous(self.c)
        if not c:
            raise MemoryError
        return Fd(ffi.gc(c, lib.fd_unref), Scope(self._scope.translator))

    def ref(self) -> Inode:
        """Return a view with a reference of its own: valid until it is garbage, on any thread.

        Drop it before ``notify`` returns from PARENT_DOWN; not in ``forget``.
        """
        made = self._owned(lib.inode_ref(self.c))
        if made is None:
            raise MemoryError
        return made

    def _owned(self, c: Any) -> Inode | None:
        if not c:
            return None
        return Inode(ffi.gc(c, lib.inode_unref), Scope(self._scope.translator))

    def __repr__(self) -> str:
        return f"Inode({self.gfid})"


class Fd(_WithContext):
    """``fd_t``: an open file or directory, or an anonymous fd that nobody opened."""

    __slots__ = ()

    @property
    def _contexts(self) -> dict[Any, Any]:
        contexts: dict[Any, Any] = self._scope.translator._fd_contexts
        return contexts

    def _mark(self) -> None:
        lib.quick_mark_fd(self._c, self._scope.translator._this)

    @property
    def inode(self) -> Inode:
        """The file that is open."""
        return Inode(self.c.inode, self._scope, self._owner)

    @property
    def flags(self) -> int:
        """The flags of open(2)."""
        return int(self.c.flags)

    @property
    def pid(self) -> int:
        """The process that opened it, on the client."""
        return int(self.c.pid)

    @property
    def anonymous(self) -> bool:
        """Whether nobody opened it: a leaf opens such a file itself, by its gfid."""
        return bool(self.c.anonymous)

    def ref(self) -> Fd:
        """Return a view with a reference of its own: valid until it is garbage, on any thread.

        Drop it before ``notify`` returns from PARENT_DOWN.
        """
        return Fd(ffi.gc(lib.fd_ref(self.c), lib.fd_unref), Scope(self._scope.translator))

    def __repr__(self) -> str:
        return f"Fd({self.inode.gfid}, flags=0{self.flags:o})"


class Loc(View):
    """``loc_t``: a file by path, by parent and name, or by gfid.

    ``Loc(parent=inode, name="x", ...)`` makes one to wind with; it holds references to its inodes.
    """

    __slots__ = ()

    def __init__(
        self,
        c: Any = None,
        scope: Any = ALWAYS,
        owner: Any = None,
        *,
        path: str | None = None,
        name: str | None = None,
        inode: Inode | None = None,
        parent: Inode | None = None,
        gfid: bytes | None = None,
        pargfid: bytes | None = None,
    ) -> None:
        if c is None:
            given = ffi.new("loc_t *")
            strings = [
                ffi.new("char[]", encoded(s)) if s is not None else NULL for s in (path, name)
            ]
            given.path, given.name = strings
            given.inode = inode.c if inode else NULL
            given.parent = parent.c if parent else NULL
            if gfid is not None:
                store_gfid(given.gfid, gfid)
            if pargfid is not None:
                store_gfid(given.pargfid, pargfid)
            c = ffi.gc(lib.glupy_loc_keep(given), lib.glupy_loc_free)
            view = inode or parent
            scope = Scope(view._scope.translator if view else None)
        super().__init__(c, scope, owner)

    @property
    def ctx(self) -> Any:
        """What this translator remembers of the file: ``loc.inode.ctx``; None without an inode."""
        c = self.c.inode
        return self._scope.translator._inode_contexts.get(c) if c else None

    @property
    def parent_ctx(self) -> Any:
        """What it remembers of the directory: ``loc.parent.ctx``; None without a parent inode."""
        c = self.c.parent
        return self._scope.translator._inode_contexts.get(c) if c else None

    @property
    def path(self) -> str | None:
        """The path from the root of the volume, if known."""
        return text(self.c.path)

    @property
    def name(self) -> str | None:
        """The last component; None or empty where the file is meant by its gfid alone."""
        return text(self.c.name)

    @property
    def inode(self) -> Inode | None:
        """The file itself; not linked yet where the fop is to make or find it."""
        c = self.c.inode
        return Inode(c, self._scope, self._owner or self) if c else None

    @property
    def parent(self) -> Inode | None:
        """The directory."""
        c = self.c.parent
        return Inode(c, self._scope, self._owner or self) if c else None

    @property
    def gfid(self) -> Gfid:
        """The gfid that the caller gives for the file; ``Gfid.NULL`` if none."""
        return gfid_of(self.c.gfid)

    @property
    def pargfid(self) -> Gfid:
        """The gfid that the caller gives for the directory."""
        return gfid_of(self.c.pargfid)

    def target(self) -> Gfid:
        """Return the file's gfid, from the loc or else from its inode."""
        return self._either(self.gfid, self.c.inode)

    def directory(self) -> Gfid:
        """Return the directory's gfid, from the loc or else from the parent inode."""
        return self._either(self.pargfid, self.c.parent)

    @staticmethod
    def _either(given: Gfid, inode: Any) -> Gfid:
        return given if given or not inode else gfid_of(inode.gfid)

    def __repr__(self) -> str:
        return f"Loc({self.path or self.name or self.target()})"
