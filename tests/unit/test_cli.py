"""The `glupy` command: usage, one line for each mistake, and the figures of the demo."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import volfiles
from glupy_tools.demo import WRITTEN, Report, Step
from glupy_tools.run import _Follow

COMMANDS = [
    *("install", "uninstall", "volfile", "run", "demo", "bench", "brick"),
    *("pool", "volume", "fuzz"),
]
HELLO = f"{Path(__file__).parents[2]}/xlators/examples/hello.py:Hello"


def glupy(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "glupy_tools", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_help_names_every_command() -> None:
    done = glupy("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize("command", [[name] for name in COMMANDS] + [["volfile", "brick"]])
def test_help_of_each_command_has_an_example(command: list[str]) -> None:
    done = glupy(*command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"\n    glupy {command[0]} " in done.stdout or command == ["uninstall"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["frob"], "glupy: No such command 'frob'. (see glupy --help)"),
        (["demo", "--store", "x"], "glupy demo: Invalid value for '--store': 'x' is not one of"),
        (["demo", "--dir", "/nowhere"], "glupy demo: Invalid value for '--dir'"),
        (["demo", "--leaf", "user/x"], "glupy: 'user/x' cannot be a leaf"),
        (["volfile", "brick"], "glupy volfile brick: Missing argument 'DIR'"),
        (["volfile", "brick", "/x", "--port", "0"], "glupy volfile brick: Invalid value for '--po"),
        (["volfile", "brick", "/x", "--leaf", "a/b"], "glupy: 'a/b' cannot be a leaf"),
        (["volfile", "brick", "/x", "--insert", "trash"], "glupy: insert 'trash': 'trash' is not"),
        (["volfile", "client", "host"], "glupy volfile client: Invalid value for 'HOST:PORT'"),
        (["volfile", "client", "host:x"], "glupy volfile client: Invalid value for 'HOST:PORT'"),
        (["run", "hello", "/", "/"], "glupy run: Invalid value for 'FILE.py:Class': 'hello'"),
        (["run", "/nowhere/hello.py:Hello", "/", "/"], "glupy run: Invalid value for 'FILE.py:Cl"),
        (["run", HELLO, "/usr", "/"], "glupy run: /usr would be hidden by what is mounted on /"),
        (["run", HELLO, "/", "/mnt", "-o", "a=1", "-o", "a=2"], "glupy run: Invalid value for '-o"),
        (["run", HELLO, "/", "/mnt", "-o", "module=x"], "glupy run: module is FILE.py:Class, and"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(arguments: list[str], line: str) -> None:
    done = glupy(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def test_volfiles_are_printed_as_the_recipes_make_them() -> None:
    insert = "features/glupy,module=/root/slow.py:Slow"
    brick = glupy("volfile", "brick", "/b", "--leaf", "posix", "--port", "4000", "--insert", insert)
    expected = volfiles.brick(
        "/b",
        leaf="posix",
        port=4000,
        inserts=[("features/glupy", {"module": "/root/slow.py:Slow"})],
    )
    assert volfiles.parse(brick.stdout) == expected
    client = glupy("volfile", "client", "[::1]:4000")
    assert volfiles.parse(client.stdout) == volfiles.client("::1", 4000)


def test_a_brick_is_pyposix_on_port_49152_unless_told_otherwise() -> None:
    inserts = ["--insert", r"features/a,k=v\,w,l=x", "--insert", "user/b"]
    graph = volfiles.parse(glupy("volfile", "brick", "/b", *inserts).stdout)
    assert [xlator.type for xlator in graph][:3] == ["storage/pyposix", "features/a", "user/b"]
    assert graph.xlators[0].options["directory"] == "/b"
    assert graph.xlators[1].options == {"k": "v,w", "l": "x"}
    assert graph.top.options["transport.socket.listen-port"] == "49152"


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    command = f"{sys.executable} -m glupy_tools volfile brick /b | true"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""


BLOCKS = WRITTEN // 512


def report(image: list[int], store: list[int]) -> Report:
    names = ("mkfs", "write", "rm", "fstrim")
    return Report("storage/x", [Step(*row) for row in zip(names, image, store, strict=True)])


GOOD = [100, 100 + BLOCKS, 200, 100]
KEPT = [100, 100 + BLOCKS, 100 + BLOCKS, 100 + BLOCKS]
HALF = [100, 100 + BLOCKS, 100 + BLOCKS // 2, 100]
SMALL = [100, 100 + BLOCKS // 2, 100, 100]


@pytest.mark.parametrize(
    ("image", "store", "discard", "wrong"),
    [
        (GOOD, GOOD, True, None),
        (GOOD, KEPT, False, None),
        (GOOD, KEPT, True, "only 0.0% of the written blocks came back to the store"),
        (GOOD, HALF, True, "only 50.0% of the written blocks came back to the store"),
        (HALF, GOOD, True, "only 50.0% of the written blocks came back to the image"),
        (HALF, KEPT, False, "only 50.0% of the written blocks came back to the image"),
        (GOOD, GOOD, False, "100.0% of the written blocks came back to a store without discard"),
        (GOOD, SMALL, True, "400 MiB were written, but only 200 MiB in use"),
    ],
)
def test_verdict(image: list[int], store: list[int], discard: bool, wrong: str | None) -> None:
    assert report(image, store).wrong(discard=discard) == wrong


def test_the_object_that_json_prints() -> None:
    printed = json.loads(report(GOOD, KEPT).as_json())
    assert list(printed) == ["leaf", "steps", "image_reclaimed", "store_reclaimed"]
    assert printed["steps"][1] == {
        "name": "write",
        "image_blocks": 100 + BLOCKS,
        "store_blocks": 100 + BLOCKS,
    }
    assert (printed["image_reclaimed"], printed["store_reclaimed"]) == (0.9999, 0.0)


def test_follow_prints_what_is_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    follow = _Follow(log, tmp_path / "never")
    follow.print()
    with log.open("a") as file:
        for text in ("one\n", "two\n"):
            file.write(text)
            file.flush()
            follow.print()
            assert capsys.readouterr().out == text


def test_follow_leaves_the_graph_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "+" + "-" * 78 + "+\n"
    log = tmp_path / "log"
    log.write_text(f"one\nFinal graph:\n{line}  1: volume a\n  2: end-volume\n{line}two\n")
    _Follow(log).print()
    assert capsys.readouterr().out == "one\ntwo\n"
