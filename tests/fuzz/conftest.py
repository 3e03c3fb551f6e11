"""What searches by the command need."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for stores; nothing is in it afterwards. The path of a brick's socket is short."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)
        assert list(Path(folder).iterdir()) == []
