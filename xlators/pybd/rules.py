"""Option ``map``: which files are mapped when they get their names."""

from __future__ import annotations

import fnmatch
from typing import NamedTuple

from glupy import OptionError
from pybd.mapping import Mapping, parse


class Rules(NamedTuple):
    """Patterns of basenames and what they map to; the first that fits counts."""

    rules: tuple[tuple[str, Mapping], ...]

    @classmethod
    def parse(cls, text: str | None) -> Rules:
        """Return the rules in ``GLOB=KIND[:SIZE] …``. OptionError for anything else."""
        rules = []
        for word in (text or "").split():
            pattern, equals, value = word.rpartition("=")
            if not equals or not pattern:
                raise OptionError(f"option map: {word!r} is not GLOB=thin or GLOB=lv[:SIZE]")
            try:
                rules.append((pattern, parse(value)))
            except OSError as error:
                raise OptionError(f"option map: {error.strerror}") from None
        return cls(tuple(rules))

    def find(self, name: str | None) -> Mapping | None:
        """Return what a file of that name is mapped to; None if it is not."""
        if not name:
            return None
        for pattern, found in self.rules:
            if fnmatch.fnmatchcase(name, pattern):
                return found
        return None

    def __bool__(self) -> bool:
        return bool(self.rules)
