"""What glusterfs processes and clients log, and the rule that an error there fails a test.

A record is a line that begins with a time and a level, and the lines up to the next one (the
traceback of a handler, the backtrace of a crash). A record is bad if its level is E or worse or
if it has a traceback or a crash in it; so is all that a process prints. A test declares what it
provokes, with regular expressions that are searched for in whole records.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_HEAD = re.compile(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ [+-]\d{4}\] (?P<level>[A-Z]) ", re.M)
# [time +0000] E [MSGID: 1] [file.c:1:function] 0-name: message
_PLACE = re.compile(r"^\[[^]]+\] [A-Z] (?:\[[^]]*\] )*")
_BAD_LEVELS = "", "M", "A", "C", "E"  # none, emergency, alert, critical, error
_BAD_TEXT = re.compile(r"^(Traceback \(most recent call last\):|signal received: )", re.M)
# No client waits for the replies to RELEASE (41) and RELEASEDIR (42): it may have gone before they
# are sent, which protocol/server calls an error. And a client that ends when a brick has just gone
# is refused the timer by which it would try again.
_PARTING = re.compile(
    r"rpcsvc_submit_generic\] .*failed to submit message .*Proc: 4[12]\)"
    r"|server_submit_reply\] .*(Reply submission failed|failed to submit)"
    r"|gf_timer_call_after\] .*rpc_transport_notify.*ctx cleanup started"
)


class Record(NamedTuple):
    """One record of a log; `level` is its letter, or empty for text that has none."""

    level: str
    text: str

    @property
    def bad(self) -> bool:
        return (
            not self.level or self.level in _BAD_LEVELS or _BAD_TEXT.search(self.text) is not None
        ) and _PARTING.search(self.text) is None


def records(text: str) -> Iterator[Record]:
    """Cut a log into records. Text before the first one is a record without a level."""
    starts = [head.start() for head in _HEAD.finditer(text)]
    for start, end in itertools.pairwise([0, *starts, len(text)]):
        if record := text[start:end].strip():
            head = _HEAD.match(record)
            yield Record(head["level"] if head else "", record)


def complaint(text: str) -> str | None:
    """Return what a log complains of first, in a line: a translator that does not start, if any."""
    bad = [record.text for record in records(text) if record.bad]
    first = [line for line in bad if "does not start: " in line] or bad
    return _PLACE.sub("", first[0].splitlines()[0]) if first else None


def logs_below(folder: Path) -> dict[Path, str]:
    """Return the logs of clients (``*.log``) and bricks (``log``) below a folder."""
    paths = [*folder.rglob("*.log"), *folder.rglob("log")]
    return {path: path.read_text(errors="replace") for path in paths if path.is_file()}


def traceback_in(text: str) -> str | None:
    """Return the last traceback in a log, with the line that says whose it is; None if none."""
    found = [record.text for record in records(text) if "Traceback (most recent" in record.text]
    return _PLACE.sub("", found[-1]) if found else None


class LogChecker:
    """The logs of one test. A path that does not exist (yet) counts as empty."""

    def __init__(self) -> None:
        self._paths: list[Path] = []
        self._expected: list[re.Pattern[str]] = []
        self._allowed: list[re.Pattern[str]] = []

    def watch(self, *paths: Path) -> None:
        """Check these files too."""
        self._paths += paths

    def expect(self, *patterns: str) -> None:
        """Records, of any level, that must appear: each pattern in at least one."""
        self._expected += map(re.compile, patterns)

    def allow(self, *patterns: str) -> None:
        """Records that may appear."""
        self._allowed += map(re.compile, patterns)

    def unexpected(self, text: str) -> list[str]:
        """The bad records of a log that nobody has declared."""
        declared = self._expected + self._allowed
        return [
            record.text
            for record in records(text)
            if record.bad and not any(pattern.search(record.text) for pattern in declared)
        ]

    def problems(self) -> list[str]:
        """What is wrong, a text each, headed by the log's path; nothing wrong is an empty list."""
        problems = []
        missing = list(self._expected)
        for path in self._paths:
            text = path.read_text(errors="replace") if path.exists() else ""
            for record in records(text):
                missing = [pattern for pattern in missing if not pattern.search(record.text)]
            problems += [f"{path}:\n{record}" for record in self.unexpected(text)]
        logs = ", ".join(map(str, self._paths)) or "no log at all"
        problems += [f"{logs}: no record has {pattern.pattern!r}" for pattern in missing]
        return problems

    def check(self) -> None:
        """Raise AssertionError if there is a problem."""
        if problems := self.problems():
            raise AssertionError("\n\n".join(["unexpected in the logs:", *problems]))
