"""Calls on names, and those that open and close files."""

import errno
import os
from dataclasses import dataclass
from typing import Any

from glupy.testing.fuzz.model import Handle, VolumeModel
from glupy.testing.fuzz.side import Side
from glupy.testing.fuzz.steps.base import Plan, Step, opened, touched_by_truncate
from glupy.testing.gfapi import Reply


@dataclass(frozen=True)
class Create(Step):
    """creat: make a file, or open the one that has the name."""

    takes_space = True

    handle: int
    name: str
    flags: int = os.O_RDWR

    def plan(self, volume: VolumeModel) -> Plan:
        there = volume.names.get(self.name)
        if there is not None and self.flags & os.O_EXCL:
            return Plan(errno.EEXIST)

        file = there or volume.new_file()
        truncates = there is None or self.flags & os.O_TRUNC

        def change() -> None:
            volume.names[self.name] = file
            if truncates:
                file.truncate(0)
            volume.handles[self.handle] = Handle(file, self.flags)

        return Plan(change=change, touches=(file,) if truncates else ())

    def call(self, side: Side) -> None:
        side.files[self.handle] = side.client(self.handle).creat("/" + self.name, self.flags)


@dataclass(frozen=True)
class Open(Step):
    handle: int
    name: str
    flags: int

    def plan(self, volume: VolumeModel) -> Plan:
        file = volume.names.get(self.name)
        if file is None:
            return Plan(errno.ENOENT)

        def change() -> None:
            if self.flags & os.O_TRUNC:
                file.truncate(0)
            volume.handles[self.handle] = Handle(file, self.flags)

        return Plan(change=change, touches=(file,) if self.flags & os.O_TRUNC else ())

    @property
    def modifies(self) -> bool:
        return bool(self.flags & (os.O_ACCMODE | os.O_TRUNC))

    def call(self, side: Side) -> None:
        side.files[self.handle] = side.client(self.handle).open("/" + self.name, self.flags)


@dataclass(frozen=True)
class Close(Step):
    modifies = False

    handle: int

    def plan(self, volume: VolumeModel) -> Plan:
        opened(volume, self.handle)
        return Plan(change=lambda: volume.handles.pop(self.handle))

    def call(self, side: Side) -> None:
        side.files.pop(self.handle).close()


@dataclass(frozen=True)
class Link(Step):
    takes_space = True

    client: int
    old: str
    new: str

    def plan(self, volume: VolumeModel) -> Plan:
        file = volume.names.get(self.old)
        if file is None:
            return Plan(errno.ENOENT)
        if self.new in volume.names:
            return Plan(errno.EEXIST)

        def change() -> None:
            volume.names[self.new] = file
            file.links += 1

        return Plan(change=change, marks=(file,))

    def call(self, side: Side) -> None:
        side.client(self.client).link("/" + self.old, "/" + self.new)


@dataclass(frozen=True)
class Rename(Step):
    takes_space = True

    client: int
    old: str
    new: str

    def plan(self, volume: VolumeModel) -> Plan:
        names = volume.names
        file, victim = names.get(self.old), names.get(self.new)
        if file is None:
            return Plan(errno.ENOENT)
        if file is victim:
            return Plan()  # rename(2): two names of one file stay

        def change() -> None:
            if victim is not None:
                volume.remove(self.new)
                victim.taken.add(self.new)
            names[self.new] = names.pop(self.old)

        return Plan(change=change, marks=(file,) if victim is None else (file, victim))

    def call(self, side: Side) -> None:
        side.client(self.client).rename("/" + self.old, "/" + self.new)


@dataclass(frozen=True)
class Unlink(Step):
    client: int
    name: str

    def plan(self, volume: VolumeModel) -> Plan:
        file = volume.names.get(self.name)
        if file is None:
            return Plan(errno.ENOENT)

        def change() -> None:
            volume.remove(self.name)
            file.taken.discard(self.name)

        return Plan(change=change, marks=(file,))

    def call(self, side: Side) -> None:
        side.client(self.client).unlink("/" + self.name)


@dataclass(frozen=True)
class Stat(Step):
    modifies = False

    client: int
    name: str

    def plan(self, volume: VolumeModel) -> Plan:
        file = volume.names.get(self.name)
        return Plan(errno.ENOENT) if file is None else Plan(file=file)

    def call(self, side: Side) -> Any:
        return Reply(None, None, side.client(self.client).stat("/" + self.name))


@dataclass(frozen=True)
class TruncatePath(Step):
    client: int
    name: str
    size: int

    def plan(self, volume: VolumeModel) -> Plan:
        file = volume.names.get(self.name)
        if file is None:
            return Plan(errno.ENOENT)
        touches = touched_by_truncate(volume, file, self.size)
        return Plan(file=file, change=lambda: file.truncate(self.size), touches=touches)

    def call(self, side: Side) -> None:
        side.client(self.client).truncate("/" + self.name, self.size)
