"""What a script of `report` runs: its steps, on a target, and no Hypothesis."""

import sys
from collections.abc import Sequence

import volfiles
from glupy.testing.fuzz.runner import Mismatch, Runner
from glupy.testing.fuzz.steps import Step
from glupy.testing.fuzz.targets import TargetError, open_target


def main(
    steps: Sequence[Step],
    arguments: Sequence[str],
    *,
    inserts: Sequence[volfiles.Insert] = (),
    against: str | None = None,
    faults: Sequence[str] = (),
) -> int:
    """Do the steps on the target that is the first argument, and print them with what comes back.

    Return 0 if nothing is wrong, 1 if something is (the last line says what), 2 if it cannot run.
    """
    (target,) = arguments
    try:
        with open_target(target, inserts=inserts, faults=faults) as ground:
            if against is None:
                return _show(steps, Runner(ground))
            with open_target(against, faults=faults) as other:
                return _show(steps, Runner(ground, other))
    except TargetError as error:
        print(error, file=sys.stderr)
        return 2


def _show(steps: Sequence[Step], runner: Runner) -> int:
    try:
        for step in steps:
            try:
                runner.perform(step)
            finally:
                print(f"{step.fop:12} {step.arguments()} -> {runner.done[-1][1]}")
        runner.verify()
    except Mismatch as error:
        print(error)
        return 1
    finally:
        runner.clean()
    print("nothing is wrong")
    return 0
