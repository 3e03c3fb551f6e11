"""What docs/pybd.md shows first, run as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "pybd.md"
BLOCK = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)[0]

# Its /srv, /mnt and port 49152 are nobody else's, and what runs there ends with its shell.
ALONE = (
    *("unshare", "--net", "--mount", "--propagation=slave"),
    *("--pid", "--fork", "--kill-child", "--mount-proc"),
)
BEFORE = """
    busybox ip link set lo up
    mount --bind "$1" /srv
    mount -t tmpfs tmpfs /var/log/glusterfs
    trap 'umount /mnt' EXIT
"""
SHOW = "stat --format=%s /mnt/vm.img; head -c 5 /mnt/vm.img; ls /srv/pool | wc -l"
AFTER = {
    # what one who types has waited for
    "glusterfsd ": "until (exec 3<>/dev/tcp/127.0.0.1/49152) 2>/dev/null; do sleep 0.1; done",
    "glupy volfile client ": "until stat /mnt/. >/dev/null 2>&1; do sleep 0.1; done",
    "touch ": "echo data > /mnt/vm.img",
    "setfattr -n ": SHOW,
    "setfattr -x ": SHOW,
}
"""What the test does more, by what the line before begins with."""


def test_the_first_block(brick_dir: Path, tmp_path: Path) -> None:
    lines = [BEFORE]
    for line in BLOCK.splitlines():
        lines += [line, *(more for start, more in AFTER.items() if line.startswith(start))]
    done = subprocess.run(
        [*ALONE, "bash", "-ec", "\n".join(lines), "bash", brick_dir],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    size = 10 << 30
    status = done.stdout.removeprefix(f"{size}\ndata\n1\n{size}\ndata\n0\n")
    assert re.fullmatch(r".* state *\n.* MiB are free\n", status), done.stdout
