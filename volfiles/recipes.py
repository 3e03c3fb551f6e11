"""Graphs that are needed again and again: a brick, its client, a leaf with no server, and what a
client makes of several of them: a distributed, a replicated, a dispersed volume, shards.

Every recipe returns a whole `Graph`; nothing is started and no file is written. Each raises
VolfileError for what GlusterFS would refuse later with less to say.

Those of volumes take graphs and put one xlator above them, with the options that glusterd gives
it. So they go into each other, and it does not matter to them what is below: clients of bricks,
or leaves in the client's own process.

>>> halves = [replicate(clients([("a", PORT), ("b", PORT)], name=n), name=n) for n in ("x", "y")]
>>> volume = shard(distribute(halves))
>>> [node.type for node in volume if len(node.subvolumes) == 2]
['cluster/replicate', 'cluster/replicate', 'cluster/distribute']
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .graph import Graph
from .words import VolfileError, unfit
from .xlator import Insert, Xlator

Address = tuple[str, int] | Path | str
"""Where a brick is: a host and a port, or the path of its Unix socket."""

PORT = 49152
"""The port of a brick unless told otherwise: the first that glusterd would give one."""

ARBITER: Insert = ("features/arbiter", {})
"""What makes a brick an arbiter, above its leaf."""

_LOOPBACK = "127.0.0.1"


def leaf_graph(
    directory: Path | str,
    *,
    leaf: str = "storage/pyposix",
    options: Mapping[str, str] | None = None,
    inserts: Sequence[Insert] = (),
    ctime: bool = False,
    name: str = "brick",
) -> Graph:
    """A leaf and what it cannot do without, for a process of its own: no server, no network.

    ``glusterfs -f`` mounts it, gfapi runs it in its own process. From the leaf up: `leaf` (a
    type; ``storage/`` may be omitted) over `directory`, with `options` of its own, such as
    ``volume-id`` or ``reserve``; `inserts` in their order; features/utime with `ctime` (only
    that keeps times in the file's xattr); features/locks. `name` begins the name of each.
    """
    return Graph.stack(*_named(name, _storage(directory, leaf, options, inserts, ctime=ctime)))


def brick(
    directory: Path | str,
    *,
    leaf: str = "storage/pyposix",
    options: Mapping[str, str] | None = None,
    inserts: Sequence[Insert] = (),
    ctime: bool = False,
    name: str = "brick",
    port: int = PORT,
    socket: Path | str | None = None,
) -> Graph:
    """A brick for ``glusterfsd -N -f``, for clients on this machine only.

    What `leaf_graph` makes, and above it performance/io-threads, debug/io-stats (called `name`,
    as a client asks for it) and protocol/server. It listens on 127.0.0.1 and `port`, or on the
    Unix `socket` (a path) if there is one, whose directory then says who may connect.
    """
    if socket is None:
        transport = {
            "transport-type": "tcp",
            "transport.address-family": "inet",
            "transport.socket.bind-address": _LOOPBACK,
            "transport.socket.listen-port": _port(port),
        }
    else:
        transport = {
            "transport-type": "unix",
            "transport.socket.listen-path": _absolute(socket),
        }
    server = {
        **transport,
        "auth-path": name,
        f"auth.addr.{name}.allow": "*" if socket is not None else _LOOPBACK,
        # Else only root, on a port below 1024, may connect.
        "rpc-auth-allow-insecure": "on",
    }
    storage = _storage(directory, leaf, options, inserts, ctime=ctime)
    return Graph.stack(
        *_named(name, [*storage, ("performance/io-threads", {})]),
        Xlator(name, "debug/io-stats"),
        Xlator(f"{name}-server", "protocol/server", server),
    )


def client(
    host: str = _LOOPBACK,
    port: int = PORT,
    *,
    socket: Path | str | None = None,
    options: Mapping[str, str] | None = None,
    inserts: Sequence[Insert] = (),
    brick: str = "brick",
    name: str | None = None,
) -> Graph:
    """The client of a `brick`, for ``glusterfs -f`` (a FUSE mount) and gfapi.

    protocol/client, with `options` of its own, such as ``ping-timeout``; above it nothing that
    caches, delays or answers by itself, but `inserts` in their order. `brick` is the name of the
    brick; a Unix `socket` (a path) is used instead of `host` and `port`. `name` begins the name
    of each xlator: that of the brick, unless told.
    """
    if socket is None:
        transport = {"transport-type": "tcp", "remote-host": host, "remote-port": _port(port)}
    else:
        transport = {
            "transport-type": "unix",
            # protocol/client does not start without a host.
            "remote-host": "localhost",
            "transport.socket.connect-path": _absolute(socket),
        }
    protocol = {**transport, "remote-subvolume": brick, **(options or {})}
    return Graph.stack(*_named(name or brick, [("protocol/client", protocol), *inserts]))


def clients(
    bricks: Iterable[Address],
    *,
    options: Mapping[str, str] | None = None,
    inserts: Sequence[Insert] = (),
    brick: str = "brick",
    name: str = "brick",
) -> list[Graph]:
    """A `client` of each of several bricks, whose names begin with NAME-0, NAME-1 and so on."""
    graphs = []
    for number, address in enumerate(bricks):
        host, port, socket = (*address, None) if isinstance(address, tuple) else ("", PORT, address)
        graphs.append(
            client(
                host,
                port,
                socket=socket,
                options=options,
                inserts=inserts,
                brick=brick,
                name=f"{name}-{number}",
            )
        )
    return graphs


def distribute(
    subvolumes: Sequence[Graph],
    *,
    options: Mapping[str, str] | None = None,
    name: str = "distribute",
) -> Graph:
    """Every file is on one of the subvolumes, every directory on all of them."""
    own = {"lock-migration": "off", "force-migration": "off", **(options or {})}
    return _over(subvolumes, Xlator(name, "cluster/distribute", own))


def replicate(
    subvolumes: Sequence[Graph],
    *,
    arbiter: bool = False,
    options: Mapping[str, str] | None = None,
    name: str = "replicate",
) -> Graph:
    """Every file is on all of the subvolumes.

    With `arbiter` the last of three has no data, only names and attributes: its brick needs
    `ARBITER` among its inserts. What a brick has missed is noted in xattrs called after the
    tops of the subvolumes as they are now; to heal it is the work of glusterd's daemon.
    """
    if len(subvolumes) < 2 or (arbiter and len(subvolumes) != 3):
        wanted = "three" if arbiter else "two or more"
        raise VolfileError(f"replicate: {len(subvolumes)} subvolumes, not {wanted}", volume=name)
    own = {"afr-pending-xattr": ",".join(graph.top.name for graph in subvolumes)}
    if arbiter:
        own["arbiter-count"] = "1"
    return _over(subvolumes, Xlator(name, "cluster/replicate", {**own, **(options or {})}))


def disperse(
    subvolumes: Sequence[Graph],
    *,
    redundancy: int,
    options: Mapping[str, str] | None = None,
    name: str = "disperse",
) -> Graph:
    """Every file is cut into fragments, one on each subvolume; any `redundancy` may be missing.

    4+2 is six subvolumes and a redundancy of 2.
    """
    own = {"redundancy": str(redundancy), **(options or {})}
    return _over(subvolumes, Xlator(name, "cluster/disperse", own))


def shard(
    subvolume: Graph,
    *,
    block_size: str = "64MB",
    options: Mapping[str, str] | None = None,
    name: str = "shard",
) -> Graph:
    """A file above `block_size` continues in files of that size in the folder .shard."""
    own = {"shard-block-size": block_size, **(options or {})}
    return _over([subvolume], Xlator(name, "features/shard", own))


def _over(subvolumes: Sequence[Graph], top: Xlator) -> Graph:
    """The graph with `top` over the others, if GlusterFS would start that top."""
    graph = Graph.join(subvolumes, top)
    for error in graph.check():
        if error.volume == top.name:
            raise error
    return graph


def parse_insert(text: str) -> Insert:
    r"""The type and the options in ``TYPE[,option=value…]``, as a command line has them.

    A backslash makes the next character literal: ``\,`` is a comma in a value. Raises VolfileError.
    """
    if reason := unfit(text):
        raise VolfileError(f"insert: {reason}")
    import csv  # noqa: PLC0415  # it takes a millisecond, and a filter has none to lose

    try:
        (fields,) = csv.reader([text], quoting=csv.QUOTE_NONE, escapechar="\\", strict=True)
    except csv.Error as error:
        raise VolfileError(f"insert {text!r}: {error}") from error
    type_, *pairs = fields
    if not re.fullmatch(r"[^/]+/.*[^/]", type_):
        raise VolfileError(f"insert {text!r}: {type_!r} is not a type, such as features/trash")
    options: dict[str, str] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if not key or not value:
            raise VolfileError(
                f"insert {text!r}: {pair!r} is not option=value (a comma in a value is written \\,)"
            )
        if key in options:
            raise VolfileError(f"insert {text!r}: option {key!r} is given twice")
        options[key] = value
    return type_, options


def _storage(
    directory: Path | str,
    leaf: str,
    options: Mapping[str, str] | None,
    inserts: Sequence[Insert],
    *,
    ctime: bool,
) -> list[Insert]:
    """The leaf, the inserts, features/utime if it is wanted, and features/locks."""
    leaf_type = leaf if "/" in leaf else f"storage/{leaf}"
    if not leaf_type.startswith("storage/"):
        reason = f"{leaf_type!r} cannot be a leaf: features/locks wants a type in storage/"
        raise VolfileError(reason)
    own = {
        "directory": _absolute(directory),
        "ctime": "on" if ctime else "off",
        **(options or {}),
    }
    # features/utime goes above the inserts: in a volume it is above everything in a brick.
    utime: list[Insert] = [("features/utime", {})] if ctime else []
    return [(leaf_type, own), *inserts, *utime, ("features/locks", {})]


def _named(name: str, layers: Iterable[Insert]) -> list[Xlator]:
    """Xlators called after their types: NAME-locks, and NAME-locks-2 if there is another."""
    seen: Counter[str] = Counter()
    xlators = []
    for type_, options in layers:
        own = f"{name}-{type_.rpartition('/')[2]}"
        seen[own] += 1
        number = f"-{seen[own]}" if seen[own] > 1 else ""
        xlators.append(Xlator(own + number, type_, options))
    return xlators


def _absolute(path: Path | str) -> str:
    """An option of GlusterFS's type path is absolute and has no ``..``."""
    return str(Path(path).resolve())


def _port(port: int) -> str:
    if not 0 < port < 65536:
        raise VolfileError(f"{port} is not a port: 1 to 65535")
    return str(port)
