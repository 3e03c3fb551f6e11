"""Build `glupy.testing._gfapi`, the cffi extension under `glupy.testing.gfapi`.

setuptools builds it through `cffi_modules` in setup.py; `python build_gfapi.py` builds it in place.
It needs the headers of libgfapi and libacl (Debian: libglusterfs-dev, libacl1-dev).
"""

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent

ffibuilder = FFI()
ffibuilder.cdef((HERE / "gfapi_cdef.h").read_text())
ffibuilder.set_source(
    "glupy.testing._gfapi",
    "#include <acl/libacl.h>\n"
    "#define USE_POSIX_ACLS 1 /* or glfs.h has an acl_t of its own */\n"
    "#include <glusterfs/api/glfs.h>\n#include <glusterfs/api/glfs-handles.h>\n"
    # Exported, but in no installed header.
    "int glfs_ipc(glfs_t *fs, int opcode, void *xdata, void **answer);\n"
    "int glfs_setfspid(glfs_t *fs, pid_t pid);\n",
    libraries=["gfapi", "acl"],
    # A declaration that disagrees with the installed header must not become a warning.
    extra_compile_args=[
        "-D_FILE_OFFSET_BITS=64",
        "-Werror=implicit-function-declaration",
        "-Werror=incompatible-pointer-types",
        "-Werror=int-conversion",
    ],
)

if __name__ == "__main__":
    print(ffibuilder.compile(tmpdir=str(HERE.parents[1])))
