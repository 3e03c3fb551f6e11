"""`glupy volfile check|show|insert|diff`: what they print, how they end, one line for a mistake."""

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from xml.etree import ElementTree

import pytest

import volfiles

BRICK = volfiles.brick("/bricks/one", leaf="posix")


def glupy(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "glupy_tools", "volfile", *map(str, arguments)]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.vol"
    path.write_text(f"# mine\n{BRICK}")
    return path


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.vol"
    path.write_text("volume a\n    type x/y\nend-volume\n\nvolume b\n    tpye x/y\nend-volume\n")
    return path


def test_check_has_a_line_for_each_finding(file: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.vol"
    wrong.write_text(str(BRICK).replace("features/locks", "features/lock"))
    done = glupy("check", file, wrong, "-", stdin="")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        f"{wrong}:7: volume 'brick-locks': type 'features/lock' is not installed",
        "-: no volume is defined",
    ]
    done = glupy("check", "--any-type", file, wrong)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_check_of_what_is_no_volfile_says_where(broken: Path) -> None:
    done = glupy("check", broken)
    assert done.stdout == f"{broken}:6: volume 'b': its type is missing, or does not come first\n"
    assert (done.returncode, done.stderr) == (1, "")


SHARED = """\
volume leaf
    type storage/posix
    option directory /a
end-volume
volume one
    type x/y
    subvolumes leaf
end-volume
volume two
    type x/y
    option "a key" "[red]\x1b"
    subvolumes leaf
end-volume
volume lone
    type x/y
    option k v
end-volume
volume top
    type x/z
    subvolumes one two
end-volume
"""


def test_show_draws_a_tree_and_what_is_shared_once() -> None:
    done = glupy("show", "-", stdin=SHARED)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == dedent(
        """\
        top  x/z
        ├── one  x/y
        │   └── leaf  storage/posix
        └── two  x/y
            └── leaf  storage/posix  (see above)
        lone  x/y
        """
    )
    assert "    a key = [red]\\x1b\n" in glupy("show", "-", "--options", stdin=SHARED).stdout


def test_show_as_a_picture_has_every_node(file: Path) -> None:
    done = glupy("show", file, "--svg", "--options")
    assert (done.returncode, done.stderr) == (0, "")
    root = ElementTree.fromstring(done.stdout)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    drawn = "".join(root.itertext()).replace("\xa0", " ")
    for xlator in BRICK:
        assert f"{xlator.name}  {xlator.type}".replace(" ", "") in drawn.replace(" ", "")
    assert "url(http" not in done.stdout


def test_insert_prints_the_file_with_one_more_and_its_comments(file: Path) -> None:
    done = glupy("insert", file, "features/trash,trash-dir=a b", "--above", "brick-posix")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("# mine\n")
    insert = "features/trash", {"trash-dir": "a b"}
    assert volfiles.parse(done.stdout) == BRICK.insert(insert, above="brick-posix")
    assert file.read_text() == f"# mine\n{BRICK}"


def test_insert_changes_the_file_in_place(file: Path) -> None:
    where = ["--below", "brick-locks", "--name", "bin", "--in-place"]
    done = glupy("insert", file, "features/trash", *where)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert volfiles.read(file) == BRICK.insert(
        ("features/trash", {}), below="brick-locks", name="bin"
    )
    assert list(file.parent.iterdir()) == [file]


def test_insert_into_standard_input_can_be_compared_with_it(file: Path) -> None:
    done = glupy("insert", "-", "debug/trace", "--above", "brick-locks", stdin=str(BRICK))
    compared = glupy("diff", file, "-", stdin=done.stdout)
    assert (compared.returncode, compared.stderr) == (1, "")
    assert compared.stdout.splitlines() == [
        "volume 'brick-io-threads': subvolumes brick-locks -> brick-locks-trace",
        "volume 'brick-locks-trace': + type debug/trace",
        "volume 'brick-locks-trace': + subvolumes brick-locks",
    ]


def test_diff_sees_no_difference_in_how_it_is_written(file: Path) -> None:
    same = str(BRICK).replace("    ", "\t").replace(" on\n", ' "on" # yes\n')
    done = glupy("diff", "-", file, stdin=same)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_names_need_not_be_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(bytes(tmp_path) + b"/\xff.vol"))
    path.write_bytes(
        b"volume a\xff\n type x/\xff\n option k \xff\nend-volume\n"
        b"volume top\n type features/locks\n subvolumes a\xff\nend-volume\n"
    )
    done = glupy("check", "--any-type", path)
    reason = "features/locks wants a leaf in storage/: 'a\\udcff' in line 1 is x/\\udcff"
    assert done.stdout == f"{tmp_path}/\\udcff.vol:5: volume 'top': {reason}\n"
    assert "a\\udcff  x/\\udcff\n    k = \\udcff" in glupy("show", "--options", path).stdout
    assert "\\udcff" in glupy("show", "--svg", path).stdout
    done = glupy("insert", path, "x/y", "--above", os.fsdecode(b"a\xff"), "--in-place")
    assert (done.returncode, done.stderr) == (0, "")
    assert b"volume a\xff-y\n" in path.read_bytes()
    assert "+ subvolumes a\\udcff\n" in glupy("diff", "-", path, stdin=SHARED).stdout


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["check"], 2, "glupy volfile check: Missing argument 'FILE…'"),
        (["check", "/nowhere"], 2, "glupy volfile check: Invalid value for 'FILE…': File '/nowh"),
        (["show", "/"], 2, "glupy volfile show: Invalid value for 'FILE': File '/' is a directory"),
        (["show", "{broken}"], 1, "glupy: {broken}:6: volume 'b': its type is missing"),
        (["diff", "{file}", "{broken}"], 1, "glupy: {broken}:6: volume 'b': its type is missing"),
        (["diff", "-", "-"], 2, "glupy volfile diff: only one of them can be standard input"),
        (["insert", "{file}", "x/y"], 2, "glupy volfile insert: one of --above and --below is ne"),
        (["insert", "{file}", "x", "--above", "a"], 2, "glupy: insert 'x': 'x' is not a type"),
        (
            ["insert", "-", "x/y", "--above", "a", "--in-place"],
            2,
            "glupy volfile insert: standard input cannot be changed in place",
        ),
        (
            ["insert", "{file}", "x/y", "--above", "a"],
            1,
            "glupy: {file}: no volume is called 'a'",
        ),
        (
            ["insert", "{file}", "x/y", "--above", "brick", "--name", ""],
            1,
            "glupy: {file}: volume '': its name: it is empty",
        ),
        (
            ["insert", "{file}", "x/y", "--below", "brick-posix"],
            1,
            "glupy: {file}:2: volume 'brick-posix': has no subvolumes",
        ),
        (
            ["insert", "{file}", "x/y", "--above", "brick-server", "--in-place"],
            1,
            "glupy: {file}: with it, volume 'brick-server': nothing may be above protocol/server",
        ),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(
    file: Path, broken: Path, arguments: list[str], status: int, line: str
) -> None:
    def named(text: str) -> str:
        return text.replace("{file}", str(file)).replace("{broken}", str(broken))

    before = file.read_bytes()
    done = glupy(*map(named, arguments))
    assert done.returncode == status
    assert done.stderr.startswith(named(line))
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert file.read_bytes() == before
