"""Faults of libgfapi's calls that have no fop of their own: a translator cannot have them.

Vectors are one buffer on their way, and who waits for an answer is not told.
"""

import random
import re
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from glupy.testing.fuzz import Search, open_target
from glupy.testing.gfapi import File, Reply

from .test_seeded_faults import CUT, EXAMPLES, KEPT, MOST_CALLS, SIZE

Call = Callable[..., Any]


def _other(answer: "Future[Reply[Any]]", **fields: Any) -> "Future[Reply[Any]]":
    """The same answer, but for that."""
    changed: Future[Reply[Any]] = Future()
    try:
        changed.set_result(answer.result(60)._replace(**fields))
    except OSError as error:
        changed.set_exception(error)
    return changed


FAULTS: dict[str, Callable[[Call], Call]] = {
    "pwritev": lambda call: lambda file, pieces, offset: call(file, pieces[::-1], offset),
    "preadv": lambda call: lambda file, lengths, offset: call(file, lengths, offset)[::-1],
    "preadv_async": lambda call: (
        lambda file, lengths, offset: _other(call(file, lengths, offset), post=None)
    ),
    "pwritev_async": lambda call: lambda file, pieces, offset: call(file, pieces[::-1], offset),
    "pwrite_async": lambda call: lambda file, data, offset: call(file, data[:-1] + b"\0", offset),
    "pread_async": lambda call: lambda file, length, offset: call(file, length, offset + 1),
    "discard_async": lambda call: lambda file, offset, length: call(file, offset, length + 1),
    "zerofill_async": lambda call: lambda file, offset, length: call(file, offset + 1, length),
    "ftruncate_async": lambda call: lambda file, length: call(file, length + 1),
    "fsync_async": lambda call: lambda file: _other(call(file), post=None),
    "fdatasync_async": lambda call: lambda file: _other(call(file), pre=None),
}
BYTES = rf"{CUT}|{KEPT}|byte \d+ is 0x\w\w, not 0x"
SHOWS = {
    "pwritev": BYTES,
    "preadv": BYTES,
    "preadv_async": "the reply has no attributes of after",
    "pwritev_async": BYTES,
    "pwrite_async": CUT,
    "pread_async": rf"{BYTES}|bytes from \d+ on, not \d+",
    "discard_async": rf"{CUT}|it succeeded, where EINVAL is right",
    "zerofill_async": rf"{BYTES}|{SIZE}",
    "ftruncate_async": SIZE,
    "fsync_async": "the reply has no attributes of after",
    "fdatasync_async": "the reply has no attributes of before",
}
"""What is wrong then, as the finding has it."""
CHOSEN = random.sample(list(FAULTS), 2)


@pytest.mark.parametrize(
    "name", [f if f in CHOSEN else pytest.param(f, marks=pytest.mark.long) for f in FAULTS]
)
def test_a_fault_of_a_call_is_found(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(File, name, FAULTS[name](getattr(File, name)))
    with open_target("pyposix") as ground:
        search = Search(ground)
        began = time.monotonic()
        finding = search.run(examples=EXAMPLES, seed=1, shrink=False)
    assert finding is not None
    assert search.calls_to_find <= MOST_CALLS
    assert time.monotonic() - began < 60
    assert re.search(SHOWS[name], finding.wrong), finding
    with capsys.disabled():
        print(f"\n{name}: {search.calls_to_find} calls: {finding.wrong}")
