"""`glupy install` over GlusterFS's real folder, in a mount namespace of the test's own."""

import subprocess
import sys
from pathlib import Path

from glupy_tools.install import PYTHON, RECORD, xlator_folder

SCRIPT = """
set -u
glupy() { "$python" -m glupy_tools "$@"; echo "status $?"; }
cp -a "$folder" "$copy"
mount --bind "$copy" "$folder"
glupy uninstall
find "$folder" -lname '*/glupy/_bridge*' -delete
rm -f "$folder/$link"
glupy install --check
glupy install
glupy install
glupy install --check
find "$folder" -type l -newer "$copy-start" -printf '%P\\n' | sort
test -e "$folder/$record" && echo recorded
glupy uninstall
glupy uninstall
find "$folder" -lname '*/glupy/_bridge*' -o -name "$record" -o -name "$link"
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
        "features/glupy.so",
        PYTHON,
        "storage/pyposix.so",
        "user/glupy.so",
        "user/pybd.so",
        "recorded",
        f"taken away from {folder}",
        "status 0",
        "nothing is installed",
        "status 0",
    ]
    assert "glupy: not installed: run glupy install\n" in done.stderr
