"""Data fops by anonymous fds, as features/shard sends them, and performance/open-behind."""

from typing import Any

from glupy import Dict, Fd, Frame, Loc, Translator, fops


class Unopened(Translator):
    """Opens no file below, and sends all that is done to an open one by an anonymous fd."""

    def open(self, frame: Frame, loc: Loc, flags: int, fd: Fd, xdata: Dict | None) -> fops.Open:
        return fops.Open(fd)


def _handler(name: str) -> Any:
    async def handler(self: Unopened, frame: Frame, fd: Fd, *arguments: Any) -> Any:
        return await getattr(self.child, name)(fd.inode.anonymous_fd(), *arguments)

    return handler


for _name in "readv", "writev", "discard", "zerofill", "fallocate", "seek":
    setattr(Unopened, _name, _handler(_name))
