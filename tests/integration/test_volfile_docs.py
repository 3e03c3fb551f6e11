"""What docs/volfiles.md shows, run as it stands there."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import volfiles

PAGE = Path(__file__).parents[2] / "docs" / "volfiles.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def test_each_block_is_run() -> None:
    assert {kind for kind, _ in BLOCKS} == {"console", "python"}


def test_the_commands_print_what_is_shown(tmp_path: Path) -> None:
    text = "".join(code for kind, code in BLOCKS if kind == "console")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for shown in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = shown.partition("\n")
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout == expected, command


def test_the_code_returns_what_is_shown() -> None:
    text = "".join(code for kind, code in BLOCKS if kind == "python")
    test = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) >= 10
    results = doctest.DocTestRunner().run(test)
    assert results.failed == 0


def test_every_recipe_is_in_the_table() -> None:
    rows = re.findall(r"^\| `(.*?)` \|", PAGE.read_text(), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"(\w+)\(", row)}
    recipes = {
        name
        for name in volfiles.__all__
        if getattr(getattr(volfiles, name), "__module__", "") == "volfiles.recipes"
    }
    assert named == recipes - {"parse_insert"}
