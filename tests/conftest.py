"""What holds for all tests."""

import os
from collections.abc import Iterator

import pytest

from glupy.testing import stock


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """The next test has the umask that this one had: pyposix in a test's own process sets it to 0,
    as in a brick."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that is marked so compares with C posix as it is in GlusterFS 10."""
    if item.get_closest_marker("of_10_3") and stock.version() >= (11,):
        pytest.skip("docs/differences.md is about 10.3")
