"""Reads and writes of files that nobody has opened: libgfapi has an anonymous fd for that."""

import errno
from dataclasses import dataclass
from functools import partial

from glupy.testing.fuzz.model import VolumeModel, pattern
from glupy.testing.fuzz.side import Side
from glupy.testing.fuzz.steps.base import Plan, Step


@dataclass(frozen=True)
class AnonymousRead(Step):
    modifies = False

    client: int
    name: str
    offset: int
    length: int

    def plan(self, volume: VolumeModel) -> Plan:
        file = volume.names.get(self.name)
        if file is None:
            return Plan(errno.ENOENT)
        data = bytes(file.data[self.offset : self.offset + self.length])
        return Plan(value=data, change=partial(file.look_at, self.offset))

    def call(self, side: Side) -> bytes:
        with side.client(self.client).find("/" + self.name) as found:
            return found.read(self.length, self.offset)


@dataclass(frozen=True)
class AnonymousWrite(Step):
    """Of ``pattern(seed, length)``."""

    takes_space = True

    client: int
    name: str
    offset: int
    length: int
    seed: int

    def plan(self, volume: VolumeModel) -> Plan:
        file = volume.names.get(self.name)
        if file is None:
            return Plan(errno.ENOENT)
        change = partial(file.put, self.offset, pattern(self.seed, self.length))
        return Plan(value=self.length, file=file, change=change, touches=(file,))

    def call(self, side: Side) -> int:
        with side.client(self.client).find("/" + self.name) as found:
            return found.write(pattern(self.seed, self.length), self.offset)
