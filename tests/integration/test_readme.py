"""What README.md says to type, typed: in namespaces with folders and a network of their own."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from glupy_tools.cli import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SEE, WRITE, RUN, ELSEWHERE = re.findall(r"^```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
LOGGED = "I [hello.py:24:create] 0-brick-glupy: hello, user 0: /x is yours"
BRICK, RUN_BRICK = "pgrep -f brick.vol", "pgrep -f glusterfsd.*glupy-run"
LOOKS = "kill -USR1 PID", ".venv/bin/py-spy dump --pid PID"

# What the commands change is the namespace's; the clone's environment is already made.
PLACES = """
set -eu
busybox ip link set lo up
for folder in /usr/local/sbin /var/log/glusterfs /run /mnt; do mount -t tmpfs tmpfs "$folder"; done
mkdir /run/gluster
mount --bind "$store" /srv
export PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
soon() { timeout 60 bash -c "until $1; do sleep 0.1; done" 2>/dev/null; }
"""


def typed(script: str, store: Path, folder: Path) -> str:
    """What a script prints that is run in the clone, with a folder of a store as /srv."""
    file = folder / "typed"  # not an argument: pgrep looks at those
    file.write_text(PLACES + script)
    options = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    done = subprocess.run(
        ["unshare", *options, "--propagation=slave", "bash", file],
        cwd=ROOT,
        env={"store": str(store), "folder": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_translator_is_run(brick_dir: Path, tmp_path: Path) -> None:
    first, run = WRITE.split("\nglupy run ")
    told = typed(
        f"""
        {first}
        glupy run {run.partition("#")[0]} &
        soon "touch /mnt/glupy/x && [ -e /srv/brick/x ]"
        {RUN_BRICK} | wc -l
        kill -INT $!
        wait $! || echo "status $?"
        ! mountpoint -q /mnt/glupy
        """,
        brick_dir,
        tmp_path,
    )
    assert f" {LOGGED}\n" in told
    assert "\n1\n" in told  # one process that could be meant
    assert told.endswith("status 130\n")


def test_a_brick_and_a_mount_are_run_and_looked_into(brick_dir: Path, tmp_path: Path) -> None:
    run = RUN.replace("/abs/file.py:Class", f"{ROOT}/xlators/examples/hello.py:Hello")
    serve, mount, others = run.partition("glusterfs -f client.vol /mnt/glupy")
    (ends,) = re.findall("`(umount .*?)` ends both", run)
    dump, spy = (look.replace("PID", f'"$({BRICK})"') for look in LOOKS)
    others = "\n".join(re.findall("^glupy (?:pool|brick|install) .*", others, re.MULTILINE))
    told = typed(
        f"""
        ln -s "$PWD/.venv/bin/glupy" /usr/local/sbin/
        mkdir -p /srv/brick /mnt/glupy
        cd "$folder"
        {serve}
        {mount}
        soon "touch /mnt/glupy/x && [ -e /srv/brick/x ]"
        grep -rohF "{LOGGED}" /var/log/glusterfs
        {dump}
        (cd "$OLDPWD"; {spy})
        soon "grep -hm 1 features/glupy /var/run/gluster/*.dump.*"
        {ends}
        wait %1 || echo "status $?"
        ! mountpoint -q /mnt/glupy
        {others}
        [ -d /srv/pool ]
        """,
        brick_dir,
        tmp_path,
    )
    logged, process, *threads, section, status, checked, installed = told.splitlines()
    assert logged == LOGGED
    assert process.endswith("glusterfsd -N -f brick.vol")
    assert any(line.endswith('"glupy-timer"') for line in threads)
    assert "brick-glupy" in section
    assert status == "status 15"
    assert checked.startswith("clean: 1 files")
    assert installed.startswith("in place in ")


@pytest.mark.parametrize(
    "line", re.findall("^glupy .*", WRITE + RUN + ELSEWHERE, re.MULTILINE), ids=lambda line: line
)
def test_each_command_is_one_that_glupy_takes(line: str) -> None:
    words = shlex.split(line.partition(" > ")[0], comments=True)[1:]
    done = CliRunner().invoke(cli, [*words, "--help"], catch_exceptions=False)
    assert (done.exit_code, done.stderr) == (0, "")


def test_what_is_shown_in_the_text_is_there() -> None:
    for shown in (LOGGED, BRICK, RUN_BRICK, *LOOKS):
        assert f"`{shown}`" in README
