"""Builds ``glupy._bridge``: an ordinary cffi extension that is a GlusterFS translator too.

setuptools runs this file through ``cffi_modules`` (setup.py). It compiles against the installed
headers of GlusterFS and links the Python that builds it: a build belongs to one version of each.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))  # setuptools runs this file by its path

from glupy.bridge import generate, headers  # noqa: E402

# Enums that Python shows; their values are left to the compiler.
ENUMS = ["glusterfs_event_t", "gf_loglevel_t", "volume_option_type_t", "gf_dict_data_type_t"]


def _enum(source: str, name: str) -> str:
    members = ", ".join(f"{member} = ..." for member in headers.enumerators(source, name))
    return f"typedef enum {{ {members} }} {name};"


def _libpython() -> tuple[str, str]:
    library = sysconfig.get_config_var("LDVERSION")
    folder = sysconfig.get_config_var("LIBDIR")
    shared = sysconfig.get_config_var("INSTSONAME") or ""
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    for place in folder, f"{folder}/{multiarch}":
        if ".so" in shared and (Path(place) / shared).exists():
            return f"python{library}", place
    raise RuntimeError(
        f"{sys.executable} has no shared libpython, which a GlusterFS process needs: "
        "use Debian's /usr/bin/python3 with python3-dev"
    )


def _built_for() -> str:
    """Return the version of GlusterFS on this machine; "" if only its headers are there."""
    try:
        shown = subprocess.run(
            ["glusterfsd", "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return shown.splitlines()[0].removeprefix("glusterfs ")


def make() -> FFI:
    """Return the builder of ``glupy._bridge``; ``RuntimeError`` says what is missing."""
    source = headers.preprocess()
    fops = headers.fops(source)
    library, folder = _libpython()
    builder = FFI()
    builder.cdef(
        "\n".join(
            [
                *(_enum(source, name) for name in ENUMS),
                (HERE / "declarations.h").read_text(),
                generate.cdef(fops),
            ]
        )
    )
    builder.set_source(
        "glupy._bridge",
        "\n".join(
            [
                (HERE / "bridge.h").read_text(),
                generate.code(fops),
                (HERE / "bridge.c").read_text(),
                (HERE / "storage.c").read_text(),
            ]
        ),
        define_macros=[
            *headers.DEFINES,
            ("_CFFI_NO_LIMITED_API", None),
            ("GLUPY_BUILT_FOR", f'"{_built_for()}"'),
        ],
        libraries=["glusterfs", "acl", library],
        library_dirs=[folder],
        extra_compile_args=["-Wno-unused-function", "-Werror=incompatible-pointer-types"],
        # nodelete: GlusterFS may dlclose a translator; an interpreter does not survive that.
        extra_link_args=[f"-Wl,-rpath,{folder}", "-Wl,-z,nodelete"],
        py_limited_api=False,
    )
    return builder


ffibuilder = make()

if __name__ == "__main__":
    ffibuilder.compile(tmpdir=str(HERE.parent.parent), verbose=False)
