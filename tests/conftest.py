"""What holds for all tests."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """The next test has the umask that this one had: pyposix in a test's own process sets it to 0,
    as in a brick."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)
