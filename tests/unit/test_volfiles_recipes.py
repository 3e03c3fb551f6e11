"""The recipes: what is in the graphs, in which order, under which names."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volfiles import Graph, VolfileError, brick, client, leaf_graph, parse, parse_insert


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
