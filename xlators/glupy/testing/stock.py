"""What stock GlusterFS does otherwise in one version than in another, as far as tests see it.

A test that meets such a difference asks here, so that each is stated once, with its reason, and is
tested on both sides: on the version that has it, and on the one that has not.
"""

import functools
import re
import subprocess


@functools.cache
def version() -> tuple[int, ...]:
    """The version of the GlusterFS that is installed, such as (11, 1).

    FileNotFoundError if there is none."""
    command = ["glusterfsd", "--version"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return tuple(map(int, re.findall(r"\d+", done.stdout.splitlines()[0])))  # glusterfs 11.1


def without_pre() -> frozenset[str]:
    """The fops that C posix answers without the attributes before them.

    Since 11.0 it looks at the file beforehand only if the call asks for cloudsync's state in xdata
    (posix_do_fallocate and posix_do_zerofill in posix-inode-fd-ops.c); else it unwinds an iatt of
    zeros. `features/shard` counts blocks by the difference: a leaf does better to give them."""
    return frozenset({"discard", "fallocate", "zerofill"} if version() >= (11,) else ())


def calls_at_a_directory() -> frozenset[str]:
    """libgfapi's calls that are new in 11.0: a path counts from an open directory.

    The fops are those of a path, by the same code once the file is found; `glupy.testing.gfapi` has
    `Object` for names in a directory, and none of these."""
    new = """
        glfs_openat glfs_fstatat glfs_faccessat glfs_symlinkat glfs_readlinkat glfs_mknodat
        glfs_mkdirat glfs_unlinkat glfs_renameat glfs_renameat2 glfs_linkat glfs_fchmodat
        glfs_fchownat
    """
    return frozenset(new.split() if version() >= (11,) else ())


def inode_usage() -> str | None:
    """How a statedump counts inodes: as memory of this usage type; None: as a pool, `inode_t`.

    Since 11.0 they are allocated one by one (inode_create in inode.c)."""
    return "gf_common_mt_inode_ctx" if version() >= (11,) else None
