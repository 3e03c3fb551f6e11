"""Translators that take their process with them."""

from __future__ import annotations

import ctypes
from typing import Any

from glupy import Translator
from glupy.views import Fd, Frame, Loc


class DiscardCrashes(Translator):
    def discard(self, frame: Frame, fd: Fd, *arguments: Any) -> Any:
        ctypes.string_at(0)


class UnlinkCrashes(Translator):
    def unlink(self, frame: Frame, loc: Loc, *arguments: Any) -> Any:
        ctypes.string_at(0)
