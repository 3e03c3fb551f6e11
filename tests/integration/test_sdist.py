"""`pip install` of the source distribution, where the headers are: as somebody without a clone."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3"  # Debian's: it has a shared libpython


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_the_source_distribution_installs(tmp_path: Path) -> None:
    # Only what git knows: an sdist must not need what a build has left here.
    source = tmp_path / "source"
    run("git", "clone", "--quiet", ROOT, source, cwd=tmp_path)
    run(PYTHON, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "build", cwd=tmp_path)
    run(python, "-m", "build", "--sdist", "--outdir", tmp_path, source, cwd=tmp_path)
    (archive,) = tmp_path.glob("glupy-*.tar.gz")
    run(python, "-m", "pip", "install", "--quiet", f"{archive}[cli,testing]", cwd=tmp_path)
    shown = run(
        python,
        "-Ic",
        "import glupy._entry, pyposix, volfiles, glupy.testing.gfapi, glupy_tools.cli; "
        "print(glupy.__file__, len(glupy.fops.TABLE))",
        cwd=tmp_path,
    )
    assert str(tmp_path / "venv") in shown
    assert int(shown.split()[-1]) >= 55
    assert "Usage: glupy" in run(python.with_name("glupy"), "--help", cwd=tmp_path)
