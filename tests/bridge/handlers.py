"""The translators of the tests' graph. What `Subject` does with a fop, each test says itself."""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import Any, ClassVar

from glupy import PASS, Dict, Fd, Frame, Gfid, Iatt, Inode, Loc, Translator, fops

Handler = Callable[["Subject", Any, Frame, tuple[Any, ...]], Any]
"""Called with the translator, the fop (of `fops.TABLE`), the frame and the fop's arguments."""


class Near(Translator):
    """Defines nothing. Stands for whoever winds."""


class Subject(Translator):
    """Gives every fop to the handler of the running test; without one, to the child."""

    handler: ClassVar[Handler | None] = None

    def told(self, event: str, it: Inode | Fd) -> None:
        """Does nothing, unless the running test puts something in its place."""

    def invalidate(self, inode: Inode) -> None:
        self.told("invalidate", inode)

    def fdclose(self, fd: Fd) -> None:
        self.told("fdclose", fd)

    def fdclosedir(self, fd: Fd) -> None:
        self.told("fdclosedir", fd)


class Far(Translator):
    """A leaf with a root, as libgfapi wants it, until the far end's fops are put in its place."""

    leaf = True

    def lookup(self, frame: Frame, loc: Loc, xdata: Dict | None) -> Any:
        root = Iatt()
        root.mode = stat.S_IFDIR | 0o755
        root.ia_gfid = Gfid.ROOT
        return fops.TABLE["lookup"].reply(loc.inode, root, None, Iatt())


def _method(fop: Any) -> Callable[..., Any]:
    def handle(self: Subject, frame: Frame, *arguments: Any) -> Any:
        if Subject.handler is None:
            return PASS
        return Subject.handler(self, fop, frame, arguments)

    return handle


for _fop in fops.TABLE.values():
    setattr(Subject, _fop.name, _method(_fop))
