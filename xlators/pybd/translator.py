"""The translator: all of its fops together."""

from __future__ import annotations

from pybd.attributes import Attributes
from pybd.names import Names
from pybd.space import Space
from pybd.xattr import Xattrs


class BdTranslator(Attributes, Space, Names, Xattrs):
    """A block device for each mapped file, over any posix. The classes it consists of say how."""
