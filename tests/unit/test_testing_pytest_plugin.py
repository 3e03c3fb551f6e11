"""Fixtures of glupy.testing that other tests have replaced, or told more than they need."""

import re
from pathlib import Path

import pytest

from glupy.testing.gfapi import Client

pytest_plugins = ["pytester"]


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
