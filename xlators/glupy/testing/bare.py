"""Translators that do nothing with each fop but what the bridge has to do.

For measuring the bridge, and for looking for what it might leave behind:
``option module glupy.testing.bare:Passing``.
"""

from __future__ import annotations

from typing import Any

from glupy import PASS, Translator, fops


class Passing(Translator):
    """Enters Python for every fop, and passes it on: the least that a handler can do."""


class Winding(Translator):
    """Winds every fop from a coroutine, and hands its reply on."""


_HANDLERS = """
def passing(self, frame, {names}):
    return PASS

async def winding(self, frame, {names}):
    return await self.child.{fop}({names})
"""


def _handlers(fop: fops.Fop) -> tuple[Any, Any]:
    scope: dict[str, Any] = {"PASS": PASS}
    names = ", ".join(name for name, _ in fop.arguments)
    exec(_HANDLERS.format(fop=fop.name, names=names), scope)
    return scope["passing"], scope["winding"]


for _fop in fops.TABLE.values():
    _passing, _winding = _handlers(_fop)
    setattr(Passing, _fop.name, _passing)
    setattr(Winding, _fop.name, _winding)
