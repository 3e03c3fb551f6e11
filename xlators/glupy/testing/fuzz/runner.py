"""Does steps on a target, and compares what comes back with the model, or with a second target."""

import dataclasses
import errno
import os
import uuid
from collections.abc import Iterable, Iterator

from glupy.testing.fuzz import steps
from glupy.testing.fuzz.ending import READ_SIZE, Ending
from glupy.testing.fuzz.ground import Ground
from glupy.testing.fuzz.model import FileModel, Handle
from glupy.testing.fuzz.outcome import TIMES, Mismatch, Outcome, difference, errno_name, outcome_of
from glupy.testing.fuzz.steps import Plan, Step


class Runner(Ending):
    """One sequence on one target.

    With ``against`` the same is done there, and what comes back must be the same; the model is
    then only asked what a step is about.
    """

    @property
    def may_fail(self) -> bool:
        """The next call may fail, though it should not."""
        return self._injected != 0

    # ---- one step ----

    def perform(self, step: Step) -> Outcome:
        """Do a step. Raises Mismatch if it did not do what it should."""
        plan = step.plan(self.volume)
        handle, may_fail = self._handle_of(step), self.may_fail
        self.done.append((step, None))
        if self.ground.journal is not None:
            self.ground.journal.note(step)
        with self._waiting():
            outcomes = [outcome_of(step, side) for side in self.sides]
        outcome = outcomes[0]
        self.done[-1] = step, outcome
        self._check_bricks(lost=any(each.errno == errno.ENOTCONN for each in outcomes))
        if self._injected:
            for side in self.sides:
                side.trouble.disarm()
        if self.against is not None:
            self._compare(step, plan, *outcomes)
        else:
            self._check(step, plan, outcome)
        self._injected = step.number if isinstance(step, steps.Inject) else 0
        self.ground.mistrusted |= isinstance(step, (steps.Inject, steps.Kill))
        if outcome.errno:
            if isinstance(step, steps.Close):
                plan.change()  # close(2): it is closed all the same
            elif step.modifies and handle is not None and outcome.errno == errno.EROFS:
                handle.failed = True
            if plan.file is not None and step.modifies:
                if not self.promises.refused_times:
                    plan.file.forget_times(*TIMES)
                if self.ground.full and isinstance(step, steps.Writing):
                    self._look_again(step, plan, plan.file)
            return outcome
        written = outcome.value
        if (
            isinstance(step, steps.Writing)
            and isinstance(written, int)
            and (self.ground.full or written != step.length)
        ):
            plan = self._written(step, written)
        if self.against is None and isinstance(step, steps.Together):
            self._check_together(step, plan, outcome)
        elif self.against is not None or plan.file is None:
            self._change(step, plan)
        else:
            self._check_before(step, plan.file, outcome)
            self._change(step, plan)
            self._check_after(step, plan.file, outcome)
        if isinstance(step, (steps.Sync, steps.Close)) and handle is not None and not may_fail:
            handle.file.stored = True
        if isinstance(step, steps.Create) and self.promises.handles:
            self._note_handle(step.name)
        return outcome

    def _check(self, step: Step, plan: Plan, outcome: Outcome) -> None:
        if outcome.errno:
            if outcome.errno == abs(plan.errno) or outcome.errno in self._excuses(step, plan):
                return
            raise Mismatch(f"{outcome}, where {errno_name(plan.errno)} is right")
        if plan.errno > 0:
            raise Mismatch(f"it succeeded, where {errno_name(plan.errno)} is right")
        # Where a truncate need not go to a brick, one to the size that there is does not.
        truncates = isinstance(step, (steps.Truncate, steps.TruncatePath))
        stays = truncates and not self.promises.growing_times
        changes = step.modifies and plan.change is not steps.NOTHING and not stays
        if self.ground.readonly and changes:
            raise Mismatch("it succeeded on a store that is read-only")
        if plan.value is not None and outcome.value != plan.value:
            if self._is_short(step, outcome.value) or self._reads_on(step, plan, outcome):
                return
            raise Mismatch(difference(outcome.value, plan.value))
        if isinstance(step, steps.Seek):
            file = self.volume.handles[step.handle].file
            if wrong := step.wrong(file, int(outcome.value)):  # type: ignore[call-overload]
                raise Mismatch(f"{outcome.value}: {wrong}")

    def _excuses(self, step: Step, plan: Plan) -> Iterator[int]:
        """Errnos, beside the one that is right, with which this step may fail without a change."""
        fails = plan.errno or self.ground.full or self._injected
        if isinstance(step, steps.Copy) and fails and not self.promises.copy_errnos:
            yield from errno.errorcode
        changes = step.modifies or step.fop in self.promises.refused_when_readonly
        if self.ground.readonly and changes:
            yield errno.EROFS
        handle = self._handle_of(step)
        if handle is not None and handle.failed and not self.promises.failed_handles:
            yield from (errno.EIO, errno.EBADF)
        if self._injected and not self.ground.redundant:
            yield self._injected
        refused = step.takes_space or step.fop in self.promises.refused_when_full
        if refused and self.ground.full:
            yield errno.ENOSPC
        if step.fop in self.promises.unsupported:
            yield errno.EOPNOTSUPP

    def _handle_of(self, step: Step) -> Handle | None:
        return self.volume.handles.get(getattr(step, "handle", -1))

    def _is_short(self, step: Step, value: object) -> bool:
        """A write that a full store had room for a part of."""
        return (
            self.ground.full
            and isinstance(step, steps.Writing)
            and isinstance(value, int)
            and 0 < value < step.length
        )

    def _written(self, step: steps.Writing, written: int) -> Plan:
        """A write of a part, or to a full store: the rest may have got blocks all the same."""
        plan = dataclasses.replace(step, length=written).plan(self.volume)

        def change() -> None:
            file = plan.file
            size = file.size if file is not None else 0
            plan.change()
            if file is not None:
                start, end = file.last, file.last + step.length
                file.may |= file.touched(start, end)
                if end > size:
                    # ext4_truncate_failed_write: what had blocks past the end has lost them, even
                    # if ext4 has then tried once more and found room.
                    file.must &= file.touched(0, size) | file.touched(start, start + written)

        return plan._replace(change=change)

    def _look_again(self, step: steps.Writing, plan: Plan, file: FileModel) -> None:
        """A write that was refused: past O_DIRECT a part of it may be done (iomap/direct-io.c).

        Within the file it may have left blocks that read as zeros: ext4 gives back only what is
        past the end (ext4_truncate_failed_write), and may refuse a large folio at its last block.
        """
        before, must, may = bytes(file.data), file.must, file.may
        plan.change()
        after = bytes(file.data)
        opened = isinstance(step, steps.Write) and self.volume.handles[step.handle]
        direct = opened and opened.flags & os.O_DIRECT
        found = self._bytes_of(file) if direct else None
        if found is None:
            found = before
        elif len(found) > len(after) or any(
            byte not in both
            for byte, *both in zip(found, before.ljust(len(after), b"\0"), after, strict=False)
        ):
            raise Mismatch("a refused write left other bytes than those before or its own")
        file.data[:] = found
        file.must = must & file.touched(0, file.size)
        if not direct:
            file.may = may | (file.may & file.touched(0, file.size))

    def _bytes_of(self, file: FileModel) -> bytes | None:
        """All that is in a file; None if there is no way to read it."""
        side = self.sides[0]
        where = next((where for where, other in self.volume.files() if other is file), None)
        if isinstance(where, str):
            opened = side.client(0).open("/" + where, os.O_RDONLY)
        elif where is not None and self.volume.handles[where].reads:
            opened = side.files[where]
        else:
            return None
        try:
            return b"".join(
                opened.pread(READ_SIZE, offset).value
                for offset in range(0, opened.fstat().st_size, READ_SIZE)
            )
        finally:
            if isinstance(where, str):
                opened.close()

    def _reads_on(self, step: Step, plan: Plan, outcome: Outcome) -> bool:
        """Zeros follow the end of a file, where they may."""
        got, right = outcome.value, plan.value
        return (
            not self.promises.read_ends
            and isinstance(step, (steps.Read, steps.AnonymousRead))
            and isinstance(got, bytes)
            and isinstance(right, bytes)
            and got.startswith(right)
            and not any(got[len(right) :])
        )

    def _note_handle(self, name: str) -> None:
        file = self.volume.names[name]
        if file.handle is None and self.ground.backends:
            try:
                value = os.getxattr(self.ground.backends[-1] / name, "trusted.gfid")
            except OSError as error:
                raise Mismatch(f"on the brick: {name}: {error.strerror}") from None
            gfid = str(uuid.UUID(bytes=value))
            file.handle = f"{gfid[:2]}/{gfid[2:4]}/{gfid}"

    def _compare(self, step: Step, plan: Plan, ours: Outcome, theirs: Outcome) -> None:
        if ours.errno != theirs.errno and plan.errno >= 0:
            raise Mismatch(f"{ours}, the other: {theirs}")
        if ours.errno or theirs.errno:
            return
        if isinstance(step, steps.Seek):
            # Where holes are a file system decides, but not where there is data.
            file = self.volume.handles[step.handle].file
            for each in ours, theirs:
                if wrong := step.wrong(file, int(each.value)):  # type: ignore[call-overload]
                    raise Mismatch(f"{ours}, the other: {theirs}: {wrong}")
            return
        reads_on = any(self._reads_on(step, plan, each) for each in (ours, theirs))
        if plan.value is not None and ours.value != theirs.value and not reads_on:
            raise Mismatch(difference(ours.value, theirs.value))
        for when, our, their in ("before", ours.pre, theirs.pre), ("after", ours.post, theirs.post):
            if our is None or their is None:
                continue
            names: dict[str, int] = {}  # and by how much they may differ
            sized = step.fop not in self.promises.old_sizes
            if sized or self.promises.new_rights:
                names |= dict.fromkeys(("st_mode", "st_uid", "st_gid"), 0)
            if sized:
                names["st_size"] = 0
            if self.promises.links:
                names["st_nlink"] = 0
            if self.promises.blocks and not self.promises.delayed:
                # The extents of a file may take a block, or not: as its store was cut up before.
                names["st_blocks"] = self.volume.block_size // 512
            for name, most in names.items():
                ours_is, theirs_is = getattr(our, name), getattr(their, name)
                if abs(ours_is - theirs_is) > most:
                    raise Mismatch(f"{when}: {name} is {ours_is}, the other: {theirs_is}")


def replay(ground: Ground, sequence: Iterable[Step], against: Ground | None = None) -> Runner:
    """Do a sequence that was recorded, and verify all of it. Raises Mismatch."""
    runner = Runner(ground, against)
    try:
        for step in sequence:
            runner.perform(step)
        runner.verify()
    finally:
        runner.clean()
    return runner
