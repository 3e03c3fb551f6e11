"""Fops that translators above the leaf answer. Where those are missing, the log says so."""

from __future__ import annotations

import errno
import os
from typing import NoReturn

from glupy.views import Frame
from pyposix.brick import Brick


class Locks(Brick):
    """ENOSYS to locks and leases."""

    _told: frozenset[str] = frozenset()

    def lk(self, _frame: Frame, *_arguments: object) -> NoReturn:
        """Locks are features/locks's; so are inodelk, finodelk, entrylk and fentrylk."""
        self._refuse("features/locks")

    inodelk = finodelk = entrylk = fentrylk = lk

    def lease(self, _frame: Frame, *_arguments: object) -> NoReturn:
        """Leases are features/leases's."""
        self._refuse("features/leases")

    def _refuse(self, xlator: str) -> NoReturn:
        if xlator not in self._told:
            self._told |= {xlator}
            self.log.critical("%s is not in this brick's volfile: clients get ENOSYS", xlator)
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
