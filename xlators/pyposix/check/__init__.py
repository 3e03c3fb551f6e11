"""Checks of a brick's directory, and their repair: what ``glupy brick check`` runs.

The rules are those of C's storage/posix 10.3 (posix-handle.c, posix-gfid-path.c, posix-metadata.c,
posix-common.c) and of ``pyposix`` itself: what either leaves behind when it works and stops is no
finding, but for two records of names that C's rename forgets (docs/brick-check.md). Nothing of a
brick's process is needed or asked.

By file: ``findings`` (the kinds, and how paths are shown), ``ground`` (a brick's directory, looked
into without leaving it), ``names``, ``handle_rules`` and ``xattr_rules`` (what must hold),
``known`` (what is remembered meanwhile), ``scan`` (all of it, in its order), ``live`` (who serves a
brick), ``repair``.
"""

from pyposix.check.findings import Finding, Kind, shown
from pyposix.check.ground import Ground
from pyposix.check.live import Watch, servers
from pyposix.check.repair import Outcome, Repair
from pyposix.check.scan import Counts, Scan

__all__ = [
    "Counts",
    "Finding",
    "Ground",
    "Kind",
    "Outcome",
    "Repair",
    "Scan",
    "Watch",
    "servers",
    "shown",
]
