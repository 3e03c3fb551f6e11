"""What a script of `report` runs: its steps, on a target, and no Hypothesis."""

import dataclasses
import sys
import traceback
from collections.abc import Collection, Sequence

import volfiles
from glupy.testing.fuzz.model import Promises
from glupy.testing.fuzz.outcome import Mismatch
from glupy.testing.fuzz.runner import Runner
from glupy.testing.fuzz.steps import ImpossibleError, Step
from glupy.testing.fuzz.targets import TargetError, open_targets


def main(
    steps: Sequence[Step],
    arguments: Sequence[str],
    *,
    inserts: Sequence[volfiles.Insert] = (),
    against: str | None = None,
    faults: Sequence[str] = (),
    over_rpc: bool = False,
    promised: Collection[str] = (),
) -> int:
    """Do the steps on the target that is the first argument, and print them with what comes back.

    ``promised`` are names of `Promises` that are asserted, whatever the target says of them.

    Return 0 if nothing is wrong, 1 if something is (the last line says what), 2 if it cannot run,
    whatever the reason is.
    """
    try:
        (target,) = arguments
        opened = open_targets(target, against, inserts=inserts, faults=faults, over_rpc=over_rpc)
        with opened as (ground, other):
            kept = {name: getattr(Promises(), name) for name in promised}
            ground.promises = dataclasses.replace(ground.promises, **kept)
            return _show(steps, Runner(ground, other))
    except TargetError as error:
        print(error, file=sys.stderr)
        return 2
    except Exception:  # Python's own status of that would be 1
        traceback.print_exc()
        return 2


def _show(steps: Sequence[Step], runner: Runner) -> int:
    wrong: Exception | None = None
    try:
        for step in steps:
            try:
                runner.perform(step)
            finally:
                if runner.done and runner.done[-1][0] is step:
                    print(f"{step.fop:12} {step.arguments()} -> {runner.done[-1][1]}")
        runner.verify()
    except (Mismatch, ImpossibleError) as error:
        wrong = error
    try:
        runner.clean()
    except Mismatch as error:
        wrong = wrong or error
    print(wrong or "nothing is wrong")
    return 2 if isinstance(wrong, ImpossibleError) else int(wrong is not None)
