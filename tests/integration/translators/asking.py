"""A translator for a client's graph: it sends xdata that a test chooses, and keeps the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from glupy import PASS, Fd, FopError, Frame, Iatt, Loc, Option, Pass, Translator, fops
from glupy.options import path
from glupy.views import Dict

Fill = Callable[[Dict], None]


def plain(value: Any) -> Any:
    """What is left of a value when its fop has ended: of attributes what kind of file, and size."""
    if isinstance(value, Dict):
        return {key: plain(value[key]) for key in sorted(value)}
    if isinstance(value, Iatt):
        return value.ia_type.name, value.ia_size, value.ia_nlink
    return value


class Asking(Translator):
    """Adds ``fill``'s keys to the xdata of every fop, and keeps each reply's dicts in ``answers``.

    ``replies`` has its attributes and numbers, too. ``rmdir`` takes whole trees if ``trees`` says
    so. The xattr ``ask.ancestry`` of an open file is a readdirp of it.
    """

    def init(self) -> None:
        self.fill: Fill | None = None
        self.trees = False
        self.answers: list[tuple[str, Mapping[str, Any]]] = []
        self.replies: list[tuple[str, Mapping[str, Any]]] = []

    async def wind(self, fop: fops.Fop, arguments: tuple[Any, ...]) -> Any:
        *given, xdata = arguments
        if self.fill is not None:
            xdata = Dict() if xdata is None else xdata.copy()
            self.fill(xdata)
        try:
            reply = await getattr(self.child, fop.name)(*given, xdata)
        except FopError as error:
            self.keep(fop, error.reply)
            raise
        self.keep(fop, reply)
        return reply

    def keep(self, fop: fops.Fop, reply: Any) -> None:
        if self.fill is None:
            return
        fields = reply._asdict()
        dicts = [name for name, value in fields.items() if isinstance(value, Dict)]
        kept = {
            name: plain(value)
            for name, value in fields.items()
            if value is None or isinstance(value, (Dict, Iatt, int))
        }
        self.replies.append((fop.name, kept))
        self.answers.append((fop.name, {name: kept[name] for name in dicts}))

    async def rmdir(self, frame: Frame, loc: Loc, xflags: int, xdata: Dict | None) -> fops.Rmdir:
        return await self.child.rmdir(loc, int(self.trees), xdata)

    async def fgetxattr(
        self, frame: Frame, fd: Fd, name: str | None, xdata: Dict | None
    ) -> fops.Fgetxattr:
        if name != "ask.ancestry":
            reply: fops.Fgetxattr = await self.wind(fops.TABLE["fgetxattr"], (fd, name, xdata))
            return reply
        asked = Dict({"glusterfs.ancestry.dentry": 1})
        listed = await self.child.readdirp(fd, 4096, 0, asked)
        names = ",".join(entry.d_name for entry in listed.entries or ())
        return fops.Fgetxattr(Dict({name: names.encode()}))


def _handler(fop: fops.Fop) -> Any:
    async def handler(self: Asking, frame: Frame, *arguments: Any) -> Any:
        return await self.wind(fop, arguments)

    return handler


for _fop in fops.TABLE.values():
    if _fop.name not in vars(Asking):
        setattr(Asking, _fop.name, _handler(_fop))


class LinksFirst(Translator):
    """Makes a symbolic link on the brick where a file is to be made, just before."""

    options = (Option("outside", path), Option("place", path))

    def create(self, *_: object) -> Pass:
        Path(self.option("place")).symlink_to(self.option("outside"))
        return PASS
