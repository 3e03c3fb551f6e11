"""A finding as a shell script, for those who have GlusterFS and nothing of ours.

The script does each call twice, through the kernel: on the target, and in a folder of the local
file system, the control; and compares. What the standard tools cannot do is left out on both sides.
"""

import errno
import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import volfiles
from glupy.testing.fuzz import steps
from glupy.testing.fuzz.model import Promises, VolumeModel
from glupy.testing.fuzz.runner import Ground
from glupy.testing.fuzz.steps import Step
from glupy.testing.fuzz.targets import Recipe

PATIENCE = 120.0
"""Seconds that a script may take."""
_FLAGS = {
    "excl": os.O_EXCL,
    "trunc": os.O_TRUNC,
    "append": os.O_APPEND,
    "direct": os.O_DIRECT,
}
"""Of open(2), as a script has them."""


def script(
    sequence: Sequence[Step],
    wrong: str,
    target: str,
    ground: Ground,
    *,
    inserts: Sequence[volfiles.Insert] = (),
    zero_range: bool | None = None,
) -> str | None:
    """The text of a bash script that does a sequence again, on that target or in a folder.

    `wrong` says what was wrong there; of `ground` it wants promises and faults, not that it is up.
    `zero_range`: a zerofill is the kernel's call (the default for a folder); if not, zeros are
    written, since no FUSE mount of GlusterFS zeroes. None: no script can do it.
    """
    if ground.faults:
        return None
    if zero_range is None:
        zero_range = target.startswith("dir:")
    calls = _Calls(ground.promises, zero_range=zero_range)
    if not all(calls.add(step) for step in sequence):
        return None
    first = ['moment=$(stat --format %.9Y "$control")'] if calls.has_times else []
    lines = [*first, *calls.lines, *calls.last_lines()]
    made = _target(target, inserts, calls.clients)
    wrong = " ".join(wrong.split())  # a line
    return _filled(
        _SCRIPT,
        **made._asdict(),
        what=f"{len(sequence)} calls after which something is wrong on {target}: {wrong}.",
        names=" ".join(sorted(calls.names)),
        calls=_used(_CALLS, lines),
        checks=_used(_CHECKS, lines),
        lines="\n".join(lines),
    )


def _used(functions: Sequence[tuple[str, str]], lines: Sequence[str]) -> str:
    """The text of those functions that the lines of a script call."""
    words = {word for line in lines if line[0] != "#" for word in line.split()[:2]}
    return "".join(f"{text}\n" for names, text in functions if words & set(names.split()))


def shows(path: Path) -> bool:
    """Run a script: whether it says that something is wrong. Nothing of it is left."""
    nothing = subprocess.DEVNULL
    with subprocess.Popen(
        ["bash", path], stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
    ) as process:
        try:
            return process.wait(PATIENCE) == 1
        except subprocess.TimeoutExpired:
            return False
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)  # a call that hangs goes, too


def _filled(text: str, **words: str) -> str:
    for name, value in words.items():
        text = text.replace(f"@{name}@", value)
    return text


# ---- the calls ----


class _Calls:
    """The lines of a script that do a sequence. The model knows what each call is about."""

    def __init__(self, promises: Promises, *, zero_range: bool) -> None:
        self.lines: list[str] = []
        self.names: set[str] = set()
        self.clients = 1
        self.has_times = False
        self._promises, self._zero_range = promises, zero_range
        self._volume = VolumeModel(promises, 4096)

    def add(self, step: Step) -> bool:
        """Add the lines for a step. False: no tool does it, and all that follows needs it."""
        plan = step.plan(self._volume)
        if why := self._idle(step, plan):
            self.lines.append(f"# {step.fop} {step.arguments()}: left out: {why}")
            return True
        words = self._words(step)
        if words is None:
            return False
        self.lines.append(shlex.join(map(str, words)))
        self.names |= {
            getattr(step, each) for each in ("name", "old", "new") if hasattr(step, each)
        }
        handle: int = getattr(step, "handle", 0)
        self.clients = max(self.clients, getattr(step, "client", handle) % 2 + 1)
        self.has_times |= isinstance(step, steps.Wait | steps.Age)
        promises = self._promises
        if plan.touches and self.has_times and promises.times:
            self.lines.append(f"times_are_set {handle}")
        if isinstance(step, steps.Discard) and promises.blocks and not promises.thick:
            self.lines.append(f"blocks_are_freed {handle}")
        if plan.errno <= 0:
            plan.change()
        return True

    def last_lines(self) -> list[str]:
        """What is compared when all is done."""
        handles = self._volume.handles.items()
        nameless = [f"compare_open {n}" for n, handle in handles if not handle.file.links]
        return [*nameless, "compare_names"]

    def _idle(self, step: Step, plan: steps.Plan) -> str | None:
        """Why a script can do without this step; None: it cannot."""
        names = self._volume.names
        match step:
            case steps.Stat() | steps.Fstat():
                return "attributes are compared after each call"
            case steps.Seek() | steps.Copy():
                return "no tool does it"
            case steps.Rename() if names.get(step.old, step) is names.get(step.new):
                return "the kernel sees that both are one file"
            case steps.Setxattr() if step.flags and plan.errno:
                return "setfattr has no flags"
            case steps.Read() if not self._volume.handles[step.handle].file.links:
                return "a file without a name is read at the end"
        if plan.errno == errno.EBADF or getattr(step, "length", 1) == 0:
            return "no tool tries"
        if step.fop in self._promises.unsupported:
            return "the target may refuse it"
        return None

    def _words(self, step: Step) -> list[object] | None:
        """The line for a step; None: there is none."""
        if isinstance(step, steps.OnHandle) and not self._volume.handles[step.handle].file.links:
            return None  # tools open a file themselves, and GlusterFS then wants a name
        match step:
            case steps.Wait():
                return ["wait_a_tick"]
            case steps.Create(handle, name, flags):
                new = [word for word in ("excl", "trunc") if flags & _FLAGS[word]]
                return ["step", "create", handle, name, *new, *_dd_flags(flags)]
            case steps.Open(handle, name, flags):
                return ["step", "open", handle, name, *_dd_flags(flags)]
            case steps.Close(handle):
                return ["step", "close", handle]
            case steps.Link(client, old, new):
                return ["step", "link", client, old, new]
            case steps.Rename(client, old, new):
                return ["step", "rename", client, old, new]
            case steps.Unlink(client, name):
                return ["step", "unlink", client, name]
            case steps.Read(handle, offset, length):
                return ["step", "pread", handle, offset, length]
            case steps.Write(handle, offset, length, seed):
                return ["step", "pwrite", handle, offset, length, seed]
            case steps.Discard(handle, offset, length):
                return ["step", "discard", handle, offset, length]
            case steps.Zerofill(handle, offset, length):
                call = "zero_range" if self._zero_range else "write_zeros"
                return ["step", call, handle, offset, length]
            case steps.Fallocate(handle, offset, length, keep_size):
                keep = ["--keep-size"] if keep_size else []
                return ["step", "allocate", handle, offset, length, *keep]
            case steps.Truncate(handle, size):
                return ["step", "ftruncate", handle, size]
            case steps.TruncatePath(client, name, size):
                return ["step", "truncate", client, name, size]
            case steps.Age(handle):
                return ["step", "age", handle]
            case steps.Sync(handle, data_only):
                return ["step", "fsync", handle, *(["--data"] if data_only else [])]
            case steps.Setxattr(client, name, key, value):
                return ["step", "setxattr", client, name, key, f"0x{value.hex()}"]
            case steps.Getxattr(client, name, key):
                return ["step", "getxattr", client, name, key]
            case steps.Removexattr(client, name, key):
                return ["step", "removexattr", client, name, key]
        return None


def _dd_flags(flags: int) -> list[str]:
    """Those of open(2) that dd has, and writes with."""
    words = [word for word in ("append", "direct") if flags & _FLAGS[word]]
    sync = flags & os.O_SYNC  # O_DSYNC is a bit of it
    return [*words, "sync" if sync == os.O_SYNC else "dsync"] if sync else words


# ---- the target ----


class _Target(NamedTuple):
    """What a script says of its target, and does for it."""

    usage: str
    default: str = ""
    start: str = ""
    begin: str = 'targets=("$dir")'
    stop: str = ""
    tidy: str = "${targets[0]}"


def _target(spec: str, inserts: Sequence[volfiles.Insert], clients: int) -> _Target:
    kind, _, rest = spec.partition(":")
    if kind == "dir":
        return _Target(f"{rest}.", default=shlex.quote(rest))
    where, tidy = '--volfile="$work/client.vol"', "${targets[0]}"
    mount = "    mount_client 0"  # one: what is above its bricks may cache
    if kind == "volume":
        usage = f"a mount of the volume {rest}."
        where = f"--volfile-server=localhost --volfile-id={shlex.quote(rest)}"
        lines = [mount]
    elif "/" in spec or spec.endswith(".vol"):
        usage = f"a mount of {spec}, which is in here."
        lines = [_client(str(volfiles.read(Path(spec)))), mount]
    else:
        usage, tidy = "a mount of its own, of bricks in TMPDIR or /var/tmp.", "$dir"
        mounts = [f"    mount_client {number}" for number in range(clients)]
        lines = [*_recipe(spec, inserts), *mounts]
    start = _filled(
        _MOUNT,
        start="\n".join(lines),
        brick=_BRICK if any("start_brick" in line for line in lines) else "",
        where=where,
    )
    return _Target(
        usage,
        start=start,
        begin='if [ -n "$dir" ]; then targets=("$dir"); else start_target; fi',
        stop="\n        stop_target",
        tidy=tidy,
    )


def _recipe(spec: str, inserts: Sequence[volfiles.Insert]) -> list[str]:
    """What makes the folders of a recipe, starts its bricks, and has the client's volfile."""
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        work = Path(made).resolve()
        store = work / "store"
        store.mkdir()
        recipe = Recipe(spec, stack, work, store, inserts, frozenset())
        recipe.in_process = False  # a mount wants bricks
        client, _ = recipe.build()
        lines = [
            f'    mkdir --parents "$work/store/{each.name}"' for each in sorted(store.iterdir())
        ]
    for brick in recipe.bricks:
        text = _here(str(brick.graph)).replace(str(work), "$work")
        lines.append(f"    start_brick {brick.folder.name} {text}")
    return [*lines, _client(str(client)).replace(str(work), "$work")]


def _client(volfile: str) -> str:
    return f'    cat >"$work/client.vol" {_here(volfile)}'


def _here(text: str) -> str:
    """A here-document in which only $work is expanded."""
    return "<<END\n" + re.sub(r"[\\$`]", r"\\\g<0>", text) + "END"


_CALLS = [
    (
        "create open",
        r"""
# Open a file for reading and writing as HANDLE, of the client of this number.
create() { # HANDLE NAME [excl] [trunc] [append] [direct] [sync] [dsync]
    local path number flag
    path=$(at "$1" "$2")
    flags[$1]=
    for flag in "${@:3}"; do
        case $flag in
            excl) (set -o noclobber && : >"$path") || return ;;
            trunc) : >"$path" || return ;;
            there) : <"$path" || return ;;
            *) flags[$1]+=,$flag ;; # for dd
        esac
    done
    exec {number}<>"$path" && files[$side$1]=/proc/self/fd/$number
}""",
    ),
    (
        "open",
        r"""
open() { # HANDLE NAME [append] [direct] [sync] [dsync]
    create "$1" "$2" there "${@:3}"
}""",
    ),
    (
        "close",
        r"""
close() { # HANDLE
    local number=${files[$side$1]##*/}
    exec {number}>&-
    unset "files[$side$1]"
}""",
    ),
    (
        "link",
        r"""
link() { # CLIENT OLD NEW
    ln --no-target-directory "$(at "$1" "$2")" "$(at "$1" "$3")"
}""",
    ),
    (
        "rename",
        r"""
rename() { # CLIENT OLD NEW
    mv --force --no-target-directory "$(at "$1" "$2")" "$(at "$1" "$3")"
}""",
    ),
    (
        "unlink",
        r"""
unlink() { # CLIENT NAME
    command unlink "$(at "$1" "$2")"
}""",
    ),
    (
        "pread",
        r"""
pread() { # HANDLE OFFSET LENGTH
    dd if="${files[$side$1]}" iflag="skip_bytes${flags[$1]/,append/}" skip="$2" bs="$3" count=1
}""",
    ),
    (
        "pwrite",
        r"""
pwrite() { # HANDLE OFFSET LENGTH SEED: bytes that are nowhere zero, and differ everywhere
    seq "$4" inf | dd iflag=fullblock bs="$3" count=1 conv=notrunc \
        of="${files[$side$1]}" oflag="seek_bytes${flags[$1]}" seek="$2"
}""",
    ),
    (
        "write_zeros",
        r"""
write_zeros() { # HANDLE OFFSET LENGTH
    dd if=/dev/zero bs="$3" count=1 conv=notrunc \
        of="${files[$side$1]}" oflag=seek_bytes seek="$2"
}""",
    ),
    (
        "zero_range",
        r"""
zero_range() { # HANDLE OFFSET LENGTH
    command fallocate --zero-range --offset "$2" --length "$3" "${files[$side$1]}"
}""",
    ),
    (
        "discard",
        r"""
discard() { # HANDLE OFFSET LENGTH
    command fallocate --punch-hole --offset "$2" --length "$3" "${files[$side$1]}"
}""",
    ),
    (
        "allocate",
        r"""
allocate() { # HANDLE OFFSET LENGTH [--keep-size]
    command fallocate "${@:4}" --offset "$2" --length "$3" "${files[$side$1]}"
}""",
    ),
    (
        "ftruncate",
        r"""
ftruncate() { # HANDLE SIZE
    command truncate --size "$2" "${files[$side$1]}"
}""",
    ),
    (
        "truncate",
        r"""
truncate() { # CLIENT NAME SIZE
    command truncate --no-create --size "$3" "$(at "$1" "$2")"
}""",
    ),
    (
        "age",
        rf"""
age() {{ # HANDLE
    touch --no-create --date=@{steps.LONG_AGO // 10**9} "${{files[$side$1]}}"
}}""",
    ),
    (
        "fsync",
        r"""
fsync() { # HANDLE [--data]
    sync "${@:2}" "${files[$side$1]}"
}""",
    ),
    (
        "setxattr",
        r"""
setxattr() { # CLIENT NAME KEY VALUE
    setfattr --name "$3" --value "$4" "$(at "$1" "$2")"
}""",
    ),
    (
        "getxattr",
        r"""
getxattr() { # CLIENT NAME KEY
    getfattr --only-values --name "$3" "$(at "$1" "$2")"
}""",
    ),
    (
        "removexattr",
        r"""
removexattr() { # CLIENT NAME KEY
    setfattr --remove "$3" "$(at "$1" "$2")"
}""",
    ),
]
_CHECKS = [
    (
        "wait_a_tick",
        r"""
# From this moment on file systems have another time.
wait_a_tick() {
    local before
    before=$(date +%s.%N)
    until [[ $moment > $before ]]; do
        touch "$work/tick"
        moment=$(stat --format %.9Y "$work/tick")
    done
}""",
    ),
    (
        "times_are_set",
        r"""
# What changes a file sets its times.
times_are_set() { # HANDLE
    local mtime ctime
    read -r mtime ctime < <(stat --dereference --format '%.9Y %.9Z' "${files[target$1]}")
    if [[ $mtime < $moment ]]; then wrong "mtime was not set"; fi
    if [[ $ctime < $moment ]]; then wrong "ctime was not set"; fi
}""",
    ),
    (
        "blocks_are_freed",
        r"""
# What is discarded is free. Two blocks may be there for xattrs.
blocks_are_freed() { # HANDLE
    local ours right
    sync "${files[target$1]}" "${files[control$1]}"
    ours=$(stat --dereference --format %b "${files[target$1]}")
    right=$(stat --dereference --format %b "${files[control$1]}")
    [ "$ours" -le $((right + 2 * 8)) ] ||
        wrong "it has $ours blocks of 512 bytes, the control has $right"
}""",
    ),
    (
        "compare_open",
        r"""
# The bytes of a file without a name: it cannot be opened again, and is read once.
compare_open() { # HANDLE
    local side number
    for side in target control; do
        number=${files[$side$1]##*/}
        dd iflag=nocache count=0 status=none <&"$number"
        cat <&"$number" >"$work/$side.out" 2>&1
    done
    cmp --quiet "$work/target.out" "$work/control.out" ||
        wrong "the open file is not what it is on the control"
}""",
    ),
]

_MOUNT = r"""# ---- the target, if it is to be made ----

start_target() {
    [ "$EUID" = 0 ] || cannot "it mounts: run it as root, or give it a folder"
    glusterfs --version | head -n 1
@start@
}
@brick@
# Its volfile is the input. glusterfs returns when it is mounted; the kernel keeps no attributes.
mount_client() { # NUMBER
    local mountpoint=$work/mount-$1
    mkdir "$mountpoint"
    setsid glusterfs @where@ \
        --log-file="$mountpoint.log" --pid-file="$mountpoint.pid" \
        --attribute-timeout=0 --entry-timeout=0 "$mountpoint"
    [ "$(stat --format %i "$mountpoint")" = 1 ] ||
        cannot "it is not mounted: $(tail -n 3 "$mountpoint.log")"
    targets+=("$mountpoint")
}

stop_target() {
    local pid path mounted
    while read -r pid; do
        kill -KILL "$pid"
        while [ -e "/proc/$pid/exe" ]; do sleep 0.01; done
    done < <(cat "$work"/*.pid 2>/dev/null)
    mapfile -t mounted < <(cut --delimiter=' ' --fields=2 /proc/self/mounts)
    for path in "${mounted[@]}"; do
        [[ $path != "$work"/* ]] || umount "$path"
    done
}

"""

_BRICK = r"""
# Its volfile is the input. glusterfsd returns when the brick serves.
start_brick() { # NAME
    mkdir "$work/$1"
    cat >"$work/$1.vol"
    setsid glusterfsd --volfile="$work/$1.vol" \
        --log-file="$work/$1.log" --pid-file="$work/$1.pid" ||
        cannot "$1 does not start: $(tail -n 3 "$work/$1.log")"
}
"""

_SCRIPT = r"""#!/usr/bin/env bash
# @what@
#
# Usage: bash THIS_FILE [DIR]
#
# Each call is done twice: on the target and in a local folder, the control; then both must have the
# same. DIR, an empty folder of any mounted file system, is the target. Without DIR it is
# @usage@
#
# Exits 0 if nothing is wrong, 1 if something is, 2 if it cannot run. Nothing of it is left.
# Needs bash, coreutils, diffutils, util-linux, attr; without DIR root and GlusterFS.
# Made by glupy fuzz.

set -u
export LC_ALL=C

dir=${1-@default@}
names=(@names@)
work='' control='' tidy='' side='' outcome=''
targets=() # the target as each client has it
declare -A files # what is open, by side and handle
# shellcheck disable=SC2034 # of a script that neither writes nor reads
declare -A flags # what dd opens it with, by handle

cannot() {
    echo "cannot run: $*"
    exit 2
}

wrong() {
    echo "wrong: $*"
    exit 1
}

clean() {
    trap '' HUP INT TERM
    local path number
    for path in "${files[@]}"; do
        number=${path##*/}
        exec {number}>&-
    done
    if [ -n "$tidy" ]; then
        (cd "$tidy" && rm -f "${names[@]}")
    fi
    if [ -n "$work" ]; then@stop@
        rm -rf --one-file-system "$work"
    fi
}

@start@# ---- the calls, on one side ----

at() { # CLIENT NAME: its path
    local place=$control
    [ "$side" = control ] || place=${targets[$1 % ${#targets[@]}]}
    echo "$place/$2"
}
@calls@
# ---- what is compared ----
@checks@
call() { # SIDE CALL ARGUMENT...
    side=$1
    if "${@:2}" >"$work/$side.out" 2>"$work/err"; then
        outcome=ok
    else
        outcome=$(tail -n 1 "$work/err")
        outcome=${outcome##*: }
    fi
}

step() { # CALL ARGUMENT...
    local ours
    call target "$@"
    ours=$outcome
    echo "$*: $ours"
    call control "$@"
    [ "$outcome" != "Operation not supported" ] || cannot "the control has no $1"
    [ "$ours" = "$outcome" ] || wrong "$ours; on the control: $outcome"
    cmp --quiet "$work/target.out" "$work/control.out" || wrong "it returned other bytes"
    compare_files
}

compare_files() {
    local ours right number name
    mapfile -t ours < <(attributes "${targets[0]}")
    mapfile -t right < <(attributes "$control")
    for number in "${!names[@]}"; do
        [ "${ours[number]}" = "${right[number]}" ] ||
            wrong "${ours[number]}; on the control: ${right[number]#*: }"
        name=${names[number]}
        [ ! -e "$control/$name" ] || compare_bytes "$name"
    done
}

attributes() { # FOLDER: a line for each name
    (cd "$1" && stat --format '%n: %s bytes, %h links' "${names[@]}" 2>&1)
}

compare_bytes() { # NAME
    local difference
    dd if="${targets[0]}/$1" iflag=nocache count=0 status=none # what the kernel has of it goes
    difference=$(cmp --print-bytes "${targets[0]}/$1" "$control/$1" 2>&1) ||
        wrong "$1 is not what it is on the control: ${difference##*differ: }"
}

compare_names() {
    local ours right
    ours=$(listed "${targets[0]}")
    right=$(listed "$control")
    [ "$ours" = "$right" ] || wrong "in the end there are: $ours; on the control: $right"
}

listed() { # FOLDER: its names and their xattrs, in one line
    (
        cd "$1" || exit
        ls --ignore=lost+found
        getfattr --dump --match='^user\.' "${names[@]}" 2>/dev/null
    ) | sort | paste --serial --delimiters=' '
}

# ---- all of it ----

trap clean EXIT
trap 'cannot interrupted' HUP INT TERM
work=$(mktemp --directory "${TMPDIR:-/var/tmp}/repro.XXXXXX") || cannot "no temporary folder"
control=$work/control
mkdir "$control"
@begin@
[ -d "${targets[0]}" ] || cannot "there is no folder ${targets[0]}"
[ -z "$(listed "${targets[0]}")" ] || cannot "${targets[0]} is not empty"
tidy=@tidy@

@lines@
echo "nothing is wrong"
"""
