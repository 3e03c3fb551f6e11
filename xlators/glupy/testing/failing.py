"""A translator that fails the next fop of a name, when it is told to.

``option module glupy.testing.failing:Failing`` and ``option orders FOLDER``: a file of the folder
that has the name of a fop is an order to fail the next such fop, before it is wound: `order` writes
one. In the file are three numbers: the errno, how many such fops pass before, and 1 if the fop is
wound first, and fails though it was done.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glupy import PASS, FopError, Option, Translator, fops
from glupy.options import path


def order(folder: Path, fop: str, number: int, *, after: int = 0, done: bool = False) -> None:
    """Let the next such fop fail with this errno: `after` so many that pass, or although `done`."""
    made = folder / f".making-{fop}"
    made.write_text(f"{number} {after} {done:d}")
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

    def _fail_if_ordered(self, fop: str, arguments: tuple[Any, ...]) -> Any:
        # A name is taken by one fop only, however many look.
        taken = self.folder / f".{fop}"
        try:
            (self.folder / fop).rename(taken)
        except FileNotFoundError:
            return PASS
        number, after, done = map(int, taken.read_text().split())
        if after:
            order(self.folder, fop, number, after=after - 1, done=bool(done))
            return PASS
        if done:
            return self._fail_afterwards(fop, arguments, number)
        raise FopError(number)

    async def _fail_afterwards(self, fop: str, arguments: tuple[Any, ...], number: int) -> Any:
        await getattr(self.child, fop)(*arguments)
        raise FopError(number)


def _handler(fop: str) -> Any:
    def handle(self: Failing, _frame: Any, *arguments: Any) -> Any:
        return self._fail_if_ordered(fop, arguments)

    return handle


for _fop in fops.TABLE:
    setattr(Failing, _fop, _handler(_fop))
