"""From a volume's type in a volfile to the Python class that serves it."""

from __future__ import annotations

import configparser
import importlib
import importlib.util
import os
import stat
import sys
from pathlib import Path
from types import ModuleType

from glupy.errors import LoadError
from glupy.translator import Translator

GROUP = "glupy.translators"


def find(volume_type: str, module: str | None) -> type[Translator]:
    """Return the class for a type that an installed package registers, or that ``module`` names.

    ``module`` is ``package.module:Class`` or ``/abs/file.py:Class``. Raises ``LoadError``, one
    line; what importing the module raised is its cause.
    """
    if module is not None:
        return _named(module)
    registered = registrations(GROUP).get(volume_type)
    if registered is None:
        raise LoadError(f"no installed package has a translator of type {volume_type}")
    return _named(registered)


def registrations(group: str) -> dict[str, str]:
    """Return what installed packages register in a group: name and ``module:Class``.

    Their entry points (packaging.python.org, "Entry points specification") are read here because
    importlib.metadata takes 3 MB of every brick's memory for it.
    """
    found: dict[str, str] = {}
    for folder in sys.path:
        for file in Path(folder).glob("*.dist-info/entry_points.txt"):
            parser = configparser.ConfigParser(delimiters="=", interpolation=None)
            parser.optionxform = str  # type: ignore[assignment,method-assign]  # keep the case
            parser.read(file, encoding="utf-8")
            if parser.has_section(group):
                found = {**dict(parser[group]), **found}
    return found


def _named(spec: str) -> type[Translator]:
    where, colon, name = spec.rpartition(":")
    if not colon or not where or not name:
        raise LoadError(f"'{spec}' is not package.module:Class or /abs/file.py:Class")
    try:
        loaded = _file(Path(where)) if where.startswith("/") else importlib.import_module(where)
    except LoadError:
        raise
    except BaseException as error:
        raise LoadError(f"cannot import {where}: {type(error).__name__}: {error}") from error
    cls = getattr(loaded, name, None)
    if not (isinstance(cls, type) and issubclass(cls, Translator)):
        raise LoadError(f"{where} has no translator class {name}")
    return cls


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise LoadError(f"there is no file {path}")
    check_only_root_writes(path)
    # A name of its own: two files of one name are two modules.
    name = "glupy_file_" + str(path).replace("/", "_").replace(".", "_")
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LoadError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def check_only_root_writes(path: Path) -> None:
    """Raise ``LoadError`` if others than root could change the file: a brick runs as root.

    In a process that is not root's own (a test's), the user's own files will do too.
    """
    trusted = {0, os.getuid()}
    for each in (path.resolve(), *path.resolve().parents):
        status = each.stat()
        sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
        if status.st_uid not in trusted or (status.st_mode & 0o022 and not sticky):
            raise LoadError(f"{each} can be written by others than root: chown root, chmod go-w")
