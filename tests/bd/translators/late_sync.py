"""user/pybd on a brick whose disk is slow."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from glupy import Option
from glupy.options import path
from pybd import BdTranslator


class LateSync(BdTranslator):
    """The brick's disk is synced once there is no ``held`` any more."""

    options: ClassVar[Sequence[Option]] = (*BdTranslator.options, Option("held", path))

    def sync_brick(self) -> None:
        while Path(self.option("held")).exists():
            time.sleep(0.01)
        super().sync_brick()
