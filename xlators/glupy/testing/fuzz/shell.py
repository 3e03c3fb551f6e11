"""A finding as a shell script, for those who have GlusterFS and nothing of ours.

The script does each call twice, through the kernel: on the target, and in a folder of the local
file system, the control; and compares. What the standard tools cannot do is left out on both sides.
Its bash is in the ``repro*.sh`` beside this: what stands between two ``@`` is filled in here.
"""

import errno
import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import volfiles
from glupy.testing.fuzz import steps
from glupy.testing.fuzz.ground import Ground
from glupy.testing.fuzz.model import Promises, VolumeModel
from glupy.testing.fuzz.steps import Step
from glupy.testing.fuzz.targets import Recipe

PATIENCE = 120.0
"""Seconds that a script may take."""
_CLEANING = 120.0
"""And that it may take to take away what it made."""
_CALLS, _CHECKS = 1, 2
"""The sections of ``repro_functions.sh``."""
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
        _text("repro.sh"),
        **made._asdict(),
        what=f"{len(sequence)} calls after which something is wrong on {target}: {wrong}.",
        names=" ".join(sorted(calls.names)),
        calls=_used(_CALLS, lines),
        checks=_used(_CHECKS, lines),
        lines="\n".join(lines),
        long_ago=str(steps.LONG_AGO // 10**9),
    )


def _text(name: str) -> str:
    return Path(__file__).with_name(name).read_text()


def _used(section: int, lines: Sequence[str]) -> str:
    """The text of those functions of a section of ``repro_functions.sh`` that the lines call."""
    words = {word for line in lines if line[0] != "#" for word in line.split()[:2]}
    if "open" in words:
        words.add("create")  # which does it
    paragraphs = re.split(r"^# ---- .*\n", _text("repro_functions.sh"), flags=re.MULTILINE)
    found = re.split(r"\n\n", paragraphs[section].strip())
    kept = [text for text in found if _name_of(text) in words]
    return "".join(f"\n{text}\n" for text in kept)


def _name_of(function: str) -> str:
    found = re.search(r"^(\w+)\(\) {", function, re.MULTILINE)
    assert found is not None, function
    return found[1]


def shows(path: Path) -> bool:
    """Run a script: whether it says that something is wrong. Nothing of it is left."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            # Signals that the command ignores while it ends bash would ignore for ever.
            ["env", "--default-signal", "bash", path],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            status = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            # What it made it takes away; a call that hangs goes, too.
            for number in signal.SIGTERM, signal.SIGKILL:
                os.killpg(process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_CLEANING)
                    break
            return False
        output.seek(0)
        return status == 1 and any(line.startswith(b"wrong: ") for line in output)


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
        if isinstance(step, steps.Together):  # no tool does two at once
            return all(self.add(call) for call in step.calls)
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
            case steps.Seek() | steps.Copy() | steps.AnonymousRead():
                return "no tool does it"
            case steps.Fgetxattr() | steps.Flistxattr():
                return "xattrs are compared in the end"
            case steps.Rename() if names.get(step.old, step) is names.get(step.new):
                return "the kernel sees that both are one file"
            case steps.Setxattr() | steps.Fsetxattr() if step.flags and plan.errno:
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
            case steps.Chmod(client, name, mode):
                return ["step", "chmod", client, name, f"{mode:o}"]
            case steps.Chown(client, name, uid, gid):
                return ["step", "chown", client, name, f"{uid}:{gid}"]
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
            case steps.Fsetxattr(handle, key, value):
                return ["step", "setxattr", *self._named(handle), key, f"0x{value.hex()}"]
            case steps.Fremovexattr(handle, key):
                return ["step", "removexattr", *self._named(handle), key]
        return None

    def _named(self, handle: int) -> tuple[int, str]:
        """Whose an open file is, and a name of it."""
        file = self._volume.handles[handle].file
        return handle, next(name for name, each in self._volume.names.items() if each is file)


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
    text = _text("repro_mount.sh")
    if not any("start_brick" in line for line in lines):
        text = "\n\n".join(part for part in text.split("\n\n") if "start_brick" not in part)
    start = _filled(text, start="\n".join(lines), where=where) + "\n"
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
        recipe = Recipe(spec, stack, work, store, inserts)
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
