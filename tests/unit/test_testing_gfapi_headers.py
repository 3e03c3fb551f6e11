"""The gfapi client against libgfapi's headers: which calls it leaves out, and why."""

import re
from pathlib import Path

from glupy.testing import gfapi, stock
from glupy.testing._gfapi import lib

HEADERS = Path("/usr/include/glusterfs/api")
LEFT_OUT = {
    "another call does it, by the same code: from where the fd is (a number of libgfapi's own)": """
        glfs_read glfs_readv glfs_read_async glfs_readv_async
        glfs_write glfs_writev glfs_write_async glfs_writev_async
    """,
    "another call does it, by the same code: glfs_readdirplus_r, glfs_file_lock": """
        glfs_readdir glfs_readdir_r glfs_readdirplus glfs_posix_lock
    """,
    "no fop: what libgfapi itself knows": """
        glfs_dup glfs_getcwd glfs_from_glfd glfs_get_volumeid
    """,
    "no fop: settings of a process": """
        glfs_caller_specific_init glfs_set_statedump_path glfs_set_xlator_option glfs_sysrq
        glfs_unset_volfile_server
    """,
    "no fop: the same upcalls by asking (without recalls), and what else is in one": """
        glfs_h_poll_upcall glfs_upcall_get_fs
        glfs_upcall_inode_get_expire glfs_upcall_inode_get_pobject glfs_upcall_inode_get_pstat
        glfs_upcall_inode_get_oldpobject glfs_upcall_inode_get_oldpstat
        glfs_upcall_lease_get_lease_type
    """,
    "declared, but not exported": "glfs_h_find_handle",
}


def declared(header: str) -> set[str]:
    """The functions in a header of libgfapi."""
    code = re.sub(r"/\*.*?\*/|//.*?$", "", header, flags=re.DOTALL | re.MULTILINE)
    return set(re.findall(r"\b(glfs_\w+)\s*\(", code))


def test_every_call_is_made_or_left_out_for_a_reason() -> None:
    called = {name for name in dir(lib) if name.startswith("glfs_")}
    headers = set[str]().union(*(declared(path.read_text()) for path in HEADERS.glob("*.h")))
    assert called - headers == {"glfs_ipc", "glfs_setfspid"}  # in no header
    left_out = {name for names in LEFT_OUT.values() for name in names.split()}
    assert headers - called == left_out | stock.calls_at_a_directory()

    folder = Path(gfapi.__file__).parent
    sources = "".join(path.read_text() for path in folder.glob("*.py"))
    assert called <= set(re.findall(r"lib\.(glfs_\w+)", sources))
