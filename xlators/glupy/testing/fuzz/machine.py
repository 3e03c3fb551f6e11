"""The Hypothesis state machine that makes up sequences.

It draws what is worth trying, without knowing what is wrong anywhere: offsets and lengths around
the boundaries of blocks, pages, shards and stripes, counted from the start or the end of a file or
from where something happened last; a few names and handles, so that they meet each other.
"""

import contextlib
import os
from collections.abc import Callable
from typing import Any, ClassVar

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.database import ExampleDatabase
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from glupy.testing.fuzz import steps
from glupy.testing.fuzz.model import FileModel
from glupy.testing.fuzz.runner import Finding, Ground, Mismatch, Runner
from glupy.testing.machine import Origin, Place, lengths
from glupy.testing.machine import places as anywhere

NAMES = "a", "b", "c", "d"
HANDLES = 4
KEYS = "user.x", "user.y"
EXAMPLE_STEPS = 50
ALIGNED = 4096
"""What O_DIRECT wants offsets and lengths to be multiples of."""

_access = st.sampled_from([os.O_RDWR] * 6 + [os.O_RDONLY, os.O_WRONLY])
_extra = st.sampled_from([0] * 6 + [os.O_APPEND, os.O_SYNC, os.O_DSYNC, os.O_DIRECT])
open_flags = st.builds(int.__or__, _access, _extra)
create_flags = st.builds(
    lambda flags, more: (flags & ~os.O_ACCMODE | os.O_RDWR) | more,
    open_flags,
    st.sampled_from([0, 0, os.O_EXCL, os.O_TRUNC]),
)
places = anywhere | st.just(Place(Origin.LAST, 0, 0))
names = st.sampled_from(NAMES)
which = st.integers(0, HANDLES - 1)
seeds = st.integers(0, 250)
later = st.booleans()
clients = st.integers(0, 1)
values = st.sampled_from([b"", b"1", b"x" * 300])
xattr_flags = st.sampled_from([0, 0, os.XATTR_CREATE, os.XATTR_REPLACE])


class VolumeMachine(RuleBasedStateMachine):
    """One instance is one sequence. Subclasses (see ``fuzz``) say on what."""

    search: ClassVar["Search"]

    def __init__(self) -> None:
        super().__init__()
        self.runner = Runner(self.search.ground, self.search.against)
        self.wrong: str | None = None

    def teardown(self) -> None:
        """What is not seen at once is seen now."""
        try:
            if self.wrong is None:
                self._guarded(self.runner.verify)
            self._guarded(self.runner.clean)
        finally:
            if self.wrong is not None:
                with contextlib.suppress(OSError, Mismatch):
                    self.runner.clean()
            self.search.ended(self.runner, self.wrong)

    # ---- names ----

    @rule(handle=which, name=names, flags=create_flags)
    def create(self, handle: int, name: str, flags: int) -> None:
        self._free(handle)
        self._do(steps.Create(handle, name, flags))

    @rule(handle=which, name=names, flags=open_flags)
    def open(self, handle: int, name: str, flags: int) -> None:
        self._free(handle)
        self._do(steps.Open(handle, name, flags))

    @rule(handle=which)
    def close(self, handle: int) -> None:
        self._free(handle)

    @rule(client=clients, old=names, new=names)
    def link(self, client: int, old: str, new: str) -> None:
        self._do(steps.Link(client, old, new))

    @rule(client=clients, old=names, new=names)
    def rename(self, client: int, old: str, new: str) -> None:
        self._do(steps.Rename(client, old, new))

    @rule(client=clients, name=names)
    def unlink(self, client: int, name: str) -> None:
        self._do(steps.Unlink(client, name))

    @rule(client=clients, name=names)
    def stat(self, client: int, name: str) -> None:
        self._do(steps.Stat(client, name))

    @rule()
    def wait(self) -> None:
        if self.runner.ground.promises.times:
            self._do(steps.Wait())

    # ---- bytes ----

    @rule(which=which, place=places, length=lengths, seed=seeds, later=later)
    def write(self, which: int, place: Place, length: int, seed: int, later: bool) -> None:
        handle = self._handle(which)
        offset, length = self._range(handle, place, length)
        self._do(steps.Write(handle, offset, length, seed, later=later))

    @rule(which=which, place=places, length=lengths, seed=seeds, pieces=st.integers(2, 4))
    def write_vector(self, which: int, place: Place, length: int, seed: int, pieces: int) -> None:
        handle = self._handle(which)
        offset, length = self._range(handle, place, length)
        if self._is_direct(handle):
            pieces = 1
        self._do(steps.Write(handle, offset, length, seed, pieces))

    @rule(which=which, place=places, length=lengths)
    def read(self, which: int, place: Place, length: int) -> None:
        handle = self._handle(which)
        self._do(steps.Read(handle, *self._range(handle, place, length)))

    @rule(which=which, place=places, length=lengths, later=later)
    def discard(self, which: int, place: Place, length: int, later: bool) -> None:
        handle = self._handle(which)
        self._do(steps.Discard(handle, place.offset(self._file(handle)), length, later))

    @rule(which=which, place=places, length=lengths, later=later)
    def zerofill(self, which: int, place: Place, length: int, later: bool) -> None:
        handle = self._handle(which)
        self._do(steps.Zerofill(handle, place.offset(self._file(handle)), length, later))

    @rule(which=which, place=places, length=lengths, keep_size=st.booleans())
    def fallocate(self, which: int, place: Place, length: int, keep_size: bool) -> None:
        handle = self._handle(which)
        self._do(steps.Fallocate(handle, place.offset(self._file(handle)), length, keep_size))

    @rule(which=which, place=places)
    def nothing(self, which: int, place: Place) -> None:
        """A range without a length is nothing to discard."""
        handle = self._handle(which)
        self._do(steps.Discard(handle, place.offset(self._file(handle)), 0))

    @rule(which=which, place=places, later=later)
    def truncate(self, which: int, place: Place, later: bool) -> None:
        handle = self._handle(which)
        self._do(steps.Truncate(handle, place.offset(self._file(handle)), later))

    @rule(client=clients, name=names, place=places)
    def truncate_path(self, client: int, name: str, place: Place) -> None:
        file = self.runner.volume.names.get(name)
        size = place.offset(file) if file is not None else 0
        self._do(steps.TruncatePath(client, name, size))

    @rule(which=which, data_only=st.booleans())
    def sync(self, which: int, data_only: bool) -> None:
        self._do(steps.Sync(self._handle(which), data_only))

    @rule(which=which)
    def fstat(self, which: int) -> None:
        self._do(steps.Fstat(self._handle(which)))

    @rule(which=which, place=places, hole=st.booleans())
    def seek(self, which: int, place: Place, hole: bool) -> None:
        if not self.runner.ground.promises.seeks:
            return
        handle = self._handle(which)
        self._do(steps.Seek(handle, place.offset(self._file(handle)), hole))

    @rule(which=which, place=places, into=which, to=places, length=lengths)
    def copy(self, which: int, place: Place, into: int, to: Place, length: int) -> None:
        if not self.runner.ground.promises.copies:
            return
        one, other = self._handle(which), self._handle(into)
        if (one ^ other) % len(self.runner.ground.clients):
            return  # there is no call on files of two clients
        if self._is_direct(one) or self._is_direct(other):
            return  # the kernel takes some, and some not
        offset, target_offset = place.offset(self._file(one)), to.offset(self._file(other))
        self._do(steps.Copy(one, offset, other, target_offset, length))

    # ---- xattrs ----

    @rule(client=clients, name=names, key=st.sampled_from(KEYS), value=values, flags=xattr_flags)
    def setxattr(self, client: int, name: str, key: str, value: bytes, flags: int) -> None:
        self._do(steps.Setxattr(client, name, key, value, flags))

    @rule(client=clients, name=names, key=st.sampled_from(KEYS))
    def getxattr(self, client: int, name: str, key: str) -> None:
        self._do(steps.Getxattr(client, name, key))

    @rule(client=clients, name=names, key=st.sampled_from(KEYS))
    def removexattr(self, client: int, name: str, key: str) -> None:
        self._do(steps.Removexattr(client, name, key))

    # ---- how ----

    def _do(self, step: steps.Step) -> None:
        self._guarded(lambda: self.runner.perform(step))

    def _guarded(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except Mismatch as error:
            self.wrong = str(error)
            raise

    def _handle(self, which: int) -> int:
        """A handle that is open: if there is none, that of a new file or an old one."""
        handles = list(self.runner.volume.handles)
        if handles:
            return handles[which % len(handles)]
        self._do(steps.Create(which, NAMES[which]))
        return which

    def _free(self, handle: int) -> None:
        if handle in self.runner.volume.handles:
            self._do(steps.Close(handle))

    def _file(self, handle: int) -> FileModel:
        return self.runner.volume.handles[handle].file

    def _is_direct(self, handle: int) -> bool:
        return bool(self.runner.volume.handles[handle].flags & os.O_DIRECT)

    def _range(self, handle: int, place: Place, length: int) -> tuple[int, int]:
        offset = place.offset(self._file(handle))
        if self._is_direct(handle):
            offset -= offset % ALIGNED
            length += -length % ALIGNED
        return offset, length


class Search:
    """A search for sequences on a target; ``against`` another, if that is given.

    ``examples`` and ``calls`` count what was done, ``calls_to_find`` the calls up to the first
    failure. ``finding`` is the shortest sequence so far
    after which something was wrong, None if there is none.
    """

    def __init__(
        self,
        ground: Ground,
        against: Ground | None = None,
        *,
        progress: Callable[["Search"], None] = lambda search: None,
        database: ExampleDatabase | None = None,
    ) -> None:
        self.ground, self.against = ground, against
        self.examples = 0
        self.calls = 0
        self.calls_to_find = 0
        self.finding: Finding | None = None
        self._progress = progress
        self._database = database

    def run(
        self, *, examples: int, seed: int, steps: int = EXAMPLE_STEPS, shrink: bool = True
    ) -> Finding | None:
        """Try as many sequences; if one fails make it as short as can be, and return that.

        Without ``shrink`` it is returned as it is.
        """

        class Machine(VolumeMachine):
            search = self

        chosen = settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            report_multiple_bugs=False,
            database=self._database,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.reuse, Phase.generate, *([Phase.shrink] if shrink else [])],
        )
        machine = hypothesis.seed(seed)(Machine)
        try:
            run_state_machine_as_test(machine, settings=chosen)
        except (Mismatch, Flaky):
            # Flaky: the same steps did not always fail; what there was is the finding.
            if self.finding is None:
                raise
        return self.finding

    def ended(self, runner: Runner, wrong: str | None) -> None:
        """An example is over; ``wrong``: what was, or None."""
        self.examples += 1
        self.calls += len(runner.done)
        if wrong is not None:
            self.calls_to_find = self.calls_to_find or self.calls
            found = Finding(tuple(runner.done), wrong)
            if self.finding is None or len(found.done) <= len(self.finding.done):
                self.finding = found
        self._progress(self)
