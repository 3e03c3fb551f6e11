"""What `glupy fuzz` tells of what it found, and what ends a call that is not answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

import volfiles
from glupy.testing import logs
from glupy.testing.fuzz import Search, report, shell
from glupy.testing.fuzz.ground import Ground
from glupy.testing.fuzz.outcome import Finding
from glupy.testing.fuzz.runner import Runner
from glupy_tools.crashes import Crash

DYING = 30.0
"""Seconds that a call may take whose bricks have ended."""


class Found:
    """Tells what was found."""

    def __init__(
        self,
        console: Console,
        target: str,
        against: str | None,
        inserts: Sequence[volfiles.Insert],
        faults: Sequence[str],
        *,
        over_rpc: bool,
        out: Path | None,
    ) -> None:
        self._console, self._out = console, out
        self._target, self._against, self._inserts = target, against, inserts
        self._faults, self._over_rpc = faults, over_rpc

    def unanswered(self, runner: Runner, patience: float, logged: Mapping[Path, str]) -> None:
        """A call of this sequence does not come back, whatever is done to its bricks."""
        finding = Finding(tuple(runner.done), f"no answer within {patience:g} s")
        self._show(finding, logged)
        self._console.print("not made shorter: nothing ends that call (try --over-rpc)")
        if self._out is not None:
            self._again(finding, self._out)

    def crashed(self, crash: Crash, why: str) -> None:
        """What did these calls is no more, and its logs have gone with it."""
        finding = Finding(tuple((step, None) for step in crash.steps), why)
        self._show(finding, {})
        self._console.print("not made shorter: it ends whatever does them")
        if self._out is not None:
            self._again(finding, self._out)

    def tell(self, search: Search, finding: Finding, logged: Mapping[Path, str]) -> None:
        """Print it, and the last traceback in a log; keep the logs, and write scripts."""
        self._show(finding, logged)
        if search.flaky:
            self._console.print("done again, the same calls did not always fail")
        if search.ground.spoiled:
            self._console.print(
                "not made shorter: what is left there cannot be removed (try --over-rpc)"
            )
        self._keep(search.ground, finding)

    def complain(self, logged: Mapping[Path, str]) -> bool:
        """Print the last traceback of a log; False if no log has any."""
        trouble = next(filter(None, map(logs.traceback_in, logged.values())), None)
        if trouble:
            text = f"the last traceback in a log:\n{trouble}"
            self._console.print(text, markup=False, highlight=False)
        return bool(trouble)

    def _show(self, finding: Finding, logged: Mapping[Path, str]) -> None:
        console = self._console
        _show(console, finding)
        self.complain(logged)
        if self._out is not None:
            for path, text in logged.items():
                kept = self._out / "logs" / path.parent.name / path.name
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(text)

    def _keep(self, ground: Ground, finding: Finding) -> None:
        """Write the scripts that show it again."""
        out, console = self._out, self._console
        if out is None:
            return
        self._again(finding, out)
        script = shell.script(
            finding.steps, finding.wrong, self._target, ground, inserts=self._inserts
        )
        if script is None:
            console.print("no repro.sh: the tools of a shell cannot do this")
        elif shell.shows(path := report.write(out, script, ".sh")):
            console.print(f"again, without Python: {path}")
        else:
            path.unlink()
            console.print("no repro.sh: through a mount this does not show")

    def _again(self, finding: Finding, out: Path) -> None:
        text = report.script(
            finding,
            "repro.py",
            self._target,
            against=self._against,
            inserts=self._inserts,
            faults=self._faults,
            over_rpc=self._over_rpc,
        )
        self._console.print(f"again: {report.write(out, text)}")


def _show(console: Console, finding: Finding) -> None:
    table = Table("", "fop", "arguments", "came back", box=None, padding=(0, 2, 0, 0))
    for number, (step, outcome) in enumerate(finding.done, 1):
        table.add_row(str(number), step.fop, step.arguments(), str(outcome or ""))
    console.print(table)
    console.print(f"wrong: {finding.wrong}", style="bold", highlight=False)


@contextmanager
def watched(search: Search, patience: float, give_up: Callable[[Runner], None]) -> Iterator[None]:
    """End the bricks of a call that is not answered, so that it comes back with an error; or give
    up, where that does not help: no signal reaches a thread that is in C."""
    done = threading.Event()

    def watch() -> None:
        ended: Runner | None = None
        while not done.wait(1):
            runner = search.current
            since = runner.waits_since if runner is not None else None
            if runner is None or since is None:
                continue
            waited = time.monotonic() - since
            bricks = [brick for side in runner.sides for brick in side.trouble.bricks]
            if waited > patience + (DYING if ended is runner else 0):
                if ended is runner or not bricks:
                    give_up(runner)
                ended = runner
                runner.unanswered = True
                for brick in bricks:
                    brick.kill()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
