"""What is not asserted of a target is said, and why; what its graph tells is known."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path

import pytest

import volfiles
from glupy.testing import stock
from glupy.testing.fuzz import Promises, Search, open_target
from glupy.testing.fuzz.graphs import boundaries, why_alone
from glupy.testing.fuzz.targets import UNKNOWN, Recipe
from glupy.testing.processes import free_port
from glupy.testing.pytest_plugin import MakeBrick

MIB = 1 << 20
BRICKS = "pyposix", "posix", "ctime:posix", "pybd:loop", "pybd:loop:posix"
OVER = "{}", "replicate:3:{}", "replicate:2+1:{}", "distribute:2:{}", "disperse:2+1:{}"
VOLUMES = [over.format(brick) for over in OVER for brick in BRICKS]
RECIPES = [*VOLUMES, *(f"shard:{volume}" for volume in VOLUMES)]
FAULTS: tuple[list[str], ...] = [], ["full"], ["io"], ["kill"], ["readonly"]
BESIDE = {"bricks", "arbiter", "first_brick", "clients"}
"""What is said, and is no promise."""


def unlike(promises: Promises) -> set[str]:
    """The names of those that are not kept."""
    wanted = {field.name: field.default for field in fields(promises) if field.name != "why"}
    return {name for name, default in wanted.items() if getattr(promises, name) != default}


def built(recipe: str, folder: Path) -> Iterator[tuple[Recipe, Promises]]:
    """A recipe, in all the ways there are; nothing is started."""
    for number, (faults, over_rpc) in enumerate(itertools.product(FAULTS, (False, True))):
        store = folder / str(number)
        store.mkdir()
        with ExitStack() as stack:
            made = Recipe(recipe, stack, store, store, [], frozenset(faults), over_rpc)
            yield made, made.build()[1]


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_has_a_reason(recipe: str, tmp_path: Path) -> None:
    for made, promises in built(recipe, tmp_path):
        assert set(promises.why) - BESIDE == unlike(promises)
        assert all(promises.why.values())
        bricks = [each for each in made.folders if each.name.startswith("brick-")]
        if len(made.backends) < len(bricks):
            assert promises.why.keys() & {"bricks", "arbiter"}


def test_what_an_unknown_volume_does_not_promise_has_a_reason() -> None:
    assert set(UNKNOWN.why) == unlike(UNKNOWN)


def test_what_a_folder_does_not_promise_has_a_reason(tmp_path: Path) -> None:
    with open_target(f"dir:{tmp_path}") as ground:
        assert set(ground.promises.why) - BESIDE == unlike(ground.promises)
        assert ground.promises.why.keys() >= {"bricks", "clients"}


def test_posix_of_another_version_has_one_more_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for fops in frozenset({"discard"}), frozenset[str]():
        monkeypatch.setattr(stock, "without_pre", lambda fops=fops: fops)
        (tmp_path / str(len(fops))).mkdir()
        for _, promises in built("posix", tmp_path / str(len(fops))):
            assert ("without_pre" in promises.why) == bool(fops)
            assert set(promises.why) == unlike(promises)


def test_what_is_not_looked_at_is_said() -> None:
    """The first replica, after what it alone has had; the other client, where there is none."""
    with open_target("replicate:3:pyposix", faults=["io"]) as ground:
        assert ground.promises.why.keys() >= {"first_brick"}
        assert "clients" not in ground.promises.why
    with open_target("pyposix") as ground:
        assert "storage/pyposix is in its own process" in ground.promises.why["clients"]


# ---- graphs ----


def address(count: int) -> list[volfiles.Graph]:
    return volfiles.clients([Path(f"/{number}") for number in range(count)])


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (address(1)[0], ()),
        (volfiles.shard(address(1)[0]), (64 * MIB, 128 * MIB)),
        (volfiles.shard(address(1)[0], block_size="4MB"), (4 * MIB, 8 * MIB)),
        (volfiles.disperse(address(6), redundancy=2), (4 * 512,)),
        (
            volfiles.shard(volfiles.disperse(address(3), redundancy=1), block_size="16777216"),
            (2 * 512, 16 * MIB, 32 * MIB),
        ),
    ],
)
def test_where_stripes_and_shards_end(graph: volfiles.Graph, expected: tuple[int, ...]) -> None:
    assert boundaries(graph) == expected


def test_a_graph_says_whether_two_clients_agree(tmp_path: Path) -> None:
    assert why_alone(volfiles.replicate(address(3))) is None
    for graph, reason in (
        (volfiles.leaf_graph(tmp_path), "storage/pyposix"),
        (volfiles.shard(address(1)[0]), "shard keeps"),
        (volfiles.client(inserts=[("performance/write-behind", {})]), "performance/write-behind"),
    ):
        assert reason in str(why_alone(graph))
    assert why_alone(volfiles.client(inserts=[("performance/io-threads", {})])) is None


@pytest.mark.allow_log(r"error=")
def test_a_volfile_has_two_clients_and_boundaries(make_brick: MakeBrick, tmp_path: Path) -> None:
    """Nothing is found: they see the same."""
    ports = [free_port() for _ in range(3)]
    for port in ports:
        make_brick(port=port)
    graphs = volfiles.clients([("127.0.0.1", port) for port in ports])
    volfile = tmp_path / "client.vol"
    volfiles.replicate(graphs).write(volfile)
    with open_target(str(volfile)) as ground:
        assert len(ground.clients) == 2
        assert Search(ground).run(examples=5, seed=1) is None
    volfiles.disperse(graphs, redundancy=1).write(volfile)
    with open_target(str(volfile)) as ground:
        assert len(ground.clients) == 2
        assert ground.boundaries == (1024,)
