"""What GlusterFS's own calls become: init, fini, reconfigure, notify and the other callbacks.

The C side imports this module when the first translator is initialised (``start_python`` in
``bridge.c``); from then on each C function there has its Python here. Fops are in ``glupy.fops``.
"""

from __future__ import annotations

import gc
import sys
import traceback
import weakref
from typing import Any

from glupy import loading, log, timers
from glupy._bridge import ffi, lib
from glupy.enums import Event
from glupy.errors import LoadError, OptionError
from glupy.fops import TABLE
from glupy.translator import CALLBACKS, Translator
from glupy.views import Fd, Inode
from glupy.views.base import text

CANCEL_SECONDS = 1.0
"""How long after its last client was cut off the handlers of a detached brick are cancelled."""

_instances: dict[Any, Translator] = {}
_handles: dict[Any, Any] = {}  # what C has of each; it keeps the translator alive


def _refuse(this: Any, error: BaseException) -> None:
    """Log why a translator does not start: one line, then the traceback."""
    logger = log.logger(text(this.name) or "glupy")
    line = str(error) if isinstance(error, (LoadError, OptionError)) else ""
    if not line:
        line = log.line_of(error)
    logger.error("this translator does not start: %s", line)
    logger.error("%s", "".join(traceback.format_exception(error)))


@ffi.def_extern(name="python_init", error=-1)
def _init(this: Any) -> int:
    try:
        volume_type = text(this.type) or ""
        cls = loading.find(volume_type, _module_option(this))
        translator = cls.__new__(cls)
        translator._attach(this)
        if cls.leaf and translator.children:
            raise OptionError(f"{volume_type} is a storage translator: it has no subvolumes")
        if not cls.leaf and not translator.children:
            raise OptionError(f"{volume_type} needs a subvolume")
        if cls.leaf:
            lib.glupy_make_leaf(this)
        for fop in cls.handled():
            lib.glupy_set_fop(this, fop.number)
        for name in cls.passed_fops:
            lib.glupy_set_passed(this, TABLE[name].number)
        for callback in CALLBACKS:
            if hasattr(cls, callback):
                lib.glupy_set_callback(this, callback.encode())
        lib.glupy_set_dump(this)
        _instances[this] = translator
        _handles[this] = ffi.new_handle(translator)
        lib.glupy_set_self(this, _handles[this])
        cls.__init__(translator)
        translator.init()
    except BaseException as error:
        _instances.pop(this, None)
        _handles.pop(this, None)
        _refuse(this, error)
        return -1
    return 0


def _module_option(this: Any) -> str | None:
    """Return option ``module`` of features/glupy and user/glupy; other types are registered."""
    if (text(this.type) or "").rpartition("/")[2] != "glupy":
        return None
    data = lib.quick_data(this.options, b"module")
    if not data:
        if text(this.type) == "user/glupy":
            return "glupy.unfiltered:Unfiltered"
        raise OptionError("option module is missing: package.module:Class or /abs/file.py:Class")
    try:
        return text(data.data)
    finally:
        lib.quick_data_unref(data)


def _guarded(translator: Translator, where: str, function: Any, *arguments: Any) -> Any:
    """Call a method that must not fail: what it raises is a bug, and logged."""
    try:
        return function(*arguments)
    except BaseException as error:
        log.bug(translator, where, error)
        return None


@ffi.def_extern(name="python_fini")
def _fini(self: Any) -> None:
    translator: Translator = ffi.from_handle(self)
    translator._close()
    _guarded(translator, "fini", translator.fini)
    translator._drop_contexts()
    _instances.pop(translator._this, None)
    _handles.pop(translator._this, None)


@ffi.def_extern(name="python_reconfigure", error=-1)
def _reconfigure(self: Any, options: Any) -> int:
    translator: Translator = ffi.from_handle(self)
    before = translator._values
    try:
        translator._read_options(options)
        translator.reconfigure()
    except BaseException as error:
        translator._values = before
        if isinstance(error, OptionError):
            translator.log.error("%s", error)
        else:
            log.bug(translator, "reconfigure", error)
        return -1
    return 0


@ffi.def_extern(name="python_notify", error=-1)
def _notify(self: Any, event: int, data: Any) -> int:
    translator: Translator = ffi.from_handle(self)
    if event == Event.PARENT_DOWN:
        translator._close()
    try:
        return int(translator.notify(event, data) or 0)
    except BaseException as error:
        log.bug(translator, "notify", error)
        return -1
    finally:
        if event == Event.PARENT_DOWN:
            translator._end_own_calls()
            # What is garbage by now may hold references to inodes: their table goes next.
            gc.collect()


@ffi.def_extern(name="python_forget")
def _forget(self: Any, inode: Any) -> None:
    translator: Translator = ffi.from_handle(self)
    if inode in translator._inode_contexts:
        _guarded(translator, "forget", translator.forget, translator._view(Inode, inode))
        translator._inode_contexts.pop(inode, None)


@ffi.def_extern(name="python_release")
def _release(self: Any, fd: Any, directory: int) -> None:
    translator: Translator = ffi.from_handle(self)
    if fd in translator._fd_contexts:
        method = translator.releasedir if directory else translator.release
        _guarded(translator, method.__name__, method, translator._view(Fd, fd))
        translator._fd_contexts.pop(fd, None)


@ffi.def_extern(name="python_merge")
def _merge(self: Any, inode: Any, linked: Any) -> None:
    translator: Translator = ffi.from_handle(self)
    views = translator._view(Inode, inode), translator._view(Inode, linked)
    _guarded(translator, "ictxmerge", translator.ictxmerge, *views)


@ffi.def_extern(name="python_invalidate")
def _invalidate(self: Any, inode: Any) -> int:
    return _callback(self, "invalidate", inode)


def _cancel_later(translator: Translator) -> None:
    """GlusterFS waits for clients' fops before PARENT_DOWN, so those that only wait are cancelled.

    Not at once: if all of them end while protocol/server is closing their connection, it may not
    take note of that, and wait for ever.
    """
    translator._disconnects += 1
    reference, number = weakref.ref(translator), translator._disconnects

    def cancel() -> None:
        there = reference()
        if there is not None and there._disconnects == number:  # that was the last client
            there._close(own_calls=False)

    timers.call_later(CANCEL_SECONDS, cancel)


@ffi.def_extern(name="python_client")
def _client(self: Any, client: Any, destroyed: int) -> int:
    if self not in list(_handles.values()):  # a copy: others come and go meanwhile
        return 0  # a client of one brick goes as another brick's translator ends
    translator: Translator = ffi.from_handle(self)
    if not destroyed and lib.glupy_brick_goes(translator._this):
        _cancel_later(translator)
    return _callback(self, "client_destroy" if destroyed else "client_disconnect", client)


@ffi.def_extern(name="python_fdclose")
def _fdclose(self: Any, fd: Any, directory: int) -> None:
    _callback(self, "fdclosedir" if directory else "fdclose", fd)


def _callback(self: Any, name: str, c: Any) -> int:
    translator: Translator = ffi.from_handle(self)
    view = translator._view(CALLBACKS[name], c)
    _guarded(translator, name, getattr(translator, name), view)
    return 0


@ffi.def_extern(name="python_dump")
def _dump(self: Any) -> int:
    translator: Translator = ffi.from_handle(self)
    shown = _guarded(translator, "dump_priv", translator.dump_priv) or {}
    lib.glupy_dump_section(f"{text(translator._this.type)}.{translator.name}".encode())
    counts = {
        name: lib.glupy_counted(translator._this, getattr(lib, name))
        for name in ("ENTERED", "PASSED", "UNWOUND")
    }
    lines = {f"fops-{name.lower()}": count for name, count in counts.items()}
    for key, value in {**lines, **shown}.items():
        lib.glupy_dump_line(str(key).encode(), str(value).encode("utf-8", "replace"))
    return 0


if sys.flags.isolated:
    log.start_everything()
else:
    log.start()
lib.glupy_attach()
