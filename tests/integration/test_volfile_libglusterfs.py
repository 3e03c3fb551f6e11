"""libglusterfs reads a volfile as `volfiles` does: a small C program asks its own parser."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glupy.testing import stock
from volfiles import Graph, VolfileError, Xlator, parse

READER = r"""
#include <stdio.h>
#include <glusterfs/glusterfs.h>
#include <glusterfs/xlator.h>
#include <glusterfs/logging.h>
#include <glusterfs/mem-pool.h>

static int put_option(dict_t *options, char *key, data_t *value, void *out)
{
    fprintf(out, "option%c%s%c%s%c", 0, key, 0, value->data, 0);
    return 0;
}

/* reader VOLFILE OUT LOG: the graph as NUL-terminated fields; exit 1 if it is refused */
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
