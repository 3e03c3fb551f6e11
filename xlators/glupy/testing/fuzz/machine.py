"""The Hypothesis state machine that makes up sequences.

It draws what is worth trying, without knowing what is wrong anywhere: offsets and lengths around
the boundaries of blocks, pages, shards and stripes, counted from the start or the end of a file or
from where something happened last; a few names and handles, so that they meet each other.
"""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, cast

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.database import ExampleDatabase
from hypothesis.errors import Flaky
from hypothesis.reporting import with_reporter
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from glupy.testing import strategies
from glupy.testing.fuzz import steps
from glupy.testing.fuzz.model import FileModel
from glupy.testing.fuzz.runner import Finding, Ground, Mismatch, Runner
from glupy.testing.strategies import BOUNDARIES, KIB, MIB, create_flags, deltas, open_flags

NAMES = "a", "b", "c"
HANDLES = 3
KEYS = "user.x", "user.x", "user.y"
EXAMPLE_STEPS = 50
SHORTENING = 300.0
"""Seconds at most to leave steps out of what was found: as long as Hypothesis makes it shorter."""
CONTENTS = 70_000
"""Bytes of files that are made because a rule wants one."""
ALIGNED = 4096
"""What O_DIRECT wants offsets and lengths to be multiples of."""
FAILING_FOPS = (
    *("lookup", "stat", "fstat", "open", "create", "readv", "writev", "discard", "zerofill"),
    *("fallocate", "truncate", "ftruncate", "fsync", "seek", "link", "unlink", "rename"),
    *("setxattr", "getxattr", "removexattr", "setattr", "fsetattr", "readdirp"),
    *("fsetxattr", "fgetxattr", "fremovexattr", "copy_file_range"),
)


class Origin(StrEnum):
    """What a `Place` is counted from."""

    START = "start of the file"
    END = "end of the file"
    LAST = "where something happened last"


class Place(NamedTuple):
    """An offset near a boundary: number ``boundary`` of those there are."""

    origin: Origin
    boundary: int
    delta: int


class Part(NamedTuple):
    """One of two calls at once."""

    fop: str
    length: int

    def call(self, handle: int, offset: int, length: int, seed: int) -> steps.OnRange:
        match self.fop:
            case "write":
                return steps.Write(handle, offset, length, seed)
            case "read":
                return steps.Read(handle, offset, length)
            case "discard":
                return steps.Discard(handle, offset, length)
        return steps.Zerofill(handle, offset, length)


places = (
    st.builds(Place, st.just(Origin.START), st.integers(0, 15), deltas)
    | st.builds(Place, st.sampled_from(Origin), st.integers(0, 2), deltas)
    | st.just(Place(Origin.LAST, 0, 0))
)
AROUND = 0, 4 * KIB, -4 * KIB
WHOLE = 0
"""The length of a whole shard or stripe: as far as the target's last boundary of its own is."""
LONGEST = 16 * MIB
"""No range is longer, however large a shard is."""
lengths = strategies.lengths() | st.just(WHOLE)
names = strategies.names(len(NAMES))
which = st.integers(0, HANDLES - 1)
seeds = st.integers(0, 250)
later = st.booleans()
clients = st.integers(0, 1)
keys = st.sampled_from(KEYS)
parts = st.builds(Part, st.sampled_from(["write", "write", "read", "discard", "zerofill"]), lengths)
modes = st.sampled_from([0o600, 0o644, 0o755, 0o4711, 0o6770, 0])
owners = st.sampled_from([0, 0, 1000])
one_of_four = st.integers(0, 3).map(lambda number: number == 3)
one_of_eight = st.integers(0, 7).map(lambda number: number == 7)


class SequenceMachine(RuleBasedStateMachine):
    """One instance is one sequence. Subclasses have the rules, and say on what."""

    search: ClassVar["Search"]

    def __init__(self) -> None:
        if self.search.ground.spoiled:
            raise SpoiledError
        super().__init__()
        self.runner = self.search.current = Runner(self.search.ground, self.search.against)
        self.wrong: str | None = None

    def teardown(self) -> None:
        """What is not seen at once is seen now."""
        try:
            if self.wrong is None:
                self._guarded(self.runner.verify)
        finally:
            try:
                self._guarded(self.runner.clean)
            finally:
                self.search.ended(self.runner, self.wrong)

    # ---- how ----

    def _setattrs_may_fail(self) -> bool:
        return self.runner.promises.failed_setattrs

    def _do(self, step: steps.Step) -> None:
        if self.search.stopped:
            raise KeyboardInterrupt  # which Hypothesis lets pass
        if self.runner.against is not None and step.fop in self.runner.promises.unsupported:
            return  # one may do it
        if self.runner.promises.checked_flags or self._may(step):
            self._guarded(lambda: self.runner.perform(step))

    def _may(self, step: steps.Step) -> bool:
        """Whether the handle of a step is open for what that does."""
        if not isinstance(step, steps.OnHandle):
            return True
        handle = self.runner.volume.handles[step.handle]
        return handle.reads if isinstance(step, steps.Read) else handle.writes or not step.modifies

    def _guarded(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except Mismatch as error:
            self.wrong = self.wrong or str(error)
            raise

    def _handle(self, which: int) -> int | None:
        """A handle that is open: if there is none, that of a new file or an old one.

        None: it could not be opened, and that was right."""
        handles = list(self.runner.volume.handles)
        if handles:
            return handles[which % len(handles)]
        if self.runner.ground.readonly:
            self._do(steps.Open(which, NAMES[which], os.O_RDONLY))
        elif self.runner.ground.kept:
            self._do(steps.Open(which, next(iter(self.runner.ground.kept)), os.O_RDWR))
        else:
            self._do(steps.Create(which, NAMES[which]))
            if which and which in self.runner.volume.handles:
                self._do(steps.Write(which, 0, CONTENTS, which))  # faults show where there is data
                if which > 1:
                    self._age(which)  # and where times are old
        return which if which in self.runner.volume.handles else None

    def _age(self, handle: int) -> None:
        promises = self.runner.promises
        if self.runner.ground.readonly and not self._setattrs_may_fail():
            return
        if promises.times and (promises.nameless or self._file(handle).links):
            self._do(steps.Age(handle))

    def _free(self, handle: int) -> None:
        if handle in self.runner.volume.handles:
            self._do(steps.Close(handle))

    def _name(self, name: str) -> str:
        """One that there is, most often."""
        there = self.runner.volume.names
        return name if name in there or name == NAMES[-1] else next(iter(there), name)

    def _file(self, handle: int) -> FileModel:
        return self.runner.volume.handles[handle].file

    def _open_as(self, handle: int) -> list[int]:
        """All handles of the same file."""
        opened = self.runner.volume.handles
        return [each for each in opened if opened[each].file is opened[handle].file]

    def _is_direct(self, handle: int) -> bool:
        return bool(self.runner.volume.handles[handle].flags & os.O_DIRECT)

    def _place(self, file: FileModel, place: Place) -> int:
        if place.origin is Origin.START:
            boundaries = *BOUNDARIES, *self.runner.ground.boundaries
            start = boundaries[place.boundary % len(boundaries)]
        else:
            start = file.size if place.origin is Origin.END else file.last
            start += AROUND[place.boundary]
        return max(0, start + place.delta)

    def _size(self, file: FileModel, place: Place) -> int:
        """A size that a truncate may give a file."""
        size, promises = self._place(file, place), self.runner.promises
        if size >= file.size:
            return size
        if within := promises.cuts_within:
            size = max(size, (file.size - 1) // within * within + 1)
        return size + (size in promises.wrong_sizes)

    def _offset(self, handle: int, place: Place) -> int:
        return self._place(self._file(handle), place)

    def _range(self, handle: int, place: Place, length: int) -> tuple[int, int]:
        offset, length = self._offset(handle, place), self._length(length)
        if self._is_direct(handle):
            offset -= offset % ALIGNED
            length += -length % ALIGNED
        return offset, length

    def _length(self, length: int) -> int:
        return length or min(max(self.runner.ground.boundaries, default=1), LONGEST)

    def _range_by_name(self, name: str, place: Place, length: int) -> tuple[int, int]:
        file = self.runner.volume.names.get(name)
        return self._place(file, place) if file else 0, self._length(length)


def on_handle(**drawn: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Any]:
    """A rule for an open file: its handle is the first argument, and what is drawn follows."""

    make_rule = cast("Callable[..., Any]", rule)(which=which, **drawn)

    def decorate(function: Callable[..., None]) -> Any:
        def act(self: SequenceMachine, which: int, **arguments: Any) -> None:
            handle = self._handle(which)
            if handle is not None:
                function(self, handle, **arguments)

        act.__name__ = function.__name__  # by which Hypothesis leaves some rules out of a sequence
        return make_rule(act)

    return decorate


class NameRules(SequenceMachine):
    """Names, and who has a file open."""

    @rule(handle=which, name=names, flags=create_flags)
    def create(self, handle: int, name: str, flags: int) -> None:
        self._free(handle)
        flags &= self._flags()
        self._do(steps.Create(handle, name, flags))

    @rule(handle=which, name=names, flags=open_flags)
    def open(self, handle: int, name: str, flags: int) -> None:
        self._free(handle)
        flags &= self._flags()
        self._do(steps.Open(handle, name, flags))

    def _flags(self) -> int:
        """Those that a target knows."""
        promises = self.runner.promises
        unknown = 0 if promises.appends else os.O_APPEND
        return ~(unknown | (0 if promises.truncating_opens else os.O_TRUNC))

    @rule(handle=which)
    def close(self, handle: int) -> None:
        self._free(handle)

    @rule(client=clients, old=names, new=names)
    def link(self, client: int, old: str, new: str) -> None:
        self._do(steps.Link(client, old, new))

    @rule(client=clients, old=names, new=names)
    def rename(self, client: int, old: str, new: str) -> None:
        names = self.runner.volume.names
        if names.get(old) is names.get(new) and not self.runner.promises.same_names:
            return
        if old in names and names[old] is not names.get(new):
            self._let_go(new, usable=self.runner.promises.replaced)
        self._do(steps.Rename(client, old, new))

    @rule(client=clients, name=names)
    def unlink(self, client: int, name: str) -> None:
        self._let_go(name, usable=self.runner.promises.unlinked)
        self._do(steps.Unlink(client, name))

    def _let_go(self, name: str, *, usable: bool) -> None:
        """Close a file that loses its last name, unless it is usable without.

        Or ask for its size by what it is open as, so that whoever has it stores it.
        """
        file = self.runner.volume.names.get(name)
        if (
            file is None
            or file.links > 1
            or (usable and "stat" not in self.runner.promises.old_sizes)
        ):
            return
        for number, handle in list(self.runner.volume.handles.items()):
            if handle.file is file:
                self._do(steps.Fstat(number) if usable else steps.Close(number))

    @rule(client=clients, name=names)
    def stat(self, client: int, name: str) -> None:
        self._do(steps.Stat(client, name))

    @rule(client=clients, name=names, mode=modes | st.none(), uid=owners, gid=owners)
    def rights(self, client: int, name: str, mode: int | None, uid: int, gid: int) -> None:
        name = self._name(name)
        if mode is None:
            self._do(steps.Chown(client, name, uid, gid))
        else:
            self._do(steps.Chmod(client, name, mode))

    @rule(client=clients, name=names, place=places)
    def truncate_path(self, client: int, name: str, place: Place) -> None:
        name = self._name(name)
        file = self.runner.volume.names.get(name)
        self._do(steps.TruncatePath(client, name, self._size(file, place) if file else 0))


class DataRules(SequenceMachine):
    """The bytes of open files."""

    @on_handle(place=places, length=lengths, seed=seeds, later=later)
    def write(self, handle: int, place: Place, length: int, seed: int, later: bool) -> None:
        offset, length = self._range(handle, place, length)
        self._do(steps.Write(handle, offset, length, seed, later=later))

    @on_handle(place=places, length=lengths, seed=seeds, pieces=st.integers(2, 4))
    def write_vector(self, handle: int, place: Place, length: int, seed: int, pieces: int) -> None:
        offset, length = self._range(handle, place, length)
        if self._is_direct(handle):
            pieces = 1
        self._do(steps.Write(handle, offset, length, seed, pieces))

    @on_handle(seed=seeds)
    def write_all(self, handle: int, seed: int) -> None:
        """Over all there is: then what goes wrong anywhere in a file shows. Whoever else has it
        open looks at it before and after that."""
        length = min(max(self._file(handle).size, 64 * KIB), LONGEST)
        length -= length % ALIGNED if self._is_direct(handle) else 0
        others = [each for each in self._open_as(handle) if each != handle]
        others = [each for each in others if not self._is_direct(each)]
        for other in others:
            self._do(steps.Read(other, 0, length))
        self._do(steps.Write(handle, 0, length, seed))
        for other in others:
            self._do(steps.Read(other, 0, length, pieces=3))

    @on_handle(place=places, length=lengths, pieces=st.sampled_from([1, 3]), later=later)
    def read(self, handle: int, place: Place, length: int, pieces: int, later: bool) -> None:
        if self._is_direct(handle):
            pieces = 1
        self._do(steps.Read(handle, *self._range(handle, place, length), pieces, later))

    @rule(client=clients, name=names, place=places, length=lengths, seed=seeds | st.none())
    def anonymous(
        self, client: int, name: str, place: Place, length: int, seed: int | None
    ) -> None:
        name = self._name(name)
        where = client, name, *self._range_by_name(name, place, length)
        if seed is None:
            self._do(steps.AnonymousRead(*where))
        else:
            self._do(steps.AnonymousWrite(*where, seed))

    @on_handle(place=places, length=lengths, later=later, before=st.booleans(), after=st.booleans())
    def discard(
        self, handle: int, place: Place, length: int, later: bool, before: bool, after: bool
    ) -> None:
        """Sometimes of what was just read, so that caches have it, and sometimes it is read then,
        with what is around it."""
        offset, length = self._offset(handle, place), self._length(length)
        flags = self.runner.volume.handles[handle].flags
        if flags & os.O_APPEND and not self.runner.promises.append_discards:
            return
        if self.runner.against is not None and not self.runner.promises.discard_ends:
            length = min(length, max(self._file(handle).size - offset, 0))  # one may grow
            if not length:
                return
        if before:
            self._do(steps.Read(handle, *self._range(handle, place, length)))
        self._do(steps.Discard(handle, offset, length, later))
        if after and not self._is_direct(handle):
            self._do(steps.Read(handle, max(offset - 1, 0), length + 2))

    @on_handle(place=places, length=lengths, later=later)
    def zerofill(self, handle: int, place: Place, length: int, later: bool) -> None:
        offset, length = self._offset(handle, place), self._length(length)
        self._do(steps.Zerofill(handle, offset, length, later))

    @on_handle(place=places, length=lengths, keep_size=st.booleans())
    def fallocate(self, handle: int, place: Place, length: int, keep_size: bool) -> None:
        offset, length = self._offset(handle, place), self._length(length)
        if self.runner.promises.far_fallocates or offset <= self._file(handle).size:
            self._do(steps.Fallocate(handle, offset, length, keep_size))

    @on_handle(place=places, how=st.sampled_from(["discard", "later", "zerofill", "fallocate"]))
    def nothing(self, handle: int, place: Place, how: str) -> None:
        """A range without a length is nothing to discard, to zero or to allocate."""
        offset = self._offset(handle, place)
        if not self.runner.promises.empty_ranges:
            return
        if how == "zerofill":
            self._do(steps.Zerofill(handle, offset, 0))
        elif how == "fallocate":
            self._do(steps.Fallocate(handle, offset, 0))
        else:
            self._do(steps.Discard(handle, offset, 0, how == "later"))

    @on_handle(place=places, later=later)
    def truncate(self, handle: int, place: Place, later: bool) -> None:
        self._do(steps.Truncate(handle, self._size(self._file(handle), place), later))

    @on_handle(data_only=st.booleans(), later=later)
    def sync(self, handle: int, data_only: bool, later: bool) -> None:
        self._do(steps.Sync(handle, data_only, later))

    @on_handle()
    def fstat(self, handle: int) -> None:
        self._do(steps.Fstat(handle))

    @on_handle(sleep=one_of_eight)
    def age(self, handle: int, sleep: bool) -> None:
        """What sets times shows in an old mtime at once, in ctime when the clock has ticked."""
        if not sleep:
            self._age(handle)
        elif self.runner.promises.times:
            self._do(steps.Wait())

    @on_handle(place=places, hole=st.booleans())
    def seek(self, handle: int, place: Place, hole: bool) -> None:
        if self.runner.promises.seeks:
            self._do(steps.Seek(handle, self._offset(handle, place), hole))

    @on_handle(place=places, into=which, to=places, length=lengths)
    def copy(self, handle: int, place: Place, into: int, to: Place, length: int) -> None:
        target = self._handle(into)
        if not self.runner.promises.copies or target is None:
            return
        if any((handle ^ target) % len(side.clients) for side in self.runner.sides):
            return  # there is no call on files of two clients
        if self._is_direct(handle) or self._is_direct(target):
            return  # the kernel takes some, and some not
        offset, target_offset = self._offset(handle, place), self._offset(target, to)
        if not self.runner.promises.source_offsets:
            offset = 0
        self._do(steps.Copy(handle, offset, target, target_offset, self._length(length)))

    @on_handle(other=which, place=places, first=parts, second=parts, seed=seeds)
    def together(
        self, handle: int, other: int, place: Place, first: Part, second: Part, seed: int
    ) -> None:
        """Two calls on a file, by two clients if they have it: where one ends the other begins."""
        if not self.runner.promises.together or self.runner.may_fail:
            return  # and which of them did?
        file, opened, same = self._file(handle), self.runner.volume.handles, self._open_as(handle)
        offset = self._offset(handle, place)
        calls: list[steps.OnRange] = []
        for number, part in (handle, first), (same[other % len(same)], second):
            flags = opened[number].flags & (os.O_ACCMODE | os.O_APPEND | os.O_DIRECT)
            length = self._length(part.length)
            if part.fop == "read":
                length = min(length, file.size - offset)
            if flags != os.O_RDWR or length <= 0 or part.fop in self.runner.promises.unsupported:
                return
            calls.append(part.call(number, offset, length, seed))
            offset += length
        self._do(steps.Together(*calls))


class XattrRules(SequenceMachine):
    """Extended attributes."""

    @rule(
        client=clients,
        name=names,
        what=st.sampled_from(["set", "get", "remove"]),
        key=keys,
        value=strategies.xattr_values,
        flags=strategies.xattr_flags,
    )
    def xattr(self, client: int, name: str, what: str, key: str, value: bytes, flags: int) -> None:
        name = self._name(name)
        file = self.runner.volume.names.get(name)
        if file is not None and (what != "set" or flags):
            key = self._key(file, key)
        if what == "set":
            self._do(steps.Setxattr(client, name, key, value, flags))
            return
        self._do((steps.Getxattr if what == "get" else steps.Removexattr)(client, name, key))

    @on_handle(
        what=st.sampled_from(["set", "get", "list", "remove"]),
        key=keys,
        value=strategies.xattr_values,
        flags=strategies.xattr_flags,
    )
    def xattr_of_open(self, handle: int, what: str, key: str, value: bytes, flags: int) -> None:
        if not self.runner.promises.nameless and not self._file(handle).links:
            return
        if what == "set":
            self._do(steps.Fsetxattr(handle, key, value, flags))
        elif what == "list":
            self._do(steps.Flistxattr(handle))
        else:
            key = self._key(self._file(handle), key)
            self._do((steps.Fgetxattr if what == "get" else steps.Fremovexattr)(handle, key))

    def _key(self, file: FileModel, key: str) -> str:
        """One that it has, most often."""
        return key if key in file.xattrs or key == KEYS[-1] else next(iter(file.xattrs), key)


class KillRules(SequenceMachine):
    """Bricks that die, and come again."""

    is_down = False

    @rule(really=one_of_four)  # a client needs three seconds to find what was started again
    def kill(self, really: bool) -> None:
        if self.is_down or not really:
            return
        if self.runner.ground.redundant:
            self.is_down = True
            self._do(steps.Kill())
            return
        for number, handle in list(self.runner.volume.handles.items()):
            if not handle.file.links:  # such a file does not outlive its brick
                self._do(steps.Close(number))
        self._do(steps.Kill())
        self._do(steps.Start())

    @rule()
    def start(self) -> None:
        if self.is_down:
            self.is_down = False
            self._do(steps.Start())


class FullRules(SequenceMachine):
    """A full store, in which GlusterFS's own clients may still use what is reserved."""

    def _handle(self, which: int) -> int | None:
        """Nobody else can make a file; most often somebody else goes on with it."""
        if self.runner.volume.handles:
            return super()._handle(which)
        self._do(steps.AsInternal(True))
        handle = super()._handle(which)
        if which != 1:
            self._do(steps.AsInternal(False))
        return handle

    @rule(on=st.sampled_from([True, True, False]))
    def internal(self, on: bool) -> None:
        self._do(steps.AsInternal(on))


class ErrorRules(SequenceMachine):
    """Fops that fail."""

    @rule(fop=st.sampled_from(FAILING_FOPS))
    def inject(self, fop: str) -> None:
        if fop != "fsetattr" or self._setattrs_may_fail():
            self._do(steps.Inject(fop))


RULES: tuple[type[SequenceMachine], ...] = NameRules, DataRules, XattrRules
FAULT_RULES: dict[str, type[SequenceMachine]] = {
    "kill": KillRules,
    "full": FullRules,
    "io": ErrorRules,
}


class SpoiledError(KeyboardInterrupt):
    """No sequence can be tried any more: what one has left cannot be removed."""


class Search:
    """A search for sequences on a target; ``against`` another, if that is given.

    ``rules`` say what the sequences are made of: all there is, unless told otherwise, and what
    belongs to the faults of the target. ``examples`` and ``calls`` count what was done,
    ``calls_to_find`` the calls up to the first failure. ``last`` did the last one, ``current`` does
    one now. ``finding`` is
    the shortest sequence so far after which something was wrong, None if there is none; ``flaky``:
    when it was done again nothing was.
    """

    def __init__(
        self,
        ground: Ground,
        against: Ground | None = None,
        *,
        rules: Sequence[type[SequenceMachine]] = RULES,
        progress: Callable[["Search"], None] = lambda search: None,
        database: ExampleDatabase | None = None,
    ) -> None:
        self.ground, self.against = ground, against
        self.last: Runner
        self.current: Runner | None = None
        self.stopped = False
        """Set by anyone: `run` raises KeyboardInterrupt before the next call."""
        self.examples = 0
        self.calls = 0
        self.calls_to_find = 0
        self.finding: Finding | None = None
        self.flaky = False
        self._rules = *rules, *(FAULT_RULES[each] for each in ground.faults if each in FAULT_RULES)
        self._progress = progress
        self._database = database

    def run(
        self,
        *,
        examples: int | None = None,
        seed: int,
        steps: int = EXAMPLE_STEPS,
        shrink: bool = True,
    ) -> Finding | None:
        """Try as many sequences; if one fails make it as short as can be, and return that.

        ``examples`` None: as many as Hypothesis's profile has. Without ``shrink`` it is returned
        as it is.
        """

        machine_class = type("Machine", self._rules, {"search": self})
        chosen = settings(
            max_examples=examples or settings().max_examples,
            stateful_step_count=steps,
            deadline=None,
            report_multiple_bugs=False,
            database=self._database,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.reuse, Phase.generate, *([Phase.shrink] if shrink else [])],
        )
        machine = hypothesis.seed(seed)(machine_class)
        try:
            with with_reporter(lambda text: None):  # it tells of slow progress: not ours
                run_state_machine_as_test(machine, settings=chosen)
        except (Mismatch, Flaky) as error:
            # Flaky: the same steps did not always fail; what there was is the finding.
            self.flaky = isinstance(error, Flaky)
            if self.finding is None:
                raise
        except SpoiledError:
            return self.finding
        if self.finding is not None and shrink and not self.ground.spoiled:
            self.shorten(self.finding.steps)
        return self.finding

    def shorten(self, sequence: Sequence[steps.Step]) -> None:
        """Leave out of a sequence that fails what it does not need, for `finding`.

        Hypothesis does not get there where an offset of one step is counted from another's.
        """
        left = list(sequence)
        length, chunk = 0, len(left)
        until = time.monotonic() + SHORTENING
        while chunk and length != len(left):
            length = len(left)
            while chunk:
                start = 0
                while start < len(left) and time.monotonic() < until:
                    shorter = left[:start] + left[start + chunk :]
                    if self._fails(shorter):
                        left = shorter
                    else:
                        start += chunk
                chunk //= 2
            chunk = len(left) // 2

    def _fails(self, sequence: Sequence[steps.Step]) -> bool:
        if self.stopped:
            raise KeyboardInterrupt
        if self.ground.spoiled:
            return False
        runner, wrong = Runner(self.ground, self.against), None
        self.current = runner
        try:
            for step in sequence:
                opens = step.handle if isinstance(step, (steps.Create, steps.Open)) else None
                if opens in runner.volume.handles:
                    return False  # what closed that was left out
                runner.perform(step)
            runner.verify()
        except steps.NotOpenError:
            pass
        except Mismatch as error:
            wrong = str(error)
        finally:
            with contextlib.suppress(OSError, Mismatch):
                runner.clean()
        self.ended(runner, wrong)
        return wrong is not None

    def ended(self, runner: Runner, wrong: str | None) -> None:
        """An example is over; ``wrong``: what was, or None."""
        self.examples += 1
        self.last = runner
        self.calls += len(runner.done)
        if wrong is not None:
            self.calls_to_find = self.calls_to_find or self.calls
            found = Finding(tuple(runner.done), wrong)
            if self.finding is None or len(found.done) <= len(self.finding.done):
                self.finding = found
        self._progress(self)
