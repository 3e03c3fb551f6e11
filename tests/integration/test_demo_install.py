"""`glupy install` over GlusterFS's real folders, in a mount namespace of the test's own."""

import subprocess
import sys
from pathlib import Path

from glupy import stores
from glupy_tools.install import PYTHON, RECORD, xlator_folder

SCRIPT = """
set -u
glupy() { "$python" -m glupy_tools "$@"; echo "status $?"; }
parent=$(dirname "$folder")
cp -a "$parent" "$copy"
mount --bind "$copy" "$parent"
mount -t tmpfs tmpfs /run # glusterds of other tests are not asked
glupy uninstall
find "$parent" -lname '*/glupy/_bridge*' -delete
rm -f "$folder/$link"
glupy install --check
glupy install
glupy install
glupy install --check
find "$parent" -type l -newer "$copy-start" -printf '%P\\n' | sort
test -e "$folder/$record" && echo recorded
sed -i 's,"environment": ".*","environment": "/elsewhere",' "$folder/$record"
glupy install --check
glupy install
sed -i 's,"glusterfs": ".*","glusterfs": "9.9",' "$folder/$record"
glupy install --check
glupy install
glupy install --check
glupy uninstall
glupy uninstall
find "$parent" -lname '*/glupy/_bridge*' -o -lname '*/volfiles/*'
find "$parent" -name "$record" -o -name "$link"
"""


def test_install_check_and_uninstall(tmp_path: Path) -> None:
    folder = xlator_folder()
    (tmp_path / "copy-start").touch()
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "slave", "sh", "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "python": sys.executable,
            "folder": str(folder),
            "copy": str(tmp_path / "copy"),
            "link": PYTHON,
            "record": RECORD,
        },
    )
    types = "features/glupy, storage/pyposix, user/glupy, user/pybd"
    assert done.stdout.splitlines()[2:] == [
        "status 1",
        f"linked in {folder}: {types}",
        "status 0",
        f"in place in {folder}: {types}",
        "status 0",
        f"in place in {folder}",
        "status 0",
        "filter/glupy",
        "xlator/features/glupy.so",
        f"xlator/{PYTHON}",
        "xlator/storage/pyposix.so",
        "xlator/user/glupy.so",
        "xlator/user/pybd.so",
        "recorded",
        *["status 1", f"in place in {folder}: {types}", "status 0"] * 2,
        f"in place in {folder}",
        "status 0",
        f"taken away from {folder}",
        "status 0",
        "nothing is installed",
        "status 0",
    ]
    moved = f"since the last install the environment has moved from /elsewhere to {sys.prefix}"
    version = stores.run("glusterfsd", "--version").split()[1]
    upgraded = f"since the last install GlusterFS was upgraded from 9.9 to {version}"
    assert done.stderr.splitlines() == [
        "glupy: not installed: run glupy install",
        f"glupy: {moved}: run glupy install",
        moved,
        f"glupy: {upgraded}: run glupy install",
        upgraded,
    ]
