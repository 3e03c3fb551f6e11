"""GlusterFS translators written in Python.

    from glupy import PASS, Translator

    class Quiet(Translator):
        def unlink(self, frame, loc, xflags, xdata):
            self.log.info("%s goes", loc.path)
            return PASS

The way of a fop, from C to Python and back:

1. A volfile names a type. GlusterFS loads ``XLATORDIR/TYPE.so``, which ``glupy install`` has linked
   to ``glupy/_bridge*.so``: a cffi extension that exports ``xlator_api`` too.
2. Its init starts the environment's Python, unless the process runs Python already, and imports
   ``glupy._entry``; that finds the class (``glupy.loading``), makes the instance, and puts a
   trampoline into the instance's own table of fops for each fop that the class defines.
3. A trampoline (``bridge/generate.py``) calls ``enter`` of its fop (``glupy.fops``) on a large
   stack. That wraps the arguments as views and asks the handler (``glupy.calls.Call``).
4. A reply is unwound there and then; ``PASS`` and plain errors go back to C as a verdict, so that
   C winds or unwinds without Python on the stack.
5. A coroutine is driven by a ``Task``. Before its first wind all arguments are held: counted
   objects referenced, the rest copied. A reply is copied by the C callback, which resumes the
   coroutine, unless the wind is still on its way: then that does (``bridge.h``).
6. Every fop is unwound once: by the reply, by an error, or with EIO if all else fails.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# Only names: `glupy.stores` and `glupy.testing` are for programs that need no bridge, so nothing of
# it is loaded before it is asked for.
_HOMES = {
    "PASS": "calls",
    "Lock": "calls",
    "OptionError": "errors",
    "Pass": "calls",
    "Cancelled": "errors",
    "Client": "views",
    "Dict": "views",
    "Dirent": "views",
    "Event": "enums",
    "ExpiredView": "errors",
    "Fd": "views",
    "FileType": "enums",
    "Flock": "views",
    "FopError": "errors",
    "Frame": "views",
    "Future": "calls",
    "Gfid": "views",
    "Iatt": "views",
    "Inode": "views",
    "IoBuffer": "views",
    "Loc": "views",
    "Option": "options",
    "Statvfs": "views",
    "Translator": "translator",
    "Vector": "views",
    "gather": "calls",
    "sleep": "calls",
}

if TYPE_CHECKING:
    from glupy.calls import PASS as PASS
    from glupy.calls import Future as Future
    from glupy.calls import Lock as Lock
    from glupy.calls import Pass as Pass
    from glupy.calls import gather as gather
    from glupy.calls import sleep as sleep
    from glupy.enums import Event as Event
    from glupy.enums import FileType as FileType
    from glupy.errors import Cancelled as Cancelled
    from glupy.errors import ExpiredView as ExpiredView
    from glupy.errors import FopError as FopError
    from glupy.errors import OptionError as OptionError
    from glupy.options import Option as Option
    from glupy.translator import Translator as Translator
    from glupy.views import Client as Client
    from glupy.views import Dict as Dict
    from glupy.views import Dirent as Dirent
    from glupy.views import Fd as Fd
    from glupy.views import Flock as Flock
    from glupy.views import Frame as Frame
    from glupy.views import Gfid as Gfid
    from glupy.views import Iatt as Iatt
    from glupy.views import Inode as Inode
    from glupy.views import IoBuffer as IoBuffer
    from glupy.views import Loc as Loc
    from glupy.views import Statvfs as Statvfs
    from glupy.views import Vector as Vector

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'glupy' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"glupy.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
