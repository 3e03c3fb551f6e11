"""ACLs as text: the xattrs ``glusterfs.posix.acl`` and ``glusterfs.posix.default_acl``.

They are the ACLs of system.posix_acl_access and _default, written as ``u::rw-,u:7:r--,g::r--,…``.
libacl reads and writes that form.
"""

from __future__ import annotations

import errno
import os

from glupy import keys, linux
from pyposix.iatt import SYMLINK
from pyposix.xattrs import Target

STORED = {keys.ACL_TEXT: keys.ACL_ACCESS, keys.DEFAULT_ACL_TEXT: keys.ACL_DEFAULT}
"""Each key, and the xattr that has the same ACL as the kernel stores it."""


def is_key(name: str) -> bool:
    """Say whether that is such an xattr; what follows the name does not matter to GlusterFS."""
    return name.startswith((keys.ACL_TEXT, keys.DEFAULT_ACL_TEXT))


def get(target: Target, name: str, kind: int) -> str:
    """Return an ACL as text, that of the mode if there is none. ``kind`` is the file's ia_type.

    EACCES for a default ACL of what is no directory, EOPNOTSUPP for a symbolic link: libacl would
    follow it, to wherever on the server.
    """
    _refuse_symlink(kind)
    return linux.acl_text(target, _is_default(name))


def put(path: bytes, name: str, text: bytes, kind: int) -> None:
    """Set an ACL from text. EINVAL if it is none; otherwise as ``get``."""
    _refuse_symlink(kind)
    linux.set_acl_text(path, _is_default(name), text.partition(b"\0")[0])


def _refuse_symlink(kind: int) -> None:
    if kind == SYMLINK:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def _is_default(name: str) -> bool:
    return name.startswith(keys.DEFAULT_ACL_TEXT)
