"""`tools/setup` and `on-debian` where something is missing: a line says what, and what to do."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from glupy import stores
from glupy.testing.processes import free_port

ROOT = Path(__file__).parents[2]
XLATORS = str(Path(stores.run("glusterfsd", "--print-xlatordir").strip()))
LIBRARIES = sysconfig.get_config_var("LIBDIR")
STATUS = "/var/lib/dpkg/status"
NO_STRACE = 'BEGIN { RS = ""; ORS = "\\n\\n" } $2 != "strace"'
"""awk: the list of installed packages without one."""


@pytest.fixture(scope="module")
def clone() -> Iterator[Path]:
    """The sources as a stranger has them, in a folder that anyone can read."""
    with TemporaryDirectory(prefix="glupy-setup-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        copied = Path(folder, "glupy")
        copied.mkdir()
        kept = ["--exclude=/.venv", "--filter=:- .gitignore"]
        subprocess.run(["rsync", "-a", *kept, f"{ROOT}/", copied], check=True)
        yield copied


def over(path: str) -> str:
    """Make a folder that can be changed, and is not."""
    upper = f"/mnt/{path.replace('/', '_')}"
    layers = f"lowerdir={path},upperdir={upper}/upper,workdir={upper}/work"
    return f"mkdir -p {upper}/upper {upper}/work; mount -t overlay overlay -o {layers} {path}"


def dead(device: str) -> str:
    """Put a device node in the place of another that no driver answers to."""
    return f"mknod /mnt/dead c 60 0; mount --bind /mnt/dead {device}"


AT_ONCE = "echo 'Acquire::Retries 0;' >/mnt/apt; export APT_CONFIG=/mnt/apt"
"""apt does not try again for seconds."""
FEDORA = "printf 'ID=fedora\\nVERSION_ID=\"41\"\\n' >/mnt/os; mount --bind /mnt/os /etc/os-release"
NO_SUDO = "[ ! -e /usr/bin/sudo ] || mount --bind /dev/null /usr/bin/sudo"
CHANGEABLE = "/var/lib/dpkg", "/var/lib/apt", "/var/cache/apt", XLATORS
FORGOTTEN = f"awk {shlex.quote(NO_STRACE)} {STATUS} >/mnt/status; cp /mnt/status {STATUS}"


def refused(
    clone: Path, hidden: Sequence[str], *prefix: str, command: Sequence[str] = ("setup",)
) -> str:
    """What a command of `tools` says where these have run before: one line, which it ends with.

    They run in a mount namespace that goes with it, without a network: nothing is taken from this
    machine, and nothing is installed on it.
    """
    before = ["set -e", "mount -t tmpfs tmpfs /mnt", AT_ONCE, *map(over, CHANGEABLE), *hidden]
    script = "\n".join([*before, 'exec "$@"'])
    apart = ["unshare", "--net", "--mount", "--propagation=slave", "bash", "-c", script, "bash"]
    done = subprocess.run(
        [*apart, *prefix, clone / "tools" / command[0], *command[1:]],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout == "" and done.returncode == 1, done.stdout + done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("hidden", "prefix", "line"),
    [
        ([FEDORA], [], "this is not Debian 12 or 13: install from the sources by hand"),
        (
            [NO_SUDO],
            ["setpriv", "--reuid=65534", "--clear-groups"],
            "not root, and there is no sudo",
        ),
        ([dead("/dev/loop-control")], [], "no loop devices: .*modprobe loop"),
        ([dead("/dev/fuse")], [], "no FUSE: .*modprobe fuse"),
        (
            [over(LIBRARIES), f"rm {LIBRARIES}/libpython3.*.so.1.0"],
            [],
            "no shared libpython: .*apt-get install --reinstall python3-dev",
        ),
        (
            ["mount -t tmpfs tmpfs /usr/include/glusterfs"],
            [],
            "no GlusterFS headers .*apt-get install --reinstall libglusterfs-dev",
        ),
        (
            [over("/usr/sbin"), "rm /usr/sbin/glusterfsd"],
            [],
            "glusterfsd is missing .*apt-get install --reinstall glusterfs-server",
        ),
    ],
    ids=["Debian", "root", "loop", "fuse", "libpython", "headers", "glusterfsd"],
)
def test_what_is_missing_is_one_line(
    clone: Path, hidden: list[str], prefix: list[str], line: str
) -> None:
    said = refused(clone, hidden, *prefix)
    assert re.fullmatch(f"setup: {line}.*\n", said), said


@pytest.mark.parametrize("command", ["demo", "test"])
def test_a_command_that_cannot_set_up_says_so_and_no_more(clone: Path, command: str) -> None:
    said = refused(clone, [FEDORA], command=[command])
    assert re.fullmatch("setup: this is not Debian 12 or 13: install from the sources.*\n", said)
    said = refused(
        clone, [NO_SUDO], "setpriv", "--reuid=65534", "--clear-groups", command=[command]
    )
    assert re.fullmatch(r"\w+: not root, and there is no sudo.*\n", said), said


def has_no_network(said: str, command: str, packages: str, log: str) -> None:
    """Assert that these are to be installed, and that the lists cannot be had, in a line each."""
    first, second, end = said.split("\n")
    assert first == f"{command}: installing {packages}"
    assert second.startswith(
        f"{command}: Debian's package lists cannot be fetched, is there a network?: E: "
    )
    assert f"(see /var/log/{log}.log)" in second
    assert end == ""


def test_no_network_for_a_package_that_is_missing(clone: Path) -> None:
    has_no_network(refused(clone, [FORGOTTEN]), "setup", "strace", "glupy-setup")


def test_no_network_for_what_another_debian_needs(clone: Path) -> None:
    """All that is missing in one go, after an update: a fresh machine has no package lists."""
    tools = "rm -f /usr/bin/rsync /usr/sbin/debootstrap"
    hidden = [*map(over, ("/usr/bin", "/usr/sbin", "/var/log")), tools]
    said = refused(clone, hidden, command=["on-debian", "trixie", "true"])
    has_no_network(said, "on-debian", "debootstrap rsync", "glupy-trixie")


@pytest.mark.long  # pip tries for half a minute
def test_no_network_for_the_requirements(clone: Path) -> None:
    said = refused(clone, [])
    *doing, last, _ = said.split("\n")
    assert all(
        "making the environment" in line or "installing the pinned" in line for line in doing
    )
    assert last.startswith("setup: the requirements cannot be installed, is there a network?: ")


def test_arguments_are_refused() -> None:
    command = [str(ROOT / "tools" / "setup"), "--all"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "setup: takes no arguments\n")


BY_SOMEBODY = """
command -v sudo >/mnt/sudo || { apt-get update; apt-get install -y --no-install-recommends sudo; }
getent passwd 1000 || useradd --uid 1000 somebody
echo "#1000 ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/somebody
mkdir /mnt/somebody
cp -a "$clone" /mnt/somebody
chown -R 1000:1000 /mnt/somebody
cd /mnt/somebody/glupy
set_up() { setpriv --reuid=1000 --regid=1000 --clear-groups tools/setup; }
set_up
SECONDS=0
set_up
echo $SECONDS
readlink .venv
.venv/bin/glupy volfile brick "$brick" --port "$port" >/mnt/brick.vol
.venv/bin/glupy volfile client 127.0.0.1:"$port" >/mnt/client.vol
glusterfsd -N -f /mnt/brick.vol -l /mnt/brick.log &
mkdir /mnt/mount
glusterfs -f /mnt/client.vol -l /mnt/client.log /mnt/mount
timeout 60 bash -c "until touch /mnt/mount/file; do sleep 0.1; done" 2>/dev/null
grep -o "/.*/_bridge.*" "/proc/$!/maps" | sort -u
"""


@pytest.mark.long  # it makes an environment, and wants a network
def test_a_clone_of_somebody_is_set_up_as_roots_copy_by_sudo(clone: Path, brick_dir: Path) -> None:
    changed = map(over, ("/usr", "/etc", "/var/lib", "/var/cache/apt", "/var/log"))
    script = "\n".join(["set -e", "mount -t tmpfs tmpfs /mnt", *changed, BY_SOMEBODY])
    namespaces = ["--mount", "--propagation=slave", "--pid", "--fork", "--kill-child"]
    done = subprocess.run(
        ["unshare", *namespaces, "--mount-proc", "bash", "-c", script],
        env={**os.environ, "clone": str(clone), "brick": str(brick_dir), "port": str(free_port())},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *_, again, seconds, environment, bridge = done.stdout.splitlines()
    assert again.startswith("in place in ")
    assert int(seconds) < 10
    assert re.fullmatch(r"/var/lib/glupy/\w{12}/glupy/\.venv", environment)
    copy = environment.removesuffix("/.venv")
    assert bridge.startswith(f"{copy}/xlators/glupy/_bridge.")
    first, *making, second = re.findall("^setup: (.*)", done.stderr, re.MULTILINE)
    reason = "/mnt/somebody: belongs to uid 1000"
    assert first == second == f"{reason}; bricks run as root: working on root's copy, {copy}"
    assert making[0] == f"making the environment {environment}"
