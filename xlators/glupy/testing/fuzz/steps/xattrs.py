"""Calls on extended attributes."""

import errno
import os
from dataclasses import dataclass
from functools import partial

from glupy.testing.fuzz.model import VolumeModel
from glupy.testing.fuzz.side import Side
from glupy.testing.fuzz.steps.base import Plan, Step


@dataclass(frozen=True)
class Setxattr(Step):
    takes_space = True

    client: int
    name: str
    key: str
    value: bytes
    flags: int = 0

    def plan(self, volume: VolumeModel) -> Plan:
        file = volume.names.get(self.name)
        if file is None:
            return Plan(errno.ENOENT)
        if self.flags & os.XATTR_CREATE and self.key in file.xattrs:
            return Plan(errno.EEXIST)
        if self.flags & os.XATTR_REPLACE and self.key not in file.xattrs:
            return Plan(errno.ENODATA)
        change = partial(file.xattrs.__setitem__, self.key, self.value)
        # Of the value that there is ext4 makes nothing (ext4_xattr_set_handle).
        marks = (file,) if file.xattrs.get(self.key) != self.value else ()
        return Plan(change=change, marks=marks)

    def call(self, side: Side) -> None:
        client = side.client(self.client)
        client.setxattr("/" + self.name, self.key, self.value, self.flags)

    def arguments(self) -> str:
        how = {0: "", os.XATTR_CREATE: ", XATTR_CREATE", os.XATTR_REPLACE: ", XATTR_REPLACE"}
        return f"name {self.name}, {self.key}={self.value!r}{how[self.flags]}"


def _missing(volume: VolumeModel, name: str, key: str) -> int:
    """The errno of a file that is not there, or has no such xattr; 0: it has."""
    file = volume.names.get(name)
    if file is None:
        return errno.ENOENT
    return 0 if key in file.xattrs else errno.ENODATA


@dataclass(frozen=True)
class Getxattr(Step):
    modifies = False

    client: int
    name: str
    key: str

    def plan(self, volume: VolumeModel) -> Plan:
        if missing := _missing(volume, self.name, self.key):
            return Plan(missing)
        file = volume.names[self.name]
        return Plan(value=file.xattrs[self.key])

    def call(self, side: Side) -> bytes:
        return side.client(self.client).getxattr("/" + self.name, self.key)


@dataclass(frozen=True)
class Removexattr(Step):
    client: int
    name: str
    key: str

    def plan(self, volume: VolumeModel) -> Plan:
        if missing := _missing(volume, self.name, self.key):
            return Plan(missing)
        file = volume.names[self.name]
        return Plan(change=partial(file.xattrs.pop, self.key), marks=(file,))

    def call(self, side: Side) -> None:
        side.client(self.client).removexattr("/" + self.name, self.key)
