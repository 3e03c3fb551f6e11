"""A translator that winds every fop and hands its reply on: all the bridge has to do, nothing else.

For measuring the bridge, and for looking for what it might leave behind:
``option module glupy.testing.winding:Winding``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glupy import Frame, Translator, fops


class Winding(Translator):
    """Winds every fop from a coroutine. A statedump shows how many kinds, and how many failed."""

    def init(self) -> None:
        """Begin to count."""
        self.kinds: set[str] = set()
        self.failed = 0

    def dump_priv(self) -> Mapping[str, object]:
        """Show the counts."""
        return {"kinds": len(self.kinds), "failed": self.failed}


def _wind(fop: fops.Fop) -> Any:
    async def handler(self: Winding, frame: Frame, *arguments: Any) -> Any:
        self.kinds.add(fop.name)
        try:
            return await getattr(self.child, fop.name)(*arguments)
        except OSError:
            self.failed += 1
            raise

    return handler


for _fop in fops.TABLE.values():
    setattr(Winding, _fop.name, _wind(_fop))
