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

Where all leaves are pyposix the graph runs in this process, unless it has disperse or distribute,
or bricks over RPC are asked for; else each brick is a process, and there are two clients. Stores
are loop files with ext4, which go with the target.
"""

import contextlib
import functools
import os
import re
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import volfiles
from glupy import stores
from glupy.testing import logs, stock
from glupy.testing.fuzz.faults import (
    FaultError,
    check_faults,
    make_contents,
    wait_until_full,
)
from glupy.testing.fuzz.folder import Folder
from glupy.testing.fuzz.model import Promises
from glupy.testing.fuzz.runner import Ground, Mismatch, names_of
from glupy.testing.fuzz.trouble import Ballast, Trouble
from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick, ProcessError

STORE_SIZE = 4 << 30
SHARD = 4 << 20
FRAGMENT = 512
"""Bytes of a stripe that go to one brick: cluster/disperse has no other."""
OURS = "pyposix"


GFAPI = Promises(
    copy_errnos=False,
    why={"copy_errnos": "syncop_copy_file_range returns -1, which libgfapi takes for an errno"},
)
"""What libgfapi 10.3 hides."""
_UNKNOWN: dict[str, Any] = {
    "attributes": False,
    "blocks": False,
    "seeks": False,
    "copies": False,
    "checked_flags": False,
    "links": False,
    "new_rights": False,
    "steady": frozenset(),
    "times": frozenset(),  # a volume has features/utime, and md-cache, unless it was told otherwise
    "old_sizes": frozenset({"read"}),
}
UNKNOWN = replace(
    GFAPI,
    **_UNKNOWN,
    why=GFAPI.why | dict.fromkeys(_UNKNOWN, "what is below is not known, nor what caches"),
)
"""Of a volume that was not made here."""


def behind_rpc(promises: Promises) -> Promises:
    """What is left of promises with protocol/client in between."""
    # That of GlusterFS 10 sends another offset than it is asked to.
    why = {
        "copies": "protocol/client loses the source's offset",
        "failed_setattrs": "one of an open file kills its brick (protocol/server's message of it)",
    }
    return replace(promises, copies=False, failed_setattrs=False, why={**promises.why, **why})


def of_posix(promises: Promises) -> Promises:
    """What is left of promises over the stock storage/posix."""
    why = {"same_names": "a rename from one name of a file to another loses its handle"}
    return replace(
        promises,
        without_pre=stock.without_pre(),
        same_names=False,
        why={**promises.why, **why},
    )


def mapped(promises: Promises = GFAPI) -> Promises:
    """What files promise that user/pybd has mapped to loop devices, over what promises that."""
    why = {"ctime": "without features/utime it is when the times were stored on the brick"}
    return replace(
        promises,
        block_size=4096,
        delayed=True,
        steady=frozenset({"mtime"}),
        why={**promises.why, **why},
    )


class TargetError(Exception):
    """A target that cannot be searched: one line."""


@contextlib.contextmanager
def open_target(
    spec: str,
    *,
    inserts: Sequence[volfiles.Insert] = (),
    faults: Collection[str] = (),
    parent: Path | None = None,
    over_rpc: bool = False,
) -> Iterator[Ground]:
    """Set a target up, and take it away again.

    `inserts` go above each leaf of a recipe. `faults` (see `FAULTS`) happen to it. `parent` is the
    folder for its store. With `over_rpc` each brick of a recipe is a process: one that crashes is
    something that is found, and does not end this process. TargetError: there is no such target,
    or it does not start.
    """
    try:
        with contextlib.ExitStack() as stack:
            try:
                ground = _ground(spec, stack, inserts, frozenset(faults), parent, over_rpc)
            except (OSError, Mismatch) as error:
                raise TargetError(f"{spec}: {error}") from error
            yield ground
    except ProcessError as error:
        first, *log = str(error).splitlines()
        first = f"{spec}: {first}: {error.reason}" if error.reason else f"{spec}: {first}"
        raise TargetError("\n".join([first, *log])) from error
    except (stores.StoreError, volfiles.VolfileError, FaultError) as error:
        raise TargetError(f"{spec}: {error}") from error


def is_recipe(spec: str) -> bool:
    """Whether a target is set up here, of bricks, rather than somewhere else."""
    return not re.match("(dir|volume):", spec) and "/" not in spec and not spec.endswith(".vol")


def runs_in_process(spec: str, faults: Collection[str] = ()) -> bool:
    """Whether the bricks of a target run in this process, unless over RPC is asked for."""
    # C posix needs a glusterfsd around it; disperse and distribute want what protocol/client
    # makes of offsets in directories. What replicate has healed it forgets at its fini, when
    # the locks below have gone, if those are of the same graph (pl_forget: SIGSEGV).
    heals = "replicate" in spec and "io" in faults
    leaves = set(re.findall(r"\w*posix\w*", spec)) or {OURS}
    return (
        is_recipe(spec)
        and leaves == {OURS}
        and not re.search("disperse|distribute", spec)
        and "kill" not in faults
        and not heals
    )


def _ground(
    spec: str,
    stack: contextlib.ExitStack,
    inserts: Sequence[volfiles.Insert],
    faults: frozenset[str],
    parent: Path | None,
    over_rpc: bool,
) -> Ground:
    kind, _, rest = spec.partition(":")
    if not is_recipe(spec):
        for what, given in ("faults", faults), ("inserts", inserts), ("bricks over RPC", over_rpc):
            if given:
                raise TargetError(f"{spec}: {what} are for recipes only")
    if kind == "dir":
        return _folder(Path(rest))
    made = tempfile.TemporaryDirectory(prefix="glupy-fuzz-", dir=parent or roomy())
    folder = Path(stack.enter_context(made))
    if kind == "volume":
        clients = _clients(stack, folder, lambda log: Client.of_volume(rest, log=log))
        return ground_of(clients, UNKNOWN)
    if not is_recipe(spec):
        try:
            read = volfiles.read(Path(spec))
        except OSError as error:
            raise TargetError(f"{spec}: {error.strerror}") from error
        return ground_of(_clients(stack, folder, lambda log: Client(read, log=log)), UNKNOWN)
    check_faults(faults)
    store = stack.enter_context(stores.store(folder / "image", STORE_SIZE, folder / "store"))
    recipe = Recipe(spec, stack, folder, store.folder, inserts, faults, over_rpc)
    graph, promises = recipe.build()
    ballast = Ballast(store.folder) if "full" in faults else None
    for brick in recipe.bricks:
        stack.enter_context(brick)
    clients = _clients(
        stack,
        folder,
        lambda log: Client(graph, log=log, background_fini=not recipe.in_process),
        1 if recipe.in_process or "shard" in spec else 2,
    )
    if "shard" in spec:
        stack.callback(_wait_for_shards, store.folder)
    ground = ground_of(clients, promises, recipe.backends)
    ground.faults, ground.redundant = faults, recipe.redundant
    ground.boundaries = recipe.boundaries
    first = recipe.bricks[:1] if recipe.redundant else recipe.bricks
    orders = recipe.orders[:1] if recipe.redundant else recipe.orders
    ground.trouble = Trouble(*(recipe.bricks, first, orders, clients[0], ballast, recipe.folders))
    if "full" in faults:
        wait_until_full(clients[0])
    if "shard" in spec:
        _make_shard_folder(clients[0], ground.trouble)
    if "readonly" in faults:
        ground.kept = make_contents(ground)
        stack.enter_context(stores.read_only(store.folder))
    return ground


def _make_shard_folder(client: Client, trouble: Trouble) -> None:
    """The first write makes /.shard; before that reads do not end where the file does."""
    trouble.be_internal(on=True)  # whose writes a full store takes
    with client.creat("/first") as file:
        file.pwrite(b"1", 0)
    client.unlink("/first")
    trouble.be_internal(on=False)


def _wait_for_shards(store: Path) -> None:
    """features/shard deletes in the background, and glfs_fini does not wait for that: SIGSEGV."""
    deadline = time.monotonic() + 5
    while any(store.glob("*/.shard/.remove_me/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)  # its last steps cannot be seen


def roomy() -> Path:
    """Where a store goes: into memory, where a fsync takes no time, if there is enough."""
    memory = Path("/dev/shm")
    if memory.is_dir():
        stat = os.statvfs(memory)
        if stat.f_bavail * stat.f_frsize >= STORE_SIZE:
            return memory
    return Path("/var/tmp")


@functools.cache
def _xlators() -> Path:
    """The folder of translators."""
    return Path(stores.run("glusterfsd", "--print-xlatordir").strip())


def _clients(
    stack: contextlib.ExitStack, folder: Path, make: Callable[[Path], Client], count: int = 1
) -> list[Client]:
    clients = []
    for number in range(count):
        log = folder / f"client-{number}.log"
        try:
            client = make(log)
        except OSError as error:
            reason = logs.complaint(log.read_text(errors="replace")) if log.exists() else None
            raise TargetError(f"no client: {reason or error}") from error
        clients.append(stack.enter_context(client))
    return clients


def ground_of(
    clients: Sequence[Client], promises: Promises = GFAPI, backends: Sequence[Path] = ()
) -> Ground:
    """A target that somebody else keeps up; TargetError if it is not empty."""
    if names := names_of(clients[0]):
        raise TargetError(f"it is not empty: {sorted(names)[0]!r} is in it")
    return Ground(clients, promises, clients[0].statvfs().f_bsize, backends)


def _folder(path: Path) -> Ground:
    if not path.is_dir():
        raise TargetError(f"there is no folder {path}")
    client = Folder(path)
    if names := names_of(client):
        raise TargetError(f"{path} is not empty: {sorted(names)[0]!r} is in it")
    why = {
        "capped": "the kernel's blocks need not be capped by the size",
        "steady": "the kernel keeps attributes of its own",
        "nameless": "mount/fuse does not set attributes of open files without a name",
        "new_rights": "umask, ACLs and groups of a folder count for what is made in it",
    }
    promises = Promises(capped=False, steady=frozenset(), nameless=False, new_rights=False, why=why)
    return Ground([client], promises, os.statvfs(path).f_bsize)


class Recipe:
    """Builds the graph of a recipe over bricks, which it starts."""

    def __init__(
        self,
        text: str,
        stack: contextlib.ExitStack,
        folder: Path,
        store: Path,
        inserts: Sequence[volfiles.Insert],
        faults: frozenset[str] = frozenset(),
        over_rpc: bool = False,
    ) -> None:
        self._text, self._stack, self._folder, self._store = text, stack, folder, store
        self._inserts, self._faults = inserts, faults
        self._count = 0
        self.in_process = not over_rpc and runs_in_process(text, faults)
        self.redundant = bool(re.search("replicate|disperse", text))
        self.backends: tuple[Path, ...] = ()
        self.bricks: list[Brick] = []
        """Not started yet."""
        self.folders: list[Path] = []
        """Of bricks and pools."""
        self.orders: list[Path] = []
        """For each leaf the folder in which `failing.Failing` looks for its orders."""
        self.boundaries: tuple[int, ...] = ()
        self._is_arbiter = False

    def build(self) -> tuple[volfiles.Graph, Promises]:
        """The graph for clients, and what it promises."""
        return self._build(self._text)

    def _build(self, text: str) -> tuple[volfiles.Graph, Promises]:
        kind, _, rest = text.partition(":")
        match kind:
            case "ctime":
                graph, promises = self._brick(rest, ctime=True)
                why = {
                    "copies": "features/utime does not know of them: no times are set",
                    "ctime": "features/utime leaves it in fallocate and zerofill",
                }
                times = frozenset({"mtime"})
                why = {**promises.why, **why}
                return graph, replace(promises, copies=False, times=times, why=why)
            case "pybd":
                pool, _, leaf = rest.partition(":")
                if pool != "loop":
                    raise TargetError(f"{text}: pybd:loop is the one pool that there is")
                return self._mapped(leaf or OURS)
            case "shard":
                graph, promises = self._build(rest)
                self.backends = ()
                self.boundaries += SHARD, 2 * SHARD
                why = {
                    "attributes": "shard answers a read past the end without any",
                    "blocks": "shard counts them by itself",
                    "seeks": "shard has none",
                    "steady": "a file's times are those of a shard",
                    "handles": "the names on a brick are not a client's",
                    "discard_ends": "a discard makes a file longer",
                    "appends": "what is appended after a truncate to a larger size is misplaced",
                    "truncating_opens": "an open with O_TRUNC keeps the size and the other shards",
                    "empty_ranges": "one at the boundary of a shard is never answered",
                    "far_fallocates": "one that leaves out shards past the end is never answered",
                    "checked_flags": "who may only read can truncate, who may not sees the end",
                    "replaced": "the same of one whose name another has taken",
                    "unlinked": "an open file loses its shards with its last name",
                    "growing_times": "a truncate to a larger size only changes an xattr",
                    "old_times": "a truncate's reply has the times of before",
                    "two clients": "shard keeps a file's size to itself, and adds to that",
                    "cuts_within": "a truncate into another shard leaves that as it is, or empty",
                    "copies": "shard has none: the base file alone is copied",
                    "fallocate": "shard refuses to keep the size",
                }
                promises = replace(
                    promises,
                    attributes=False,
                    blocks=False,
                    seeks=False,
                    steady=frozenset(),
                    handles=False,
                    discard_ends=False,
                    appends=False,
                    truncating_opens=False,
                    empty_ranges=False,
                    far_fallocates=False,
                    checked_flags=False,
                    growing_times=False,
                    old_times=frozenset({"truncate"}),
                    refused_when_full=promises.refused_when_full | {"unlink", "rename"},
                    unlinked=False,
                    replaced=False,
                    cuts_within=SHARD,
                    copies=False,
                    unsupported=frozenset({"fallocate"}),
                    why={**promises.why, **why},
                )
                return volfiles.shard(graph, block_size=f"{SHARD}"), promises
            case "replicate" | "distribute" | "disperse":
                return self._several(kind, *self._number(text, rest))
        if not re.fullmatch(r"[a-z_]+", text):
            raise TargetError(f"{self._text!r} is no target: `glupy fuzz --help` lists them")
        return self._brick(text)

    def _number(self, text: str, rest: str) -> tuple[int, int, str]:
        found = re.fullmatch(r"(\d+)(?:\+(\d+))?:(.+)", rest)
        if found is None:
            raise TargetError(f"{text!r}: a number is missing, as in replicate:3:pyposix")
        return int(found[1]), int(found[2] or 0), found[3]

    def _several(
        self, kind: str, count: int, more: int, rest: str
    ) -> tuple[volfiles.Graph, Promises]:
        built = []
        for number in range(count + more):
            self._is_arbiter = kind == "replicate" and number >= count
            built.append(self._build(rest))
        self._is_arbiter = False
        graphs, promises = [graph for graph, _ in built], built[0][1]
        why = {
            **promises.why,
            "copies": "cluster/* has no such fop: the first child alone copies",
            "steady": "one brick's clock is not another's",
        }
        promises = replace(promises, copies=False, steady=frozenset(), why=why)
        if kind == "distribute":
            self.backends = ()
            return volfiles.distribute(graphs), promises
        if kind == "replicate":
            options = {}
            if "io" in self._faults:
                # The replica that errs is the one that answers: else it is the last whose
                # answer came as the volume was looked up first, and runs differ.
                options = {"choose-local": "off", "read-subvolume-index": "0"}
                why["links"] = "of a link that failed on one replica: a stat may be answered by it"
                promises = replace(promises, links=False)
            return volfiles.replicate(graphs, arbiter=bool(more), options=options), promises
        self.backends = ()
        self.boundaries += (FRAGMENT * count,)
        why |= {
            "blocks": "a fragment is a part of the file",
            "seeks": "disperse takes some holes for data",
            "zerofill": "disperse has none",
            "wrong_sizes": "what a truncate to 512 bytes cuts off comes back",
            "append_discards": "the edges of one are written, and so go to the file's end",
            "old_sizes": "a size is stored a second later, and a lookup does not ask who has it",
            "read_ends": "disperse reads past the end after a discard there",
        }
        if "posix" in re.findall(r"\w*posix", rest):
            why["replaced"] = "disperse reads with an fd of its own, and posix finds no such file"
            promises = replace(promises, replaced=False)
        promises = replace(
            promises,
            blocks=False,
            seeks=False,
            append_discards=False,
            old_sizes=frozenset({"stat"}),
            wrong_sizes=frozenset({FRAGMENT}),
            read_ends=False,
            unsupported=frozenset({"zerofill"}),
            why=why,
        )
        return volfiles.disperse(graphs, redundancy=more), promises

    def _mapped(self, leaf: str) -> tuple[volfiles.Graph, Promises]:
        pool = self._store / f"pool-{self._count}"
        pool.mkdir()
        self.folders.append(pool)
        inserts = [("user/pybd", {"pool": f"loop:{pool}", "map": "*=thin"})]
        backends = self.backends
        graph, promises = self._brick(leaf, inserts=inserts)
        self.backends = backends  # what is on the brick has no data
        promises = mapped(promises)
        if "full" in self._faults:  # some sequences are those of GlusterFS's own client
            why = {"times": "pybd leaves them to a client of GlusterFS's own"}
            promises = replace(promises, times=frozenset(), why={**promises.why, **why})
        return graph, promises

    def _brick(
        self, leaf: str, *, inserts: Sequence[volfiles.Insert] = (), ctime: bool = False
    ) -> tuple[volfiles.Graph, Promises]:
        if f"storage/{leaf}" not in volfiles.installed_types(_xlators()):
            raise TargetError(f"there is no type storage/{leaf} in {_xlators()}")
        name = f"brick-{self._count}"
        self._count += 1
        directory = self._store / name
        directory.mkdir()
        self.folders.append(directory)
        if self._is_arbiter:
            inserts = [*inserts, ("features/arbiter", {})]
        else:
            self.backends += (directory,)
        if "io" in self._faults:
            orders = self._folder / f"orders-{name}"
            orders.mkdir()
            self.orders.append(orders)
            failing = {"module": "glupy.testing.failing:Failing", "orders": str(orders)}
            inserts = [("features/glupy", failing), *inserts]
        promises = GFAPI
        recipe: dict[str, Any] = {
            "leaf": leaf,
            "inserts": [*inserts, *self._inserts],
            "ctime": ctime,
        }
        if "readonly" in self._faults:  # or the brick would end
            recipe["options"] = {"health-check-interval": "0"}
        if self.in_process:
            return volfiles.leaf_graph(directory, name=name, **recipe), promises
        if leaf == "posix":
            promises = of_posix(promises)
        promises = behind_rpc(promises)
        folder = self._folder / name
        graph = volfiles.brick(directory, socket=folder / "socket", **recipe)
        self.bricks.append(Brick(graph, folder))
        return volfiles.client(socket=folder / "socket", name=name), promises
