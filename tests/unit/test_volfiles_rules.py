"""What `check` finds: each fault that is put into a good graph, with its node and its line.

That GlusterFS thinks so too is tested in tests/integration/test_volfile_libglusterfs.py.
"""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import volfiles
from volfiles import Graph, Xlator, check

EXAMPLES = settings(deadline=None)


def volume(name: str, type_: str, *subvolumes: str) -> str:
    """Four lines, or five with subvolumes."""
    below = f"subvolumes {' '.join(subvolumes)}\n" if subvolumes else ""
    return f"volume {name}\ntype {type_}\noption k v\n{below}end-volume\n"


LEAF = volume("leaf", "storage/posix")
LOCKS = volume("locks", "features/locks", "leaf")
TOP = volume("top", "debug/io-stats", "locks")


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        pytest.param(LEAF + LOCKS + TOP, [], id="good"),
        pytest.param(
            LEAF + LOCKS + volume("server", "protocol/server", "locks", "leaf"), [], id="exports"
        ),
        pytest.param("", ["no volume is defined"], id="empty"),
        pytest.param(
            LEAF + "volume a\nvolume b",
            ["line 6: volume 'a': its type is missing, or does not come first"],
            id="syntax",
        ),
        pytest.param(
            LEAF + LOCKS + LOCKS,
            ["line 10: volume 'locks': a volume of this name is defined already"],
            id="same name",
        ),
        pytest.param(
            LEAF + volume("locks", "features/locks", "life") + TOP,
            [
                "line 1: volume 'leaf': nobody asks it: the top is 'top'",
                "line 5: volume 'locks': subvolume 'life' is not defined",
            ],
            id="missing subvolume",
        ),
        pytest.param(
            LOCKS + LEAF + TOP,
            ["line 1: volume 'locks': subvolume 'leaf' is defined only after it"],
            id="late subvolume",
        ),
        pytest.param(
            volume("a", "x/y", "c") + volume("b", "x/y", "a") + volume("c", "x/y", "b"),
            ["line 1: volume 'a': is in a cycle: a -> c -> b -> a"],
            id="cycle",
        ),
        pytest.param(
            volume("locks", "features/locks", "locks"),
            ["line 1: volume 'locks': is in a cycle: locks -> locks"],
            id="itself",
        ),
        pytest.param(
            volume("sink", "debug/sink") + volume("locks", "features/locks", "sink"),
            [
                "line 5: volume 'locks': features/locks wants a leaf in storage/: 'sink' in line 1"
                " is debug/sink"
            ],
            id="leaf under locks",
        ),
        pytest.param(
            volume("posix", "storage/posix")
            + volume("client", "protocol/client")
            + volume("both", "x/mirror", "client", "posix")
            + volume("locks", "features/posix-locks", "both"),
            [
                "line 14: volume 'locks': features/posix-locks wants a leaf in storage/:"
                " 'client' in line 5 is protocol/client"
            ],
            id="first leaf under locks",
        ),
        pytest.param(
            volume("locks", "features/locks"),
            ["line 1: volume 'locks': has no subvolumes: features/locks takes one"],
            id="no subvolume",
        ),
        pytest.param(
            LEAF + volume("other", "storage/posix", "leaf"),
            ["line 5: volume 'other': has 1 subvolume: storage/posix takes none"],
            id="leaf that is none",
        ),
        pytest.param(
            LEAF
            + volume("a", "storage/posix")
            + volume("mdc", "performance/md-cache", "leaf", "a"),
            ["line 9: volume 'mdc': has 2 subvolumes: performance/md-cache takes one"],
            id="two subvolumes",
        ),
        pytest.param(
            LEAF + volume("dht", "cluster/distribute", "leaf", "leaf"),
            ["line 1: volume 'leaf': 'dht' has it as a subvolume 2 times"],
            id="same subvolume twice",
        ),
        pytest.param(
            LEAF
            + volume("a", "x/y", "leaf")
            + volume("b", "x/y", "leaf")
            + volume("dht", "cluster/distribute", "a", "b"),
            ["line 1: volume 'leaf': is a subvolume of 'a', 'b': one is meant"],
            id="two parents",
        ),
        pytest.param(
            LEAF + volume("server", "protocol/server", "leaf") + volume("top", "x/y", "server"),
            ["line 5: volume 'server': nothing may be above protocol/server: 'top' is"],
            id="above the server",
        ),
        pytest.param(
            LEAF + volume("a", "storage/posix") + volume("top", "x/y", "a"),
            ["line 1: volume 'leaf': nobody asks it: the top is 'top'"],
            id="unreachable",
        ),
        pytest.param(
            LEAF + volume("xl", "featrues/trash", "leaf"),
            ["line 5: volume 'xl': type 'featrues/trash' is not installed"],
            id="unknown type",
        ),
        pytest.param(
            LEAF + volume("ec", "cluster/disperse", "leaf"),
            ["line 5: volume 'ec': has 1 subvolume: cluster/disperse takes at least three"],
            id="too few fragments",
        ),
        pytest.param(
            "".join(volume(name, "storage/posix") for name in "abcd")
            + volume("ec", "cluster/disperse", *"abcd").replace("k v", "redundancy 2"),
            ["line 17: volume 'ec': redundancy 2: 4 subvolumes take 1 to 1"],
            id="redundancy",
        ),
        pytest.param(
            LEAF
            + volume("afr", "cluster/replicate", "leaf").replace("k v", "afr-pending-xattr a,b"),
            ["line 5: volume 'afr': afr-pending-xattr has 2 names for 1 subvolumes"],
            id="pending xattrs",
        ),
    ],
)
def test_each_finding_names_the_node_and_the_line(text: str, findings: list[str]) -> None:
    types = {"x/y", "x/mirror", "storage/posix", "features/locks", "features/posix-locks"}
    types |= {"debug/io-stats", "debug/sink", "performance/md-cache", "protocol/server"}
    types |= {"protocol/client", "cluster/distribute", "cluster/disperse", "cluster/replicate"}
    assert [str(finding) for finding in check(text, types)] == findings


def test_all_findings_are_there_and_without_types_no_type_is_asked_for() -> None:
    text = volume("a", "x/none", "b") + volume("a", "features/trash") + LEAF
    assert [finding.line for finding in check(text)] == [1, 6, 6, 6]
    assert [finding.line for finding in check(text, set())] == [1, 6, 6, 6, 6, 10]


def test_types_are_the_files_that_glusterfs_would_load(tmp_path: Path) -> None:
    for name in "features/trash.so", "meta.so", "features/readme.txt":
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "features" / "bin.so").symlink_to("trash.so")
    (tmp_path / "features" / "gone.so").symlink_to("nowhere.so")
    assert volfiles.installed_types(tmp_path) == {"features/trash", "features/bin", "meta"}


# ---- every fault in any good graph ----


@st.composite
def good(draw: st.DrawFn) -> Graph:
    """A volume of leaves or of bricks, distributed over up to two sets of them."""
    one = st.sampled_from([1, 2, 3, 4, 6])

    def below(name: str) -> Graph:
        number = draw(one)
        if draw(st.booleans()):
            addresses = [("127.0.0.1", 50000 + n) for n in range(number)]
            graphs = volfiles.clients(addresses, name=name)
        else:
            graphs = [volfiles.leaf_graph("/b", name=f"{name}-{n}") for n in range(number)]
        if number == 1:
            return graphs[0]
        if number >= 3 and draw(st.booleans()):
            redundancy = draw(st.integers(1, (number - 1) // 2))
            return volfiles.disperse(graphs, redundancy=redundancy, name=name)
        arbiter = number == 3 and draw(st.booleans())
        return volfiles.replicate(graphs, arbiter=arbiter, name=name)

    volume = volfiles.distribute([below(f"set-{n}") for n in range(draw(st.integers(1, 2)))])
    return volfiles.shard(volume) if draw(st.booleans()) else volume


@EXAMPLES
@given(good())
def test_what_the_recipes_make_is_without_findings(graph: Graph) -> None:
    assert graph.check() == []
    assert check(str(graph)) == []


def changed(graph: Graph, new: Xlator) -> str:
    return "\n".join(str(new if xlator.name == new.name else xlator) for xlator in graph)


@EXAMPLES
@given(good(), st.data())
def test_each_seeded_fault_is_found(graph: Graph, data: st.DataObject) -> None:
    node = data.draw(st.sampled_from(graph.xlators))
    parent = data.draw(st.sampled_from([x for x in graph if x.subvolumes]))
    first, *others = parent.subvolumes
    top = graph.top.name
    text, name, reason = data.draw(
        st.sampled_from(
            [
                (f"{graph}\n{node}", node.name, "defined already"),
                (
                    changed(graph, replace(parent, subvolumes=["none", *others])),
                    parent.name,
                    "subvolume 'none' is not defined",
                ),
                (
                    changed(graph, replace(parent, subvolumes=[parent.name, *others])),
                    parent.name,
                    f"is in a cycle: {parent.name} -> {parent.name}",
                ),
                (
                    changed(graph, replace(parent, subvolumes=[first, first, *others])),
                    first,
                    f"{parent.name!r} has it as a subvolume 2 times",
                ),
                (f"{Xlator('lone', 'x/y', {'k': 'v'})}\n{graph}", "lone", "nobody asks it"),
                (
                    changed(graph, replace(graph.xlators[0], type="protocol/none")),
                    graph.xlators[0].name,
                    "type 'protocol/none' is not installed",
                ),
                (
                    f"{graph}\n{Xlator('again', 'x/y', {}, [parent.name])}"
                    f"\n{Xlator('more', 'x/y', {}, [top, 'again'])}",
                    parent.name,
                    "'again'",
                ),
            ]
        )
    )
    types = {xlator.type for xlator in graph} | {"x/y"}
    (finding,) = [
        finding
        for finding in check(text, types)
        if finding.volume == name and reason in finding.reason
    ]
    lines = text.splitlines()
    assert finding.line is not None
    assert lines[finding.line - 1] == f"volume {name}"
