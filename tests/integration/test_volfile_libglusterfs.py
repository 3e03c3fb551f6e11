"""libglusterfs reads a volfile as `volfiles` does: a small C program asks its own parser."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glupy.testing import stock
from glupy_tools.install import xlator_folder
from volfiles import Graph, VolfileError, Xlator, installed_types, parse

READER = r"""
#include <stdio.h>
#include <unistd.h>
#include <glusterfs/glusterfs.h>
#include <glusterfs/xlator.h>
#include <glusterfs/logging.h>
#include <glusterfs/mem-pool.h>

static int put_option(dict_t *options, char *key, data_t *value, void *out)
{
    fprintf(out, "option%c%s%c%s%c", 0, key, 0, value->data, 0);
    return 0;
}

/* reader VOLFILE OUT LOG: the graph as NUL-terminated fields; exit 1 if it is refused
 * reader VOLFILE OUT LOG NAME: start the xlator of that name; exit 3 if it refuses */
int main(int argc, char **argv)
{
    glusterfs_ctx_t *ctx = glusterfs_ctx_new();
    if (!ctx || glusterfs_globals_init(ctx))
        return 2;
    THIS->ctx = ctx;
    ctx->dict_pool = mem_pool_new(dict_t, 32);
#if GLUSTERFS < 11
    ctx->dict_pair_pool = mem_pool_new(data_pair_t, 512);
#endif
    ctx->dict_data_pool = mem_pool_new(data_t, 512);
    ctx->logbuf_pool = mem_pool_new(log_buf_t, 256);
    if (xlator_mem_acct_init(THIS, gf_common_mt_end) || gf_log_init(ctx, argv[3], NULL))
        return 2;
    FILE *in = fopen(argv[1], "r"), *out = fopen(argv[2], "w");
    if (!in || !out)
        return 2;
    glusterfs_graph_t *graph = glusterfs_graph_construct(in);
    if (!graph)
        return 1;
    xlator_t *xl = graph->first; /* the top */
    if (argc > 4) {
        for (xlator_t *each = xl; each; each = each->next)
            each->ctx = ctx;
        while (strcmp(xl->name, argv[4]))
            xl = xl->next;
        _exit(xlator_init(xl) ? 3 : 0); /* at once: its threads run */
    }
    while (xl->next)
        xl = xl->next;
    for (; xl; xl = xl->prev) {
        fprintf(out, "volume%c%s%c%s%c", 0, xl->name, 0, xl->type, 0);
        dict_foreach(xl->options, put_option, out);
        for (xlator_list_t *child = xl->children; child; child = child->next)
            fprintf(out, "subvolume%c%s%c", 0, child->xlator->name, 0);
    }
    return fclose(out) ? 2 : 0;
}
"""
FLAGS = [
    "-D_GNU_SOURCE",
    "-DGF_LINUX_HOST_OS",
    "-D_FILE_OFFSET_BITS=64",
    "-DSIZEOF_LONG=8",
    "-DHAVE_ATOMIC_BUILTINS",
    "-I/usr/include/glusterfs",
    f"-DGLUSTERFS={stock.version()[0]}",
]

Nodes = list[tuple[str, str, dict[str, str], list[str]]]


class Reader:
    """libglusterfs's parser."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        source = folder / "reader.c"
        source.write_text(READER)
        self.program = folder / "reader"
        subprocess.run(["cc", *FLAGS, "-o", self.program, source, "-lglusterfs"], check=True)

    def read(self, text: str) -> Nodes | None:
        """The nodes that libglusterfs makes of a volfile, or None if it refuses it."""
        volfile, out = self.folder / "volfile", self.folder / "out"
        volfile.write_bytes(os.fsencode(text))
        command = [self.program, volfile, out, self.folder / "log"]
        # Its lexer echoes what it drops.
        code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
        assert code in {0, 1}
        if code:
            return None
        fields = iter(os.fsdecode(out.read_bytes()).split("\0")[:-1])
        nodes: Nodes = []
        for field in fields:
            if field == "volume":
                nodes.append((next(fields), next(fields), {}, []))
            elif field == "option":
                key = next(fields)
                nodes[-1][2][key] = next(fields)
            else:
                nodes[-1][3].append(next(fields))
        return nodes

    def refusal(self, graph: Graph, name: str) -> str | None:
        """What an xlator logs when it refuses to start, or None if it starts.

        "" if it dies of having started half."""
        volfile, log = self.folder / "volfile", self.folder / "refusal"
        graph.write(volfile)
        log.unlink(missing_ok=True)
        command = [*map(str, (self.program, volfile, self.folder / "out", log)), name]
        code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
        assert code in {0, 3} or code < 0
        return None if code == 0 else log.read_text()


def nodes_of(graph: Graph) -> Nodes:
    return [(x.name, x.type, dict(x.options), list(x.subvolumes)) for x in graph]


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return Reader(tmp_path_factory.mktemp("reader"))


EXAMPLES = settings(max_examples=500, deadline=None)

# libglusterfs loads the types of a volfile that it parses.
types = st.sampled_from(["debug/sink", "debug/io-stats", "features/quiesce"])
words = st.one_of(
    st.text(st.sampled_from("ab#\"'\\`$ \t\r\f\x0b=é\udcff"), min_size=1, max_size=8),
    st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), min_size=1),
    st.sampled_from(["volume", "type", "option", "subvolumes", "subvolumeS", "end-volume"]),
)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    xlators = []
    names = draw(st.lists(words, min_size=1, max_size=4, unique=True))
    for position, name in enumerate(names):
        below = names[:position]
        subvolumes = draw(st.lists(st.sampled_from(below), max_size=3)) if below else []
        options = draw(st.dictionaries(words, words, min_size=0 if subvolumes else 1, max_size=3))
        xlators.append(Xlator(name, draw(types), options, subvolumes))
    return Graph(xlators)


@EXAMPLES
@given(graph=graphs())
def test_libglusterfs_reads_what_is_printed(reader: Reader, graph: Graph) -> None:
    assert reader.read(str(graph)) == nodes_of(graph)


LEAF = ["volume", "a", "type", "debug/sink", "option", "k", "v", "end-volume", "#c\n"]
TOP = ["volume", "b", "type", "debug/sink", "option", "k", "v", "subvolumes", "a", "end-volume"]
KEYWORDS = ["volume", "type", "option", "subvolumes", "subvolumeS", "end-volume"]
ODD = [*'ab#"\\\f\r\n', "#x\n", "a#b", "volumes", "end-volumes", '"volume"']
QUOTED = ['""', '"a b"', r'"\""', r'"\\\a#"', '"\n"']
LINES = ["type debug/sink", "option k v", "option l w", "subvolumes a b"]


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A volfile in which a few pieces are replaced, added or left out."""
    pieces = [*LEAF, *TOP]
    other = st.sampled_from([*KEYWORDS, *ODD, *QUOTED, *LINES])
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(pieces)))
        pieces[start : start + draw(st.integers(0, 2))] = draw(st.lists(other, max_size=2))
    separator = st.sampled_from([" ", " ", "\n", "\t", "\r\n", ""])
    return "".join(piece + draw(separator) for piece in pieces)


# libglusterfs drops these with a line in its log, or less, and goes on.
STRICTER = [
    "a quote is not closed",
    "a backslash outside quotes",
    "is empty",
    "is not defined",
    "is in a cycle",
    "is defined only after it",
]


@EXAMPLES
@given(text=texts())
def test_libglusterfs_agrees_about_any_text(reader: Reader, text: str) -> None:
    theirs = reader.read(text)
    try:
        ours = parse(text)
    except VolfileError as error:
        assert theirs is None or any(reason in str(error) for reason in STRICTER)
        return
    # libglusterfs also refuses a type that is not installed.
    if all(xlator.type == "debug/sink" for xlator in ours):
        assert theirs == nodes_of(ours)


# ---- rules ----

# The xlators whose start refuses another number of subvolumes: the least and the most.
COUNTED = {
    type_: numbers
    for numbers, types in {
        (0, 0): "protocol/client storage/posix storage/pyposix",
        (2, 2): "features/snapview-client",
        (3, 9): "cluster/disperse cluster/ec",
        (1, 9): """
            cluster/afr cluster/dht cluster/distribute cluster/nufa cluster/replicate
            cluster/switch debug/io-stats features/bit-rot features/bitrot-stub features/marker
            features/quotad protocol/server
        """,
        (1, 1): """
            debug/delay-gen debug/error-gen debug/trace features/arbiter features/barrier
            features/cdc features/changelog features/gfid-access features/index features/locks
            features/namespace features/posix-locks features/quiesce features/quota
            features/read-only features/sdfs features/selinux features/shard
            features/thin-arbiter features/trash features/worm performance/io-cache
            performance/io-threads performance/open-behind performance/quick-read
            performance/read-ahead performance/readdir-ahead performance/write-behind
            playground/template
        """,
    }.items()
    for type_ in types.split()
}
# These refuse none below them, but ask only the first: more is no fault to GlusterFS, but to us.
FIRST_ONLY = {"features/bitrot-stub", "features/marker"}
COMPLAINTS = re.compile(r"child|sub-?vol|FATAL|redundancy|is a storage|no second", re.IGNORECASE)


def over(number: int, type_: str, **options: str) -> Graph:
    """An xlator called node over some, under a top unless it must be the top itself."""
    leaves = [Xlator(f"leaf-{n}", "debug/sink", {"k": "v"}) for n in range(number)]
    own = {"k": "v", **options}
    node = Xlator("node", type_, own, [leaf.name for leaf in leaves])
    top = [] if type_ == "protocol/server" else [Xlator("top", "debug/io-stats", {}, ["node"])]
    return Graph([*leaves, node, *top])


def finds(graph: Graph, reason: str) -> bool:
    return any(reason in error.reason for error in graph.check() if error.volume == "node")


@pytest.mark.parametrize("type_", sorted(COUNTED))
def test_xlators_take_as_many_subvolumes_as_the_rules_say(reader: Reader, type_: str) -> None:
    if type_ not in installed_types(xlator_folder()):
        assert type_ == "playground/template"
        pytest.skip("this GlusterFS was built without it")
    least, most = COUNTED[type_]
    options = {"redundancy": "1"} if type_ in ("cluster/disperse", "cluster/ec") else {}
    for number in range(max(least - 1, 0), (most if most < 9 else least) + 2):
        graph = over(number, type_, **options)
        log = reader.refusal(graph, "node")
        refused = log is not None and COMPLAINTS.search(log) is not None
        assert refused == (not least <= number <= most), log
        expected = refused or (type_ in FIRST_ONLY and number > 1)
        assert finds(graph, f": {type_} takes ") == expected


@pytest.mark.parametrize(("redundancy", "refused"), [("0", True), ("1", False), ("2", True)])
def test_disperse_takes_the_redundancy_that_the_rules_say(
    reader: Reader, redundancy: str, refused: bool
) -> None:
    graph = over(4, "cluster/disperse", redundancy=redundancy)
    log = reader.refusal(graph, "node")
    assert refused == (log is not None and "Invalid redundancy" in log), log
    assert finds(graph, f"redundancy {redundancy}: ") == refused


@pytest.mark.parametrize(("leaf", "refused"), [("debug/sink", True), ("storage/posix", False)])
def test_locks_want_the_leaf_that_the_rules_say(reader: Reader, leaf: str, refused: bool) -> None:
    graph = Graph.stack(
        Xlator("leaf", leaf, {"k": "v"}),
        Xlator("between", "debug/io-stats"),
        Xlator("node", "features/locks"),
        Xlator("top", "debug/io-stats"),
    )
    log = reader.refusal(graph, "node")
    assert refused == (log is not None and "not loaded over a storage" in log), log
    assert finds(graph, "wants a leaf in storage/") == refused


def test_nothing_is_above_a_server(reader: Reader) -> None:
    graph = Graph.stack(
        Xlator("leaf", "debug/sink", {"k": "v"}),
        Xlator("node", "protocol/server", {"transport-type": "tcp"}),
        Xlator("top", "debug/io-stats"),
    )
    assert "parent" in str(reader.refusal(graph, "node"))
    assert finds(graph, "nothing may be above protocol/server")
