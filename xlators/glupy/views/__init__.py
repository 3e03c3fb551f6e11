"""Typed views of GlusterFS's C structs: what handlers get, and what they build replies from.

A view of an argument or a reply is valid while the handler that got it runs (for a coroutine: until
it ends); used later it raises ``ExpiredView``. What a translator makes itself (``Iatt()``,
``Dict({...})``, ``IoBuffer(n)``, ``inode.ref()``) is its own and lives as any Python object.
Views may be used from any thread; two threads that write to one at a time must agree among
themselves, as in C.
"""

from glupy.views.base import Gfid
from glupy.views.data import Iobref, IoBuffer, Vector
from glupy.views.dict import Dict, Mdata
from glupy.views.dirents import Dirent, Dirents
from glupy.views.frame import Client, Frame
from glupy.views.iatt import Iatt, Statvfs
from glupy.views.inode import Fd, Inode, Loc
from glupy.views.locks import Flock, Lease, Lock, Locks

__all__ = [
    "Client",
    "Dict",
    "Dirent",
    "Dirents",
    "Fd",
    "Flock",
    "Frame",
    "Gfid",
    "Iatt",
    "Inode",
    "IoBuffer",
    "Iobref",
    "Lease",
    "Loc",
    "Lock",
    "Locks",
    "Mdata",
    "Statvfs",
    "Vector",
]
