"""Holds a fop of pyposix between two of its system calls."""

import importlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from glupy import Option, Translator


class Window(Translator):
    """Who comes to ``method`` (module.Class.method) in this process waits there as long as the file
    ``hold`` exists; ``hold.met`` says that one does."""

    options: ClassVar[Sequence[Option]] = (Option("method"), Option("hold"))

    def init(self) -> None:
        module, name, method = self.option("method").rsplit(".", 2)
        cls = getattr(importlib.import_module(module), name)
        function, hold = getattr(cls, method), Path(self.option("hold"))
        met = hold.with_suffix(".met")

        def held(*given: Any, **options: Any) -> Any:
            while hold.exists():
                met.touch()
                time.sleep(0.01)
            return function(*given, **options)

        setattr(cls, method, held)
