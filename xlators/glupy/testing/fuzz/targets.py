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
from pathlib import Path
from typing import Any

import volfiles
from glupy import stores
from glupy.testing import logs, stock
from glupy.testing.fuzz import graphs
from glupy.testing.fuzz.faults import (
    NOT_PROMISED,
    FaultError,
    check_faults,
    make_contents,
    wait_until_full,
)
from glupy.testing.fuzz.folder import Folder
from glupy.testing.fuzz.ground import Ground, names_of
from glupy.testing.fuzz.model import Promises
from glupy.testing.fuzz.outcome import Mismatch
from glupy.testing.fuzz.trouble import Ballast, Trouble
from glupy.testing.gfapi import Client
from glupy.testing.processes import Brick, ProcessError

STORE_SIZE = 4 << 30
SHARD = 4 << 20
OURS = "pyposix"


GFAPI = Promises().but(
    copy_errnos=(False, "syncop_copy_file_range returns -1, which libgfapi takes for an errno")
)
"""What libgfapi 10.3 hides."""
_UNKNOWN: dict[str, Any] = {
    "attributes": False,
    "blocks": False,
    "seeks": False,
    "copies": False,
    "checked_flags": False,
    "links_again": False,
    "links": False,
    "new_rights": False,
    "steady": frozenset(),
    "times": frozenset(),  # a volume has features/utime, and md-cache, unless it was told otherwise
    # performance/write-behind holds back writes that these do not overlap.
    # And performance/md-cache believes what an fsetxattr tells, which these do not hold back.
    "old_sizes": frozenset(
        {"read", "stat", "fstat", "truncate", "truncatepath", "discard", "zerofill", "fallocate"}
    ),
}
UNKNOWN = GFAPI.but(
    **{name: (value, "what is below is not known") for name, value in _UNKNOWN.items()}
)
"""Of a volume that was not made here."""


def behind_rpc(promises: Promises) -> Promises:
    """What is left of promises with protocol/client in between."""
    return promises.but(
        source_offsets=(False, "protocol/client sends 0 instead"),
        failed_setattrs=(
            False,
            "one of an open file kills its brick (protocol/server's message of it)",
        ),
    )


def of_posix(promises: Promises) -> Promises:
    """What is left of promises over the stock storage/posix."""
    if without := stock.without_pre():
        why = "posix 11 does not look at the file before these"
        promises = promises.but(without_pre=(without, why))
    return promises.but(
        same_names=(False, "a rename from one name of a file to another loses its handle"),
        links_again=(False, "a name that a rename took from a file cannot be its again"),
    )


def mapped(promises: Promises = GFAPI) -> Promises:
    """What files promise that user/pybd has mapped to loop devices, over what promises that."""
    return promises.but(
        block_size=(4096, "a device frees the blocks of its own file, not of the brick's"),
        delayed=(True, "what was just written is in the kernel's cache of the device"),
        lasting_times=(False, "pybd stores them at a fsync, and when the last handle is closed"),
        steady=(
            promises.steady & {"mtime"},
            "without features/utime ctime is when the times were stored on the brick",
        ),
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


@contextlib.contextmanager
def open_targets(
    spec: str,
    against: str | None = None,
    *,
    inserts: Sequence[volfiles.Insert] = (),
    faults: Collection[str] = (),
    parent: Path | None = None,
    over_rpc: bool = False,
) -> Iterator[tuple[Ground, Ground | None]]:
    """Set up a target, and the one that it is compared with, if any.

    The faults are that one's, too; and so are bricks over RPC, if it has bricks of ours.
    TargetError also for faults that would not be the same in both.
    """
    try:
        check_faults(faults, compared=against is not None)
    except FaultError as error:
        raise TargetError(str(error)) from error
    given: dict[str, Any] = {"faults": faults, "parent": parent}
    with open_target(spec, inserts=inserts, over_rpc=over_rpc, **given) as ground:
        if against is None:
            yield ground, None
            return
        with open_target(against, over_rpc=over_rpc and is_recipe(against), **given) as other:
            if faults and ground.redundant != other.redundant:
                fault = min(faults)
                raise TargetError(f"{fault}: one of the two has bricks to spare, the other has not")
            yield ground, other


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
        of_volume = functools.partial(Client.of_volume, rest, background_fini=True)
        return ground_of(_clients(stack, folder, of_volume), UNKNOWN)
    if not is_recipe(spec):
        try:
            read = volfiles.read(Path(spec))
        except OSError as error:
            raise TargetError(f"{spec}: {error.strerror}") from error
        return ground_of(_clients_of(read, stack, folder), UNKNOWN)
    check_faults(faults)
    if "readonly" in faults and "pybd:" in spec:
        raise FaultError("readonly: loop devices keep their store from that")
    if "full" in faults and _is_redundant(spec):
        raise FaultError("full: of bricks in one store one has the last block, the others have not")
    store = stack.enter_context(stores.store(folder / "image", STORE_SIZE, folder / "store"))
    recipe = Recipe(spec, stack, folder, store.folder, inserts, faults, over_rpc)
    graph, promises = recipe.build()
    ballast = Ballast(store.folder, len(recipe.folders)) if "full" in faults else None
    for brick in recipe.bricks:
        stack.enter_context(brick)
    clients = _clients_of(graph, stack, folder)
    if "shard" in spec:
        stack.callback(_wait_for_shards, store.folder)
    ground = ground_of(clients, promises, recipe.backends)
    ground.faults, ground.redundant = faults, recipe.redundant
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


def _is_redundant(recipe: str) -> bool:
    """Whether what one brick has, others have, too."""
    return bool(re.search("replicate|disperse", recipe))


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


def _clients_of(graph: volfiles.Graph, stack: contextlib.ExitStack, folder: Path) -> list[Client]:
    remote = any(node.type == "protocol/client" for node in graph)
    return _clients(stack, folder, functools.partial(Client, graph, background_fini=remote))


def _clients(
    stack: contextlib.ExitStack, folder: Path, make: Callable[..., Client]
) -> list[Client]:
    """Two, where either sees what the other does."""
    clients: list[Client] = []
    while not clients or (len(clients) < 2 and graphs.why_alone(clients[0].graph) is None):
        log = folder / f"client-{len(clients)}.log"
        try:
            client = make(log=log)
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
    graph = clients[0].graph
    if why := graphs.why_alone(graph):
        promises = promises.because(clients=why)
    block_size = clients[0].statvfs().f_bsize
    return Ground(clients, promises, block_size, backends, boundaries=graphs.boundaries(graph))


def _folder(path: Path) -> Ground:
    if not path.is_dir():
        raise TargetError(f"there is no folder {path}")
    client = Folder(path)
    if names := names_of(client):
        raise TargetError(f"{path} is not empty: {sorted(names)[0]!r} is in it")
    promises = Promises().but(
        capped=(False, "the kernel's blocks need not be capped by the size"),
        steady=(frozenset(), "the kernel keeps attributes of its own"),
        nameless=(False, "mount/fuse does not set attributes of open files without a name"),
        new_rights=(False, "umask, ACLs and groups of a folder count for what is made in it"),
    )
    promises = promises.because(clients="one, the kernel is", bricks="they are not known")
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
        self.redundant = _is_redundant(text)
        self.backends: tuple[Path, ...] = ()
        self.bricks: list[Brick] = []
        """Not started yet."""
        self.folders: list[Path] = []
        """Of bricks and pools."""
        self.orders: list[Path] = []
        """For each leaf the folder in which `failing.Failing` looks for its orders."""
        self._is_arbiter = False

    def build(self) -> tuple[volfiles.Graph, Promises]:
        """The graph for clients, and what it promises."""
        graph, promises = self._build(self._text)
        for fault in sorted(self._faults):
            promises = promises.meet(Promises().but(**NOT_PROMISED.get(fault, {})))
        if self.redundant and self.backends and self._faults & {"kill", "io"}:
            promises = promises.because(first_brick="it may have missed what the others have")
        return graph, promises

    def _build(self, text: str) -> tuple[volfiles.Graph, Promises]:
        kind, _, rest = text.partition(":")
        match kind:
            case "ctime":
                graph, promises = self._brick(rest, ctime=True)
                only = frozenset({"mtime"})
                return graph, promises.but(
                    copies=(False, "features/utime does not know of them: no times are set"),
                    times=(only, "features/utime leaves ctime in fallocate and zerofill"),
                )
            case "pybd":
                pool, _, leaf = rest.partition(":")
                if pool != "loop":
                    raise TargetError(f"{text}: pybd:loop is the one pool that there is")
                return self._mapped(leaf or OURS)
            case "shard":
                graph, promises = self._build(rest)
                self.backends = ()
                promises = promises.because(bricks="a file is in pieces on them").but(
                    attributes=(False, "shard answers a read past the end without any"),
                    blocks=(False, "shard counts them by itself"),
                    seeks=(False, "shard has none"),
                    steady=(frozenset(), "a file's times are those of a shard"),
                    set_times=(False, "of a file's times the latest is told, whatever is set"),
                    handles=(False, "the names on a brick are not a client's"),
                    discard_ends=(False, "a discard makes a file longer"),
                    appends=(
                        False,
                        "what is appended after a truncate to a larger size is misplaced",
                    ),
                    truncating_opens=(
                        False,
                        "an open with O_TRUNC keeps the size and the other shards",
                    ),
                    empty_ranges=(False, "one at the boundary of a shard is never answered"),
                    far_fallocates=(
                        False,
                        "one that leaves out shards past the end is never answered",
                    ),
                    checked_flags=(
                        False,
                        "who may only read can truncate, who may not sees the end",
                    ),
                    unlinked=(False, "an open file loses its shards with its last name"),
                    replaced=(False, "the same of one whose name another has taken"),
                    growing_times=(False, "a truncate to a larger size only changes an xattr"),
                    cutting_times=(False, "one that cuts another shard than the first sets none"),
                    old_times=(
                        promises.old_times | {"truncate"},
                        "a truncate's reply has the times of before",
                    ),
                    refused_when_full=(
                        promises.refused_when_full | {"unlink", "rename"},
                        "shard makes a marker of what is to be removed",
                    ),
                    cuts_within=(
                        SHARD,
                        "a truncate into another shard leaves that as it is, or empty",
                    ),
                    copies=(False, "shard has none: the base file alone is copied"),
                    together=(False, "of two that make the same shard one fails now and then"),
                    unsupported=(
                        promises.unsupported | {"fallocate"},
                        "shard refuses a fallocate that keeps the size",
                    ),
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
        subvolumes, promises = [graph for graph, _ in built], built[0][1]
        promises = promises.but(
            copies=(False, "cluster/* has no such fop: the first child alone copies"),
            steady=(frozenset(), "one brick's clock is not another's"),
        )
        if kind == "distribute":
            self.backends = ()
            promises = promises.because(bricks="each has some of the files")
            return volfiles.distribute(subvolumes), promises
        if kind == "replicate":
            options = {}
            if "io" in self._faults:
                # The replica that errs is the one that answers: else it is the last whose
                # answer came as the volume was looked up first, and runs differ.
                options = {"choose-local": "off", "read-subvolume-index": "0"}
                why = "of a link that failed on one replica: a stat may be answered by it"
                promises = promises.but(links=(False, why))
            if "readonly" in self._faults:
                why = "replicate notes a fsync on the replicas before it is done"
                promises = promises.but(refused_when_readonly=(frozenset({"sync"}), why))
            if more:
                promises = promises.because(arbiter="its files are empty")
            return volfiles.replicate(subvolumes, arbiter=bool(more), options=options), promises
        self.backends = ()
        if "io" in self._faults:
            # Seen of 1 in 12 such sequences, over C posix, too.
            why = "a brick where a fop has failed may answer, while it is healed"
            promises = promises.but(set_times=(False, why))
        if "readonly" in self._faults:
            why = "a handle by which a write has failed is bad to disperse"
            promises = promises.but(failed_handles=(False, why))
        if "posix" in re.findall(r"\w*posix", rest):
            why = "disperse reads with an fd of its own, and posix finds no such file"
            promises = promises.but(replaced=(False, why))
        promises = promises.because(bricks="each has a fragment of a file").but(
            blocks=(False, "a fragment is a part of the file"),
            seeks=(False, "disperse takes some holes for data"),
            append_discards=(
                False,
                "the edges of one are written, and so go to the file's end",
            ),
            old_sizes=(
                frozenset({"stat"}),
                "a size is stored a second later, and a lookup does not ask who has it",
            ),
            wrong_sizes=(
                frozenset({graphs.FRAGMENT}),
                "what a truncate to 512 bytes cuts off comes back",
            ),
            read_ends=(False, "disperse reads past the end after a discard there"),
            unsupported=(frozenset({"zerofill"}), "disperse has none"),
        )
        return volfiles.disperse(subvolumes, redundancy=more), promises

    def _mapped(self, leaf: str) -> tuple[volfiles.Graph, Promises]:
        pool = self._store / f"pool-{self._count}"
        pool.mkdir()
        self.folders.append(pool)
        inserts = [("user/pybd", {"pool": f"loop:{pool}", "map": "*=thin"})]
        backends = self.backends
        graph, promises = self._brick(leaf, inserts=inserts)
        self.backends = backends
        promises = mapped(promises).because(bricks="a mapped file's bytes are on its device")
        if "full" in self._faults:  # some sequences are those of GlusterFS's own client
            why = "pybd leaves them to a client of GlusterFS's own"
            promises = promises.but(times=(frozenset(), why))
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
