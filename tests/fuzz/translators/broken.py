"""Translators that do not work at all, in the ways in which those of beginners do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glupy import PASS, Translator, fops, sleep
from glupy.views import Fd, Frame, Iatt, Loc


class Raises(Translator):
    def setxattr(self, frame: Frame, loc: Loc, *arguments: Any) -> Any:
        raise ZeroDivisionError("in setxattr")


class ReleaseRaises(Translator):
    def create(
        self, frame: Frame, loc: Loc, flags: int, mode: int, umask: int, fd: Fd, xdata: Any
    ) -> Any:
        fd.ctx = "open"
        return PASS

    def release(self, fd: Fd) -> None:
        raise ZeroDivisionError("in release")


class NeverAnswers(Translator):
    async def truncate(self, frame: Frame, loc: Loc, *arguments: Any) -> Any:
        await sleep(1_000_000)


class RemovesNothing(Translator):
    def unlink(self, frame: Frame, loc: Loc, *arguments: Any) -> Any:
        return fops.Unlink(Iatt(), Iatt())


class SyncComplains(Translator):
    def fsync(self, frame: Frame, fd: Fd, *arguments: Any) -> Any:
        self.log.error("a sync is not what it was")
        return PASS


class StartsOnce(Translator):
    def init(self) -> None:
        marker = Path(self.child.options["directory"]).with_name("started")
        if marker.exists():
            raise ValueError("once is enough")
        marker.touch()
