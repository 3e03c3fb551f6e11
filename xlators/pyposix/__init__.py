"""``storage/pyposix``: the posix storage translator in Python, a drop-in for C's ``storage/posix``.

Fops by file: ``lookup``, ``making`` (create, mkdir, link, …), ``removing`` (unlink, rename, …),
``attributes`` (stat, setattr, …), ``data`` (open, readv, writev, truncate, fsync, …), ``space``
(**discard**, fallocate, zerofill, seek, statfs), ``directory`` (readdir), ``xattr`` and
``xattrop``.

What they share: ``brick`` (the translator's options and start), ``handles`` (.glusterfs), ``files``
(what is remembered of a file and of an open file), ``iatt``, ``metadata`` (times in an xattr),
``gfid2path``, ``link_counts`` (trusted.pgfid), ``reserve``, ``replies``
(what xdata asks for), ``virtual_xattr`` (with ``ancestry``, ``acl_text``, ``signature``),
``cloudsync`` and ``xattrs``. In the background: ``jobs``, ``health``, ``janitor``,
``batch_fsync``.
``check`` verifies and repairs a brick's format (``glupy brick check``).
"""

from pyposix.translator import PosixTranslator

__all__ = ["PosixTranslator"]
