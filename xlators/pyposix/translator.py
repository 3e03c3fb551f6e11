"""The translator: all of its fops together."""

from __future__ import annotations

from pyposix.attributes import Attributes
from pyposix.data import Data
from pyposix.directory import Directories
from pyposix.locks import Locks
from pyposix.lookup import Lookup
from pyposix.making import Making
from pyposix.removing import Removing
from pyposix.space import Space
from pyposix.xattr import Xattrs
from pyposix.xattrop import XattrOps


class PosixTranslator(
    Lookup, Making, Removing, Attributes, Data, Space, Directories, Xattrs, XattrOps, Locks
):
    """A directory of a local file system as a GlusterFS brick. The classes it consists of say how.

    Handlers answer at once, on whatever thread they are called. What they share is safe under that:
    a file's own state is behind its lock and its gate, everything else is the kernel's.
    """
