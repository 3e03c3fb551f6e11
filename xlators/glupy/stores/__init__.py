"""Stores under bricks: a sparse loop file, its loop device, a file system on it, and its mount.

Made, found again and unmade by whoever runs or tests a brick; never loaded by a brick itself. All
of it needs root. Each failure is one `StoreError` whose text is a line for the operator.

A store is undone by looking at what is there (the kernel's list of loop devices and mounts), never
by remembering what was done. So an undo may be registered before its making starts, it may come
after a failure or Ctrl-C at any point, and a store that a killed process left is unmade the same
way.
"""

from glupy.stores.commands import ENDING, StoreError, held_back, run
from glupy.stores.loops import attach, blocks, detach, devices_of, loop_device
from glupy.stores.mounts import (
    FileSystem,
    make_file_system,
    mount,
    mount_of,
    mounted,
    read_only,
    refuse_mounted,
    settled,
    unmount,
)
from glupy.stores.store import Store, find, make, store, unmake

__all__ = [
    "ENDING",
    "FileSystem",
    "Store",
    "StoreError",
    "attach",
    "blocks",
    "detach",
    "devices_of",
    "find",
    "held_back",
    "loop_device",
    "make",
    "make_file_system",
    "mount",
    "mount_of",
    "mounted",
    "read_only",
    "refuse_mounted",
    "run",
    "settled",
    "store",
    "unmake",
    "unmount",
]
