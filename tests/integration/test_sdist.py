"""The source distribution, installed where the headers are: as somebody without a clone."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from glupy.testing.processes import free_port
from glupy_tools.install import xlator_folder

ROOT = Path(__file__).resolve().parents[2]
FENCES = re.findall(
    r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE
)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""In which python3 is Debian's: it has a shared libpython."""

# GlusterFS's real folders stay as they are, and the processes go with the namespace.
BEFORE = """
set -eu
cp -a "$(dirname "$xlators")" installed
mount --bind installed "$(dirname "$xlators")"
cd source
"""
AFTER = """
cd ..
export PATH="$environment/bin:$PATH"
python -Ic "import glupy._entry, glupy.fops, pyposix, volfiles, glupy.testing.gfapi, glupy_tools.cli
print(glupy.__file__, len(glupy.fops.TABLE))"
glupy --help | head -1
glupy volfile brick "$brick" --port "$port" >brick.vol
glupy volfile client "127.0.0.1:$port" >client.vol
glusterfsd -N -f brick.vol -l "$PWD/brick.log" &
mkdir mount
glusterfs -f client.vol -l "$PWD/client.log" mount
timeout 60 sh -c "until touch mount/file; do sleep 0.1; done" 2>/dev/null
stat --format='%s %F' mount/file
grep -o "$environment/.*/_bridge.*" "/proc/$!/maps" | sort -u
pytest -q -p no:cacheprovider --basetemp "$PWD/tests" test_installed.py
"""
TEST = """
import sys

def test_discard(brick, client):
    with client.creat("/file") as file:
        file.pwrite(b"x" * 8192, 0)
        file.discard(0, 4096)
        assert file.pread(8192, 0).value == bytes(4096) + b"x" * 4096
    with open(f"/proc/{brick.pid}/maps") as maps:
        assert sys.prefix in maps.read()
"""


def test_the_source_distribution_installs_and_serves_a_brick(
    brick_dir: Path, tmp_path: Path
) -> None:
    # Only what git knows: an sdist must not need what a build has left here.
    subprocess.run(["git", "clone", "--quiet", ROOT, tmp_path / "source"], check=True)
    (tmp_path / "test_installed.py").write_text(TEST)
    environment = tmp_path / "environment"
    (shown,) = (fence for fence in FENCES if "/opt/glupy" in fence)
    places = {"/opt/glupy": environment, "/tmp": tmp_path}
    shown = re.sub("/opt/glupy|/tmp", lambda found: str(places[found[0]]), shown)
    options = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    done = subprocess.run(
        ["unshare", *options, "--propagation=slave", "sh", "-c", BEFORE + shown + AFTER],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={
            **os.environ,
            "PATH": PATH,
            "xlators": str(xlator_folder()),
            "environment": str(environment),
            "brick": str(brick_dir),
            "port": str(free_port()),
        },
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    imported, usage, served, bridge, *tested = done.stdout.splitlines()[-6:]
    packages = f"{environment}/lib/python[\\d.]+/site-packages"
    assert re.fullmatch(rf"{packages}/glupy/__init__\.py \d+", imported)
    assert int(imported.split()[-1]) >= 55
    assert usage.startswith("Usage: glupy")
    assert served == "0 regular empty file"
    assert re.fullmatch(rf"{packages}/glupy/_bridge\.[\w-]+\.so", bridge)
    assert tested[-1].startswith("1 passed in ")
