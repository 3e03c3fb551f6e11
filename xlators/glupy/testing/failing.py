"""A translator that fails the next fop of a name, when it is told to.

``option module glupy.testing.failing:Failing`` and ``option orders FOLDER``: a file of the folder
that has the name of a fop is an order, and the errno in it (a number) is what the next such fop
fails with, before it is wound. An order is for one fop; `order` gives one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glupy import PASS, FopError, Option, Translator, fops
from glupy.options import path


def order(folder: Path, fop: str, number: int) -> None:
    """Let the next such fop fail with this errno."""
    made = folder / ".making"
    made.write_text(str(number))
    made.rename(folder / fop)


def clear(folder: Path) -> None:
    """Take back the orders that nobody has taken."""
    for left in folder.iterdir():
        left.unlink(missing_ok=True)


class Failing(Translator):
    """Passes all that it has no order for."""

    options = (Option("orders", path, description="The folder of the orders."),)

    def init(self) -> None:
        self.folder = Path(self.option("orders"))

    def _fail_if_ordered(self, fop: str) -> Any:
        # A name is taken by one fop only, however many look.
        taken = self.folder / f".{fop}"
        try:
            (self.folder / fop).rename(taken)
        except FileNotFoundError:
            return PASS
        raise FopError(int(taken.read_text()))


def _handler(fop: str) -> Any:
    def handle(self: Failing, *arguments: Any) -> Any:
        return self._fail_if_ordered(fop)

    return handle


for _fop in fops.TABLE:
    setattr(Failing, _fop, _handler(_fop))
