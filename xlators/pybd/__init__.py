"""``user/pybd``: a block device for each mapped file of a brick, over any posix translator.

A file is mapped by its xattr ``user.glusterfs.bd``. Its name, owner and xattrs stay those of the
file below, its *stub*: a sparse file that is as long as the file. Its bytes are on a device of a
pool, and a discard of them is ``ioctl(BLKDISCARD)``.

Fops by file: ``data`` (readv, writev, truncate, fsync, copy_file_range, rchecksum), ``space``
(**discard**, zerofill, fallocate, seek, statfs), ``attributes`` (lookup, stat, setattr, readdirp),
``names`` (create, unlink, rename, …), ``xattr``. What they share: ``life`` (options, start and
end), ``backing`` (a file's device, opened and synced), ``shown`` (its attributes), ``base`` (which
file is mapped), ``sizes``, ``moving`` (mapping, unmapping), ``copies`` (clones, snapshots, merges),
``orphans`` (whose file is gone), ``by_gfid`` and ``stub`` (files below), ``files`` and ``inodes``
(what is remembered), ``device`` (ioctls), ``syncing``, ``ranges`` (what of a range is discarded,
what zeroed), ``mapping`` (the xattr), ``rules`` (option map), ``identity`` (whose a device is),
``pools``.
"""

from pybd.translator import BdTranslator

__all__ = ["BdTranslator"]
