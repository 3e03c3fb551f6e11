"""The search: Hypothesis runs the machine, and what it finds is made as short as can be."""

import contextlib
import itertools
import time
from collections.abc import Callable, Sequence

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.database import ExampleDatabase
from hypothesis.errors import Flaky
from hypothesis.reporting import with_reporter
from hypothesis.stateful import run_state_machine_as_test

from glupy.testing.fuzz import steps
from glupy.testing.fuzz.fault_rules import FAULT_RULES
from glupy.testing.fuzz.ground import Ground
from glupy.testing.fuzz.machine import SequenceMachine, SpoiledError
from glupy.testing.fuzz.outcome import Finding, Mismatch
from glupy.testing.fuzz.rules import RULES
from glupy.testing.fuzz.runner import Runner

EXAMPLE_STEPS = 50
SHORTENING = 300.0
"""Seconds at most to leave steps out of what was found: as long as Hypothesis makes it shorter."""


class Search:
    """A search for sequences on a target; ``against`` another, if that is given.

    ``rules`` say what the sequences are made of: all there is, unless told otherwise, and what
    belongs to the faults of the target. ``examples`` and ``calls`` count what was done,
    ``calls_to_find`` the calls up to the first failure. ``last`` did the last one, ``current`` does
    one now. ``finding`` is the shortest sequence so far after which something was wrong, None if
    there is none; ``flaky``: when it was done again nothing was.
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
        if self.ground.spoiled or self._leaves_down(sequence):
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
        except steps.ImpossibleError:
            pass
        except Mismatch as error:
            wrong = str(error)
        finally:
            with contextlib.suppress(OSError, Mismatch):
                runner.clean()
        self.ended(runner, wrong)
        return wrong is not None

    def _leaves_down(self, sequence: Sequence[steps.Step]) -> bool:
        """Whether all bricks are killed and not started: nothing that fails then is wrong."""
        if self.ground.redundant or not self.ground.trouble.bricks:
            return False
        pairs = itertools.pairwise([*sequence, None])
        return any(
            isinstance(step, steps.Kill) and not isinstance(following, steps.Start)
            for step, following in pairs
        )

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
