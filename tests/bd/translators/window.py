"""Holds pyposix between its look at a name that is to be removed and its removal."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from glupy import Option, Translator
from pyposix.removing import Removing

_check = Removing._check_unlink


class Window(Translator):
    """An unlink in this process waits there as long as the file ``hold`` exists; ``hold.met`` says
    that one does."""

    options: ClassVar[Sequence[Option]] = (Option("hold"),)

    def init(self) -> None:
        hold = Path(self.option("hold"))
        met = hold.with_suffix(".met")

        def held(*given: Any) -> None:
            _check(*given)
            while hold.exists():
                met.touch()
                time.sleep(0.01)

        Removing._check_unlink = held  # type: ignore[method-assign, assignment]
