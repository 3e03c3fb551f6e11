"""`glupy.stores` as far as no root is needed: running commands, signals, figures at rest."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from glupy.stores import StoreError, devices_of, held_back, make, mount_of, run, settled, unmake


def test_run_returns_what_the_command_prints() -> None:
    assert run("printf", "%s", "two words") == "two words"


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["glupy-no-such-command"], "glupy-no-such-command: this command is not installed"),
        (["false"], "false: failed with status 1"),
        (["sh", "-c", "echo; echo why >&2; echo more >&2; exit 3"], "sh: why"),
        (["sh", "-c", "echo why; exit 1"], "sh: why"),
        (["cat", "/nowhere"], "cat: /nowhere: No such file or directory"),
    ],
)
def test_a_failure_is_one_line_that_names_the_command(command: list[str], line: str) -> None:
    with pytest.raises(StoreError) as caught:
        run(*command)
    assert str(caught.value) == line


def test_a_command_that_takes_too_long_is_killed() -> None:
    start = time.monotonic()
    with pytest.raises(StoreError, match=r"`sleep 60` did not end within 0\.3 s"):
        run("sleep", "60", timeout=0.3)
    assert time.monotonic() - start < 5


def test_a_signal_waits_for_the_end_of_the_command(tmp_path: Path) -> None:
    done = tmp_path / "done"
    program = f"""
        import os, signal, threading
        from glupy.stores import run
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            run("sh", "-c", "sleep 1; touch {done}")
        except KeyboardInterrupt:
            print("interrupted")
    """
    assert _python(program) == "interrupted\n"
    assert done.exists()


def test_a_signal_ends_a_command_that_outlasts_its_grace() -> None:
    program = """
        import os, signal, threading, time
        from glupy.stores import run
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        start = time.monotonic()
        try:
            run("sleep", "60", grace=0.2)
        except KeyboardInterrupt:
            print("interrupted", time.monotonic() - start < 5)
    """
    assert _python(program) == "interrupted True\n"


def test_held_back_restores_the_handlers_and_raises_the_first_signal() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        handler = signal.getsignal(signal.SIGTERM)
        with held_back() as pending:
            os.kill(os.getpid(), signal.SIGTERM)
            assert (pending, seen) == ([signal.SIGTERM], [])
        assert seen == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_settled_waits_until_a_figure_is_quiet() -> None:
    figures = iter([5, 4, 3, *[3] * 1000])
    start = time.monotonic()
    assert settled(lambda: next(figures), quiet=0.3) == 3
    assert time.monotonic() - start >= 0.3


def test_settled_gives_up_on_a_figure_that_never_rests() -> None:
    def counting() -> Iterator[int]:
        yield from range(10**9)

    figures = counting()
    with pytest.raises(StoreError, match=r"did not come to rest within 0\.5 s"):
        settled(lambda: next(figures), timeout=0.5)


def test_an_existing_file_is_not_taken_for_a_store(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_text("precious")
    with pytest.raises(StoreError, match="root" if os.geteuid() else "File exists"):
        make(image, 1 << 20, tmp_path / "folder")
    assert image.read_text() == "precious"


def test_what_is_not_there_is_found_nowhere_and_unmade_without_error(tmp_path: Path) -> None:
    image = tmp_path / "image"
    unmake(image)
    assert devices_of(image) == []
    assert mount_of(tmp_path) is None
    root = mount_of(Path("/"))
    assert root is not None
    assert root.folder == Path("/")


def _python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout
