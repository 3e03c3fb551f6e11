"""The C that every fop needs, made from the fop table so that no fop is written by hand.

For a fop F there are, in C (``bridge.h`` says what they rest on):

``trampoline_F``  what GlusterFS calls; asks Python (``python_F``) on a large stack, then answers
                  the fop, passes it on or fails it, if that is Python's verdict
``call_F``        a fop during that call: its arguments, and its reply by ``quick_answer_F``
``args_F``        a copy of the arguments that outlives the call, and ``quick_hold_F`` that makes it
``reply_F``       a copy of a reply
``wind_F``        winds to a child; ``callback_F`` keeps the reply and resumes Python
``tail_F``        passes the fop on from held arguments
``unwind_F``      answers the fop; ``fail_F`` answers it with an errno and nothing else

What is done with an argument depends on its C type alone: ``KINDS`` is the one place that says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from string import Template

from glupy.bridge.headers import Fop, Parameter


@dataclass(frozen=True)
class Kind:
    """How values of one C type are kept beyond the call that brought them.

    ``store`` declares room inside the copy, ``keep`` fills the pointer ``to->NAME`` from the
    argument ``NAME``, ``wipe`` gives back what ``keep`` took. ``NAME`` stands for the parameter.
    Counted objects are referenced, everything else is copied.
    """

    name: str
    store: str = ""
    keep: str = "to->NAME = NAME;"
    wipe: str = ""


def _counted(name: str) -> Kind:
    return Kind(
        name,
        keep=f"to->NAME = NAME ? {name}_ref(NAME) : NULL;",
        wipe=f"if (it->NAME) {name}_unref(it->NAME);",
    )


def _copied(name: str, ctype: str) -> Kind:
    return Kind(
        name,
        store=f"{ctype} NAME_store;",
        keep="if (NAME) { to->NAME_store = *NAME; to->NAME = &to->NAME_store; } "
        "else to->NAME = NULL;",
    )


def _made(name: str, maker: str, freer: str, more: str = "") -> Kind:
    return Kind(name, keep=f"to->NAME = {maker}(NAME{more});", wipe=f"{freer}(it->NAME);")


SCALAR = Kind("scalar")
KINDS = {
    "fd_t *": _counted("fd"),
    "inode_t *": _counted("inode"),
    "dict_t *": _counted("dict"),
    "struct iobref *": _counted("iobref"),
    "struct iatt *": _copied("iatt", "struct iatt"),
    "struct statvfs *": _copied("statvfs", "struct statvfs"),
    "struct gf_flock *": _copied("flock", "struct gf_flock"),
    "struct gf_lease *": _copied("lease", "struct gf_lease"),
    "loc_t *": _made("loc", "glupy_loc_keep", "glupy_loc_free"),
    "char *": _made("string", "glupy_string_keep", "free"),
    # Every vector's length is the parameter behind it, which all fops call count.
    "struct iovec *": _made("vector", "glupy_vector_keep", "free", ", count"),
    "gf_dirent_t *": _made("dirents", "glupy_dirents_keep", "glupy_dirents_free"),
    "lock_migration_info_t *": _made("locks", "glupy_locks_keep", "glupy_locks_free"),
    "uint8_t *": _made("checksum", "glupy_checksum_keep", "free"),
    # compound's arguments: no translator of GlusterFS winds that fop any more.
    "void *": Kind("opaque"),
}


def kind(parameter: Parameter) -> Kind:
    """Return what ``KINDS`` says of the parameter's type; numbers and enums are scalars."""
    found = KINDS.get(parameter.ctype)
    if found is None and "*" in parameter.ctype:
        raise RuntimeError(
            f"GlusterFS has a fop argument of an unknown type: {parameter.ctype}. "
            "This version of Glupy does not support the installed GlusterFS"
        )
    return found or SCALAR


STRUCTS = Template("""
struct args_$name {
    struct glupy_held head;
    $argument_fields
    $argument_stores
};
struct reply_$name {
    struct glupy_reply head;
    $reply_fields
    $reply_stores
};
struct call_$name {
    struct glupy_call head;
    $argument_fields
    struct reply_$name answer;
};
""")

CODE = Template("""
static int32_t python_$name(void *self, struct call_$name *asked, call_frame_t *frame$typed);
static void fail_$name(xlator_t *this, call_frame_t *frame, int32_t op_errno);

static void wipe_args_$name(struct glupy_kept *kept)
{
    struct args_$name *it = (struct args_$name *)kept;
    (void)it;
    $wipe_arguments
}

static void keep_args_$name(struct args_$name *to$typed)
{
    (void)to;
    $keep_arguments
}

static struct args_$name *quick_hold_$name(struct call_$name *asked)
{
    struct args_$name *to = malloc(sizeof *to);
    if (!to)
        return NULL;
    /* Unless a wind has noted it. */
    if (!asked->head.caller.lk_owner)
        glupy_note_caller(&asked->head);
    glupy_hold(&to->head, &asked->head.caller, wipe_args_$name);
    keep_args_$name(to$from_asked);
    return to;
}

static void wipe_reply_$name(struct glupy_kept *kept)
{
    struct reply_$name *it = (struct reply_$name *)kept;
    (void)it;
    $wipe_reply
}

static void keep_reply_$name(struct reply_$name *to, int32_t op_ret, int32_t op_errno$reply_typed)
{
    to->head.op_ret = op_ret;
    to->head.op_errno = op_errno;
    $keep_reply
    to->head.kept.wipe = wipe_reply_$name;
}

static void quick_answer_$name(struct call_$name *asked, int32_t op_ret,
                               int32_t op_errno$reply_typed)
{
    keep_reply_$name(&asked->answer, op_ret, op_errno$reply_passed);
}

static int32_t callback_$name(call_frame_t *frame, void *cookie, xlator_t *this,
                              int32_t op_ret, int32_t op_errno$reply_typed)
{
    struct reply_$name *to = cookie;
    (void)frame;
    keep_reply_$name(to, op_ret, op_errno$reply_passed);
    glupy_replied(&to->head, this);
    return 0;
}

static struct reply_$name *wind_$name(xlator_t *this, call_frame_t *frame, void *asked,
                                      xlator_t *child, uintptr_t waiter$typed)
{
    struct reply_$name *reply = malloc(sizeof *reply);
    xlator_t *caller = THIS;
    unreplied = NULL;
    if (!reply)
        return NULL;
    glupy_expect(&reply->head, waiter);
    if (asked)
        glupy_note_caller(asked);
    THIS = this;
    STACK_WIND_COOKIE(frame, callback_$name, reply, child, child->fops->$name$passed);
    THIS = caller;
    return glupy_has_reply(&reply->head) ? reply : NULL;
}

static void tail_$name(xlator_t *this, call_frame_t *frame, xlator_t *child$typed)
{
    xlator_t *caller = THIS;
    glupy_count(this, PASSED);
    THIS = this;
    STACK_WIND_TAIL(frame, child, child->fops->$name$passed);
    THIS = caller;
}

static void unwind_$name(xlator_t *this, call_frame_t *frame, int32_t op_ret,
                         int32_t op_errno$reply_typed)
{
    xlator_t *caller = THIS;
    glupy_count(this, UNWOUND);
    THIS = this;
    STACK_UNWIND_STRICT($name, frame, op_ret, op_errno$reply_passed);
    THIS = caller;
}

static void fail_$name(xlator_t *this, call_frame_t *frame, int32_t op_errno)
{
    unwind_$name(this, frame, -1, op_errno$reply_nothing);
}

static void ask_$name(void *data)
{
    struct call_$name *it = data;
    it->head.verdict = python_$name(it->head.instance->self, it, it->head.frame$from_call);
}

static int32_t trampoline_$name(call_frame_t *frame, xlator_t *this$typed)
{
    struct glupy_instance *instance = this->private;
    struct call_$name call;
    int32_t verdict;
    if (!instance) {
        STACK_UNWIND_STRICT($name, frame, -1, EIO$reply_nothing);
        return 0;
    }
    glupy_count(this, ENTERED);
    $pass_by
    call.head.instance = instance;
    call.head.frame = frame;
    call.head.verdict = 0;
    call.head.caller.lk_owner = NULL;
    $take_arguments
    glupy_on_large_stack(ask_$name, &call);
    verdict = call.head.verdict;
    if (verdict == VERDICT_ANSWERED) {
        unwind_$name(this, frame, call.answer.head.op_ret, call.answer.head.op_errno$from_answer);
        wipe_reply_$name(&call.answer.head.kept);
    } else if (verdict == VERDICT_PASS) {
        tail_$name(this, frame, FIRST_CHILD(this)$passed);
    } else if (verdict != VERDICT_TAKEN) {
        fail_$name(this, frame, verdict < 0 ? -verdict : EIO);
    }
    return 0;
}

static int32_t leaf_$name(call_frame_t *frame, xlator_t *this$typed)
{
    (void)this;
    STACK_UNWIND_STRICT($name, frame, $leaf_answer$reply_nothing);
    return 0;
}
""")

CDEF = Template("""
struct call_$name;
extern "Python" int32_t python_$name(void *self, struct call_$name *asked,
                                     call_frame_t *frame$typed);
void quick_answer_$name(struct call_$name *asked, int32_t op_ret, int32_t op_errno$reply_typed);
struct args_$name *quick_hold_$name(struct call_$name *asked);
struct reply_$name *wind_$name(xlator_t *this, call_frame_t *frame, void *asked, xlator_t *child,
                               uintptr_t waiter$typed);
void tail_$name(xlator_t *this, call_frame_t *frame, xlator_t *child$typed);
void unwind_$name(xlator_t *this, call_frame_t *frame, int32_t op_ret,
                 int32_t op_errno$reply_typed);
""")

# What a leaf says to fops that it does not handle. Locks as storage/posix (posix.c:30), for
# features/locks is above it. A flush (of every close) succeeds: there is nothing to be flushed.
_LEAF_ANSWERS = {
    **dict.fromkeys(["lk", "inodelk", "finodelk", "entrylk", "fentrylk", "lease"], "-1, ENOSYS"),
    "flush": "0, 0",
}


def _lines(parameters: Iterable[Parameter], part: str) -> str:
    made = (getattr(kind(each), part).replace("NAME", each.name) for each in parameters)
    return "\n    ".join(line for line in made if line)


def _fields(parameters: Iterable[Parameter]) -> str:
    return " ".join(f"{each.ctype} {each.name};" for each in parameters)


def _typed(parameters: Iterable[Parameter]) -> str:
    return "".join(f", {each}" for each in parameters)


def _names(parameters: Iterable[Parameter], prefix: str = "") -> str:
    # What is kept has no const; GlusterFS's own prototypes decide.
    return "".join(
        f", (void *){prefix}{each.name}" if "*" in each.ctype else f", {prefix}{each.name}"
        for each in parameters
    )


def _nothing(parameters: Iterable[Parameter]) -> str:
    return "".join(", NULL" if "*" in each.ctype else ", 0" for each in parameters)


def _pass_by(fop: Fop) -> str:
    """Return what lets a fop of a marked inode pass by, if it is about just one file."""
    files = [each.name for each in fop.arguments if each.ctype in ("fd_t *", "loc_t *")]
    if len(files) != 1:
        return ""
    return (
        f"if (instance->passed[{fop.number}] && {files[0]} && "
        f"glupy_passes({files[0]}->inode, this)) {{\n"
        f"        tail_{fop.name}(this, frame, FIRST_CHILD(this){_names(fop.arguments)});\n"
        "        return 0;\n    }"
    )


def _substitutions(fop: Fop) -> dict[str, str]:
    return {
        "name": fop.name,
        "pass_by": _pass_by(fop),
        "typed": _typed(fop.arguments),
        "passed": _names(fop.arguments),
        "from_call": _names(fop.arguments, "it->"),
        "from_asked": _names(fop.arguments, "asked->"),
        "take_arguments": "\n    ".join(
            f"call.{each.name} = {'(void *)' if '*' in each.ctype else ''}{each.name};"
            for each in fop.arguments
        ),
        "from_answer": _names(fop.reply, "call.answer."),
        "reply_typed": _typed(fop.reply),
        "reply_passed": _names(fop.reply),
        "reply_nothing": _nothing(fop.reply),
        "argument_fields": _fields(fop.arguments),
        "argument_stores": _lines(fop.arguments, "store"),
        "keep_arguments": _lines(fop.arguments, "keep"),
        "wipe_arguments": _lines(fop.arguments, "wipe"),
        "reply_fields": _fields(fop.reply),
        "reply_stores": _lines(fop.reply, "store"),
        "keep_reply": _lines(fop.reply, "keep"),
        "wipe_reply": _lines(fop.reply, "wipe"),
        "leaf_answer": _LEAF_ANSWERS.get(fop.name, "-1, EOPNOTSUPP"),
    }


def table(fops: Iterable[Fop]) -> str:
    """Return the fop table as JSON: what Python needs to know, carried inside the extension.

    A list of ``[name, number, arguments, reply]``; arguments and reply are lists of
    ``[name, kind]``.
    """
    return json.dumps(
        [
            [
                fop.name,
                fop.number,
                [[each.name, kind(each).name] for each in fop.arguments],
                [[each.name, kind(each).name] for each in fop.reply],
            ]
            for fop in fops
        ],
        separators=(",", ":"),
    )


def code(fops: list[Fop]) -> str:
    """Return the C of all fops, to stand behind ``bridge.h``."""
    parts = [
        *(STRUCTS.substitute(_substitutions(fop)) for fop in fops),
        *(CODE.substitute(_substitutions(fop)) for fop in fops),
    ]
    for prefix in "trampoline", "leaf":
        members = " ".join(f".{fop.name} = {prefix}_{fop.name}," for fop in fops)
        parts.append(f"static struct xlator_fops {prefix}_fops = {{ {members} }};")
    fails = " ".join(f"[{fop.number}] = fail_{fop.name}," for fop in fops)
    parts.append(
        "static void (*const fail_table[GF_FOP_MAXVALUE])(xlator_t *, call_frame_t *, int32_t) = "
        f"{{ {fails} }};"
    )
    parts.append(f"static const char glupy_fop_table[] = {json.dumps(table(fops))};")
    return "\n".join(parts)


def cdef(fops: list[Fop]) -> str:
    """Return the declarations of the same for cffi."""
    parts = []
    for fop in fops:
        fields = {"args": (fop.arguments, "glupy_held"), "reply": (fop.reply, "glupy_reply")}
        for prefix, (parameters, head) in fields.items():
            parts.append(
                f"struct {prefix}_{fop.name} {{ struct {head} head; {_fields(parameters)} ...; }};"
            )
        parts.append(CDEF.substitute(_substitutions(fop)))
    parts.append("static const char glupy_fop_table[];")
    return "\n".join(parts)
