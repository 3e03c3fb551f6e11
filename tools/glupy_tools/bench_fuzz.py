"""`glupy bench fuzz`: what the fuzzer's own model and checks take, and Hypothesis."""

import json
import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from glupy_tools.bench import json_option, pairs_option
from glupy_tools.failures import CommandError
from glupy_tools.measure import pairs, ratio

if TYPE_CHECKING:
    from glupy.testing.fuzz import Ground
    from glupy.testing.fuzz.steps import Step

RECORDED = 40
"""Sequences that are done again."""
MADE_UP = 20
"""Sequences that Hypothesis makes up each time."""


@dataclass(frozen=True)
class Row:
    """One comparison: calls a second, with us and without, and their ratio."""

    what: str
    ratio: float
    low: float
    high: float
    ours: float
    theirs: float


def record(ground: "Ground", seed: int) -> "list[Sequence[Step]]":
    """Make sequences up, with all calls that there are, and keep those in which nothing sleeps."""
    from glupy.testing.fuzz import Search, steps  # noqa: PLC0415

    found: list[Sequence[Step]] = []

    def keep(search: Search) -> None:
        done = [step for step, _ in search.last.done]
        if len(done) > 1:
            found.append([step for step in done if not isinstance(step, steps.Wait)])

    search = Search(ground, progress=keep)
    if (finding := search.run(examples=RECORDED, seed=seed)) is not None:
        raise CommandError(f"something is wrong:\n{finding}")
    return found


def replayed(what: str, ground: "Ground", count: int, seed: int) -> Row:
    """Replay sequences with model and checks, and with the client alone."""
    from glupy.testing.fuzz import Runner  # noqa: PLC0415
    from glupy.testing.fuzz.outcome import outcome_of  # noqa: PLC0415

    sequences = record(ground, seed)
    calls = sum(map(len, sequences))

    def with_checks() -> float:
        began = time.perf_counter()
        for sequence in sequences:
            runner = Runner(ground)
            for step in sequence:
                runner.perform(step)
            runner.verify()
            runner.clean()
        return calls / (time.perf_counter() - began)

    def bare() -> float:
        began = time.perf_counter()
        for sequence in sequences:
            runner = Runner(ground)
            for step in sequence:
                outcome_of(step, runner.sides[0])
            runner.clean()
        return calls / (time.perf_counter() - began)

    return _row(what, pairs(with_checks, bare, count))


def made_up(ground: "Ground", count: int, seed: int) -> Iterator[Row]:
    """Have Hypothesis make sequences up: with calls and checks, and with one bare call of the
    client's in each step, both against rules that do nothing."""
    from glupy.testing.fuzz import Search  # noqa: PLC0415
    from glupy.testing.fuzz.machine import SequenceMachine  # noqa: PLC0415
    from glupy.testing.fuzz.rules import RULES  # noqa: PLC0415
    from glupy.testing.fuzz.search import EXAMPLE_STEPS  # noqa: PLC0415

    class Idle(SequenceMachine):
        def _do(self, step: "Step") -> None:
            pass

        def teardown(self) -> None:
            pass

    class Bare(Idle):
        def _do(self, step: "Step") -> None:
            ground.clients[0].stat("/")

    def rate(rules: Sequence[type[SequenceMachine]]) -> float:
        began = time.perf_counter()
        Search(ground, rules=rules).run(examples=MADE_UP, seed=seed)
        return MADE_UP * EXAMPLE_STEPS / (time.perf_counter() - began)

    compared: dict[str, Sequence[type[SequenceMachine]]] = {
        "Hypothesis": RULES,
        "Hypothesis and a bare stat": [Bare, *RULES],
    }
    for what, rules in compared.items():
        yield _row(what, pairs(partial(rate, rules), partial(rate, [Idle, *RULES]), count))


def _row(what: str, both: Iterator[tuple[float, float]]) -> Row:
    ours, theirs = zip(*both, strict=True)
    found = ratio(ours, theirs)
    median, low, high = (round(each, 3) for each in found)
    return Row(what, median, low, high, round(max(ours)), round(max(theirs)))


@click.command()
@pairs_option
@click.option("--seed", type=int, metavar="N", help="Of the sequences.  [default: another]")
@json_option
def fuzz(*, count: int, seed: int | None, as_json: bool) -> None:
    """Measure `glupy fuzz` itself: its model and checks, and what Hypothesis takes.

    \b
    Four rows, each in pairs; below 1 is what we take:
      replay in-process    recorded sequences with model and checks, against the client alone
      replay over RPC      the same with a brick process
      Hypothesis           sequences that it makes up, against the same machine with empty rules
      … and a bare stat    the same with a stat of the root in each rule: what any call takes

    Rates are the best of the run, in calls a second.

    \b
    Example, as root:
      glupy bench fuzz
    """
    if os.geteuid() != 0:
        raise CommandError("bench needs root: it makes stores and bricks")
    from glupy.testing.fuzz import open_target  # noqa: PLC0415

    seed = random.randrange(1 << 32) if seed is None else seed
    with ExitStack() as stack:
        inside = stack.enter_context(open_target("pyposix"))
        rows = [
            replayed("replay in-process", inside, count, seed),
            *made_up(inside, count, seed),
        ]
    with open_target("pyposix", over_rpc=True) as over_rpc:
        rows.insert(1, replayed("replay over RPC", over_rpc, count, seed))
    if as_json:
        click.echo(json.dumps({"pairs": count, "rows": [asdict(row) for row in rows]}))
        return
    table = Table("", "ratio", "95 % interval", "ours", "theirs", box=None)
    for row in rows:
        interval = f"{row.low:.3f} to {row.high:.3f}"
        table.add_row(
            row.what, f"{row.ratio:.3f}", interval, f"{row.ours:,.0f}/s", f"{row.theirs:,.0f}/s"
        )
    Console().print(table)
