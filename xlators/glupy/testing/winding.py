"""A translator that winds every fop and hands its reply on: all the bridge has to do, nothing else.

For measuring the bridge, and for looking for what it might leave behind:
``option module glupy.testing.winding:Winding``.
"""

from __future__ import annotations

from typing import Any

from glupy import Translator, fops


class Winding(Translator):
    """Winds every fop from a coroutine."""


_HANDLER = """
async def {fop}(self, frame, {names}):
    return await self.child.{fop}({names})
"""


def _handler(fop: fops.Fop) -> Any:
    scope: dict[str, Any] = {}
    names = ", ".join(name for name, _ in fop.arguments)
    exec(_HANDLER.format(fop=fop.name, names=names), scope)
    return scope[fop.name]


for _fop in fops.TABLE.values():
    setattr(Winding, _fop.name, _handler(_fop))
