"""What GlusterFS loads, and whether that is what the environment imports."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import volfiles
from glupy.testing.logs import records
from glupy.testing.processes import Brick, ProcessError, free_port


@pytest.fixture
def xlators() -> Iterator[Path]:
    """A folder of ours among GlusterFS's translators: types testing-glupy/…"""
    command = ["glusterfsd", "--print-xlatordir"]
    root = Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    folder = root / "testing-glupy"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def the_bridge() -> Path:
    spec = importlib.util.find_spec("glupy._bridge")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin)


def why_refused(kind: str, brick_dir: Path, folder: Path) -> str:
    """Start a brick with a translator of that type over C posix; return what the log says."""
    module = {"module": "glupy.testing.bare:Winding"}
    graph = volfiles.brick(brick_dir, leaf="posix", port=free_port(), inserts=[(kind, module)])
    brick = Brick(graph, folder)
    with pytest.raises(ProcessError), brick:
        pass
    name = f"0-brick-{kind.rpartition('/')[2]}: "
    ours = [record.text for record in records(brick.log_text()) if name in record.text]
    return next(text for text in ours if "] E [" in text or " E [" in text).partition(name)[2]


def test_a_copy_of_the_bridge_is_refused(xlators: Path, brick_dir: Path, tmp_path: Path) -> None:
    """It would be a second module with handlers of its own, which nobody has filled in."""
    shutil.copy(the_bridge(), xlators / "copied.so")
    line = why_refused("testing-glupy/copied", brick_dir, tmp_path / "brick")
    assert line.startswith("the environment imports another glupy than the one that GlusterFS")
    assert "glupy install" in line


def test_without_an_environment_it_says_so(xlators: Path, brick_dir: Path, tmp_path: Path) -> None:
    """The link to the environment's Python is two folders above a type: here there is none."""
    (xlators / "deep").mkdir()
    (xlators / "deep" / "linked.so").symlink_to(the_bridge())
    line = why_refused("testing-glupy/deep/linked", brick_dir, tmp_path / "brick")
    assert line.startswith("there is no Python environment for this translator")
    assert "glupy install" in line


def test_a_brick_writes_no_bytecode(brick_dir: Path, tmp_path: Path) -> None:
    """Its umask is 0: whoever likes could write what the next brick runs as root."""
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "helper.py").write_text("")
    (sources / "own.py").write_text(
        "import sys\nsys.path.insert(0, __file__.rpartition('/')[0])\n"
        "import glupy, helper\nclass Own(glupy.Translator):\n    pass\n"
    )
    module = {"module": f"{sources}/own.py:Own"}
    inserts = [("features/glupy", module)]
    with Brick(volfiles.brick(brick_dir, port=free_port(), inserts=inserts), tmp_path / "brick"):
        pass
    assert sorted(path.name for path in sources.iterdir()) == ["helper.py", "own.py"]
