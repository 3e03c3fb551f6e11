"""Does steps on a target, and compares what comes back with the model, or with a second target."""

import contextlib
import copy
import dataclasses
import errno
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from glupy.testing.fuzz import steps
from glupy.testing.fuzz.journal import Journal
from glupy.testing.fuzz.model import FileModel, Handle, Promises, VolumeModel
from glupy.testing.fuzz.side import AnyClient, AnyFile, Side
from glupy.testing.fuzz.steps import Plan, Step
from glupy.testing.fuzz.trouble import Trouble
from glupy.testing.gfapi import Reply
from glupy.testing.processes import ProcessError

READ_SIZE = 1 << 20
DYING = 5.0
"""Seconds that a brick may take to end, once its connections have."""
TIMES = "mtime", "ctime"
SIZING = "truncate", "truncatepath"
"""What says itself how long a file is afterwards."""
HIDDEN = {".", "..", ".trashcan", ".shard", ".glusterfs", "lost+found"}
"""Names in a root that are not a user's."""


class Mismatch(AssertionError):
    """What came back is not what should have."""


class Outcome(NamedTuple):
    """What a step gave: an errno, or a value; and attributes, where the reply had any.

    Of two calls together: both values, and ``posts``."""

    errno: int = 0
    value: object = None
    pre: os.stat_result | None = None
    post: os.stat_result | None = None
    posts: tuple[os.stat_result | None, ...] = ()

    def __str__(self) -> str:
        if self.errno:
            return errno.errorcode.get(self.errno, str(self.errno))
        if self.posts and isinstance(self.value, list):
            return ", ".join(map(_shown, self.value))
        return _shown(self.value)


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return "ok" if value is None else str(value)


@dataclass
class Ground:
    """A target that is up: clients of its root, and what it promises.

    ``backends`` are folders in which each file is as it is on the target, on this machine.
    ``kept`` are the files that a sequence finds and leaves as they were (empty, unless it is
    read-only); apart from them the root is empty. ``faults`` are those of `glupy fuzz` that it was
    opened with, ``trouble`` makes them. ``redundant``: the first brick may fail unnoticed; then it
    is ``mistrusted``, and no backend any more. ``spoiled``: what a sequence has left could not be
    removed. ``boundaries`` are worth trying, beside those of `strategies`. ``journal`` is told of
    each call.
    """

    clients: Sequence[AnyClient]
    promises: Promises
    block_size: int
    backends: Sequence[Path] = ()
    kept: Mapping[str, FileModel] = field(default_factory=dict)
    faults: frozenset[str] = frozenset()
    trouble: Trouble = field(default_factory=Trouble)
    redundant: bool = False
    mistrusted: bool = False
    spoiled: bool = False
    boundaries: Sequence[int] = ()
    journal: Journal | None = None

    @property
    def full(self) -> bool:
        return "full" in self.faults

    @property
    def readonly(self) -> bool:
        return "readonly" in self.faults


class Runner:
    """One sequence on one target.

    With ``against`` the same is done there, and what comes back must be the same; the model is
    then only asked what a step is about.
    """

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

    def _check(self, step: Step, plan: Plan, outcome: Outcome) -> None:
        if outcome.errno:
            if outcome.errno == abs(plan.errno) or outcome.errno in self._excuses(step, plan):
                return
            raise Mismatch(f"{outcome}, where {_name(plan.errno)} is right")
        if plan.errno > 0:
            raise Mismatch(f"it succeeded, where {_name(plan.errno)} is right")
        # Where a truncate need not go to a brick, one to the size that there is does not.
        truncates = isinstance(step, (steps.Truncate, steps.TruncatePath))
        stays = truncates and not self.promises.growing_times
        changes = step.modifies and plan.change is not steps.NOTHING and not stays
        if self.ground.readonly and changes:
            raise Mismatch("it succeeded on a store that is read-only")
        if plan.value is not None and outcome.value != plan.value:
            if self._is_short(step, outcome.value) or self._reads_on(step, plan, outcome):
                return
            raise Mismatch(_difference(outcome.value, plan.value))
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
        if wrong := file.check_inode(stat, when) or file.check_rights(stat, when):
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
            raise Mismatch(_difference(ours.value, theirs.value))
        for when, our, their in ("before", ours.pre, theirs.pre), ("after", ours.post, theirs.post):
            if our is None or their is None:
                continue
            names = dict.fromkeys(("st_mode", "st_uid", "st_gid"), 0)  # and by how much they differ
            if step.fop not in self.promises.old_sizes:
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

    # ---- all of it ----

    def verify(self) -> None:
        """Look at all there is, as a user: names, and each file's bytes, attributes and xattrs."""
        for side in self.sides:
            side.trouble.be_internal(on=False)
            side.trouble.disarm()
        try:
            with self._waiting():
                self._verify_all()
        except OSError as error:
            self._check_bricks(lost=error.errno == errno.ENOTCONN)
            raise Mismatch(f"in the end: {error}") from None
        self._check_bricks(lost=False)

    def _verify_all(self) -> None:
        for side in self.sides:
            client = side.client(0)
            found, names = names_of(client), set(self.volume.names)
            if found != names:
                raise Mismatch(f"names {sorted(found)}, not {sorted(names)}")
            for where, file in self.volume.files():
                self._verify(side, client, where, file)
        if self.against is None:
            first_is_out = self.ground.redundant and self.ground.mistrusted
            for backend in self.ground.backends[first_is_out:]:
                self._verify_backend(backend)

    def _verify(self, side: Side, client: AnyClient, where: str | int, file: FileModel) -> None:
        if isinstance(where, int):
            if self.volume.handles[where].reads:
                self._verify_bytes(side.files[where], f"file {where}", file)
            return
        opened = client.open("/" + where, os.O_RDONLY)
        try:
            self._verify_bytes(opened, where, file)
        finally:
            opened.close()
        keys = {key for key in client.listxattr("/" + where) if key.startswith(steps.USER)}
        if keys != set(file.xattrs):
            raise Mismatch(f"{where} has xattrs {sorted(keys)}, not {sorted(file.xattrs)}")
        for key, value in file.xattrs.items():
            if client.getxattr("/" + where, key) != value:
                raise Mismatch(f"{where}: xattr {key} is not {value!r}")

    def _verify_bytes(self, opened: AnyFile, where: str, file: FileModel) -> None:
        if self.against is None:
            sized = "fstat" not in self.promises.old_sizes
            self._check_attributes(file, opened.fstat(), f"{where}, at the end", sized=sized)
        for offset in range(0, file.size + 1, READ_SIZE):
            got = opened.pread(READ_SIZE, offset).value
            end = min(offset + READ_SIZE, file.size)
            if len(got) != end - offset or not file.data.startswith(got, offset):
                expected = bytes(file.data[offset:end])
                raise Mismatch(f"{where}: {_difference(got, expected, offset)}")

    def _verify_backend(self, backend: Path) -> None:
        for name, file in self.volume.names.items():
            stat = (backend / name).stat()
            if wrong := file.check_backend(stat):
                raise Mismatch(f"{name}: {wrong}")
            if (found := (backend / name).read_bytes()) != file.data:
                what = _difference(found, bytes(file.data))
                raise Mismatch(f"{name}: on {backend.name}: {what}")
            if file.handle is None:
                continue
            try:
                handle = (backend / ".glusterfs" / file.handle).stat()
            except FileNotFoundError:
                raise Mismatch(
                    f"{name}: on the brick its handle {file.handle} is missing"
                ) from None
            if handle.st_ino != stat.st_ino:
                raise Mismatch(f"{name}: its handle {file.handle} is another file")
        for file in self.volume.gone:
            if file.handle and (backend / ".glusterfs" / file.handle).exists():
                raise Mismatch(f"on the brick the handle {file.handle} outlives its last name")

    def clean(self) -> None:
        """Close and remove all, whatever has happened; what is kept is emptied.

        Raises Mismatch if that cannot be, or if a brick has ended by itself; the target can be used
        again all the same, unless the ground is ``spoiled``.
        """
        wrong = None
        for side in self.sides:
            side.trouble.be_internal(on=False)
            side.trouble.disarm()
            for file in side.files.values():
                with contextlib.suppress(OSError):
                    file.close()
            side.files.clear()
            try:
                self._check_bricks(lost=False)
                if side.trouble.bricks:
                    steps.Start().call(side)
                if not self.ground.readonly:
                    side.trouble.be_internal(on=self.ground.full)  # is refused nothing
                    with self._waiting():
                        self._empty(side.client(0))
            except (OSError, Mismatch, ProcessError) as error:
                lost = isinstance(error, OSError) and error.errno == errno.ENOTCONN
                wrong = side.trouble.death(DYING if lost else 0) or f"in the end: {error}"
                if isinstance(error, ProcessError):
                    wrong = _not_again(error)
                self.ground.spoiled = not self._begin_anew(side)
            finally:
                side.trouble.be_internal(on=False)
        if wrong is not None:
            raise Mismatch(wrong)

    def _begin_anew(self, side: Side) -> bool:
        """Whether bricks could be emptied from below: where fops could not do it."""
        if not side.trouble.bricks:
            return False
        try:
            if not self.ground.readonly:
                side.trouble.begin_anew()
            steps.Start().call(side)
        except (OSError, ProcessError):
            return False
        return True

    def _empty(self, client: AnyClient) -> None:
        kept = set(self.ground.kept)
        for name in names_of(client):
            if name in kept:
                client.truncate("/" + name, 0)
            else:
                client.unlink("/" + name)
        if (left := names_of(client)) != kept:
            raise Mismatch(f"{sorted(left)} cannot be removed")


def names_of(client: AnyClient) -> set[str]:
    """The names in a root that a user could have made."""
    return {entry.name for entry in client.readdir("/")} - HIDDEN


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


def outcome_of(step: Step, side: Side) -> Outcome:
    """Do a step, and say what it gave. Mismatch: nothing, in `PATIENCE` seconds."""
    try:
        result = step.call(side)
    except OSError as error:
        if error.errno is None:  # TimeoutError of a future, which is an OSError
            raise Mismatch(f"no answer within {steps.base.PATIENCE:g} s") from None
        return Outcome(errno=error.errno)
    except ProcessError as error:
        raise Mismatch(_not_again(error)) from None
    if isinstance(result, Reply):
        return Outcome(0, result.value, result.pre, result.post)
    if isinstance(step, steps.Together):
        told = [isinstance(part, steps.Read | steps.Write) for part in step.calls]
        values = [reply.value if tells else None for tells, reply in zip(told, result, strict=True)]
        return Outcome(0, values, posts=tuple(reply.post for reply in result))
    if isinstance(result, tuple):  # Copied
        return Outcome(0, result[0], result[-2], result[-1])
    return Outcome(0, result)


def times_of(stat: os.stat_result) -> dict[str, int]:
    """What `TIMES` are."""
    return {"mtime": stat.st_mtime_ns, "ctime": stat.st_ctime_ns}


def _not_again(error: ProcessError) -> str:
    first = str(error).splitlines()[0]
    return f"it does not start again: {first}" + (f": {error.reason}" if error.reason else "")


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


def _name(number: int) -> str:
    number = abs(number)
    return errno.errorcode.get(number, str(number)) if number else "success"


def _difference(got: Any, expected: Any, offset: int = 0) -> str:
    if isinstance(got, list) and isinstance(expected, list) and len(got) == len(expected):
        pair = next(pair for pair in zip(got, expected, strict=True) if len(set(pair)) > 1)
        return _difference(*pair)
    if not isinstance(got, bytes) or not isinstance(expected, bytes):
        return f"{got!r}, not {expected!r}"
    if len(got) != len(expected):
        return f"{len(got)} bytes from {offset} on, not {len(expected)}"
    first = next(n for n, pair in enumerate(zip(got, expected, strict=True)) if len(set(pair)) > 1)
    return f"byte {offset + first} is {got[first]:#04x}, not {expected[first]:#04x}"


@dataclass(frozen=True)
class Finding:
    """A sequence after which something is wrong, and what that is."""

    done: tuple[tuple[Step, Outcome | None], ...]
    wrong: str

    @property
    def steps(self) -> list[Step]:
        """The sequence alone."""
        return [step for step, _ in self.done]

    def __str__(self) -> str:
        lines = [f"{step.fop:12} {step.arguments()} -> {outcome}" for step, outcome in self.done]
        return "\n".join([*lines, f"wrong: {self.wrong}"])
