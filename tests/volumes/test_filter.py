"""The filter as glusterd runs it: an executable, and the path of a volfile."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import volfiles
from volfiles.filter import Request

from . import filter_log

PLAIN = """\
volume vv-posix
    type storage/posix
    option directory /bricks/a-b/one
end-volume

volume vv-trash
    type features/trash
    option trash-dir .trashcan
    subvolumes vv-posix
end-volume
"""
Make = Callable[..., Path]


@pytest.fixture
def log() -> Iterator[Path]:
    with filter_log.kept() as log:
        yield log


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The executable, linked as `glupy install` does."""
    for folder in "filter", "xlator":
        (tmp_path / folder).mkdir()
    link = tmp_path / "filter" / "glupy"
    link.symlink_to(Path(volfiles.__file__).with_name("glusterd-filter"))
    (tmp_path / "xlator" / "glupy-python").symlink_to(sys.executable)
    return link


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """``make(option, …)``: a brick's volfile that asks with these options of its node."""

    def make(*options: str, host: str = "host1", text: str = PLAIN) -> Path:
        node = ["volume vv-glupy", "    type user/glupy"]
        node += [f"    option {option}" for option in options]
        node += ["    subvolumes vv-posix", "end-volume", "", "volume vv-trash"]
        path = tmp_path / f"vv.{host}.bricks-a-b-one.vol"
        asking = text.replace("subvolumes vv-posix", "subvolumes vv-glupy")
        path.write_text(asking.replace("volume vv-trash", "\n".join(node), 1))
        return path

    return make


def run(installed: Path, volfile: Path) -> int:
    return subprocess.run([installed, volfile], check=False, timeout=30).returncode


def last(log: Path) -> str:
    return log.read_text().splitlines()[-1].partition("] ")[2]


def test_leaf_and_translators_are_put_in(installed: Path, make: Make, log: Path) -> None:
    odd = '*.img=thin a, b+"c"\\`%'
    request = Request("storage/pyposix", {}, [("user/pybd", {"map": odd}), ("features/trash", {})])
    volfile = make(*(f"{key} {value}" for key, value in request.options().items()))
    volfile.chmod(0o640)
    assert run(installed, volfile) == 0
    graph = volfiles.read(volfile)
    assert [(xlator.name, xlator.type, list(xlator.subvolumes)) for xlator in graph] == [
        ("vv-posix", "storage/pyposix", []),
        ("vv-pybd", "user/pybd", ["vv-posix"]),
        ("vv-trash-2", "features/trash", ["vv-pybd"]),
        ("vv-trash", "features/trash", ["vv-trash-2"]),
    ]
    assert graph["vv-pybd"].options == {"map": odd}
    assert graph["vv-trash"].options == {"trash-dir": ".trashcan"}
    assert volfile.stat().st_mode & 0o777 == 0o640
    assert last(log) == f"I {volfile}: storage/pyposix, user/pybd, features/trash"
    once = volfile.read_bytes()
    assert run(installed, volfile) == 0
    assert volfile.read_bytes() == once
    assert {path.name for path in volfile.parent.iterdir()} == {"filter", "xlator", volfile.name}


@pytest.mark.parametrize(("host", "leaf"), [("host1", "storage/posix"), ("host2", "storage/mine")])
def test_a_brick_is_known_by_directory_and_host(
    host: str, leaf: str, installed: Path, make: Make, log: Path
) -> None:
    bricks = "host1:/bricks/a/b/one=pyposix,host1:/other=pyposix,host2:/bricks/a-b/one=mine"
    volfile = make(f"bricks {bricks}", host=host)
    assert run(installed, volfile) == 0
    assert [xlator.type for xlator in volfiles.read(volfile)] == [leaf, "features/trash"]


def test_no_python_starts_for_what_asks_nothing(
    installed: Path, tmp_path: Path, make: Make
) -> None:
    python = tmp_path / "xlator" / "glupy-python"
    python.unlink()
    python.symlink_to("/bin/false")
    volfile = tmp_path / "plain.vol"
    volfile.write_text(PLAIN)
    before = volfile.stat()
    assert run(installed, volfile) == 0
    assert volfile.stat() == before
    assert run(installed, make("leaf pyposix")) == 1


def test_a_translator_named_by_module_stays(installed: Path, make: Make, log: Path) -> None:
    volfile = make("module a:B", "limit 3")
    before = volfile.read_text()
    assert run(installed, volfile) == 0
    assert volfile.read_text() == before
    volfile = make("module a:B", "leaf pyposix", "limit 3")
    assert run(installed, volfile) == 0
    graph = volfiles.read(volfile)
    assert graph["vv-posix"].type == "storage/pyposix"
    assert graph["vv-glupy"].options == {"module": "a:B", "limit": "3"}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["leaf features/none"], "'features/none' cannot be a leaf: features/locks wants a type"),
        (["leef pyposix"], "volume 'vv-glupy': option 'leef' is not one of leaf, bricks"),
        (["translators user/pybd,pool"], "'pool' is not NAME=VALUE"),
        (["bricks host1:/b"], "'host1:/b' is not NAME=VALUE"),
        (["leaf one two"], "'two'"),
    ],
)
def test_what_cannot_be_leaves_the_volfile_as_it_was(
    options: list[str], reason: str, installed: Path, make: Make, log: Path
) -> None:
    volfile = make(*options)
    before = volfile.read_bytes()
    assert run(installed, volfile) == 1
    assert volfile.read_bytes() == before
    assert last(log).startswith(f"E {volfile}: ")
    assert reason in last(log)


def test_a_write_that_fails_half_way_leaves_the_volfile_as_it_was(
    installed: Path, make: Make, log: Path
) -> None:
    log.touch()
    limit = log.stat().st_size + 4096
    volfile = make("leaf pyposix", text=PLAIN.replace(".trashcan", "t" * 2 * limit))
    before = volfile.read_bytes()
    done = subprocess.run(
        [installed, volfile],
        check=False,
        timeout=30,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1
    assert volfile.read_bytes() == before
    assert last(log) == f"E {volfile}: [Errno 27] File too large"
    assert {path.name for path in volfile.parent.iterdir()} == {"filter", "xlator", volfile.name}


def test_without_its_environment_it_says_so(installed: Path, make: Make, log: Path) -> None:
    (installed.parents[1] / "xlator" / "glupy-python").unlink()
    volfile = make("leaf pyposix")
    before = volfile.read_bytes()
    assert run(installed, volfile) == 1
    assert volfile.read_bytes() == before
    assert last(log).endswith("glupy-python is missing: run glupy install")


_text = st.text(min_size=1, max_size=20)
_options = st.dictionaries(_text, _text, max_size=3)
_leaves = st.sampled_from(["storage/posix", "storage/pyposix"])


@given(
    st.builds(
        Request,
        leaf=_leaves,
        bricks=st.dictionaries(_text.map("host:/{}".format), _leaves, max_size=3),
        translators=st.lists(st.tuples(_text.map("user/{}".format), _options), max_size=3),
    )
)
def test_settings_say_what_was_requested(request: Request) -> None:
    options = request.options()
    assert Request.parse(options) == request
    for value in options.values():
        assert value.isascii()
        assert not set(value) & set(" \t\n\"'\\`#;$&|<>()")


def test_how_long_it_takes(installed: Path, make: Make, log: Path) -> None:
    """Prints figures for docs/volumes.md; how long is too long depends on the machine."""
    plain = installed.parents[1] / "plain.vol"
    plain.write_text(PLAIN)
    times: dict[str, list[float]] = {"asks": [], "asks for nothing": []}
    for _ in range(11):
        for name, volfile in ("asks", make("leaf pyposix")), ("asks for nothing", plain):
            begin = time.perf_counter()
            assert run(installed, volfile) == 0
            times[name].append(time.perf_counter() - begin)
    for name, each in times.items():
        print(f"\na volfile that {name}: {statistics.median(each) * 1e3:.1f} ms", end="")
