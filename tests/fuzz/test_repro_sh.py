"""The shell scripts of `glupy fuzz --out`: each finds what it is about, and nothing elsewhere.

Those in docs/upstream are of here, too: ``python tests/fuzz/test_repro_sh.py`` writes them.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from glupy.testing.fuzz import Ground, Promises, Search, open_target, shell
from glupy.testing.fuzz.steps import (
    Age,
    Close,
    Create,
    Discard,
    Fallocate,
    Fstat,
    Getxattr,
    Kill,
    Link,
    Open,
    Read,
    Removexattr,
    Rename,
    Seek,
    Setxattr,
    Stat,
    Step,
    Sync,
    Truncate,
    TruncatePath,
    Unlink,
    Wait,
    Write,
    Zerofill,
)
from glupy.testing.processes import FuseMount

FAULTS_FILE = Path(__file__).parent / "translators" / "faults.py"
UPSTREAM = Path(__file__).parents[2] / "docs" / "upstream"
GLUPY = Path(sys.executable).with_name("glupy")


GROUND = Ground([], Promises(), 4096)
SHARDS = Ground([], Promises(blocks=False), 4096)


class Defect(NamedTuple):
    """One of stock GlusterFS's that a mount shows."""

    steps: Sequence[Step]
    wrong: str
    target: str
    ground: Ground = GROUND
    zero_range: bool = False

    @property
    def script(self) -> str:
        text = shell.script(
            self.steps, self.wrong, self.target, self.ground, zero_range=self.zero_range
        )
        assert text is not None
        return text


DEFECTS = {
    "discard-sets-no-times": Defect(
        [Create(0, "a"), Fallocate(0, 0, 1), Wait(), Discard(0, 0, 1)],
        "a discard sets neither mtime nor ctime (features/utime)",
        "ctime:posix",
    ),
    "zero-range-over-fuse": Defect(
        [Create(0, "a"), Write(0, 0, 1, 1), Zerofill(0, 0, 1)],
        "FALLOC_FL_ZERO_RANGE succeeds and zeroes nothing (mount/fuse)",
        "posix",
        zero_range=True,
    ),
    "discard-grows-a-sharded-file": Defect(
        [Create(0, "a"), Discard(0, 0, 1)],
        "a discard past the end makes the file longer (features/shard)",
        "shard:posix",
        SHARDS,
    ),
    "fallocate-of-a-sharded-file-hangs": Defect(
        [Create(0, "a"), Fallocate(0, 8 << 20, 4096)],
        "a fallocate that leaves out shards past the end is never answered (features/shard)",
        "shard:posix",
        SHARDS,
    ),
    "truncate-of-a-sharded-file-loses-a-shard": Defect(
        [Create(0, "a"), Write(0, 0, 1, 1), Write(0, 4 << 20, 1, 1), Truncate(0, 4 << 20)],
        "a truncate to where a shard ends empties that shard (features/shard)",
        "shard:posix",
        SHARDS,
    ),
    "truncate-of-a-dispersed-file-keeps-bytes": Defect(
        [Create(0, "a"), Write(0, 0, 1024, 1), Truncate(0, 512), Truncate(0, 1024)],
        "what a truncate to 512 bytes cuts off comes back (cluster/disperse)",
        "disperse:4+2:posix",
        SHARDS,
    ),
}
MANY = [
    Create(0, "a", os.O_RDWR | os.O_EXCL | os.O_TRUNC),
    Write(0, 0, 70_000, 1, pieces=3),
    Link(0, "a", "b"),
    Rename(0, "a", "c"),
    Wait(),
    Write(0, 100, 5000, 3),
    Open(1, "c", os.O_RDWR | os.O_APPEND),
    Write(1, 0, 5000, 3),
    Discard(0, 0, 65536),
    Zerofill(0, 8192, 5000),
    Truncate(0, 100_000),
    TruncatePath(1, "c", 99_999),
    Age(0),
    Write(0, 0, 1, 4),
    Sync(0, data_only=True),
    Setxattr(0, "b", "user.x", b""),
    Setxattr(0, "b", "user.y", b"1", os.XATTR_CREATE),
    Setxattr(0, "b", "user.y", b"2", os.XATTR_CREATE),
    Getxattr(0, "b", "user.y"),
    Removexattr(1, "c", "user.x"),
    Removexattr(1, "c", "user.x"),
    Read(0, 10, 10_000),
    Read(0, 200_000, 10),
    Create(1, "c", os.O_RDWR | os.O_EXCL),
    Open(3, "none", os.O_RDWR),
    Create(2, "d", os.O_RDWR | os.O_DIRECT | os.O_SYNC),
    Write(2, 4096, 8192, 9),
    Read(2, 0, 8192),
    Fallocate(2, 0, 100_000, keep_size=True),
    Close(1),
    Stat(0, "d"),
    Fstat(0),
    Seek(0, 0, hole=False),
    Unlink(1, "d"),
    Read(2, 0, 5),
    Rename(0, "b", "c"),
]
"""All that there is, by two clients."""


def made(
    folder: Path,
    steps: Sequence[Step],
    target: str = "pyposix",
    *,
    fault: str | None = None,
) -> Path:
    """A script, which the linter has nothing against."""
    inserts = [("features/glupy", {"module": f"{FAULTS_FILE}:{fault}"})] if fault else []
    text = shell.script(steps, "it is wrong", target, GROUND, inserts=inserts)
    assert text is not None
    path = folder / "repro.sh"
    path.write_text(text)
    lint(path)
    return path


def lint(script: Path) -> None:
    done = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def run(script: Path, *words: Path | str) -> tuple[int, str]:
    """The exit status, and the last line."""
    command = ["bash", script, *words]
    # A client in this process has changed its umask.
    done = subprocess.run(command, capture_output=True, text=True, check=False, umask=0o022)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()[-1]


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No folder, mount, loop device or process of a script."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    yield
    assert list(tmp_path.glob("repro.??????")) == []
    for command in ["mount"], ["losetup", "--list"], ["ps", "-eo", "args"]:
        listed = subprocess.run(command, capture_output=True, text=True, check=True)
        assert f"{tmp_path}/repro." not in listed.stdout


@pytest.mark.parametrize(
    "name",
    [  # that one waits for an answer
        pytest.param(name, marks=pytest.mark.long if name.endswith("hangs") else ())
        for name in DEFECTS
    ],
)
def test_a_defect_of_stock_glusterfs(name: str, brick_dir: Path) -> None:
    script = UPSTREAM / f"{name}.sh"
    assert script.read_text() == DEFECTS[name].script
    lint(script)
    assert run(script)[0] == 1
    assert run(script, brick_dir) == (0, "nothing is wrong")
    assert list(brick_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "steps", "wrong"),
    [
        (
            "DiscardEndsAByteLate",
            [Create(0, "a"), Write(0, 0, 9000, 1), Discard(0, 10, 5000)],
            "a is not what it is on the control: byte 5011",
        ),
        (
            "DiscardOnlyWritesZeros",
            [Create(0, "a"), Write(0, 0, 99_000, 1), Discard(0, 0, 65_536)],
            "blocks of 512 bytes, the control has",
        ),
        (
            "FallocateForgetsKeepSize",
            [Create(0, "a"), Fallocate(0, 0, 1, keep_size=True)],
            "a: 1 bytes, 1 links, mode 644 of 0:0; on the control: 0 bytes",
        ),
        (
            "FilesAreLostWithTheirNames",
            [Create(0, "a"), Write(0, 0, 1, 1), Unlink(0, "a"), Read(0, 0, 1)],
            "the open file is not what it is on the control",
        ),
        (
            "RemovexattrDoesNothing",
            [
                Create(0, "a"),
                Setxattr(0, "a", "user.x", b"1"),
                Removexattr(0, "a", "user.x"),
            ],
            "in the end there are",
        ),
    ],
)
def test_a_fault(fault: str, steps: list[Step], wrong: str, tmp_path: Path) -> None:
    status, last = run(made(tmp_path, steps, fault=fault))
    assert status == 1
    assert last.startswith("wrong: ")
    assert wrong in last
    assert run(made(tmp_path, steps)) == (0, "nothing is wrong")


@pytest.mark.parametrize("target", ["pybd:loop", "replicate:3:posix"])
def test_nothing_is_wrong(target: str, tmp_path: Path) -> None:
    assert run(made(tmp_path, MANY, target)) == (0, "nothing is wrong")


def test_a_folder(brick_dir: Path, tmp_path: Path) -> None:
    script = made(tmp_path, MANY, f"dir:{brick_dir}")
    assert run(script) == (0, "nothing is wrong")
    (brick_dir / "a").write_text("kept")
    assert run(script) == (2, f"cannot run: {brick_dir} is not empty")
    assert (brick_dir / "a").read_text() == "kept"
    assert run(script, tmp_path / "none")[0] == 2


def test_a_volfile(mount: FuseMount, tmp_path: Path) -> None:
    """Of a volume that somebody else serves, and that is empty afterwards."""
    volfile = tmp_path / "client.vol"
    mount.graph.write(volfile)
    assert run(made(tmp_path, MANY, str(volfile))) == (0, "nothing is wrong")
    assert list(mount.mountpoint.iterdir()) == []


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    script = made(tmp_path, [Create(0, "a"), *[Sync(0)] * 1000])
    with subprocess.Popen(
        ["bash", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert "create 0 a: ok\n" in iter(process.stdout.readline, "")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait() == 2


@pytest.mark.parametrize(
    "steps",
    [
        [Create(0, "a"), Kill()],
        [Create(0, "a"), Unlink(0, "a"), Write(0, 0, 1, 1)],
    ],
)
def test_what_no_script_can_do(steps: list[Step]) -> None:
    assert shell.script(steps, "", "posix", GROUND) is None


@pytest.mark.parametrize("leaf", ["storage/posix"])
@pytest.mark.allow_log("posix_handle_pair.*(No data available|File exists)")
def test_zerofill_on_a_mount_is_found_without_a_hint(mount: FuseMount, brick_dir: Path) -> None:
    """On ext4 nothing is found (test_fuzz.py)."""
    for seed in range(20):
        with open_target(f"dir:{mount.mountpoint}") as ground:
            found = Search(ground).run(examples=100, seed=seed, shrink=False)
        if found is not None and re.search(r"byte \d+ is 0x\w\w, not 0x00", found.wrong):
            break
    else:
        pytest.fail("not found")
    assert any(isinstance(step, Zerofill) for step in found.steps)
    script = UPSTREAM / "zero-range-over-fuse.sh"
    assert run(script, mount.mountpoint)[0] == 1
    control = brick_dir / "control"
    control.mkdir()
    assert run(script, control) == (0, "nothing is wrong")


def test_a_rename_to_the_same_name_does_not_show(tmp_path: Path) -> None:
    """A defect of posix's that the kernel keeps from happening (test_fuzz.py has it)."""
    assert not shell.shows(made(tmp_path, [Create(0, "a"), Rename(0, "a", "a")], "posix"))


def test_what_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "PATIENCE", 1)
    assert not shell.shows(made(tmp_path, [Create(0, "a"), *[Sync(0)] * 1000]))


def test_the_command(tmp_path: Path) -> None:
    """The script is kept if it shows what was found."""
    environment = {**os.environ, "HOME": str(tmp_path), "COLUMNS": "200"}

    def glupy(fault: str) -> str:
        insert = f"features/glupy,module={FAULTS_FILE}:{fault}"
        command: list[Path | str] = [
            GLUPY,
            "fuzz",
            "pyposix",
            "--seed",
            "1",
            "--insert",
            insert,
            "--out",
            tmp_path,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 1, done.stderr
        return done.stdout

    assert f"again, without Python: {tmp_path}/repro.sh" in glupy("TruncateIsAByteOff")
    assert run(tmp_path / "repro.sh")[0] == 1
    (sound := tmp_path / "sound").mkdir()
    assert run(tmp_path / "repro.sh", sound)[0] == 0
    shown = glupy("WritesTellTheirSizeBefore")
    assert "no repro.sh: through a mount this does not show" in shown
    assert len(list(tmp_path.glob("repro*.sh"))) == 1


if __name__ == "__main__":
    for each, defect in DEFECTS.items():
        path = UPSTREAM / f"{each}.sh"
        path.write_text(defect.script)
        path.chmod(0o755)
