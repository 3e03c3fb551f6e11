"""The graph model, its text, and what it refuses; nothing of GlusterFS is needed."""

from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volfiles import Graph, VolfileError, Xlator, parse, read

LEAF = Xlator("leaf", "storage/posix", {"directory": "/bricks/one"})
LOCKS = Xlator("locks", "features/locks")

# Whatever GlusterFS can read back, and often what needs quotes or only looks as if it did.
words = st.one_of(
    st.text(st.sampled_from("ab#\"'\\`$ \t\r\f\x0b=é"), min_size=1, max_size=8),
    st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), min_size=1),
    st.sampled_from(["volume", "type", "option", "subvolumes", "subvolumeS", "end-volume", "sub"]),
)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    xlators = []
    names = draw(st.lists(words, min_size=1, max_size=5, unique=True))
    for position, name in enumerate(names):
        below = names[:position]
        subvolumes = draw(st.lists(st.sampled_from(below), max_size=3)) if below else []
        options = draw(st.dictionaries(words, words, min_size=0 if subvolumes else 1, max_size=4))
        xlators.append(Xlator(name, draw(words), options, subvolumes))
    return Graph(xlators)


@given(graphs())
def test_a_printed_graph_parses_back_equal_and_in_order(graph: Graph) -> None:
    again = parse(str(graph))
    assert again == graph
    assert [list(node.options) for node in again] == [list(node.options) for node in graph]
    assert str(again) == str(graph)


@given(graphs())
def test_backslashes_keep_every_backtick_from_being_a_command(graph: Graph) -> None:
    """GlusterFS runs what stands between backticks, wherever: count them as its reader does."""
    escaped = False
    for character in str(graph):
        assert character != "`" or escaped
        escaped = character == "\\" and not escaped


def test_a_graph_is_printed_as_glusterd_writes_one() -> None:
    graph = Graph.stack(LEAF, LOCKS)
    assert str(graph) == dedent(
        """\
        volume leaf
            type storage/posix
            option directory /bricks/one
        end-volume

        volume locks
            type features/locks
            subvolumes leaf
        end-volume
        """
    )


def test_parse_takes_comments_quotes_and_options_on_both_sides_of_the_subvolumes() -> None:
    text = r"""
        # a comment with a \` and a "quote
        volume leaf type storage/posix
            option directory "/a b/\"c\"\\d\e"# a comment
            option a#b #comment
                "#c"
        end-volume
        volume "top"
            type x/y
            option volume "end-volume"  # no
        """.replace("option volume", 'option "volume"')
    text += "\tsubvolumeS leaf leaf\r\n option k\x0cv last\n option k\x0cv really\nend-volume"
    assert parse(text) == Graph(
        [
            Xlator("leaf", "storage/posix", {"directory": '/a b/"c"\\de', "a#b": "#c"}),
            Xlator("top", "x/y", {"volume": "end-volume", "k\x0cv": "really"}, ["leaf", "leaf"]),
        ]
    )


def volume(name: str, *lines: str) -> str:
    return "\n".join([f"volume {name}", *lines, "end-volume\n"])


GOOD = volume("a", "type x/y", "option k v")


@pytest.mark.parametrize(
    ("text", "name", "line", "reason"),
    [
        pytest.param("# nothing\n", None, None, "no volume is defined", id="empty"),
        pytest.param("\nvolumes a", None, 2, "'volumes' where 'volume' is expected", id="word"),
        pytest.param("volume type", None, 1, "a word is missing after 'volume'", id="name"),
        pytest.param(volume("a", "option k v"), "a", 2, "its type is missing", id="no type"),
        pytest.param(volume("a"), "a", 2, "its type is missing", id="nothing"),
        pytest.param(volume("a", "type"), "a", 2, "missing after 'type'", id="type of nothing"),
        pytest.param(volume("a", "type x", "type y"), "a", 3, "a second type", id="two types"),
        pytest.param(volume("a", "type x/y"), "a", 1, "neither an option nor", id="bare"),
        pytest.param(
            volume("a", "type x", "option k"), "a", 3, "missing after 'option'", id="option"
        ),
        pytest.param(
            volume("a", "type x", 'option k ""'), "a", 1, "option 'k': it is empty", id="no value"
        ),
        pytest.param(
            volume("a", "type x", "option k v w"), "a", 3, "'w' where a keyword", id="two values"
        ),
        pytest.param(
            volume("a", "type x", "subvolumes"), "a", 3, "missing after 'subvol", id="no subvolume"
        ),
        pytest.param(
            GOOD + volume("b", "type x", "subvolumes a", "subvolumes a"),
            "b",
            8,
            "a second line of subvolumes",
            id="two lines of subvolumes",
        ),
        pytest.param(
            volume("a", "type x", "subvolumes b") + GOOD.replace("a", "c"),
            "a",
            1,
            "subvolume 'b' is not defined",
            id="unknown subvolume",
        ),
        pytest.param(
            volume("b", "type x", "subvolumes a") + GOOD,
            "b",
            1,
            "subvolume 'a' is defined only after it",
            id="late subvolume",
        ),
        pytest.param(
            volume("a", "type x", "subvolumes a"), "a", 1, "is in a cycle: a -> a", id="itself"
        ),
        pytest.param(GOOD + GOOD, "a", 5, "of this name is defined already", id="same name"),
        pytest.param(GOOD + "volume b\ntype x", "b", 6, "end-volume is missing", id="end of file"),
        pytest.param(
            "volume b\ntype x\n" + GOOD, "b", 3, "end-volume is missing", id="unterminated"
        ),
        pytest.param(volume('"a', "type x"), None, 1, "a quote is not closed", id="quote"),
        pytest.param(volume("\na\\b"), None, 2, "a backslash outside", id="backslash"),
        pytest.param(GOOD + "# `id`", None, 5, "a command in backticks", id="command in a comment"),
        pytest.param(
            volume("a", "type x", r'option k "\\`id`"'), None, 3, "in backticks", id="command"
        ),
    ],
)
def test_a_bad_volfile_is_one_line_that_names_the_node_and_the_line(
    text: str, name: str | None, line: int | None, reason: str
) -> None:
    with pytest.raises(VolfileError) as caught:
        parse(text)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.line == line
    assert caught.value.volume == name


def test_a_cycle_is_named_whole() -> None:
    with pytest.raises(VolfileError, match=r"volume '[abc]': is in a cycle: ") as caught:
        Graph(
            [
                Xlator("a", "x/y", subvolumes=["b"]),
                Xlator("b", "x/y", subvolumes=["c"]),
                Xlator("c", "x/y", subvolumes=["a"]),
            ]
        )
    cycle = str(caught.value).rpartition(": ")[2].split(" -> ")
    assert "".join(cycle) in {"abca", "bcab", "cabc"}


@pytest.mark.parametrize(
    ("name", "type_", "options", "reason"),
    [
        ("", "x/y", {}, "its name: it is empty"),
        ("a", "", {}, "volume 'a': its type: it is empty"),
        ("a", "x/y", {"": "v"}, "volume 'a': an option's name: it is empty"),
        ("a", "x/y", {"k": "1\n2"}, r"volume 'a': option 'k': '1\n2' has a line break or a NUL"),
        ("a\0", "x/y", {}, r"its name: 'a\x00' has a line break or a NUL"),
        ("a", "x/y", {"k": 1}, "volume 'a': option 'k': 1 is not a string"),
    ],
)
def test_what_a_volfile_cannot_say_is_refused(
    name: str, type_: str, options: dict[str, str], reason: str
) -> None:
    with pytest.raises(VolfileError) as caught:
        Xlator(name, type_, options)
    assert str(caught.value).endswith(reason)


def test_an_xlator_keeps_its_own_copy_of_what_it_was_given() -> None:
    options, subvolumes = {"k": "v"}, ["leaf"]
    xlator = Xlator("a", "x/y", options, subvolumes)
    options["k"] = "w"
    subvolumes.clear()
    assert xlator == Xlator("a", "x/y", {"k": "v"}, ["leaf"])


def test_nodes_are_found_by_name_and_the_top_is_the_last() -> None:
    graph = Graph.stack(LEAF, LOCKS)
    assert graph["leaf"] == LEAF
    assert graph.top == graph["locks"] == Xlator("locks", "features/locks", {}, ["leaf"])
    with pytest.raises(KeyError):
        graph["nobody"]


def test_files_keep_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.vol"
    raw = b'volume a\n    type x/y\n    option directory "/\xff \xc3\r\xa9"\nend-volume\n'
    path.write_bytes(raw)
    read(path).write(path)
    assert path.read_bytes() == raw


def test_an_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.vol"
    path.write_text(GOOD + GOOD)
    with pytest.raises(VolfileError) as caught:
        read(path)
    assert str(caught.value) == f"{path}: line 5: volume 'a': {caught.value.reason}"
