"""The graph model, its text, and what it refuses; nothing of GlusterFS is needed."""

import errno
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volfiles import Graph, VolfileError, Xlator, diff, parse, read, replace_file, revise

LEAF = Xlator("leaf", "storage/posix", {"directory": "/bricks/one"})
LOCKS = Xlator("locks", "features/locks")

# Machines that are busy are slow at times.
EXAMPLES = settings(deadline=None)
FEWER = settings(deadline=None, max_examples=40)

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


MARK = "#☃☃☃"  # what no name has in it, so that comments can be told from names


@st.composite
def spelled(draw: st.DrawFn, graph: Graph) -> str:
    """A volfile of a graph, as people write one: laid out anyhow, with comments anywhere."""
    comment = st.text(st.sampled_from("a #\"'é"), max_size=5).map(lambda text: f" {MARK}{text}\n")
    space = st.one_of(st.sampled_from([" ", "  ", "\n", "\t", "\r\n\n"]), comment)
    text = draw(st.sampled_from(["", "\n", "# licence\n\n"]))
    for xlator in graph:
        for word in spellings(xlator):
            text += word + draw(space)
        text = text.rstrip(" \t") + draw(st.sampled_from(["\n", "\n\n", " # end\n", " "]))
    return text + draw(st.sampled_from(["", "# end"]))


def spellings(xlator: Xlator) -> list[str]:
    """The words of a volume as a volfile has them, everything quoted that may be."""

    def quoted(word: str) -> str:
        return '"' + "".join(f"\\{c}" if c in '"\\`' else c for c in word) + '"'

    words = ["volume", quoted(xlator.name), "type", quoted(xlator.type)]
    for key, value in xlator.options.items():
        words += ["option", quoted(key), quoted(value)]
    if xlator.subvolumes:
        words += ["subvolumes", *map(quoted, xlator.subvolumes)]
    return [*words, "end-volume"]


def comments(text: str) -> list[str]:
    return re.findall(f"{MARK}[^\n]*", text)


@EXAMPLES
@given(graphs())
def test_a_printed_graph_parses_back_equal_and_in_order(graph: Graph) -> None:
    again = parse(str(graph))
    assert again == graph
    assert [list(node.options) for node in again] == [list(node.options) for node in graph]
    assert str(again) == str(graph)


@EXAMPLES
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


# ---- change ----


@FEWER
@given(graphs(), words, st.data())
def test_what_is_inserted_and_removed_again_leaves_no_trace(
    graph: Graph, type_: str, data: st.DataObject
) -> None:
    near = data.draw(st.sampled_from(graph.xlators))
    above = len(near.subvolumes) != 1 or data.draw(st.booleans())
    insert = type_, data.draw(st.dictionaries(words, words, max_size=2))
    changed = graph.insert(insert, **{"above" if above else "below": near.name})
    (new,) = {x.name for x in changed} - {x.name for x in graph}
    assert (changed[new].type, changed[new].options) == insert
    assert changed.remove(new) == graph
    assert [x.name for x in changed if x.name != new] == [x.name for x in graph]
    if above:
        assert changed[new].subvolumes == (near.name,)
        assert not [x for x in changed if near.name in x.subvolumes and x.name != new]
    else:
        assert changed[near.name].subvolumes == (new,)
        assert changed[new].subvolumes == near.subvolumes


SHARED = Graph(
    [
        LEAF,
        Xlator("one", "x/y", {}, ["leaf"]),
        Xlator("two", "x/y", {}, ["leaf"]),
        Xlator("top", "x/y", {}, ["one", "two", "one"]),
    ]
)


def links(graph: Graph) -> dict[str, str]:
    return {xlator.name: " ".join(xlator.subvolumes) for xlator in graph}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (
            {"above": "leaf"},
            {"leaf": "", "leaf-new": "leaf", "one": "leaf-new", "two": "leaf-new"}
            | {"top": "one two one"},
        ),
        (
            {"below": "two"},
            {"leaf": "", "one": "leaf", "two-new": "leaf", "two": "two-new", "top": "one two one"},
        ),
        (
            {"above": "one", "name": "it"},
            {"leaf": "", "one": "leaf", "it": "one", "two": "leaf", "top": "it two it"},
        ),
        (
            {"above": "top"},
            {"leaf": "", "one": "leaf", "two": "leaf", "top": "one two one", "top-new": "top"},
        ),
    ],
)
def test_an_insert_takes_the_place_above_all_parents_or_below_one(
    where: dict[str, str], expected: dict[str, str]
) -> None:
    graph = SHARED.insert(("x/new", {}), **where)
    assert links(graph) == expected
    assert [x.name for x in graph] == list(expected)


def test_a_second_insert_gets_a_name_of_its_own() -> None:
    graph = Graph.stack(LEAF, LOCKS)
    for name in "leaf-new", "leaf-new-2", "leaf-new-3":
        graph = graph.insert(("x/new", {}), above="leaf")
        assert name in links(graph)


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ({"above": "nobody"}, "no volume is called 'nobody'"),
        ({"below": "leaf"}, "volume 'leaf': has no subvolumes"),
        ({"below": "top"}, "volume 'top': has 3 subvolumes"),
        ({"above": "leaf", "name": "two"}, "volume 'two': a volume of this name is defined"),
        ({"above": "leaf", "name": "\n"}, "has a line break"),
    ],
)
def test_an_insert_that_makes_no_sense_is_refused(where: dict[str, str], reason: str) -> None:
    with pytest.raises(VolfileError, match=reason):
        SHARED.insert(("x/new", {}), **where)


@pytest.mark.parametrize("where", [{}, {"above": "leaf", "below": "top"}])
def test_an_insert_is_above_or_below(where: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="above one xlator or below one"):
        SHARED.insert(("x/new", {}), **where)


def test_what_is_not_in_between_is_not_removed() -> None:
    for name, reason in ("leaf", "no subvolumes"), ("top", "3 subvolumes"), ("x", "no volume is"):
        with pytest.raises(VolfileError, match=reason):
            SHARED.remove(name)


def test_graphs_are_joined_under_a_new_top() -> None:
    one, two = (Graph.stack(replace(LEAF, name=name)) for name in ("one", "two"))
    graph = Graph.join([one, two], Xlator("top", "x/y"))
    assert links(graph) == {"one": "", "two": "", "top": "one two"}
    with pytest.raises(VolfileError, match="volume 'one': a volume of this name is defined"):
        Graph.join([one, one], Xlator("top", "x/y"))


# ---- the text ----


@FEWER
@given(st.data())
def test_a_text_is_revised_only_where_its_graph_has_changed(data: st.DataObject) -> None:
    graph = data.draw(graphs())
    text = data.draw(spelled(graph))
    assert parse(text) == graph
    assert revise(text, graph) == text
    near = data.draw(st.sampled_from(graph.xlators))
    changed = graph.insert(("x/new", {"k": "v w"}), above=near.name)
    revised = revise(text, changed)
    assert parse(revised) == changed
    assert comments(revised) == comments(text)
    assert parse(revise(revised, graph)) == graph


@FEWER
@given(st.data())
def test_any_text_can_be_revised_to_any_graph(data: st.DataObject) -> None:
    text, graph = data.draw(spelled(data.draw(graphs()))), data.draw(graphs())
    assert parse(revise(text, graph)) == graph


def test_what_is_revised_keeps_its_comments() -> None:
    text = dedent(
        """\
        # the disk
        volume leaf   # here
          type storage/posix
          option directory "/bricks/one" # mounted by fstab
        end-volume # of leaf
        volume locks type features/locks
          subvolumes "leaf" # one
        end-volume
        # vim: ft=conf"""
    )
    graph = parse(text).insert(("features/trash", {}), above="leaf", name="bin")
    assert revise(text, graph) == dedent(
        """\
        # the disk
        volume leaf   # here
          type storage/posix
          option directory "/bricks/one" # mounted by fstab
        end-volume # of leaf

        volume bin
            type features/trash
            subvolumes leaf
        end-volume
        volume locks type features/locks
          subvolumes bin # one
        end-volume
        # vim: ft=conf"""
    )
    other = Graph.stack(replace(LEAF, options={"directory": "/bricks/two"}), LOCKS)
    assert revise(text, other) == dedent(
        """\
        # the disk
        volume leaf
            type storage/posix
            option directory /bricks/two
        end-volume
        volume locks type features/locks
          subvolumes "leaf" # one
        end-volume
        # vim: ft=conf"""
    )


def test_volumes_on_one_line_are_told_apart() -> None:
    text = "volume a type x/y option k v end-volume \t volume b type x/y option k v end-volume"
    graph = parse(text)
    assert revise(text, graph) == text
    assert revise(text, Graph([graph["b"]])) == " \t volume b type x/y option k v end-volume"
    both = revise(text, graph.insert(("x/new", {}), above="a"))
    assert parse(both) == graph.insert(("x/new", {}), above="a")
    assert parse(revise(f"{text}\n# end", Graph([graph["b"], graph["a"]])))["a"] == graph["a"]


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path, link = tmp_path / "a.vol", tmp_path / "link"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    with path.open() as before:
        replace_file(link, "\udcff new")
        assert before.read() == "old"
    assert path.read_bytes() == b"\xff new"
    assert path.stat().st_mode & 0o7777 == 0o640
    assert link.is_symlink()
    assert sorted(tmp_path.iterdir()) == [path, link]
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "nothing", "new")


def test_a_file_that_cannot_be_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    path = tmp_path / "a.vol"
    path.write_text("old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        replace_file(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# ---- differences ----


@FEWER
@given(graphs(), graphs())
def test_no_difference_means_the_same_graph(old: Graph, new: Graph) -> None:
    assert diff(old, old) == []
    same = {x.name: x for x in old} == {x.name: x for x in new} and old.top == new.top
    assert (diff(old, new) == []) == same
    backwards = {(d.volume, d.what, d.old, d.new) for d in diff(new, old)}
    assert backwards == {(d.volume, d.what, d.new, d.old) for d in diff(old, new)}


@EXAMPLES
@given(graphs(), st.data())
def test_order_is_no_difference(graph: Graph, data: st.DataObject) -> None:
    shuffled = [
        replace(x, options=dict(data.draw(st.permutations(list(x.options.items()))))) for x in graph
    ]
    assert diff(graph, Graph(shuffled)) == []


def test_each_difference_is_a_line() -> None:
    old = Graph.stack(LEAF, Xlator("gone", "x/y"), LOCKS)
    new = Graph.stack(
        replace(LEAF, type="storage/pyposix", options={"directory": "/a b", "reserve": "5"}),
        LOCKS,
        Xlator("top", "x/y", {"k": "v"}),
    )
    assert list(map(str, diff(old, new))) == [
        "volume 'leaf': type storage/posix -> storage/pyposix",
        "volume 'leaf': option directory /bricks/one -> \"/a b\"",
        "volume 'leaf': + option reserve 5",
        "volume 'gone': - type x/y",
        "volume 'gone': - subvolumes leaf",
        "volume 'locks': subvolumes gone -> leaf",
        "volume 'top': + type x/y",
        "volume 'top': + option k v",
        "volume 'top': + subvolumes locks",
        "top locks -> top",
    ]


def test_importing_volfiles_is_cheap() -> None:
    """A filter of glusterd's does so for every volfile that glusterd writes."""
    code = "import sys, volfiles; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    for heavy in "csv", "rich", "click", "tempfile", "subprocess", "graphlib":
        assert heavy not in done.stdout.split()
