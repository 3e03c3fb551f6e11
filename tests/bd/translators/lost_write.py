"""A write to a device that fails late."""

import errno
import os
import time
from pathlib import Path
from typing import Any

from glupy import Option, Translator, linux

MARK = b"this is lost"


class LostWrite(Translator):
    """What begins with `MARK` comes to no device: EIO, once the file ``hold`` is gone. ``hold.met``
    says that such a write waits."""

    options = (Option("hold"),)

    def init(self) -> None:
        write, hold = linux.pwritev, Path(self.option("hold"))

        def pwritev(number: int, vector: Any, offset: int) -> int:
            if bytes(vector)[: len(MARK)] != MARK:
                return write(number, vector, offset)
            while hold.exists():
                hold.with_suffix(".met").touch()
                time.sleep(0.01)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        vars(linux)["pwritev"] = pwritev
