"""A write to a device that fails late."""

import errno
import os
import time
from pathlib import Path
from typing import Any

from glupy import PASS, Fd, Frame, Option, Pass, Translator, Vector, linux

MARK = b"this is lost"


class LostWrite(Translator):
    """What begins with `MARK` comes to no device: EIO, once the file ``hold`` is gone. ``hold.met``
    says that such a write waits; for each other one ``hold.come`` has a byte."""

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

        self.come = hold.with_suffix(".come")
        vars(linux)["pwritev"] = pwritev

    def writev(self, frame: Frame, fd: Fd, vector: Vector, *_: Any) -> Pass:
        if self.come.exists() and bytes(vector)[: len(MARK)] != MARK:
            with self.come.open("ab") as file:
                file.write(b".")
        return PASS
