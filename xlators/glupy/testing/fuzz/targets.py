"""What can be searched: recipes of graphs, volfiles, volumes, and folders of mounted file systems.

A recipe is a leaf, or what is put over others:

| recipe | is |
|---|---|
| ``pyposix``, ``posix`` | one brick |
| ``ctime:LEAF`` | one brick with features/utime, so that clients' times are kept |
| ``pybd:loop``, ``pybd:loop:LEAF`` | one brick whose files are all mapped |
| ``replicate:3:RECIPE``, ``replicate:2+1:RECIPE`` | replicas; with an arbiter |
| ``disperse:4+2:RECIPE`` | fragments |
| ``distribute:2:RECIPE`` | |
| ``shard:RECIPE`` | shards of 4 MiB |

Where all leaves are pyposix the graph runs in this process, unless it has disperse or distribute;
else each brick is a process, and there are two clients. Stores are loop files with ext4, which go
with the target.
"""

import contextlib
import functools
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import volfiles
from glupy import stores
from glupy.testing import stock
from glupy.testing.fuzz.folder import Folder
from glupy.testing.fuzz.model import Promises
from glupy.testing.fuzz.runner import Ground
from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick, ProcessError

STORE_SIZE = 4 << 30
SHARD = "4MB"
OURS = "pyposix"
_HIDDEN = {".", "..", ".trashcan", ".shard", ".glusterfs"}


GFAPI = Promises(
    copy_errnos=False,
    why={"copy_errnos": "syncop_copy_file_range returns -1, which libgfapi takes for an errno"},
)
"""What libgfapi 10.3 hides."""
UNKNOWN = replace(
    GFAPI,
    attributes=False,
    blocks=False,
    seeks=False,
    copies=False,
    why=GFAPI.why
    | dict.fromkeys(["attributes", "blocks", "seeks", "copies"], "what is below is not known"),
)
"""Of a volume that was not made here."""


class TargetError(Exception):
    """A target that cannot be searched: one line."""


class Volume(Client):
    """A gfapi client that lists its root."""

    def names(self) -> set[str]:
        """The names in the root that a user could have made."""
        return {entry.name for entry in self.readdir("/")} - _HIDDEN


@contextlib.contextmanager
def open_target(
    spec: str, *, inserts: Sequence[volfiles.Insert] = (), parent: Path | None = None
) -> Iterator[Ground]:
    """Set a target up, and take it away again.

    `inserts` go above each leaf of a recipe. `parent` is the folder for its store. TargetError:
    there is no such target, or it does not start.
    """
    try:
        with contextlib.ExitStack() as stack:
            yield _ground(spec, stack, inserts, parent)
    except (stores.StoreError, ProcessError, volfiles.VolfileError) as error:
        raise TargetError(f"{spec}: {error}") from error


def _ground(
    spec: str,
    stack: contextlib.ExitStack,
    inserts: Sequence[volfiles.Insert],
    parent: Path | None,
) -> Ground:
    kind, _, rest = spec.partition(":")
    if kind == "dir":
        return _folder(Path(rest))
    made = tempfile.TemporaryDirectory(prefix="glupy-fuzz-", dir=parent or Path("/var/tmp"))
    folder = Path(stack.enter_context(made))
    if kind == "volume":
        clients = _clients(stack, folder, lambda log: Volume.of_volume(rest, log=log))
        return _of_clients(clients, UNKNOWN)
    if "/" in spec or spec.endswith(".vol"):
        try:
            read = volfiles.read(Path(spec))
        except OSError as error:
            raise TargetError(f"{spec}: {error.strerror}") from error
        return _of_clients(_clients(stack, folder, lambda log: Volume(read, log=log)), UNKNOWN)
    store = stack.enter_context(stores.store(folder / "image", STORE_SIZE, folder / "store"))
    recipe = Recipe(spec, stack, folder, store.folder, inserts)
    graph, promises = recipe.build()
    over_rpc = not recipe.in_process
    clients = _clients(
        stack,
        folder,
        lambda log: Volume(graph, log=log, background_fini=over_rpc),
        2 if over_rpc else 1,
    )
    return _of_clients(clients, promises, recipe.backends)


@functools.cache
def _xlators() -> Path:
    """The folder of translators."""
    return Path(stores.run("glusterfsd", "--print-xlatordir").strip())


def _clients(
    stack: contextlib.ExitStack, folder: Path, make: Callable[[Path], Volume], count: int = 1
) -> list[Volume]:
    clients = []
    for number in range(count):
        try:
            client = make(folder / f"client-{number}.log")
        except OSError as error:
            raise TargetError(f"no client: {error}") from error
        clients.append(stack.enter_context(client))
    return clients


def _of_clients(
    clients: list[Volume], promises: Promises, backends: tuple[Path, ...] = ()
) -> Ground:
    if names := clients[0].names():
        raise TargetError(f"it is not empty: {sorted(names)[0]!r} is in it")
    return Ground(clients, promises, clients[0].statvfs().f_bsize, backends)


def _folder(path: Path) -> Ground:
    if not path.is_dir():
        raise TargetError(f"there is no folder {path}")
    client = Folder(path)
    if names := client.names():
        raise TargetError(f"{path} is not empty: {sorted(names)[0]!r} is in it")
    why = {"capped": "the kernel's blocks need not be capped by the size"}
    return Ground([client], Promises(capped=False, why=why), os.statvfs(path).f_bsize)


class Recipe:
    """Builds the graph of a recipe over bricks, which it starts."""

    def __init__(
        self,
        text: str,
        stack: contextlib.ExitStack,
        folder: Path,
        store: Path,
        inserts: Sequence[volfiles.Insert],
    ) -> None:
        self._text, self._stack, self._folder, self._store = text, stack, folder, store
        self._inserts = inserts
        self._bricks = 0
        # C posix needs a glusterfsd around it; disperse and distribute want what protocol/client
        # makes of the offsets in directories.
        leaves = set(re.findall(r"\w*posix\w*", text)) or {OURS}
        self.in_process = leaves == {OURS} and not re.search("disperse|distribute", text)
        self.backends: tuple[Path, ...] = ()

    def build(self) -> tuple[volfiles.Graph, Promises]:
        """The graph for clients, and what it promises."""
        return self._build(self._text)

    def _build(self, text: str) -> tuple[volfiles.Graph, Promises]:
        kind, _, rest = text.partition(":")
        match kind:
            case "ctime":
                return self._brick(rest, ctime=True)
            case "pybd":
                pool, _, leaf = rest.partition(":")
                if pool != "loop":
                    raise TargetError(f"{text}: pybd:loop is the one pool that there is")
                return self._mapped(leaf or OURS)
            case "shard":
                graph, promises = self._build(rest)
                self.backends = ()
                why = {
                    "attributes": "shard answers a read past the end without any",
                    "blocks": "shard counts them by itself",
                    "seeks": "shard has none",
                    "copies": "shard has none: the base file alone is copied",
                    "fallocate": "shard refuses to keep the size",
                }
                promises = replace(
                    promises,
                    attributes=False,
                    blocks=False,
                    seeks=False,
                    copies=False,
                    unsupported=frozenset({"fallocate"}),
                    why={**promises.why, **why},
                )
                return volfiles.shard(graph, block_size=SHARD), promises
            case "replicate" | "distribute" | "disperse":
                return self._several(kind, *self._count(text, rest))
        if not re.fullmatch(r"[a-z_]+", text):
            raise TargetError(f"{self._text!r} is no target: `glupy fuzz --help` lists them")
        return self._brick(text)

    def _count(self, text: str, rest: str) -> tuple[int, int, str]:
        found = re.fullmatch(r"(\d+)(?:\+(\d+))?:(.+)", rest)
        if found is None:
            raise TargetError(f"{text!r}: a number is missing, as in replicate:3:pyposix")
        return int(found[1]), int(found[2] or 0), found[3]

    def _several(
        self, kind: str, count: int, more: int, rest: str
    ) -> tuple[volfiles.Graph, Promises]:
        built = [self._build(rest) for _ in range(count + more)]
        graphs, promises = [graph for graph, _ in built], built[0][1]
        why = {**promises.why, "copies": "cluster/* has no such fop: the first child alone copies"}
        promises = replace(promises, copies=False, why=why)
        if kind == "distribute":
            self.backends = ()
            return volfiles.distribute(graphs), promises
        if kind == "replicate":
            return volfiles.replicate(graphs, arbiter=bool(more)), promises
        self.backends = ()
        why |= {
            "blocks": "a fragment is a part of the file",
            "seeks": "disperse takes some holes for data",
            "zerofill": "disperse has none",
        }
        unsupported = frozenset({"zerofill"})
        promises = replace(promises, blocks=False, seeks=False, unsupported=unsupported, why=why)
        return volfiles.disperse(graphs, redundancy=more), promises

    def _mapped(self, leaf: str) -> tuple[volfiles.Graph, Promises]:
        pool = self._store / f"pool-{self._bricks}"
        pool.mkdir()
        inserts = [("user/pybd", {"pool": f"loop:{pool}", "map": "*=thin"})]
        backends = self.backends
        graph, promises = self._brick(leaf, inserts=inserts)
        self.backends = backends  # what is on the brick has no data
        return graph, replace(promises, block_size=4096, delayed=True)

    def _brick(
        self, leaf: str, *, inserts: Sequence[volfiles.Insert] = (), ctime: bool = False
    ) -> tuple[volfiles.Graph, Promises]:
        if f"storage/{leaf}" not in volfiles.installed_types(_xlators()):
            raise TargetError(f"there is no type storage/{leaf} in {_xlators()}")
        name = f"brick-{self._bricks}"
        self._bricks += 1
        directory = self._store / name
        directory.mkdir()
        self.backends += (directory,)
        promises = GFAPI
        recipe: dict[str, Any] = {
            "leaf": leaf,
            "inserts": [*inserts, *self._inserts],
            "ctime": ctime,
        }
        if self.in_process:
            return volfiles.leaf_graph(directory, name=name, **recipe), promises
        if leaf == "posix":
            promises = replace(promises, without_pre=stock.without_pre())
        # protocol/client of GlusterFS 10 sends another offset than it is asked to.
        promises = replace(
            promises,
            copies=False,
            why={**promises.why, "copies": "protocol/client loses the source's offset"},
        )
        folder = self._folder / name
        graph = volfiles.brick(directory, socket=folder / "socket", **recipe)
        self._stack.enter_context(Brick(graph, folder))
        return volfiles.client(socket=folder / "socket", name=name), promises
