"""`glupy volume` without a glusterd: what it reads in volfiles and logs, and what it refuses."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from glupy import stores
from glupy_tools import gluster, install, rolling, volume_state
from glupy_tools.failures import CommandError
from glupy_tools.gluster import Brick, Volume
from glupy_tools.volume_state import SETTING, BrickState, Stack
from volfiles import filter as volfilter

PY = Stack("storage/pyposix", [])
BRICK = Brick("host1:/bricks/one", "id-1")
TEXT = """\
volume vv-posix
    type storage/{leaf}
    option directory /bricks/one
end-volume

volume vv-glupy
    type {type}
    option leaf pyposix
    subvolumes vv-posix
end-volume
"""
LOG = """\
[2026-11-27 17:07:36.963062 +0000] I [MSGID: 100030] [glusterfsd.c:2767:main] 0-/usr/sbin/glusterfsd: Started running version [{arg=/usr/sbin/glusterfsd}]
[2026-11-27 17:07:36.964647 +0000] I [glusterfsd.c:2447:daemonize] 0-glusterfs: Pid of current running process is %d
Final graph:
+------------------------------------------------------------------------------+
  1: volume vv-posix
  2:     type storage/%s
  2:     option directory /bricks/one
  3: end-volume
  4:  
  5: volume vv-pybd
  6:     type user/pybd
  7:     option map type a b
  8:     subvolumes vv-posix
  9: end-volume
 10:  
 11: volume vv-trash
 12:     type features/trash
 13: end-volume
+------------------------------------------------------------------------------+
[2026-11-27 17:07:36.963062 +0000] E [MSGID: 1] [a.c:1:b] 0-vv-posix: the first complaint
[2026-11-27 17:07:36.963062 +0000] E [MSGID: 1] [a.c:1:b] 0-vv-pybd: this translator does not start: no pool
"""  # noqa: E501, W291


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volume_state, "installation", lambda: None)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """glusterd's working directory, with one volume."""
    (tmp_path / "vols" / "vv").mkdir(parents=True)
    monkeypatch.setattr(gluster, "working_directory", lambda: tmp_path)
    return tmp_path


def volume(*, leaf: str | None = "pyposix", started: bool = True, **other: str) -> Volume:
    options = {SETTING: "posix", f"{SETTING}.leaf": leaf} if leaf else {}
    return Volume("vv", "id", started, True, [BRICK], {**options, **other})


def write(work: Path, leaf: str, type_: str = "features/trash") -> Path:
    path = work / "vols" / "vv" / "vv.host1.bricks-one.vol"
    path.write_text(TEXT.format(leaf=leaf, type=type_))
    return path


def brick(of: Volume, work: Path, here: str = "id-1") -> BrickState:
    (state,) = volume_state.state(of, work, here).bricks
    return state


def test_a_volfile_as_it_was_asked_for(work: Path) -> None:
    write(work, "pyposix")
    state = brick(volume(started=False), work)
    assert state == BrickState(BRICK.name, False, PY, PY, None, None)


def test_a_setting_of_glusterd_own_is_asked_for_too(work: Path) -> None:
    write(work, "pyposix", "user/own")
    state = brick(volume(started=False, **{"user.xlator.own": "posix"}), work)
    assert state.asked == state.volfile == Stack("storage/pyposix", ["user/own"])
    assert state.problem is None


def test_what_is_wrong_with_a_volfile(work: Path) -> None:
    state = brick(volume(started=False), work)
    assert state.problem is not None
    assert "vv.host1.bricks-one.vol cannot be read: " in state.problem
    write(work, "posix")
    state = brick(volume(started=False), work)
    assert state.problem == "its volfile has storage/posix"


def test_a_filter_that_failed_is_told_with_its_reason(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, log = write(work, "posix", "user/glupy"), work / "log"
    monkeypatch.setattr(volfilter, "LOG", log)
    problem = brick(volume(started=False), work).problem
    assert problem == f"the filter has not done its work: {log} does not say why"
    log.write_text(f"[now] E {path}: first\n[now] E {path}: No space left\n[now] E /other: x\n")
    problem = brick(volume(started=False), work).problem
    assert problem == "the filter has not done its work: No space left"
    monkeypatch.setattr(volume_state, "installation", lambda: "GlusterFS was upgraded")
    problem = brick(volume(started=False), work).problem
    assert problem == "the filter has not done its work: GlusterFS was upgraded"
    problem = brick(volume(), work).problem
    assert problem == "does not run: the filter has not done its work: GlusterFS was upgraded"


def test_a_brick_that_is_down(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(work, "pyposix")
    monkeypatch.setattr(volume_state, "_BRICK_LOGS", work)
    assert brick(volume(), work, here="id-2").problem == "does not run"
    log = work / "bricks-one.log"
    assert brick(volume(), work).problem == f"does not run: there is no log {log}"
    log.write_text(LOG % (1, "pyposix"))
    expected = "does not run: 0-vv-pybd: this translator does not start: no pool"
    assert brick(volume(), work).problem == expected
    log.write_text(
        LOG % (1, "pyposix")
        + (LOG % (2, "pyposix")).partition("[2026-11-27 17:07:36.963062 +0000] E")[0]
    )
    assert brick(volume(), work).problem == f"does not run: see {log}"


def test_what_a_process_runs_is_in_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    words = [sys.executable, "-c", "print(flush=True); input()", "-l", str(log)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()  # only now /proc is sure to have its arguments
        log.touch()
        own = replace(BRICK, pid=process.pid)
        assert volume_state.running(own, []) is None
        log.write_text(LOG % (process.pid, "pyposix") + LOG % (process.pid + 1, "posix"))
        assert volume_state.running(own, []) == Stack("storage/pyposix", ["user/pybd"])
        chosen = ["user/pybd", "features/trash"]
        assert volume_state.running(own, chosen) == Stack("storage/pyposix", chosen)
        attached = Brick("host1:/bricks/two", "id-1", process.pid)
        assert volume_state.running(attached, []) is None
        process.communicate(b"\n")
    assert volume_state.running(own, []) is None


def test_settings_that_went(work: Path) -> None:
    write(work, "posix")
    reset = volume(leaf=None, started=False)
    assert volume_state.state(reset, work, "id-1").problem is None
    volume_state.remember("vv", {SETTING: "posix", f"{SETTING}.leaf": "pyposix"})
    assert volume_state.state(volume(started=False), work, "id-1").problem is None
    assert volume_state.state(reset, work, "id-1").problem == (
        "its settings are gone, by `gluster volume reset`? To have them again: "
        f"gluster volume set vv {SETTING} posix {SETTING}.leaf pyposix"
    )
    odd = "user/pybd,map=*.img thin,a'b"
    volume_state.remember("vv", {SETTING: "posix", f"{SETTING}.translators": odd})
    problem = volume_state.state(reset, work, "id-1").problem
    assert problem is not None
    assert shlex.split(problem.partition("again: ")[2])[-1] == odd
    volume_state.remember("vv", volume_state.written(volfilter.Request()))
    assert volume_state.state(reset, work, "id-1").problem is None, "they asked for nothing"


def test_settings_that_are_seen_are_remembered(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot that is restored has settings that nobody set by `glupy volume`."""
    path = write(work, "pyposix")
    seen, reset = volume(started=False), volume(leaf=None, started=False)
    monkeypatch.setattr(gluster, "own_id", lambda: "id-1")
    monkeypatch.setattr(gluster, "volumes", lambda _: [seen])
    assert [state.problem for state in volume_state.states("vv")] == [None]
    kept = path.with_name("glupy-settings.json")
    inode = kept.stat().st_ino
    volume_state.states("vv")
    assert kept.stat().st_ino == inode, "nothing new is to be written"
    monkeypatch.setattr(gluster, "volumes", lambda _: [reset])
    (state,) = volume_state.states("vv")
    assert state.problem is not None
    assert state.problem.startswith("its settings are gone")


def test_settings_that_make_no_sense(work: Path) -> None:
    state = volume_state.state(volume(leaf="features/none"), work, "id-1")
    assert state.problem is not None
    assert state.problem.startswith(f"vv: {SETTING}.*: 'features/none' cannot be a leaf")


def test_restarting_needs_replicas_in_processes_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = Volume("vv", "id", True, False, [BRICK], {})
    with pytest.raises(CommandError, match=r"^vv is neither replicated nor dispersed: "):
        rolling.refuse_unfit(plain)
    tree = "<cliOutput><volGetopts><Opt><Value>{}</Value></Opt></volGetopts></cliOutput>"
    for value in "off", "disable (DEFAULT)":
        answer = ElementTree.fromstring(tree.format(value))
        monkeypatch.setattr(gluster, "xml", lambda *_, answer=answer: answer)
        rolling.refuse_unfit(volume())


def test_a_brick_that_does_not_come_back_ends_it(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: str) -> str:
        raise stores.StoreError("Commit failed")

    other = Brick("host1:/bricks/two", "id-1", os.getpid())
    down = Volume("vv", "id", True, True, [other, BRICK], {})
    monkeypatch.setattr(gluster, "volumes", lambda _: [down])
    monkeypatch.setattr(gluster, "run", run)
    monkeypatch.setattr(gluster, "pids", lambda _: {other.name: other.pid})
    monkeypatch.setattr(volume_state, "_BRICK_LOGS", work)
    restarted = rolling.restart("vv", "id-1")
    assert next(restarted) == f"restarting {BRICK.name}", "the one that is down is first"
    with pytest.raises(
        CommandError, match=r"bricks/one does not start: there is no log .*-one\.log"
    ):
        next(restarted)
    assert list(rolling.restart("vv", "id-2")) == [], "bricks of other hosts are left alone"


def test_a_brick_that_comes_with_another_one_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """`gluster volume start force` starts all that are down."""
    both = [Brick(f"host1:/bricks/{number}", "id-1") for number in range(2)]
    running: dict[str, int] = {}
    down = Volume("vv", "id", True, True, both, {})
    monkeypatch.setattr(gluster, "volumes", lambda _: [down])
    monkeypatch.setattr(
        gluster, "run", lambda *_: running.update({brick.name: 1 << 30 for brick in both})
    )
    monkeypatch.setattr(gluster, "pids", lambda _: running)
    monkeypatch.setattr(rolling, "_end", lambda pid: pytest.fail(f"process {pid} is ended"))
    monkeypatch.setattr(rolling, "_settle", lambda _: iter(()))
    told = [f"restarting {brick.name}" for brick in both]
    assert list(rolling.restart("vv", "id-1", everything=True)) == told


def test_a_brick_is_restarted_when_all_others_are_well(monkeypatch: pytest.MonkeyPatch) -> None:
    bricks = [Brick(f"host1:/bricks/{number}", "id-1", 1) for number in range(2)]
    names = [brick.name for brick in bricks]
    well = Volume("vv", "id", True, True, bricks, {})
    counts = [dict(zip(names, each, strict=True)) for each in ((2, 0), (2, 1), (2, 2), (2, 2))]
    left = [3, None, 0]
    healed: list[tuple[str, ...]] = []
    monkeypatch.setattr(rolling, "_POLL", 0)
    monkeypatch.setattr(gluster, "pids", lambda _: dict.fromkeys(names, 1))
    monkeypatch.setattr(
        gluster, "clients", lambda _: counts.pop(0) if len(counts) > 1 else counts[0]
    )
    monkeypatch.setattr(gluster, "pending", lambda _: left.pop(0))
    monkeypatch.setattr(gluster, "run", lambda *words: healed.append(words))
    monkeypatch.setattr(rolling, "TELL_INTERVAL", 0)
    assert list(rolling._settle(well)) == ["3 entries are to be healed", "waiting for heal"]
    assert len(counts) == 1
    assert left == []
    assert healed == [("volume", "heal", "vv")] * 2
    monkeypatch.setattr(gluster, "pids", lambda _: {names[0]: 1})
    with pytest.raises(CommandError, match=r"^host1:/bricks/1 is down: nothing more is restarted$"):
        list(rolling._settle(well))


def test_uninstall_is_refused_while_volumes_need_it(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "ours": "user.xlator.glupy=posix\nuser.xlator.glupy.leaf=posix\n",
        "pybd": "user.xlator.pybd=posix\n",
        "others": "user.xlator.other=posix\nuser.glupy=x\nuser.xlator.glupy.leaf=pyposix\n",
    }.items():
        (work / "vols" / name).mkdir()
        (work / "vols" / name / "info").write_text(text)
    (work / "snaps" / "s" / "snap").mkdir(parents=True)
    (work / "snaps" / "s" / "snap" / "info").write_text("user.xlator.glupy=posix\n")
    xlatordir = work / "10.3" / "xlator"
    xlatordir.mkdir(parents=True)
    record = install.Record("/env", "3.11", "10.3", "/b.so", {"user/glupy.so": "/b.so"}, [])
    record.write(xlatordir)
    monkeypatch.setattr(install, "xlator_folder", lambda: xlatordir)
    with pytest.raises(CommandError, match=r"volumes need what would go .*: ours, snap$"):
        install.uninstall.main([], standalone_mode=False)
    assert (xlatordir / install.RECORD).exists()
    assert gluster.volumes_with({"user/pybd", "user/glupy"}) == ["ours", "pybd", "snap"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["use", "vv"], "glupy volume use: Missing option '--leaf'."),
        (["add", "vv", "pybd", "-o", "x"], "'x' is not KEY=VALUE"),
    ],
)
def test_bad_usage_is_one_line(words: list[str], line: str) -> None:
    command = [sys.executable, "-m", "glupy_tools", "volume", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from glupy_tools import volume as command

    state = BrickState("h:/[b]", True, PY, PY, None, "broken")
    shown = volume_state.VolumeState("vv", True, {"leaf": "pyposix"}, "gone", [state])
    monkeypatch.setattr(volume_state, "states", lambda _: [shown])
    command.status.main([], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "vv (started)"
    assert lines[2].split() == ["h:/[b]", "storage/pyposix", "storage/pyposix", "?"]
    assert lines[3:] == ["vv: gone", "h:/[b]: broken"]
    command.status.main(["--json"], standalone_mode=False)
    stack = {"leaf": "storage/pyposix", "translators": []}
    assert json.loads(capsys.readouterr().out) == {
        "install": None,
        "volumes": [
            {
                "volume": "vv",
                "started": True,
                "settings": {"leaf": "pyposix"},
                "problem": "gone",
                "bricks": [
                    {
                        "brick": "h:/[b]",
                        "online": True,
                        "asked": stack,
                        "volfile": stack,
                        "running": None,
                        "problem": "broken",
                    }
                ],
            }
        ],
    }
