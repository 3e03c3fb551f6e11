"""Builds and loads the two ends: `ends.c`, and a pair of functions for every fop of the headers.

Only the list of fops is read as the bridge reads it (`glupy/bridge/headers.py`). That it is right
is the compiler's to check: each generated function is assigned to the header's own member. What is
done with the values is `ends.c`'s own.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from string import Template
from types import ModuleType
from typing import Any

from cffi import FFI

HERE = Path(__file__).resolve().parent
HEADERS = HERE.parents[1] / "xlators" / "glupy" / "bridge" / "headers.py"

# How ends.c calls the C types that are not numbers.
POINTERS = {
    "char *": "string",
    "dict_t *": "dict",
    "fd_t *": "fd",
    "gf_dirent_t *": "dirents",
    "inode_t *": "inode",
    "loc_t *": "loc",
    "lock_migration_info_t *": "locks",
    "struct gf_flock *": "flock",
    "struct gf_lease *": "lease",
    "struct iatt *": "iatt",
    "struct iobref *": "iobref",
    "struct iovec *": "vector",
    "struct statvfs *": "statvfs",
    "uint8_t *": "checksum",
    "void *": "opaque",
}

FOP = Template("""
static int32_t near_callback_$fop(call_frame_t *frame, void *cookie, xlator_t *this,
                                  int32_t op_ret, int32_t op_errno$reply_typed)
{
    struct run *run = cookie;
    struct text *text = near_answered(run, frame, cookie, this, op_ret, op_errno);
    $put_reply
    near_ends(run, frame);
    return 0;
}

static void near_winds_$fop(struct run *run)
{
    struct made *made = near_begins(run);
    struct text *text = &run->sent;
    $make_arguments
    $put_arguments
    put_end(text, "}");
    STACK_WIND_COOKIE(run->frame, near_callback_$fop, run, run->subject,
                      run->subject->fops->$fop$arguments);
    near_wound(run);
}

static int32_t far_$fop(call_frame_t *frame, xlator_t *this$typed)
{
    struct text *text = far_begins(frame, this, $number);
    $put_arguments
    return far_ends(run_of(frame));
}

static void far_answers_$fop(struct run *run, struct answer *answer)
{
    int32_t op_ret, op_errno;
    struct made *made = far_replies(run, answer, &op_ret, &op_errno);
    struct text *text = answer ? &run->replied : &run->example;
    $make_reply
    $put_reply
    put_end(text, "}");
    if (!answer)
        return;
    STACK_UNWIND_STRICT($fop, answer->frame, op_ret, op_errno$reply);
    far_over(answer);
}
""")

TABLES = Template("""
static struct xlator_fops far_fops = {$members};
static void (*const near_table[])(struct run *) = {$nears};
static void (*const far_table[])(struct run *, struct answer *) = {$fars};
static void near_winds(struct run *run) { near_table[run->fop](run); }
static void far_shows(struct run *run) { far_table[run->fop](run, NULL); }
static void far_answers(struct answer *answer)
{
    struct run *run = answer->run;
    far_table[run->below ? run->below : run->fop](run, answer);
}
""")


def headers() -> Any:
    """Return the module that reads GlusterFS's headers."""
    name = "glupy_bridge_headers"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HEADERS)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def _make(parameters: Iterable[Any]) -> str:
    lines = []
    for each in parameters:
        kind = POINTERS.get(each.ctype)
        value = f"make_{kind}(made)"
        if kind == "iobref":
            value = "made->iobref"
        elif each.name == "count":
            value = "made->count"
        elif kind is None:
            value = f"({each.ctype})make_number(made)"
        lines.append(f"{each} = {value};")
    return "\n    ".join(lines)


def _put(parameters: Iterable[Any]) -> str:
    lines = []
    for each in parameters:
        kind = POINTERS.get(each.ctype)
        length = ", count" if kind == "vector" else ""
        put = "PUT_NUMBER" if kind is None else f"put_{kind}"
        lines.append(f'{put}(text, "{each.name}", {each.name}{length});')
    return "\n    ".join(lines)


def _code(fops: Iterable[Any]) -> str:
    parts = []
    for fop in fops:
        parts.append(
            FOP.substitute(
                fop=fop.name,
                number=fop.number,
                typed="".join(f", {each}" for each in fop.arguments),
                arguments="".join(f", {each.name}" for each in fop.arguments),
                reply_typed="".join(f", {each}" for each in fop.reply),
                reply="".join(f", {each.name}" for each in fop.reply),
                make_arguments=_make(fop.arguments),
                put_arguments=_put(fop.arguments),
                make_reply=_make(fop.reply),
                put_reply=_put(fop.reply),
            )
        )
    parts.append(
        TABLES.substitute(
            members=", ".join(f".{fop.name} = far_{fop.name}" for fop in fops),
            nears=", ".join(f"[{fop.number}] = near_winds_{fop.name}" for fop in fops),
            fars=", ".join(f"[{fop.number}] = far_answers_{fop.name}" for fop in fops),
        )
    )
    return "\n".join(parts)


def load(folder: Path) -> ModuleType:
    """Build the extension in `folder`, unless the same one is there already, and import it."""
    reader = headers()
    preprocessed = reader.preprocess()
    source = (HERE / "ends.c").read_text() + _code(reader.fops(preprocessed))
    declarations = (HERE / "ends.h").read_text()
    digest = hashlib.sha256(
        "\0".join([source, declarations, preprocessed, sys.version]).encode()
    ).hexdigest()
    name = f"glupy_ends_{digest[:16]}"
    found = sorted(folder.glob(f"{name}.*.so"))
    if not found:
        builder = FFI()
        builder.cdef(declarations)
        builder.set_source(
            name,
            source,
            define_macros=reader.DEFINES,
            libraries=["glusterfs"],
            extra_compile_args=["-Wno-unused-function", "-Werror=incompatible-pointer-types"],
        )
        builder.compile(tmpdir=str(folder))
        found = sorted(folder.glob(f"{name}.*.so"))
    spec = importlib.util.spec_from_file_location(name, found[0])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
