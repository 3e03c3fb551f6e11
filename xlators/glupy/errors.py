"""Errors as exceptions, both ways: what a handler may raise, and what an awaited fop raises."""

from __future__ import annotations

import errno
import os
from typing import Any


class ExpiredView(RuntimeError):
    """A view was used after the handler that got it had ended; what it showed is gone."""


class OptionError(ValueError):
    """An option of the volfile is missing, unknown or out of its limits. One line."""


class LoadError(RuntimeError):
    """The class of a translator cannot be loaded. One line."""


class Cancelled(BaseException):
    """Raised where a handler waits (``sleep``, ``Future``, ``Lock``) as its translator shuts down,
    or its brick is detached.

    The client gets EIO. Like ``asyncio.CancelledError`` it is no ``Exception``: clean up in
    ``finally``, and let it pass.
    """


class FopError(OSError):
    """A fop failed: an errno, and the callback arguments that came with it.

    ``FopError(errno.ENOENT, postparent=iatt)`` unwinds ENOENT with that ``postparent`` and NULL (or
    0) for all other callback arguments: names are those of the reply's fields
    (``fops.Lookup._fields``), others are a TypeError. What ``await self.child.fop()`` raises is of
    this class too and holds the whole failed reply: ``error.reply`` is the fop's named tuple.
    Raising it again unwinds that reply unchanged.

    It is also the class that Python has for its errno, so ``except FileNotFoundError`` catches
    ENOENT. The reply's views live as long as those of a reply that did not fail.
    """

    reply: Any = None
    arguments: dict[str, Any]

    def __new__(cls, number: int, message: str | None = None, **arguments: Any) -> FopError:
        text = os.strerror(number) if message is None else message
        self = super().__new__(_class_of(number), number, text)
        self.arguments = arguments
        return self

    def __init__(self, *_: Any, **arguments: Any) -> None:
        """All was said to ``__new__``: OSError takes its arguments there."""

    @classmethod
    def of(cls, reply: Any) -> FopError:
        """Return the error that a failed reply is."""
        error = cls(reply.op_errno)
        error.reply = reply
        return error


_classes: dict[type[OSError], type[FopError]] = {OSError: FopError}


def _class_of(number: int) -> type[FopError]:
    builtin = type(OSError(number, ""))
    found = _classes.get(builtin)
    if found is None:
        found = _classes[builtin] = type(f"Fop{builtin.__name__}", (FopError, builtin), {})
    return found


# `raise FileNotFoundError` without an errno has its class's own. Where several errnos share a
# class, it is the first that Python's documentation lists for it.
_DEFAULT_ERRNO: dict[type[OSError], int] = {
    BlockingIOError: errno.EAGAIN,
    ChildProcessError: errno.ECHILD,
    BrokenPipeError: errno.EPIPE,
    ConnectionAbortedError: errno.ECONNABORTED,
    ConnectionRefusedError: errno.ECONNREFUSED,
    ConnectionResetError: errno.ECONNRESET,
    FileExistsError: errno.EEXIST,
    FileNotFoundError: errno.ENOENT,
    InterruptedError: errno.EINTR,
    IsADirectoryError: errno.EISDIR,
    NotADirectoryError: errno.ENOTDIR,
    PermissionError: errno.EACCES,
    ProcessLookupError: errno.ESRCH,
    TimeoutError: errno.ETIMEDOUT,
}


def errno_of(error: BaseException | None) -> int | None:
    """Return the errno that a handler's exception stands for; None if it is a bug."""
    if not isinstance(error, OSError):
        return None
    if error.errno is not None:
        # Whatever OSError was given stands there, a string too.
        return error.errno if isinstance(error.errno, int) and error.errno > 0 else None
    for cls in type(error).__mro__:
        if cls in _DEFAULT_ERRNO:
            return _DEFAULT_ERRNO[cls]
    return None


def os_error(number: int, path: str | None = None) -> OSError:
    """Return the OSError of an errno, of the class that Python has for it."""
    return (
        OSError(number, os.strerror(number), path) if path else OSError(number, os.strerror(number))
    )
