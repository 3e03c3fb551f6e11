"""Everything that glusterd writes is parsed, printed back byte for byte, and without findings."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from glupy import stores
from glupy.testing.volumes import Glusterd
from glupy_tools.install import xlator_folder
from volfiles import check, diff, installed_types, parse, revise

PLAIN = "volfile-plain"
# Volumes that are only created: how many bricks, gluster's words, options.
CREATED: dict[str, tuple[int, list[str], dict[str, str]]] = {
    PLAIN: (
        1,
        [],
        {
            "user.xlator.glupy": "posix",
            "user.xlator.glupy.leaf": "pyposix",
            "user.xlator.glupy.note": '"with spaces, \\"quotes\\" and a # in it"',
            "auth.allow": "127.0.0.1,10.*",
        },
    ),
    "volfile-distributed": (3, [], {"cluster.nufa": "on"}),
    "volfile-arbiter": (3, ["replica", "3", "arbiter", "1"], {"debug.trace": "posix"}),
    "volfile-dispersed": (6, ["disperse", "6", "redundancy", "2"], {}),
    "volfile-distributed-dispersed": (6, ["disperse", "3", "redundancy", "1"], {}),
    "volfile-both": (
        6,
        ["replica", "3"],
        {"features.shard": "on", "performance.parallel-readdir": "on"},
    ),
    "volfile-thin": (3, ["replica", "2", "thin-arbiter", "1"], {}),
}
FULL = "volfile-full"
# What a started volume has besides: translators, and daemons with volfiles of their own.
FEATURES = [
    ["quota", FULL, "enable"],
    ["bitrot", FULL, "enable"],
    ["set", FULL, "features.uss", "enable"],
]


@pytest.fixture(scope="module")
def written(glusterd: Glusterd, store: stores.Store) -> Iterator[dict[str, str]]:
    """The volfiles of these volumes and of the daemons, by their paths in glusterd's folder."""
    bricks = store.folder / "volfile"
    work = glusterd.folder / "work"
    made: list[str] = []
    try:
        for name, (number, kind, options) in CREATED.items():
            paths = [bricks / name / str(n) for n in range(number)]
            for path in paths:
                path.mkdir(parents=True)
            words = [*kind, *map(glusterd.brick, paths), "force"]
            glusterd.gluster("volume", "create", name, *words)
            made.append(name)
            if options:
                pairs = [word for pair in options.items() for word in pair]
                glusterd.gluster("volume", "set", name, *pairs)
        paths = [bricks / FULL / str(n) for n in range(2)]
        made.append(FULL)
        glusterd.create(FULL, paths, "replica", "2")
        for words in FEATURES:
            glusterd.gluster("volume", *words)
        found = {str(path.relative_to(work)): path for path in work.rglob("*.vol")}
        yield {
            name: path.read_text()
            for name, path in found.items()
            if not name.startswith("vols/") or name.split("/")[1] in made
        }
    finally:
        with contextlib.suppress(stores.StoreError):
            glusterd.gluster("volume", "stop", FULL, "force")
        for name in made:
            glusterd.gluster("volume", "delete", name)
        shutil.rmtree(bricks)


def test_all_kinds_of_volfiles_are_there(written: dict[str, str]) -> None:
    types = {xlator.type for text in written.values() for xlator in parse(text)}
    assert types >= {
        *("cluster/distribute", "cluster/replicate", "cluster/disperse", "cluster/nufa"),
        *("features/arbiter", "features/quota", "features/quotad", "features/bit-rot"),
        *("features/snapview-client", "features/snapview-server", "features/shard"),
        *("features/bitrot-stub", "debug/trace", "user/glupy", "performance/readdir-ahead"),
    }
    names = " ".join(written)
    for part in ("-fuse.vol", "trusted-", "-shd.vol", "-rebalance.vol", "quotad.vol"):
        assert part in names
    for part in ("bitd-server.vol", "scrub-server.vol", "-snapd.vol", "gfproxy"):
        assert part in names


def test_it_is_printed_back_as_it_was(written: dict[str, str]) -> None:
    for path, text in written.items():
        graph = parse(text)
        assert str(graph) == text, path
        assert revise(text, graph) == text, path
        assert diff(parse(str(graph)), graph) == [], path


def test_nothing_in_it_is_found_fault_with(written: dict[str, str]) -> None:
    types = installed_types(xlator_folder())
    found = [f"{path}: {error}" for path, text in written.items() for error in check(text, types)]
    assert found == []


def test_quotes_in_a_setting_are_quotes_in_the_volfile(written: dict[str, str]) -> None:
    (text,) = (text for text in written.values() if "type user/glupy" in text)
    assert parse(text)[f"{PLAIN}-glupy"].options["note"] == 'with spaces, "quotes" and a # in it'


def test_any_translator_goes_above_or_below_any_of_it(written: dict[str, str]) -> None:
    """…but above the server, and below what has not one subvolume."""
    for text in written.values():
        graph = parse(text)
        for xlator in graph:
            above = graph.insert(("debug/trace", {}), above=xlator.name)
            assert above.remove(f"{xlator.name}-trace") == graph
            assert (above.check() == []) == (xlator.type != "protocol/server")
            if len(xlator.subvolumes) == 1:
                below = graph.insert(("debug/trace", {}), below=xlator.name)
                assert below.check() == []
                assert parse(revise(text, below)) == below


@pytest.mark.parametrize("name", ["glusterd.vol", "thin-arbiter.vol"])
def test_the_files_that_come_with_glusterfs_are_without_findings(name: str) -> None:
    text = Path("/etc/glusterfs", name).read_text()
    graph = parse(text)
    assert check(text, installed_types(xlator_folder())) == []
    assert revise(text, graph) == text
    assert parse(str(graph)) == graph
