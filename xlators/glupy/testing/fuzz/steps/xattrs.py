"""Calls on extended attributes, by name and by handle."""

import errno
import os
from dataclasses import dataclass
from functools import partial

from glupy.testing.fuzz.model import FileModel, VolumeModel
from glupy.testing.fuzz.side import Side
from glupy.testing.fuzz.steps.base import OnHandle, Plan, Step

USER = "user."
"""What a key of a user's begins with."""
_GLUSTERFS = "user.glusterfs."
"""What one begins with that clients of GlusterFS's own alone may see, such as pybd's."""
_FLAGS = {0: "", os.XATTR_CREATE: ", XATTR_CREATE", os.XATTR_REPLACE: ", XATTR_REPLACE"}


def _set(file: FileModel | None, key: str, value: bytes, flags: int) -> Plan:
    if file is None:
        return Plan(errno.ENOENT)
    if flags & os.XATTR_CREATE and key in file.xattrs:
        return Plan(errno.EEXIST)
    if flags & os.XATTR_REPLACE and key not in file.xattrs:
        return Plan(errno.ENODATA)
    change = partial(file.xattrs.__setitem__, key, value)
    # Of the value that there is ext4 makes nothing (ext4_xattr_set_handle).
    marks = (file,) if file.xattrs.get(key) != value else ()
    return Plan(change=change, marks=marks)


def _get(file: FileModel | None, key: str) -> Plan:
    if file is None:
        return Plan(errno.ENOENT)
    return Plan(value=file.xattrs[key]) if key in file.xattrs else Plan(errno.ENODATA)


def _remove(file: FileModel | None, key: str) -> Plan:
    plan = _get(file, key)
    if plan.errno or file is None:
        return plan
    return Plan(change=partial(file.xattrs.pop, key), marks=(file,))


@dataclass(frozen=True)
class Setxattr(Step):
    takes_space = True

    client: int
    name: str
    key: str
    value: bytes
    flags: int = 0

    def plan(self, volume: VolumeModel) -> Plan:
        return _set(volume.names.get(self.name), self.key, self.value, self.flags)

    def call(self, side: Side) -> None:
        client = side.client(self.client)
        client.setxattr("/" + self.name, self.key, self.value, self.flags)

    def arguments(self) -> str:
        return f"name {self.name}, {self.key}={self.value!r}{_FLAGS[self.flags]}"


@dataclass(frozen=True)
class Getxattr(Step):
    modifies = False

    client: int
    name: str
    key: str

    def plan(self, volume: VolumeModel) -> Plan:
        return _get(volume.names.get(self.name), self.key)

    def call(self, side: Side) -> bytes:
        return side.client(self.client).getxattr("/" + self.name, self.key)


@dataclass(frozen=True)
class Removexattr(Step):
    client: int
    name: str
    key: str

    def plan(self, volume: VolumeModel) -> Plan:
        return _remove(volume.names.get(self.name), self.key)

    def call(self, side: Side) -> None:
        side.client(self.client).removexattr("/" + self.name, self.key)


@dataclass(frozen=True)
class Fsetxattr(OnHandle):
    takes_space = True

    handle: int
    key: str
    value: bytes
    flags: int = 0

    def plan(self, volume: VolumeModel) -> Plan:
        return _set(self.opened(volume).file, self.key, self.value, self.flags)

    def call(self, side: Side) -> None:
        side.files[self.handle].fsetxattr(self.key, self.value, self.flags)

    def arguments(self) -> str:
        return f"handle {self.handle}, {self.key}={self.value!r}{_FLAGS[self.flags]}"


@dataclass(frozen=True)
class Fgetxattr(OnHandle):
    modifies = False

    handle: int
    key: str

    def plan(self, volume: VolumeModel) -> Plan:
        return _get(self.opened(volume).file, self.key)

    def call(self, side: Side) -> bytes:
        return side.files[self.handle].fgetxattr(self.key)


@dataclass(frozen=True)
class Flistxattr(OnHandle):
    """A user's keys, in order."""

    modifies = False

    handle: int

    def plan(self, volume: VolumeModel) -> Plan:
        return Plan(value=sorted(self.opened(volume).file.xattrs))

    def call(self, side: Side) -> list[str]:
        keys = {key for key in side.files[self.handle].flistxattr() if key.startswith(USER)}
        if side.trouble.internal:
            keys = {key for key in keys if not key.startswith(_GLUSTERFS)}
        return sorted(keys)


@dataclass(frozen=True)
class Fremovexattr(OnHandle):
    handle: int
    key: str

    def plan(self, volume: VolumeModel) -> Plan:
        return _remove(self.opened(volume).file, self.key)

    def call(self, side: Side) -> None:
        side.files[self.handle].fremovexattr(self.key)
