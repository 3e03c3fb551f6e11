"""Commands in a virtual machine on the host's root."""

import os
import sys
from pathlib import Path

import pytest

from glupy.testing import guest

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.long
def test_the_projects_tests_run_in_it(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    inside = "tests/guest/inside.py"
    of_the_project = (
        "tests/integration/test_volfile_bricks.py::test_a_brick_on_a_unix_socket_serves_its_client"
    )
    done = guest.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "--durations=0",
            f"--junit-xml={report}",
            inside,
            of_the_project,
        ],
        cwd=CHECKOUT,
        modules=["dm-thin-pool", "scsi_debug dev_size_mb=300 lbpu=1"],
        shared=[tmp_path],
        echo=sys.stdout,
    )
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout
    assert 'tests="5"' in report.read_text()


def test_what_comes_out_of_it(tmp_path: Path) -> None:
    """The status, the output, and what was written to what is shared; nothing else."""
    shared, kept = tmp_path / "it's, shared", tmp_path / "kept"
    shared.mkdir()
    kept.write_text("as it was")
    script = """
        set -e
        echo "$PWD $GREETING" >&2
        echo changed > kept
        echo made > made
        cp kept "it's, shared"
        cat kept
        touch /usr/touched /etc/touched /var/touched /tmp/touched /run/touched /dev/shm/touched
        printf 'no end of the line'
        exit 200
    """
    done = guest.run(
        ["sh", "-c", script], cwd=tmp_path, shared=[shared], environment={"GREETING": "it's I"}
    )
    assert done.returncode == 200
    assert done.stdout == f"{tmp_path} it's I\nchanged\nno end of the line"
    assert (shared / "kept").read_text() == "changed\n"
    assert kept.read_text() == "as it was"
    assert sorted(tmp_path.iterdir()) == sorted([shared, kept])
    for folder in "/usr", "/etc", "/var", "/tmp", "/run", "/dev/shm":
        assert not Path(folder, "touched").exists()


def test_a_machine_that_ends_says_why() -> None:
    with pytest.raises(guest.GuestError, match=r"the machine ended(?s:.*)no_such_module not found"):
        guest.run(["true"], modules=["no_such_module"])


def test_a_machine_that_takes_too_long_is_ended() -> None:
    with pytest.raises(guest.GuestError, match="no end within 1 s"):
        guest.run(["true"], timeout=1)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
