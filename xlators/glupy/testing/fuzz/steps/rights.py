"""Calls on who may do what with a file."""

import errno
import stat
from dataclasses import dataclass

from glupy.testing.fuzz.model import Rights, VolumeModel
from glupy.testing.fuzz.side import Side
from glupy.testing.fuzz.steps.base import Plan, Step


@dataclass(frozen=True)
class Chmod(Step):
    client: int
    name: str
    mode: int

    def plan(self, volume: VolumeModel) -> Plan:
        file = volume.names.get(self.name)
        if file is None:
            return Plan(errno.ENOENT)

        def change() -> None:
            if file.rights is not None:
                file.rights = file.rights._replace(mode=self.mode)

        return Plan(change=change, marks=(file,))

    def call(self, side: Side) -> None:
        side.client(self.client).chmod("/" + self.name, self.mode)

    def arguments(self) -> str:
        return f"client {self.client}, name {self.name}, mode {self.mode:#o}"


@dataclass(frozen=True)
class Chown(Step):
    client: int
    name: str
    uid: int
    gid: int

    def plan(self, volume: VolumeModel) -> Plan:
        file = volume.names.get(self.name)
        if file is None:
            return Plan(errno.ENOENT)

        def change() -> None:
            if file.rights is not None:  # chown(2): an executable is nobody's any more
                mode = file.rights.mode & ~stat.S_ISUID
                if mode & stat.S_IXGRP:
                    mode &= ~stat.S_ISGID
                file.rights = Rights(mode, self.uid, self.gid)

        return Plan(change=change, marks=(file,))

    def call(self, side: Side) -> None:
        side.client(self.client).chown("/" + self.name, self.uid, self.gid)
