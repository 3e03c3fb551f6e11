"""What the replies of a sequence tell of its files, compared with the model."""

import contextlib
import copy
import os
import time
from collections.abc import Iterator

from glupy.testing.fuzz import steps
from glupy.testing.fuzz.ground import Ground
from glupy.testing.fuzz.model import FileModel, Promises, VolumeModel
from glupy.testing.fuzz.outcome import TIMES, Mismatch, Outcome, times_of
from glupy.testing.fuzz.side import Side
from glupy.testing.fuzz.steps import Plan, Step

DYING = 5.0
"""Seconds that a brick may take to end, once its connections have."""
SIZING = "truncate", "truncatepath"
"""What says itself how long a file is afterwards."""


class Checks:
    """The model of a sequence on a ground, and what is wrong with what a reply tells of a file."""

    def __init__(self, ground: Ground, against: Ground | None = None) -> None:
        self.ground = ground
        both = ground.promises if against is None else ground.promises.meet(against.promises)
        self.promises = both
        self.volume = VolumeModel(both, ground.block_size)
        self.volume.names.update(copy.deepcopy(dict(ground.kept)))
        grounds = [each for each in (ground, against) if each is not None]
        self.sides = [Side(each.clients, each.trouble) for each in grounds]
        self.against = against
        self.done: list[tuple[Step, Outcome | None]] = []
        for side in self.sides:
            side.trouble.begin()
        if ground.journal is not None:
            ground.journal.begin()
        self._began = steps.coarse_time()
        self._injected = 0
        """The errno that the next call may fail with."""
        self.waits_since: float | None = None
        """When the call began, by time.monotonic(), that has not come back yet."""
        self.unanswered = False
        """Set by another thread, which ends the bricks then: that call does not come back."""

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        self.waits_since = time.monotonic()
        try:
            yield
        finally:
            self.waits_since = None
            if self.unanswered:
                self.unanswered = False
                raise Mismatch("no answer")

    def _change(self, step: Step, plan: Plan) -> None:
        """What was planned has happened, to the model too."""
        plan.change()
        if step.modifies and plan.file is not None:
            plan.file.forget_times(*TIMES)
        elif step.modifies:
            for _, file in self.volume.files():
                file.forget_times("ctime")
        now = max(self._began, self.volume.waited)
        for file in plan.marks:
            file.since["ctime"] = now
        for file in plan.touches:
            file.stored = False
            file.forget_times(*TIMES)
            file.since |= dict.fromkeys(TIMES, now)

    def _check_bricks(self, *, lost: bool) -> None:
        """No brick has ended by itself. ``lost``: there is nobody at the other end any more."""
        for side in self.sides:
            if wrong := side.trouble.death(DYING if lost else 0):
                raise Mismatch(wrong)

    def _check_before(self, step: Step, file: FileModel, outcome: Outcome) -> None:
        pre = outcome.pre
        if pre is not None:
            sized = step.fop not in self.promises.old_sizes
            self._check_attributes(file, pre, "before", sized=sized)
            self._check_times(file, pre, "before")
        elif self.promises.attributes and _has_pre(step, self.promises):
            raise Mismatch("the reply has no attributes of before")

    def _check_after(self, step: Step, file: FileModel, outcome: Outcome) -> None:
        pre, post = outcome.pre, outcome.post
        if post is None:
            if self.promises.attributes and _has_post(step):
                raise Mismatch("the reply has no attributes of afterwards")
            return
        self._check_attributes(
            file,
            post,
            "afterwards",
            synced=isinstance(step, steps.Sync),
            sized=step.fop in SIZING or step.fop not in self.promises.old_sizes,
            timed=step.fop not in self.promises.old_times,
        )
        if not step.modifies:
            self._check_times(file, post, "afterwards")
        if step.fop not in self.promises.old_times:
            file.times = times_of(post)
        if pre is not None and post.st_ctime_ns < pre.st_ctime_ns:
            raise Mismatch("an earlier ctime than before")

    def _check_together(self, step: steps.Together, plan: Plan, outcome: Outcome) -> None:
        """Either reply may be of before the other call, and so of a size in between."""
        files = [self.volume.handles[call.handle].file for call in step.calls]
        sizes = [file.size for file in files]
        for file in files:
            file.forget_times(*TIMES)
        self._change(step, plan)
        for call, file, before, post in zip(step.calls, files, sizes, outcome.posts, strict=True):
            if post is None:
                if self.promises.attributes:
                    raise Mismatch(f"the reply to {call.fop} has no attributes of afterwards")
                continue
            sized = call.fop not in self.promises.old_sizes
            if sized and not before <= post.st_size <= file.size:
                raise Mismatch(f"{call.fop}: size {post.st_size}, not {before} to {file.size}")
            if wrong := file.check_inode(post, call.fop):
                raise Mismatch(wrong)
        if plan.touches and None not in outcome.posts:  # the later one tells of both
            latest = max(filter(None, outcome.posts), key=lambda post: post.st_mtime_ns)
            self._check_since(plan.touches[0], latest, "afterwards")

    def _check_attributes(
        self,
        file: FileModel,
        stat: os.stat_result,
        when: str,
        *,
        synced: bool = False,
        sized: bool = True,
        timed: bool = True,
    ) -> None:
        if sized and stat.st_size != file.size:
            raise Mismatch(f"{when}: size {stat.st_size}, not {file.size}")
        if self.promises.links and file.links and stat.st_nlink != file.links:
            raise Mismatch(f"{when}: {stat.st_nlink} links, not {file.links}")
        if wrong := file.check_inode(stat, when):
            raise Mismatch(wrong)
        owned = sized or self.promises.new_rights
        if owned and (wrong := file.check_rights(stat, when)):
            raise Mismatch(wrong)
        if self.promises.blocks and (wrong := file.check(stat, when, synced=synced)):
            raise Mismatch(wrong)
        if timed:
            self._check_since(file, stat, when)

    def _check_since(self, file: FileModel, stat: os.stat_result, when: str) -> None:
        """What has set the times shows in them."""
        for name, told in times_of(stat).items():
            if name not in self.promises.times:
                continue
            if told < file.since.get(name, 0):
                raise Mismatch(f"{when}: {name} was not set")
            if told > (until := file.until.get(name, told)):
                raise Mismatch(f"{when}: {name} {told}, which was set to {until}")

    def _check_times(self, file: FileModel, stat: os.stat_result, when: str) -> None:
        """Nothing has changed the file since the last reply."""
        times = times_of(stat)
        for name, was in file.times.items():
            if was != times[name] and name in self.promises.steady:
                raise Mismatch(f"{when}: {name} {times[name]}, which was {was} in the last reply")


def _has_pre(step: Step, promises: Promises) -> bool:
    if step.fop in promises.without_pre:
        return False
    if isinstance(step, steps.Writing):
        return isinstance(step, steps.Write) and (step.pieces == 1 or step.later)
    if isinstance(step, (steps.Discard, steps.Zerofill)):
        return step.later
    return isinstance(step, (steps.Truncate, steps.Sync, steps.Copy))


def _has_post(step: Step) -> bool:
    if isinstance(step, (steps.Read, steps.Write)):
        return step.pieces == 1 or step.later
    if isinstance(step, (steps.Discard, steps.Zerofill)):
        return step.later
    return not isinstance(step, (steps.Fallocate, steps.TruncatePath, steps.AnonymousWrite))
