"""Fixtures of glupy.testing that other tests have replaced, or told more than they need."""

import contextlib
import os
import re
from pathlib import Path

import pytest

from glupy.testing.gfapi import Client

pytest_plugins = ["pytester"]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="stores are mounted by root")


def test_in_process(in_process: Client, brick_dir: Path) -> None:
    """The leaf is in this process: there is no brick."""
    with in_process.creat("/a") as file:
        file.pwrite(b"12", 0)
    assert (brick_dir / "a").read_bytes() == b"12"
    assert not [node for node in in_process.graph if node.type == "protocol/client"]


def test_fuzz_takes_the_examples_of_a_profile(pytester: pytest.Pytester) -> None:
    """Unless a test says how many."""
    pytester.makepyfile(
        """
        import pytest
        from glupy.testing.fuzz import Search

        @pytest.mark.parametrize("given", [{}, {"examples": 3}])
        def test_it(fuzz, given, monkeypatch):
            ended, made = Search.ended, []
            monkeypatch.setattr(Search, "ended", lambda *it: (made.append(it), ended(*it)))
            fuzz("pyposix", **given)
            print("made", len(made))
        """
    )
    result = pytester.runpytest_subprocess("-rP", "--hypothesis-profile=glupy-dev")
    result.assert_outcomes(passed=2)
    made = [int(each) for each in re.findall(r"^made (\d+)$", result.stdout.str(), re.M)]
    # Hypothesis does not count those that it gives up, and has 100 without a profile.
    assert (made[0] in range(20, 40), made[1] in range(3, 10)) == (True, True), made


@needs_root
def test_an_error_in_a_log_fails_a_test(pytester: pytest.Pytester) -> None:
    """Of whatever its fixtures have made: a brick, clients, a mount, and what these print."""
    pytester.makepyfile(
        """
        import pytest

        def fail(log):
            assert log.exists()
            with log.open("a") as file:
                file.write("[2026-01-02 03:04:05.000006 +0000] E [a.c:1:f] 0-a: it failed\\n")

        @pytest.mark.parametrize("name", ["log", "output"])
        def test_brick(brick, name):
            fail(getattr(brick, name))

        def test_client(client, tmp_path):
            fail(tmp_path / "client-0.log")

        def test_in_process(in_process, tmp_path):
            fail(tmp_path / "in-process.log")

        @pytest.mark.parametrize("name", ["log", "output"])
        def test_mount(mount, name):
            fail(getattr(mount, name))

        def test_none(mount, client, in_process):
            client.creat("/file").close()
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=7, errors=6)
    assert str(result.stdout).count("0-a: it failed") >= 6


@needs_root
def test_a_test_that_fails_leaves_nothing(pytester: pytest.Pytester) -> None:
    """No mount, loop device or process of what its fixtures have made."""
    pytester.makepyfile(
        """
        def test_it(mount, client, in_process, make_brick, fuzz, logs, tmp_path):
            make_brick()
            (mount.mountpoint / "file").write_bytes(b"data")
            client.creat("/open")
            in_process.creat("/open, too")
            fuzz("pyposix", examples=1)
            raise ValueError("here")
        """
    )
    result = pytester.runpytest_subprocess("--basetemp=made", "-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ValueError: here"])
    made = str(pytester.path / "made")
    assert made not in Path("/proc/mounts").read_text()
    assert not [
        file
        for file in Path("/sys/block").glob("loop*/loop/backing_file")
        if made in file.read_text()
    ]
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert made not in command.read_text(errors="replace")
