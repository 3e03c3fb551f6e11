"""What holds for all tests."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """The next test has the umask that this one had: pyposix in a test's own process sets it to 0,
    as in a brick."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture
def strace(tmp_path: Path) -> Callable[..., AbstractContextManager[Path]]:
    """`with strace(pid, "fsync,syncfs", error="EIO") as trace:` a process's calls are in that file;
    with ``error`` they fail with that, as on a disk that is broken, and are not carried out. With
    ``path`` only those of that file."""

    @contextlib.contextmanager
    def tracing(
        pid: int, calls: str, *, error: str | None = None, path: Path | None = None
    ) -> Iterator[Path]:
        trace = tmp_path / "trace"
        what = ["-e", f"trace={calls}"]
        what += ["-e", f"inject={calls}:error={error}"] if error else []
        what += ["-P", str(path)] if path else []
        command = ["strace", "-f", *what, "-o", str(trace), "-p"]
        with subprocess.Popen([*command, str(pid)], stderr=subprocess.PIPE) as tracer:
            try:
                assert tracer.stderr is not None
                tracer.stderr.readline()  # attached
                yield trace
            finally:
                tracer.terminate()

    return tracing
