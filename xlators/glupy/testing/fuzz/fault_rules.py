"""Rules for what goes wrong meanwhile: bricks that die, a store that is full, fops that fail."""

from collections.abc import Mapping

from hypothesis import strategies as st
from hypothesis.stateful import rule

from glupy.testing.fuzz import steps
from glupy.testing.fuzz.machine import SequenceMachine

OWN_FOPS: Mapping[type[steps.Step], str] = {
    steps.Create: "create",
    steps.Open: "open",
    steps.Close: "flush",
    steps.Link: "link",
    steps.Rename: "rename",
    steps.Unlink: "unlink",
    steps.Stat: "lookup",
    steps.Chmod: "setattr",
    steps.Chown: "setattr",
    steps.Age: "fsetattr",
    steps.Truncate: "ftruncate",
    steps.TruncatePath: "truncate",
    steps.Fstat: "fstat",
    steps.Read: "readv",
    steps.Write: "writev",
    steps.AnonymousRead: "readv",
    steps.AnonymousWrite: "writev",
    steps.Discard: "discard",
    steps.Zerofill: "zerofill",
    steps.Fallocate: "fallocate",
    steps.Seek: "seek",
    steps.Sync: "fsync",
    steps.Copy: "copy_file_range",
    steps.Setxattr: "setxattr",
    steps.Getxattr: "getxattr",
    steps.Removexattr: "removexattr",
    steps.Fsetxattr: "fsetxattr",
    steps.Fgetxattr: "fgetxattr",
    steps.Flistxattr: "fgetxattr",
    steps.Fremovexattr: "fremovexattr",
}
"""The fop that a call is first of all, by whose failure it fails."""
FAILING_FOPS = sorted({*OWN_FOPS.values(), "stat", "readdirp"})
one_of_four = st.integers(0, 3).map(lambda number: number == 3)


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
    """Fops that fail: what the next call is, or any that it may send meanwhile."""

    _next_fails = False

    @rule()
    def fail_next(self) -> None:
        self._next_fails = True

    @rule(fop=st.sampled_from(FAILING_FOPS))
    def inject(self, fop: str) -> None:
        if fop != "fsetattr" or self.runner.promises.failed_setattrs:
            super()._do(steps.Inject(fop))

    def _do(self, step: steps.Step) -> None:
        fop = OWN_FOPS.get(type(step))
        if self._next_fails and fop is not None:
            self._next_fails = False
            self.inject(fop)
        super()._do(step)


FAULT_RULES: Mapping[str, type[SequenceMachine]] = {
    "kill": KillRules,
    "full": FullRules,
    "io": ErrorRules,
}
