"""The fuzzer on mapped files: contents, attributes and allocation are the model's, and the pool has
its space back."""

import random
from pathlib import Path

import pytest

from glupy.testing.fuzz import (
    GFAPI,
    RULES,
    Search,
    behind_rpc,
    giving_back,
    ground_of,
    mapped,
    of_posix,
)
from glupy.testing.gfapi import Client

from .mapped import held

# Stock brick processes log each fop that is refused.
pytestmark = pytest.mark.allow_log(
    r"error=", r"posix_f?handle_pair.*(No data available|File exists)"
)


@pytest.fixture
def bd_options() -> dict[str, str]:
    return {"map": "*=thin"}


@pytest.fixture
def search(client: Client, pool: Path, leaf: str) -> Search:
    promises = mapped(behind_rpc(of_posix(GFAPI) if leaf == "posix" else GFAPI))
    never = "protocol/server never closes their target: a removed file keeps its space"
    promises = promises.but(copies=(False, never))
    # What a device keeps is a block for its tag, and the one that its end is in.
    gives_back = giving_back(lambda: held(pool), 2 * promises.block_size)
    return Search(ground_of([client], promises), rules=[gives_back, *RULES])


@pytest.mark.parametrize("leaf", ["posix", "pyposix"])
@pytest.mark.parametrize("sector_size", [512, 4096])
def test_machine(search: Search) -> None:
    assert (finding := search.run(examples=30, seed=1)) is None, str(finding)


@pytest.mark.long
@pytest.mark.parametrize("leaf", ["posix", "pyposix"])
@pytest.mark.parametrize("sector_size", [512, 4096])
def test_machine_for_long(search: Search) -> None:
    seed = random.randrange(1 << 32)
    finding = search.run(examples=5_000, seed=seed)
    assert finding is None, f"seed {seed}: {finding}"
