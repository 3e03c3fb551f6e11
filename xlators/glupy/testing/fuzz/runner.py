"""Does steps on a target, and compares what comes back with the model, or with a second target."""

import contextlib
import errno
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import TimeoutError as LateError
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from glupy.testing.fuzz import steps
from glupy.testing.fuzz.model import FileModel, Promises, VolumeModel
from glupy.testing.fuzz.steps import AnyClient, Plan, Side, Step
from glupy.testing.gfapi import Reply

READ_SIZE = 1 << 20
USER = "user."


class Mismatch(AssertionError):
    """What came back is not what should have."""


class Outcome(NamedTuple):
    """What a step gave: an errno, or a value; and attributes, where the reply had any."""

    errno: int = 0
    value: object = None
    pre: os.stat_result | None = None
    post: os.stat_result | None = None

    def __str__(self) -> str:
        if self.errno:
            return errno.errorcode.get(self.errno, str(self.errno))
        if isinstance(self.value, bytes):
            return f"{len(self.value)} bytes"
        return "ok" if self.value is None else str(self.value)


@dataclass(frozen=True)
class Ground:
    """A target that is up: clients of its root, which is empty, and what it promises.

    ``backends`` are folders in which each file is as it is on the target, on this machine.
    ``refuses``: errnos that any step which takes space may fail with, and then has changed nothing.
    """

    clients: Sequence[AnyClient]
    promises: Promises
    block_size: int
    backends: Sequence[Path] = ()
    refuses: frozenset[int] = frozenset()


class Runner:
    """One sequence on one target, from an empty root to an empty root.

    With ``against`` the same is done there, and what comes back must be the same; the model is
    then only asked what a step is about.
    """

    def __init__(self, ground: Ground, against: Ground | None = None) -> None:
        self.ground = ground
        self.volume = VolumeModel(ground.promises, ground.block_size)
        self.sides = [Side(list(each.clients)) for each in (ground, against) if each is not None]
        self.against = against
        self.done: list[tuple[Step, Outcome | None]] = []

    # ---- one step ----

    def perform(self, step: Step) -> Outcome:
        """Do a step. Raises Mismatch if it did not do what it should."""
        plan = step.plan(self.volume)
        self.done.append((step, None))
        outcomes = [_outcome(step, side) for side in self.sides]
        outcome = outcomes[0]
        self.done[-1] = step, outcome
        if self.against is not None:
            self._compare(outcomes[0], outcomes[1], self.against.promises)
        else:
            self._check(step, plan, outcome)
        if outcome.errno:
            return outcome
        if self.against is None and plan.file is not None:
            self._check_before(step, plan.file, outcome)
        plan.change()
        if self.against is None and plan.file is not None:
            self._check_after(step, plan, plan.file, outcome)
        return outcome

    def _check(self, step: Step, plan: Plan, outcome: Outcome) -> None:
        if outcome.errno:
            if plan.grows and outcome.errno in self.ground.refuses and plan.errno <= 0:
                return
            if isinstance(step, steps.Copy) and not self.ground.promises.copy_errnos and plan.errno:
                return
            unsupported = self.ground.promises.unsupported
            if outcome.errno == errno.EOPNOTSUPP and step.fop in unsupported and plan.errno <= 0:
                return
            if abs(plan.errno) != outcome.errno:
                raise Mismatch(f"{outcome}, where {_name(plan.errno)} is right")
            return
        if plan.errno > 0:
            raise Mismatch(f"it succeeded, where {_name(plan.errno)} is right")
        if plan.value is not None and outcome.value != plan.value:
            raise Mismatch(_difference(outcome.value, plan.value))
        if isinstance(step, steps.Seek):
            file = self.volume.handles[step.handle].file
            if wrong := step.wrong(file, int(outcome.value)):  # type: ignore[call-overload]
                raise Mismatch(f"{outcome.value}: {wrong}")

    def _check_before(self, step: Step, file: FileModel, outcome: Outcome) -> None:
        if outcome.pre is not None:
            self._check_attributes(file, outcome.pre, "before")
        elif self.ground.promises.attributes and _has_pre(step, self.ground.promises):
            raise Mismatch("the reply has no attributes of before")

    def _check_after(self, step: Step, plan: Plan, file: FileModel, outcome: Outcome) -> None:
        post = outcome.post
        if post is None:
            if self.ground.promises.attributes and _has_post(step):
                raise Mismatch("the reply has no attributes of afterwards")
            return
        synced = isinstance(step, steps.Sync)
        self._check_attributes(file, post, "afterwards", synced=synced)
        pre = outcome.pre
        if pre is not None and (
            pre.st_ino != post.st_ino
            or post.st_mtime_ns < pre.st_mtime_ns
            or post.st_ctime_ns < pre.st_ctime_ns
        ):
            raise Mismatch("another inode, or an earlier mtime or ctime, than before")
        if plan.touches and self.ground.promises.times:
            for name, value in ("mtime", post.st_mtime_ns), ("ctime", post.st_ctime_ns):
                if value < self.volume.waited:
                    raise Mismatch(f"{name} was not set")

    def _check_attributes(
        self, file: FileModel, stat: os.stat_result, when: str, *, synced: bool = False
    ) -> None:
        if stat.st_size != file.size:
            raise Mismatch(f"{when}: size {stat.st_size}, not {file.size}")
        if file.links and stat.st_nlink != file.links:
            raise Mismatch(f"{when}: {stat.st_nlink} links, not {file.links}")
        if self.ground.promises.blocks:
            try:
                file.check(stat, when, synced=synced, capped=self.ground.promises.capped)
            except AssertionError as error:
                raise Mismatch(str(error)) from None

    def _compare(self, ours: Outcome, theirs: Outcome, promises: Promises) -> None:
        if ours.errno != theirs.errno:
            raise Mismatch(f"{ours}, the other: {theirs}")
        if ours.errno:
            return
        if ours.value != theirs.value:
            raise Mismatch(_difference(ours.value, theirs.value))
        for when, our, their in ("before", ours.pre, theirs.pre), ("after", ours.post, theirs.post):
            if our is None or their is None:
                continue
            names = ["st_size", "st_nlink"]
            if promises.blocks and self.ground.promises.blocks:
                names.append("st_blocks")
            for name in names:
                if getattr(our, name) != getattr(their, name):
                    values = f"{getattr(our, name)}, the other: {getattr(their, name)}"
                    raise Mismatch(f"{when}: {name} is {values}")

    # ---- all of it ----

    def verify(self) -> None:
        """Look at everything there is: names, and each file's bytes, attributes and xattrs."""
        for side in self.sides:
            client = side.client(0)
            found, names = client.names(), set(self.volume.names)
            if found != names:
                raise Mismatch(f"names {sorted(found)}, not {sorted(names)}")
            for where, file in self.volume.files():
                self._verify(side, client, where, file)
        if self.against is not None:
            return
        for backend in self.ground.backends:
            for name, file in self.volume.names.items():
                try:
                    file.check_backend(backend / name)
                except AssertionError as error:
                    raise Mismatch(f"{name}: {error}") from None

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
        keys = {key for key in client.listxattr("/" + where) if key.startswith(USER)}
        if keys != set(file.xattrs):
            raise Mismatch(f"{where} has xattrs {sorted(keys)}, not {sorted(file.xattrs)}")
        for key, value in file.xattrs.items():
            if client.getxattr("/" + where, key) != value:
                raise Mismatch(f"{where}: xattr {key} is not {value!r}")

    def _verify_bytes(self, opened: steps.AnyFile, where: str, file: FileModel) -> None:
        if self.against is None:
            self._check_attributes(file, opened.fstat(), f"{where}, at the end")
        for offset in range(0, file.size + 1, READ_SIZE):
            got = opened.pread(READ_SIZE, offset).value
            expected = bytes(file.data[offset : offset + READ_SIZE])
            if got != expected:
                raise Mismatch(f"{where}: {_difference(got, expected, offset)}")

    def clean(self) -> None:
        """Close and remove all, whatever has happened."""
        for side in self.sides:
            for file in side.files.values():
                with contextlib.suppress(OSError):
                    file.close()
            side.files.clear()
            client = side.client(0)
            for name in client.names():
                client.unlink("/" + name)
            if left := client.names():
                raise Mismatch(f"{sorted(left)} cannot be removed")


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


def _outcome(step: Step, side: Side) -> Outcome:
    try:
        result = step.call(side)
    except OSError as error:
        return Outcome(errno=error.errno or errno.EIO)
    except LateError:
        raise Mismatch(f"no answer within {steps.PATIENCE:g} s") from None
    if isinstance(result, Reply):
        return Outcome(0, result.value, result.pre, result.post)
    if isinstance(result, tuple):  # Copied
        return Outcome(0, result[0], result[-2], result[-1])
    return Outcome(0, result)


def _has_pre(step: Step, promises: Promises) -> bool:
    if step.fop in promises.without_pre:
        return False
    if isinstance(step, steps.Write):
        return step.pieces == 1
    if isinstance(step, (steps.Discard, steps.Zerofill)):
        return step.later
    return isinstance(step, (steps.Truncate, steps.Sync, steps.Copy))


def _has_post(step: Step) -> bool:
    if isinstance(step, steps.Write):
        return step.pieces == 1
    if isinstance(step, (steps.Discard, steps.Zerofill)):
        return step.later
    return not isinstance(step, steps.Fallocate)


def _name(number: int) -> str:
    number = abs(number)
    return errno.errorcode.get(number, str(number)) if number else "success"


def _difference(got: Any, expected: Any, offset: int = 0) -> str:
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
