"""The fop table and the enums of the installed GlusterFS, read from its own headers.

GlusterFS describes its fops in one place, ``glusterfs/xlator.h``: ``struct xlator_fops`` lists them
in the order of their numbers, and for each there are two function types, ``fop_NAME_t`` and
``fop_NAME_cbk_t``. Those three are parsed here, from the preprocessor's output, so that nothing in
this project repeats them. That the parse was right is the C compiler's business: every function
that ``generate`` makes is assigned to the header's own type.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass

INCLUDE = """
#include <glusterfs/xlator.h>
#include <glusterfs/defaults.h>
"""

# What GlusterFS's own configure finds out. Without the last three, the headers' atomic types are
# missing or have another size, and iatts have no nanoseconds.
DEFINES = [
    ("_GNU_SOURCE", None),
    ("GF_LINUX_HOST_OS", None),
    ("_FILE_OFFSET_BITS", "64"),
    ("SIZEOF_LONG", "8"),
    ("HAVE_ATOMIC_BUILTINS", None),
    ("HAVE_STRUCT_STAT_ST_ATIM_TV_NSEC", None),
]


@dataclass(frozen=True)
class Parameter:
    """One argument of a fop or of its callback: C type (normalised, without const) and name."""

    ctype: str
    name: str
    const: bool = False

    def __str__(self) -> str:
        return f"{'const ' if self.const else ''}{self.ctype} {self.name}"


@dataclass(frozen=True)
class Fop:
    """One fop: its name, its GF_FOP number, its arguments and its callback's arguments.

    ``arguments`` leaves out ``frame`` and ``this``; ``reply`` leaves out ``frame``, ``cookie``,
    ``this``, ``op_ret`` and ``op_errno``: what remains is what differs between fops.
    """

    name: str
    number: int
    arguments: tuple[Parameter, ...]
    reply: tuple[Parameter, ...]


def preprocess() -> str:
    """Return what the C preprocessor makes of the GlusterFS headers.

    Raises ``RuntimeError`` with one line if there is no compiler or there are no headers.
    """
    flags = [f"-D{name}" if value is None else f"-D{name}={value}" for name, value in DEFINES]
    command = ["gcc", "-E", "-P", "-xc", *flags, "-"]
    try:
        done = subprocess.run(command, input=INCLUDE, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise RuntimeError("gcc is missing: install gcc") from None
    if done.returncode:
        first = done.stderr.strip().partition("\n")[0]
        raise RuntimeError(
            f"the GlusterFS headers do not compile ({first}): install libglusterfs-dev, "
            "liburcu-dev, uuid-dev and, for GlusterFS 11, libssl-dev"
        )
    return done.stdout


def _parameters(text: str) -> tuple[Parameter, ...]:
    found = []
    for part in re.sub(r"\s+", " ", text).split(","):
        match = re.fullmatch(r"(const )?((?:struct |enum )?\w+(?: ?\*)*) ?(\w+)", part.strip())
        if match is None:
            raise RuntimeError(f"cannot read the parameter '{part}' in xlator.h")
        const, ctype, name = match.groups()
        found.append(Parameter(ctype.replace(" *", "*").replace("*", " *"), name, bool(const)))
    return tuple(found)


def fops(source: str) -> list[Fop]:
    """Return every fop of the preprocessed headers, in the order of ``struct xlator_fops``."""
    types = {
        name: _parameters(parameters)
        for name, parameters in re.findall(
            r"typedef int32_t \(\*fop_(\w+)_t\)\s*\(([^)]*)\)", source
        )
    }
    match = re.search(r"struct xlator_fops \{(.*?)\};", source, re.DOTALL)
    if match is None:
        raise RuntimeError("struct xlator_fops is not in the GlusterFS headers")
    table = []
    for number, member in enumerate(re.findall(r"(\w+|\*\w+);", match.group(1)), start=1):
        if member.endswith("_cbk"):
            break
        if member.endswith("placeholder"):
            continue
        table.append(Fop(member, number, types[member][2:], types[f"{member}_cbk"][5:]))
    return table


def enumerators(source: str, name: str) -> list[str]:
    """Return the names in ``enum NAME``, without its values: those are left to the compiler."""
    match = re.search(rf"enum {name} \{{(.*?)\}}", source, re.DOTALL)
    if match is None:
        match = re.search(rf"typedef enum \{{([^}}]*)\}} {name};", source)
    if match is None:
        raise RuntimeError(f"enum {name} is not in the GlusterFS headers")
    return re.findall(r"(\w+)\s*(?:=[^,]*)?(?:,|$)", match.group(1).strip())
