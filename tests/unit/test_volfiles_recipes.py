"""The recipes: what is in the graphs, in which order, under which names."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volfiles import (
    ARBITER,
    Graph,
    VolfileError,
    brick,
    client,
    clients,
    disperse,
    distribute,
    leaf_graph,
    parse,
    parse_insert,
    replicate,
    shard,
)


def shape(graph: Graph) -> list[tuple[str, str]]:
    return [(node.name, node.type) for node in graph]


def test_a_brick_stacks_the_inserts_on_the_leaf_in_their_order(tmp_path: Path) -> None:
    graph = brick(
        tmp_path,
        options={"volume-id": "0e2c", "reserve": "5"},
        inserts=[("features/trash", {"trash-dir": "x"}), ("user/trash", {"k": "v"})],
        ctime=True,
        port=50001,
    )
    assert shape(graph) == [
        ("brick-pyposix", "storage/pyposix"),
        ("brick-trash", "features/trash"),
        ("brick-trash-2", "user/trash"),
        ("brick-utime", "features/utime"),
        ("brick-locks", "features/locks"),
        ("brick-io-threads", "performance/io-threads"),
        ("brick", "debug/io-stats"),
        ("brick-server", "protocol/server"),
    ]
    assert [node.subvolumes for node in graph] == [(), *((name,) for name, _ in shape(graph)[:-1])]
    assert graph["brick-pyposix"].options == {
        "directory": str(tmp_path),
        "ctime": "on",
        "volume-id": "0e2c",
        "reserve": "5",
    }
    assert graph["brick-trash"].options == {"trash-dir": "x"}
    assert graph["brick-trash-2"].options == {"k": "v"}
    server = graph.top.options
    assert server["transport.socket.bind-address"] == "127.0.0.1"
    assert server["transport.socket.listen-port"] == "50001"
    assert server["auth.addr.brick.allow"] == "127.0.0.1"
    assert parse(str(graph)) == graph


def test_without_ctime_there_is_no_utime_and_the_leaf_knows(tmp_path: Path) -> None:
    graph = leaf_graph(tmp_path, leaf="posix")
    assert shape(graph) == [("brick-posix", "storage/posix"), ("brick-locks", "features/locks")]
    assert graph["brick-posix"].options["ctime"] == "off"


@pytest.mark.parametrize("leaf", ["posix", "storage/posix"])
def test_storage_may_be_omitted(tmp_path: Path, leaf: str) -> None:
    assert next(iter(brick(tmp_path, leaf=leaf))).type == "storage/posix"


def test_a_leaf_that_locks_would_refuse_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VolfileError, match="'debug/sink' cannot be a leaf"):
        leaf_graph(tmp_path, leaf="debug/sink")


def test_paths_become_absolute_without_dots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    graph = brick("../b", leaf="posix", socket="s")
    assert graph["brick-posix"].options["directory"] == str(tmp_path / "b")
    assert graph.top.options["transport.socket.listen-path"] == str(tmp_path / "here/s")


def test_a_client_asks_for_the_brick_by_its_name(tmp_path: Path) -> None:
    served = brick(tmp_path, name="one", port=50002)
    graph = client(
        port=50002,
        brick="one",
        options={"ping-timeout": "3"},
        inserts=[("performance/write-behind", {})],
    )
    assert shape(graph) == [
        ("one-client", "protocol/client"),
        ("one-write-behind", "performance/write-behind"),
    ]
    options = graph["one-client"].options
    assert served[options["remote-subvolume"]].type == "debug/io-stats"
    assert options["remote-port"] == served.top.options["transport.socket.listen-port"]
    assert options["ping-timeout"] == "3"


def test_clients_are_numbered_whatever_their_bricks_are_called() -> None:
    graphs = clients(
        [("a", 50001), Path("/run/b"), "/run/c"], brick="/bricks/one", inserts=[("user/x", {})]
    )
    assert [shape(graph) for graph in graphs] == [
        [(f"brick-{n}-client", "protocol/client"), (f"brick-{n}-x", "user/x")] for n in range(3)
    ]
    options = [graph.xlators[0].options for graph in graphs]
    assert [o["remote-subvolume"] for o in options] == ["/bricks/one"] * 3
    assert (options[0]["remote-host"], options[0]["remote-port"]) == ("a", "50001")
    assert [o.get("transport.socket.connect-path") for o in options] == [None, "/run/b", "/run/c"]


def leaves(number: int, name: str = "brick") -> list[Graph]:
    return [leaf_graph(f"/bricks/{name}/{n}", name=f"{name}-{n}") for n in range(number)]


def test_a_volume_is_put_together_from_graphs() -> None:
    halves = [
        replicate(leaves(3, "a"), arbiter=True, name="a"),
        disperse(leaves(6, "b"), redundancy=2, options={"read-policy": "round-robin"}, name="b"),
    ]
    graph = shard(distribute(halves), block_size="4MB")
    assert shape(graph)[-1] == ("shard", "features/shard")
    assert dict(graph["shard"].options) == {"shard-block-size": "4MB"}
    assert graph["shard"].subvolumes == ("distribute",)
    assert graph["distribute"].subvolumes == ("a", "b")
    assert graph["a"].subvolumes == ("a-0-locks", "a-1-locks", "a-2-locks")
    assert dict(graph["a"].options) == {
        "afr-pending-xattr": "a-0-locks,a-1-locks,a-2-locks",
        "arbiter-count": "1",
    }
    assert dict(graph["b"].options) == {"redundancy": "2", "read-policy": "round-robin"}
    assert graph.check() == []
    assert parse(str(graph)) == graph


def test_what_a_brick_missed_is_noted_under_one_name_whatever_comes_above_it() -> None:
    graph = replicate(leaves(2))
    traced = graph.insert(("debug/trace", {}), above="brick-0-locks")
    assert traced.top.options == graph.top.options
    assert traced.top.subvolumes == ("brick-0-locks-trace", "brick-1-locks")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: replicate(leaves(1)), "volume 'replicate': replicate: 1 subvolumes, not two"),
        (lambda: replicate(leaves(2), arbiter=True), "replicate: 2 subvolumes, not three"),
        (lambda: replicate([*leaves(1), *leaves(1)]), "'brick-0-pyposix': a volume of this name"),
        (lambda: disperse(leaves(2), redundancy=1), "takes at least three"),
        (lambda: disperse(leaves(6), redundancy=3), "redundancy 3: 6 subvolumes take 1 to 2"),
        (lambda: distribute([]), "volume 'distribute': has no subvolumes"),
        (lambda: shard(leaf_graph("/b", name="x"), name="x-locks"), "'x-locks': a volume of this"),
    ],
)
def test_what_glusterfs_would_not_start_is_refused(make: Callable[[], Graph], reason: str) -> None:
    with pytest.raises(VolfileError, match=reason):
        make()


def test_an_arbiter_is_above_its_leaf() -> None:
    graph = brick("/b", inserts=[ARBITER])
    assert [x.type for x in graph][:3] == ["storage/pyposix", "features/arbiter", "features/locks"]


@pytest.mark.parametrize("port", [-1, 0, 65536])
def test_a_port_is_a_port(tmp_path: Path, port: int) -> None:
    with pytest.raises(VolfileError, match=f"{port} is not a port"):
        brick(tmp_path, port=port)
    with pytest.raises(VolfileError, match=f"{port} is not a port"):
        client(port=port)


@pytest.mark.parametrize(
    ("text", "type_", "options"),
    [
        ("features/trash", "features/trash", {}),
        ("user/a,k=v,long-key=v w=x", "user/a", {"k": "v", "long-key": "v w=x"}),
        (r"features/glupy,module=/a\,b\\c.py:D", "features/glupy", {"module": r"/a,b\c.py:D"}),
        ('features/x,k="v"', "features/x", {"k": '"v"'}),
    ],
)
def test_an_insert_is_a_type_and_options(text: str, type_: str, options: dict[str, str]) -> None:
    assert parse_insert(text) == (type_, options)


key = st.text(st.sampled_from("k-.2\\,é "), min_size=1)
value = st.text(st.sampled_from("v=\\,\"' #"), min_size=1)


@given(st.dictionaries(key, value))
def test_any_option_of_an_insert_can_be_written(options: dict[str, str]) -> None:
    def escape(text: str) -> str:
        return text.replace("\\", r"\\").replace(",", r"\,")

    pairs = [f"{escape(key)}={escape(value)}" for key, value in options.items()]
    assert parse_insert(",".join(["features/x", *pairs])) == ("features/x", options)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("trash", "'trash' is not a type, such as features/trash"),
        ("features/", "'features/' is not a type"),
        (",k=v", "'' is not a type"),
        ("features/x,", "'' is not option=value"),
        ("features/x,k", "'k' is not option=value"),
        ("features/x,k=", "'k=' is not option=value"),
        ("features/x,=v", "'=v' is not option=value"),
        ("features/x,k=v,k=w", "option 'k' is given twice"),
        ("features/x,k=v\\", "insert 'features/x,k=v"),
        ("features/x,k=v\nw", "has a line break"),
        ("features/x,k=v\rw", "insert 'features/x,k=v"),
    ],
)
def test_a_bad_insert_is_one_clear_line(text: str, reason: str) -> None:
    with pytest.raises(VolfileError) as caught:
        parse_insert(text)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
