"""The fuzzer on mapped files: contents, attributes and allocation are the model's."""

import random

import pytest

from glupy.testing.fuzz import GFAPI, Search, behind_rpc, ground_of, mapped, of_posix
from glupy.testing.gfapi import Client

SEED = random.randrange(1 << 32)
# Stock brick processes log each fop that is refused.
pytestmark = pytest.mark.allow_log(r"error=", r"posix_handle_pair.*(No data available|File exists)")


@pytest.fixture
def bd_options() -> dict[str, str]:
    return {"map": "*=thin"}


@pytest.fixture
def search(client: Client, leaf: str) -> Search:
    promises = behind_rpc(GFAPI)
    return Search(ground_of([client], mapped(of_posix(promises) if leaf == "posix" else promises)))


@pytest.mark.parametrize("leaf", ["posix", "pyposix"])
@pytest.mark.parametrize("sector_size", [512, 4096])
def test_machine(search: Search) -> None:
    assert (finding := search.run(examples=30, seed=SEED)) is None, str(finding)


@pytest.mark.long
@pytest.mark.parametrize("leaf", ["posix", "pyposix"])
@pytest.mark.parametrize("sector_size", [512, 4096])
def test_machine_for_long(search: Search) -> None:
    assert (finding := search.run(examples=5_000, seed=SEED)) is None, str(finding)
