"""`glupy install` and `uninstall` on a folder of the test's own, and who can change what."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from glupy_tools import install
from glupy_tools.failures import CommandError
from glupy_tools.install import PYTHON, RECORD, Record, changes, put, take_away
from glupy_tools.trust import changeable

NEW = Record(
    environment="/env",
    python_version="3.11",
    glusterfs="10.3",
    bridge="/env/glupy/_bridge.so",
    links={
        PYTHON: "/env/bin/python",
        "features/glupy.so": "/env/glupy/_bridge.so",
        "user/glupy.so": "/env/glupy/_bridge.so",
    },
    folders=[],
)
DONE = replace(NEW, folders=["user"])


@pytest.fixture
def xlatordir(tmp_path: Path) -> Path:
    folder = tmp_path / "glusterfs" / "10.3" / "xlator"
    (folder / "features").mkdir(parents=True)
    (folder / "features" / "locks.so").write_text("stock")
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else "file"
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def test_install_links_records_and_uninstall_restores(xlatordir: Path) -> None:
    before = contents(xlatordir)
    assert sorted(put(xlatordir, NEW)) == sorted(NEW.links)
    assert contents(xlatordir) == {**before, **NEW.links, RECORD: "file"}
    record = Record.read(xlatordir)
    assert record == DONE
    take_away(xlatordir, record)
    assert contents(xlatordir) == before
    assert not (xlatordir / "user").exists()


def test_install_again_changes_nothing(xlatordir: Path) -> None:
    put(xlatordir, NEW)
    links = {path: path.lstat() for path in xlatordir.rglob("*") if path.is_symlink()}
    assert put(xlatordir, NEW) == []
    assert {path: path.lstat() for path in links} == links
    assert Record.read(xlatordir) == DONE


def test_a_type_that_went_and_an_environment_that_moved(xlatordir: Path) -> None:
    put(xlatordir, replace(NEW, links={**NEW.links, "storage/gone.so": NEW.bridge}))
    moved = "/elsewhere/glupy/_bridge.so"
    links = {name: moved for name in NEW.links if name != PYTHON}
    new = replace(NEW, bridge=moved, links={PYTHON: "/elsewhere/bin/python", **links})
    put(xlatordir, new)
    assert contents(xlatordir) == {"features/locks.so": "file", RECORD: "file", **new.links}


@pytest.mark.parametrize("link", [False, True])
def test_what_is_not_ours_is_left_alone(link: bool, xlatordir: Path) -> None:
    stock = xlatordir / "features" / "glupy.so"
    if link:
        stock.symlink_to("locks.so")
    else:
        stock.write_text("stock")
    before = contents(xlatordir)
    with pytest.raises(CommandError, match=r"features/glupy\.so: is there and not a link of"):
        put(xlatordir, NEW)
    assert contents(xlatordir) == before


def test_uninstall_leaves_what_changed_hands(xlatordir: Path) -> None:
    put(xlatordir, NEW)
    (xlatordir / "features" / "glupy.so").unlink()
    (xlatordir / "features" / "glupy.so").write_text("somebody else's")
    (xlatordir / "user" / "other.so").write_text("somebody else's")
    take_away(xlatordir, DONE)
    assert contents(xlatordir) == {
        "features/locks.so": "file",
        "features/glupy.so": "file",
        "user/other.so": "file",
    }


def test_a_record_that_is_none_is_one_line(xlatordir: Path) -> None:
    for text in ("", "[]", '{"links": 1}'):
        (xlatordir / RECORD).write_text(text)
        with pytest.raises(CommandError, match="is not a record of glupy install"):
            Record.read(xlatordir)


def test_changes_name_what_moved_or_was_upgraded() -> None:
    new = replace(NEW, environment="/new", glusterfs="11.1", python_version="3.13")
    assert list(changes(NEW, new)) == [
        "the environment has moved from /env to /new",
        "GlusterFS was upgraded from 10.3 to 11.1",
        "Python was upgraded from 3.11 to 3.13",
    ]
    assert list(changes(NEW, NEW)) == []


def test_a_bridge_that_was_built_for_another_glusterfs() -> None:
    assert install.outdated(install.built_for(), install.planned().glusterfs) is None
    assert install.outdated("", "11.1") is None
    assert str(install.outdated("10.3", "11.1")).startswith(
        "the bridge was built for GlusterFS 10.3, and this is 11.1: run tools/setup"
    )


def test_the_record_of_an_earlier_glusterfs_is_found(xlatordir: Path) -> None:
    put(xlatordir, NEW)
    later = xlatordir.parents[1] / "11.1" / "xlator"
    later.mkdir(parents=True)
    assert install.earlier_folders(later) == [xlatordir]
    assert install.earlier_folders(xlatordir) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that only root can change: pytest's own are below a sticky /tmp, and private."""
    folder = tmp_path / "environment"
    (folder / "lib").mkdir(parents=True)
    (folder / "lib" / "module.py").write_text("")
    assert changeable(folder) is None
    return folder


@pytest.mark.parametrize("name", ["", "lib", "lib/module.py"])
@pytest.mark.parametrize(
    ("mode", "who"), [(0o020, "group 0 can write to it"), (0o002, "everybody can write to it")]
)
def test_what_others_can_write_to(name: str, mode: int, who: str, folder: Path) -> None:
    path = folder / name
    path.chmod(path.stat().st_mode | mode)
    assert changeable(folder) == f"{path}: {who}"


def test_what_belongs_to_others(folder: Path) -> None:
    module = folder / "lib" / "module.py"
    os.chown(module, 1234, -1)
    assert changeable(folder) == f"{module}: belongs to uid 1234"


def test_a_sticky_folder_is_safe_to_pass_but_not_to_load_from(folder: Path) -> None:
    folder.chmod(0o1777)
    assert changeable(folder / "lib") is None
    assert changeable(folder) == f"{folder}: everybody can write to it"


def test_a_link_is_followed_step_by_step(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (tmp_path / "hop").symlink_to("outside")
    (folder / "lib" / "link").symlink_to(tmp_path / "hop" / "deep" / ".." / "deep")
    assert changeable(folder) is None
    outside.chmod(0o777)
    assert changeable(folder) == f"{outside}: everybody can write to it"
    outside.chmod(0o755)
    (folder / "lib" / "loop").symlink_to("loop")
    assert changeable(folder) == f"{folder / 'lib' / 'loop'}: too many symbolic links"


def test_an_environment_that_others_can_change_is_refused(
    xlatordir: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = folder / "lib" / "module.py"
    module.chmod(0o666)
    monkeypatch.setattr(install, "xlator_folder", lambda: xlatordir)
    planned = replace(NEW, glusterfs=install.built_for())
    monkeypatch.setattr(install, "planned", lambda: planned)
    monkeypatch.setattr(install, "loaded_by_bricks", lambda _: [folder])
    before = contents(xlatordir)
    with pytest.raises(CommandError, match=f"bricks run as root: {module}: everybody can write"):
        install.install.main([], standalone_mode=False)
    assert contents(xlatordir) == before


def test_bricks_load_the_bridge_the_packages_and_the_interpreter() -> None:
    bridge = Path(install.planned().bridge)
    loaded = set(install.loaded_by_bricks(bridge))
    for path in (bridge, Path(pytest.__file__), Path(os.__file__), Path(install.__file__)):
        assert loaded & set(path.parents), path
    assert Path(install.planned().links[PYTHON]) in loaded
