"""The fop machine on mapped files: contents, attributes and allocation are the model's."""

from collections.abc import Callable
from pathlib import Path

import pytest

from glupy.testing.gfapi import Client
from glupy.testing.machine import FopMachine, run

from .conftest import KEY

# stock brick processes log each fop that is refused with EINVAL as an error
pytestmark = pytest.mark.allow_log(r"error=Invalid argument")


def mapped(client: Client, path: str) -> None:
    client.setxattr(path, KEY, b"thin")


@pytest.fixture
def machine(client: Client) -> Callable[[], FopMachine]:
    return lambda: FopMachine(client, "/file", prepare=mapped, block_size=4096, delayed=True)


@pytest.mark.parametrize("leaf", ["posix", "pyposix"])
@pytest.mark.parametrize("sector_size", [512, 4096])
def test_machine(machine: Callable[[], FopMachine], pool: Path) -> None:
    run(machine, examples=30)


@pytest.mark.long
@pytest.mark.parametrize("leaf", ["posix", "pyposix"])
@pytest.mark.parametrize("sector_size", [512, 4096])
def test_machine_for_long(machine: Callable[[], FopMachine]) -> None:
    run(machine, examples=5_000, steps=50)
