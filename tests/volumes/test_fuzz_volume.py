"""`glupy fuzz volume:NAME`, and the script that it writes for one."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from glupy import stores
from glupy.testing.fuzz import Ground, Promises, shell
from glupy.testing.fuzz.steps import Create, Discard, Link, Rename, Step, Truncate, Unlink, Write
from glupy.testing.logs import LogChecker
from glupy.testing.volumes import Glusterd

from .leaves import PARTING, volume_on

# What is refused, and the fuzzer tries just that, C logs as an error; ours has no MSGID.
pytestmark = pytest.mark.allow_log(*PARTING, r"\[MSGID: \d+\] \[(server-rpc-fops_v2|posix)")

GLUPY = Path(sys.executable).with_name("glupy")
GROUND = Ground([], Promises(blocks=False), 4096)
STEPS = [
    Create(0, "a"),
    Write(0, 0, 70_000, 1),
    Link(0, "a", "b"),
    Discard(0, 100, 65_536),
    Truncate(0, 100_000),
    Rename(0, "b", "c"),
    Unlink(1, "a"),
]


def fuzz(target: str, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(GLUPY), "fuzz", target, *words]
    environment = {**os.environ, "HOME": str(home)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def scripted(steps: Sequence[Step], target: str, folder: Path) -> tuple[int, str]:
    """What a script of these steps says: its exit status and last line."""
    text = shell.script(steps, "it is wrong", target, GROUND)
    assert text is not None
    script = folder / "repro.sh"
    script.write_text(text)
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()[-1]


def test_a_volume(
    glusterd: Glusterd, store: stores.Store, logs: LogChecker, tmp_path: Path
) -> None:
    """Nothing is found on it; it must be empty, and is so afterwards."""
    with volume_on("pyposix", glusterd, store, logs, 2, "replica", "2") as volume:
        target = f"volume:{volume.name}"
        done = fuzz(target, tmp_path, "--examples", "25", "--seed", "1")
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(r"\d\d sequences, [\d,]+ calls\nnothing found\n", done.stdout)
        with volume.mounted(tmp_path / "mnt") as mnt:
            assert sorted(path.name for path in mnt.iterdir()) in ([], [".trashcan"])
            (mnt / "there").touch()
            assert "it is not empty: 'there' is in it" in fuzz(target, tmp_path).stderr
            (mnt / "there").unlink()
        assert scripted(STEPS, target, tmp_path) == (0, "nothing is wrong")


@pytest.mark.long
def test_what_is_wrong_on_a_volume(
    glusterd: Glusterd, store: stores.Store, logs: LogChecker, tmp_path: Path
) -> None:
    """A defect of C posix, found without a hint."""
    with volume_on("posix", glusterd, store, logs, 1) as volume:
        done = fuzz(f"volume:{volume.name}", tmp_path, "--seed", "1", "--time", "60")
        assert done.returncode == 1, done.stdout + done.stderr
        renamed = re.search(r"rename .* old (.), new \1 ", done.stdout)
        assert renamed is not None, done.stdout
        lost = f"wrong: in the end: [Errno 2] No such file or directory: '/{renamed[1]}'"
        assert lost in done.stdout


# The script kills its mount, maybe while shard deletes: its locks go before it gives them back.
@pytest.mark.allow_log(r"__unlock_entrylk\].*attempted but no matching lock found")
def test_a_script_for_a_volume(
    glusterd: Glusterd, store: stores.Store, logs: LogChecker, tmp_path: Path
) -> None:
    """A defect of features/shard, shown without Python."""
    with volume_on("posix", glusterd, store, logs, 1, options={"features.shard": "on"}) as volume:
        found = scripted([Create(0, "a"), Discard(0, 0, 1)], f"volume:{volume.name}", tmp_path)
        same = "1 links, mode 644 of 0:0"
        assert found == (1, f"wrong: a: 1 bytes, {same}; on the control: 0 bytes, {same}")
