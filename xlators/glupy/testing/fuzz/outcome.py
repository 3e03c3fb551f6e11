"""What a step has given, and what is found by that."""

import errno
import os
from dataclasses import dataclass
from typing import Any, NamedTuple

from glupy.testing.fuzz import steps
from glupy.testing.fuzz.side import Side
from glupy.testing.fuzz.steps import Step
from glupy.testing.gfapi import Reply
from glupy.testing.processes import ProcessError

TIMES = "mtime", "ctime"


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


def outcome_of(step: Step, side: Side) -> Outcome:
    """Do a step, and say what it gave. Mismatch: nothing, in `PATIENCE` seconds."""
    try:
        result = step.call(side)
    except OSError as error:
        if error.errno is None:  # TimeoutError of a future, which is an OSError
            raise Mismatch(f"no answer within {steps.base.PATIENCE:g} s") from None
        return Outcome(errno=error.errno)
    except ProcessError as error:
        raise Mismatch(not_again(error)) from None
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


def not_again(error: ProcessError) -> str:
    first = str(error).splitlines()[0]
    return f"it does not start again: {first}" + (f": {error.reason}" if error.reason else "")


def errno_name(number: int) -> str:
    number = abs(number)
    return errno.errorcode.get(number, str(number)) if number else "success"


def difference(got: Any, expected: Any, offset: int = 0) -> str:
    if isinstance(got, list) and isinstance(expected, list) and len(got) == len(expected):
        pair = next(pair for pair in zip(got, expected, strict=True) if len(set(pair)) > 1)
        return difference(*pair)
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
