"""`glupy volume` on volumes that gluster made: what it changes stays; what cannot be is said."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glupy import stores
from glupy.testing.logs import LogChecker
from glupy.testing.volumes import Glusterd, Volume
from glupy.testing.waiting import wait_until
from glupy_tools import gluster, volume_state
from glupy_tools.volume_state import VolumeState
from volfiles import filter as volfilter

from . import filter_log
from .leaves import glupy
from .load import Worker

HELLO = Path(__file__).parents[2] / "xlators" / "examples" / "hello.py"
Make = Callable[..., Volume]
_numbers = itertools.count()

pytestmark = pytest.mark.allow_log(
    # a brick that runs, when its volfile gets another topology, builds that first
    r"Address already in use|__socket_server_bind failed|unregister with portmap",
    r"program_unregister|Initialization of volume failed|initializing translator failed",
    r"0-graph: init failed",
    # a brick that is restarted
    r"Transport endpoint is not connected|first lookup on root failed|forced unwinding frame",
    r"Failed to get fd context for a non-anonymous fd|rpcsvc_submit_generic",
    # and what was locked or open in it before
    r"Matching lock not found for unlock|server4_f?(inode|entry)lk_cbk",
    r"server4_\w+_cbk\] .*{errno=(9|77|116)}",
)


def done(*words: str | Path) -> str:
    result = glupy(*words)
    assert result.returncode == 0, result
    return result.stdout


def refused(*words: str | Path) -> str:
    """The one line that a command fails with."""
    result = glupy(*words)
    assert result.returncode == 1, result
    (line,) = result.stderr.splitlines()
    return line.removeprefix("glupy: ")


def state(volume: Volume) -> VolumeState:
    (state,) = volume_state.states(volume.name)
    return state


def problems(volume: Volume) -> list[str]:
    shown = state(volume)
    found = [shown.problem, *(brick.problem for brick in shown.bricks)]
    return [problem for problem in found if problem]


def running(volume: Volume) -> list[list[str]]:
    """What runs in each brick, when all is well: leaf and translators."""
    found = []
    for brick in state(volume).bricks:
        assert brick.problem is None
        assert brick.asked == brick.volfile == brick.running
        found.append([brick.asked.leaf, *brick.asked.translators])
    return found


PY, C = ["storage/pyposix"], ["storage/posix"]


@pytest.fixture(autouse=True)
def log() -> Iterator[Path]:
    with filter_log.kept() as log:
        yield log


@pytest.fixture
def make(glusterd: Glusterd, store: stores.Store, logs: LogChecker) -> Iterator[Make]:
    """``make(how many bricks, *words of gluster)``: volumes as everybody makes them."""
    with contextlib.ExitStack() as undo:

        def make(bricks: int, *kind: str) -> Volume:
            folder = store.folder / f"plain-{next(_numbers)}"
            paths = [folder / str(number) for number in range(bricks)]
            volume = glusterd.create(folder.name, paths, *kind)
            undo.callback(stores.run, "rm", "-r", folder)
            undo.callback(glusterd.gluster, "volume", "delete", volume.name)
            undo.callback(glusterd.gluster, "volume", "stop", volume.name, "force")
            logs.watch(*map(volume.log, paths))
            return volume

        yield make


def writer(path: Path) -> Worker:
    """Writes a file again and again, and looks whether it is what was written."""

    def write() -> None:
        data = os.urandom(64 * 1024)
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        assert path.read_bytes() == data

    return Worker(contextlib.nullcontext(write), pause=0)


def test_a_replica_volume_goes_to_pyposix_under_load_and_back(
    make: Make, glusterd: Glusterd, tmp_path: Path
) -> None:
    volume = make(2, "replica", "2")
    name, bricks = volume.name, [glusterd.brick(brick) for brick in volume.bricks]
    assert running(volume) == [C, C]
    glusterd.gluster("volume", "set", "all", "cluster.brick-multiplex", "on")
    assert refused("volume", "use", name, "--leaf", "pyposix", "--rolling") == (
        "cluster.brick-multiplex is on, bricks share a process: stop the volume first"
    )
    glusterd.gluster("volume", "set", "all", "cluster.brick-multiplex", "off")
    assert refused("volume", "use", name, "--leaf", "pyposix") == (
        f"{name} is started: stop it first, or let --rolling restart bricks"
    )
    with volume.mounted(tmp_path / "mnt") as mnt, writer(mnt / "file") as writing:
        (mnt / "old").write_text("old")
        pids = [volume.pid(brick) for brick in volume.bricks]
        words = "--leaf", "pyposix", "--rolling"
        done("volume", "use", name, *words, "--brick", bricks[1])
        assert running(volume) == [C, PY]
        assert volume.pid(volume.bricks[0]) == pids[0]
        assert done("volume", "use", name, *words) == (
            f"{name}: restarting {bricks[0]}\n{name}: done\n"
        )

        # what is set later reaches the new leaf, in the processes that run
        free = os.statvfs(mnt).f_bavail
        volume.set("storage.reserve", "60")
        # Bricks hear of it after the command has ended.
        wait_until(lambda: os.statvfs(mnt).f_bavail < free / 2, "the new reserve")
        volume.set("storage.reserve", "1")

        volume.replace_brick(volume.bricks[0], volume.bricks[0].with_name("new"))
        volume.heal()
        volume.add_bricks(*(volume.bricks[0].with_name(f"more-{number}") for number in range(2)))
        assert running(volume) == [PY] * 4
        glusterd.restart()
        volume.set("storage.reserve", "2")
        assert running(volume) == [PY] * 4
        assert (mnt / "old").read_text() == "old"
    writing.raise_error()
    assert writing.rounds > 20

    volume.stop()
    volume.start()
    assert running(volume) == [PY] * 4

    # a reset takes the settings away, and that is seen
    glusterd.gluster("volume", "reset", name)
    wiped, *others = problems(volume)
    assert wiped.startswith("its settings are gone")
    assert others == ["runs storage/pyposix until it is restarted"] * 4
    stores.run(*wiped.partition("again: ")[2].split())
    assert running(volume) == [PY] * 4
    assert gluster.volumes_with({"user/glupy"}) == [name]

    volume.stop()
    assert done("volume", "use", name, "--leaf", "posix") == (
        f"{name}: its bricks have it from the next start on\n"
    )
    volume.start()
    assert running(volume) == [C] * 4
    with volume.mounted(tmp_path / "mnt") as mnt:
        assert (mnt / "old").read_text() == "old"


@pytest.mark.long
@pytest.mark.parametrize("kind", ["replica 3", "replica 2 arbiter 1", "disperse 6 redundancy 2"])
def test_all_bricks_are_restarted_one_after_the_other(
    kind: str, make: Make, glusterd: Glusterd, tmp_path: Path
) -> None:
    number = 6 if "disperse" in kind else 3
    volume = make(number, *kind.split())
    name, hello = volume.name, "features/glupy"

    def change(*words: str) -> None:
        output = done("volume", words[0], name, *words[1:], "--rolling").splitlines()
        bricks = [glusterd.brick(brick) for brick in volume.bricks]
        told = [line for line in output if "to be healed" not in line]
        assert told == [*(f"{name}: restarting {brick}" for brick in bricks), f"{name}: done"]

    with volume.mounted(tmp_path / "mnt") as mnt, writer(mnt / "file") as writing:
        (mnt / "old").write_text("old")
        change("use", "--leaf", "pyposix")
        assert running(volume) == [PY] * number
        change("add", hello, "-o", f"module={HELLO}:Hello")
        assert running(volume) == [[*PY, hello]] * number
        volume.replace_brick(volume.bricks[0], volume.bricks[0].with_name("new"))
        volume.heal()
        more = [volume.bricks[0].with_name(f"more-{n}") for n in range(number)]
        volume.add_bricks(*more)
        volume.set("storage.reserve", "2")
        assert running(volume) == [[*PY, hello]] * 2 * number
        change("remove", hello)
        change("use", "--leaf", "posix")
        assert running(volume) == [C] * 2 * number
        assert (mnt / "old").read_text() == "old"
    writing.raise_error()
    assert writing.rounds > 20


REFUSING = """
import errno
from glupy import PASS, Translator

class Mine(Translator):
    def create(self, *arguments):
        %s
"""


def test_changed_code(make: Make, tmp_path: Path) -> None:
    volume = make(2, "replica", "2")
    name, mine = volume.name, tmp_path / "mine.py"
    mine.write_text(REFUSING % "raise OSError(errno.EDQUOT, 'no')")
    words = "features/glupy", "-o", f"module={mine}:Mine"
    done("volume", "add", name, *words, "--rolling")
    with volume.mounted(tmp_path / "mnt") as mnt:
        with pytest.raises(OSError, match="quota"):
            (mnt / "file").touch()
        mine.write_text(REFUSING % "return PASS")
        restarted = done("volume", "restart", name).splitlines()
        assert [line.split()[1] for line in restarted] == ["restarting", "restarting", "done"]
        (mnt / "file").touch()
    again = done("volume", "add", name, "features/glupy", "-o", f"module={HELLO}:Hello")
    assert again.splitlines()[-1].endswith(f"glupy volume restart {name}")

    # Another host has removed it, or a run that was ended: bricks run it without a setting.
    settings = volume_state.written(volfilter.Request())
    stores.run("gluster", "volume", "set", name, *itertools.chain(*settings.items()))
    volume_state.remember(name, settings)
    assert "is not among what" in refused("volume", "remove", name, "features/glupy")
    said = done("volume", "use", name, "--leaf", "posix").splitlines()
    assert "run something else, or nobody knows what, until they are restarted" in said[-1]
    assert "is not among what" in refused("volume", "remove", name, "features/none", "--rolling")
    restarted = done("volume", "remove", name, "features/glupy", "--rolling").splitlines()
    assert [line.split()[1] for line in restarted if "healed" not in line] == [
        *("restarting", "restarting", "done")
    ]
    assert running(volume) == [C] * 2
    assert "is not among what" in refused("volume", "remove", name, "features/glupy", "--rolling")
    volume.stop()
    assert refused("volume", "restart", name) == f"{name} is not started"


def test_translators_come_and_go(make: Make, store: stores.Store, tmp_path: Path) -> None:
    volume = make(2)
    name = volume.name
    pool = store.folder / "a pool"
    pool.mkdir()
    options = "-o", f"pool=loop:{pool}", "-o", 'map=*.img=thin *,"+%.raw=thin'
    assert refused("volume", "add", name, "pybd", *options, "--rolling") == (
        f"{name} is neither replicated nor dispersed: stop it first"
    )
    volume.stop()
    for words, line in {
        (
            "pybd",
            "-o",
            "pool=loop:/",
            "-o",
            "sector-size=100",
        ): "sector-size: 100 is below 512",
        ("pybd", "-o", "pool=nothing"): "option pool: 'nothing' is not one of",
        ("pybd", *options, "-o", "colour=red"): "user/pybd has no option 'colour'",
        ("nothing",): "type 'user/nothing' is not valid or not found on this machine",
    }.items():
        assert line in refused("volume", "add", name, *words)
    assert "type 'storage/nothing' is not" in refused("volume", "use", name, "--leaf", "nothing")
    assert refused("volume", "use", name, "--leaf", "posix", "--brick", "a:/b") == (
        f"{name} has no brick a:/b: it has {', '.join(each.brick for each in state(volume).bricks)}"
    )
    assert refused("volume", "remove", name, "pybd").startswith("user/pybd is not among what")
    assert refused("volume", "status", "nothing") == "nothing: Volume does not exist"
    for no_name in "", "all":  # which gluster takes for every volume
        words = "volume", "use", no_name, "--leaf", "pyposix"
        assert refused(*words) == f"{no_name!r}: there is no volume of that name"
    assert state(volume).settings == volfilter.Request().options(), "nothing was changed"

    done("volume", "add", name, "pybd", *options)
    done("volume", "use", name, "--leaf", "pyposix")
    volume.start()
    assert running(volume) == [[*PY, "user/pybd"]] * 2
    with volume.mounted(tmp_path / "mnt") as mnt:
        for each in "a.img", 'b,"+%.raw':
            (mnt / each).touch()
        assert len(list(pool.iterdir())) == 2
        # Options alone need no restart, and no replicas.
        assert done("volume", "add", name, "pybd", *options[:2], "-o", "map=*.new=thin") == (
            f"{name}: its bricks take the options as they run\n"
        )
        assert running(volume) == [[*PY, "user/pybd"]] * 2
        for number in itertools.count():
            (mnt / f"{number}.new").touch()
            if len(list(pool.iterdir())) > 2:
                break
            assert number < 200, "no new file is mapped"
            time.sleep(0.05)
        assert "are mapped, such as glupy." in refused("volume", "remove", name, "pybd")
        for path in mnt.iterdir():
            path.unlink()
        assert "maps new files: set user/pybd anew" in refused("volume", "remove", name, "pybd")
    volume.stop()
    done("volume", "remove", name, "pybd")
    volume.start()
    assert running(volume) == [PY] * 2
    pool.rmdir()


def test_a_translator_of_ones_own(make: Make, tmp_path: Path) -> None:
    """By its file, as docs/writing-translators.md says; its options change while the brick runs."""
    volume = make(1)
    words = "volume", "add", volume.name, "features/glupy", "-o", f"module={HELLO}:Hello"
    volume.stop()
    done(*words)
    volume.start()
    assert running(volume) == [[*C, "features/glupy"]]
    log, numbers = volume.log(volume.bricks[0]), itertools.count()
    with volume.mounted(tmp_path / "mnt") as mnt:

        def greeted(how: str) -> bool:
            (mnt / f"file-{next(numbers)}").touch()
            return f"{how}, user 0: /file-" in log.read_text()

        wait_until(lambda: greeted("hello"), "the translator's line")
        done(*words, "-o", "greeting=salve")
        wait_until(lambda: greeted("salve"), "the other greeting")


# performance/io-threads ends a brick that does not start by a crash (docs/upstream-defects.md).
@pytest.mark.allow_log(
    r"(barrier\.c:\d+:fini|cleanup_and_exit)\].*\npending frames:\nframe : type\(0\) op\(0\)\n"
    r"(.*\n)*signal received: 11"
)
@pytest.mark.allow_log("not valid or not found", "does not start", "parser", "failed to construct")
@pytest.mark.allow_log("OptionError: the volfile asks for user/nothing")
@pytest.mark.expect_log("was not filtered, see .*: everything passes")
def test_a_filter_or_a_brick_that_fails_is_told(
    make: Make, glusterd: Glusterd, log: Path, tmp_path: Path
) -> None:
    volume = make(1)
    name = volume.name
    setting = "user.xlator.glupy"
    with volume.mounted(tmp_path / "mnt") as mnt:
        volume.set(setting, "posix", f"{setting}.leaf", "features/none")
        (problem,) = problems(volume)
        assert problem.startswith(f"{name}: {setting}.*: 'features/none' cannot be a leaf")
        assert "E " in log.read_text().splitlines()[-1]
        (mnt / "served").write_text("as before")
    volume.stop()
    volume.start()  # the node that asks lets everything pass
    with volume.mounted(tmp_path / "mnt") as mnt:
        assert (mnt / "served").read_text() == "as before"
    assert ": everything passes" in volume.log(volume.bricks[0]).read_text()
    # Without a translator that was asked for clients might see what is not the data.
    volume.set(f"{setting}.translators", "user/nothing")
    volume.stop()
    with pytest.raises(stores.StoreError):
        glusterd.gluster("volume", "start", name)
    (brick,) = gluster.volumes(name)[0].bricks
    assert volume_state.why(brick).startswith(
        f"0-{name}-glupy: this translator does not start: "
        "the volfile asks for user/nothing, but was not filtered"
    )
    volume.set(f"{setting}.translators", "none", f"{setting}.leaf", "gone")
    expected = (
        f"does not run: 0-parser: Volume '{name}-posix', line 2: "
        "type 'storage/gone' is not valid or not found on this machine"
    )

    def told() -> bool:
        # It may take the brick for one that is starting, and not start it.
        glusterd.restart()
        with contextlib.suppress(stores.StoreError):
            glusterd.gluster("volume", "start", name, "force")
        return problems(volume) == [expected]

    wait_until(told, "a brick that does not run")
