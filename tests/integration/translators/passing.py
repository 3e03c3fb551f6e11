"""A translator that asks for itself to be passed by."""

from __future__ import annotations

from collections import Counter

from glupy import PASS, Dict, Fd, Frame, Loc, Pass, Translator


class Passing(Translator):
    """Counts what it is asked; setxattr user.pass says whether reads and stats pass by."""

    passed_fops = ("readv", "fstat", "stat")

    def init(self) -> None:
        """Begin to count."""
        self.asked: Counter[str] = Counter()

    def readv(
        self, frame: Frame, fd: Fd, size: int, offset: int, flags: int, xdata: Dict | None
    ) -> Pass:
        self.asked["readv"] += 1
        return PASS

    def fstat(self, frame: Frame, fd: Fd, xdata: Dict | None) -> Pass:
        self.asked["fstat"] += 1
        return PASS

    def setxattr(self, frame: Frame, loc: Loc, dict: Dict, flags: int, xdata: Dict | None) -> Pass:
        assert loc.inode is not None
        before = loc.inode.passes
        loc.inode.passes = dict.get_bytes("user.pass") == b"yes"
        self.log.info("passes: %s, then %s", before, loc.inode.passes)
        return PASS
