"""What `gluster volume …` says of a volume whose bricks are in Python, beside one in C.

Both volumes are alike and under the same load, and all commands run meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

from glupy import stores
from glupy.testing.gfapi import Client
from glupy.testing.logs import LogChecker
from glupy.testing.volumes import Glusterd, Volume
from glupy.testing.waiting import wait_until

from .leaves import PARTING, client_of, dumped, volume_on
from .load import FileLoad

LEAVES = "posix", "pyposix"
REPLICAS = 3
DISCARDS = 37


class Loaded(NamedTuple):
    """A volume under load."""

    volume: Volume
    load: FileLoad
    dumps: Path


@pytest.fixture(scope="module")
def loaded(
    glusterd: Glusterd, store: stores.Store, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Loaded]]:
    """The two volumes, by their leaf. The load has met no error when they go."""
    logs, found = LogChecker(), {}
    logs.allow(*PARTING)
    with ExitStack() as undo:
        for leaf in LEAVES:
            folder = tmp_path_factory.mktemp(leaf)
            options = {"server.statedump-path": str(folder)}
            words = "replica", str(REPLICAS)
            making = volume_on(leaf, glusterd, store, logs, REPLICAS, *words, options=options)
            volume = undo.enter_context(making)
            client = undo.enter_context(client_of(volume, glusterd, folder / "client.log"))
            load = undo.enter_context(FileLoad(client, "load"))
            found[leaf] = Loaded(volume, load, folder)
        for _, load, _ in found.values():
            load.go_on()
        yield found
        for _, load, _ in found.values():
            load.go_on()
            with load.paused():
                load.check(load.client)
    logs.check()


def shape(node: ElementTree.Element, above: str = "") -> set[str]:
    """The tags of a tree, each as a path from the top."""
    path = f"{above}/{node.tag}"
    return {path}.union(*(shape(child, path) for child in node))


def labels(text: str, volume: Volume) -> set[str]:
    """The lines of a text without what is a volume's own, and changes: names, paths, numbers."""
    text = re.sub(r"/\S+", "PATH", text.replace(volume.name, "VOLUME"))
    text = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "GFID", text)
    text = re.sub(r"\d+(\.\d+)?([KMGT]i?B)?", "0", text)
    return {" ".join(line.split()) for line in text.splitlines()}


COMMANDS = [
    "info",
    "status",
    "status detail",
    "status clients",
    "heal info",
    "heal info summary",
    "heal info split-brain",
    "top open",
    "top read",
    "top write",
    "top opendir",
    "top readdir",
]
# Of these GlusterFS 10.3 prints XML of the first brick only, or none.
AS_TEXT = ["status mem", "status callpool", "status inode", "status fd", "heal statistics"]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_shows_both_alike(
    words: str, glusterd: Glusterd, loaded: dict[str, Loaded]
) -> None:
    verb, *rest = words.split()
    shapes, bricks = {}, {}
    for leaf, (volume, load, _) in loaded.items():
        tree = glusterd.xml("volume", verb, volume.name, *rest)
        load.go_on(5)
        assert tree.findtext("opRet") == "0"
        shapes[leaf] = shape(tree)
        shown = ElementTree.tostring(tree, encoding="unicode")
        bricks[leaf] = [shown.count(f"{brick}<") for brick in volume.bricks]
    assert shapes["posix"] == shapes["pyposix"]
    assert bricks["posix"] == bricks["pyposix"]
    assert min(bricks["pyposix"]) > 0


@pytest.mark.parametrize("words", AS_TEXT)
def test_a_text_says_the_same_of_both(
    words: str, glusterd: Glusterd, loaded: dict[str, Loaded]
) -> None:
    verb, *rest = words.split()
    said = {}
    for leaf, (volume, load, _) in loaded.items():
        text = glusterd.gluster("volume", verb, volume.name, *rest)
        load.go_on(5)
        said[leaf] = labels(text, volume)
        for number, brick in enumerate(volume.bricks):
            assert f":{brick}\n" in text or f"brick no {number}\n" in text
    assert said["posix"] == said["pyposix"]


def test_status_tells_of_the_store_under_the_bricks(
    glusterd: Glusterd, loaded: dict[str, Loaded]
) -> None:
    tags = "status", "sizeTotal", "device", "blockSize", "mntOptions", "fsName", "inodesTotal"
    told = {}
    for leaf, (volume, _, _) in loaded.items():
        tree = glusterd.xml("volume", "status", volume.name, "detail")
        told[leaf] = [[node.findtext(tag) for tag in tags] for node in tree.iter("node")]
    assert told["pyposix"] == told["posix"]
    assert [found[0] for found in told["pyposix"]] == ["1"] * REPLICAS


def calls(tree: ElementTree.Element) -> list[dict[str, int]]:
    """How often each fop was called since the start of profiling, brick by brick."""
    return [
        {
            fop.findtext("name", ""): int(fop.findtext("hits", ""))
            for fop in brick.iterfind("cumulativeStats/fopStats/fop")
        }
        for brick in tree.iter("brick")
    ]


def counts(glusterd: Glusterd, volume: Volume, client: Client) -> bool:
    """All bricks count: they hear of it some time after the command."""
    client.creat("/probe").close()
    client.unlink("/probe")
    tree = glusterd.xml("volume", "profile", volume.name, "info")
    return all(each.get("UNLINK") for each in calls(tree))


def test_profile_counts_the_discards(glusterd: Glusterd, loaded: dict[str, Loaded]) -> None:
    shapes, kinds = {}, {}
    for leaf, (volume, load, _) in loaded.items():
        with load.paused():
            glusterd.gluster("volume", "profile", volume.name, "start")
            wait_until(partial(counts, glusterd, volume, load.client), "bricks that count")
            before = load.discards
        load.go_on(100)
        glusterd.xml("volume", "profile", volume.name, "info")  # the load goes on meanwhile
        with load.paused():
            with load.client.creat("/discarded") as file:
                file.pwrite(b"x" * 100_000, 0)
                for number in range(DISCARDS):
                    file.discard(number * 1000 + 1, 999)
            load.client.unlink("/discarded")
            tree = glusterd.xml("volume", "profile", volume.name, "info")
            discards = load.discards - before + DISCARDS
        glusterd.gluster("volume", "profile", volume.name, "stop")
        shapes[leaf] = shape(tree)
        counted = calls(tree)
        assert [each["DISCARD"] for each in counted] == [discards] * REPLICAS
        assert discards > DISCARDS
        kinds[leaf] = set(counted[0])
    assert shapes["posix"] == shapes["pyposix"]
    made = {"CREATE", "DISCARD", "LOOKUP", "OPEN", "OPENDIR", "RENAME", "UNLINK", "WRITE"}
    assert made <= kinds["posix"] & kinds["pyposix"]


def test_statedump_has_a_section_of_each_leaf(
    glusterd: Glusterd, loaded: dict[str, Loaded]
) -> None:
    kinds: dict[str, list[set[str]]] = {}
    told: dict[str, set[str]] = {}
    for leaf, (volume, load, folder) in loaded.items():
        glusterd.gluster("volume", "statedump", volume.name)
        load.go_on(5)
        kinds[leaf] = []
        for brick in volume.bricks:
            dump = dumped(folder, volume.pid(brick))
            section = dump[f"storage/{leaf}.{volume.name}-posix"]
            assert section["base_path"] == str(brick)
            assert int(section["max_write"]) >= load.SIZE // 2, "bytes since the start"
            told[leaf] = set(section)
            names = re.findall(
                rf"^(\w+/\w+)\.{volume.name}-[\w-]+$",
                "\n".join(section.name for section in dump.sections),
                re.MULTILINE,
            )
            kinds[leaf].append(set(names) - {f"storage/{leaf}"})
    assert kinds["posix"] == kinds["pyposix"]
    assert told["posix"] <= told["pyposix"]


def test_heal_tells_what_a_brick_missed(glusterd: Glusterd, loaded: dict[str, Loaded]) -> None:
    shapes = {}
    for leaf, (volume, load, _) in loaded.items():
        volume.kill(volume.bricks[0])
        load.go_on()
        tree = glusterd.xml("volume", "heal", volume.name, "info")
        shapes[leaf] = shape(tree)
        names = {file.text for file in tree.iter("file")}
        assert "/load" in names
        with load.paused():
            volume.start_bricks()
            volume.heal()
        load.go_on()
    assert shapes["posix"] == shapes["pyposix"]
