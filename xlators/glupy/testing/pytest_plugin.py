"""Fixtures for tests of translators, and the rule that nobody may log an error unnoticed.

| fixture | what it is |
|---|---|
| `store` | a loop file with ext4, mounted `-o discard`; one for the whole run |
| `brick_dir` | an empty folder on it |
| `leaf` | the type at the bottom of bricks; a test may be parametrized by it |
| `make_brick` | starts bricks: arguments of `volfiles.brick`, and `log_level` |
| `connect` | makes gfapi clients of a brick |
| `brick`, `client`, `mount` | a brick, its gfapi client, its FUSE mount |
| `backend` | the folder of that brick |
| `in_process` | a gfapi client with the leaf in its own process, over `brick_dir`: no brick |
| `fuzz` | `fuzz(target, …)` fails the test if `glupy.testing.fuzz` finds something wrong there |
| `logs` | the `LogChecker` over all of their logs |

All of it ends with the test, however the test ends; then the logs are checked. What a test
provokes it declares with `@pytest.mark.expect_log(REGEX…)` (must appear), `allow_log(REGEX…)`
(may), or by calling `logs.expect` and `logs.allow`.
"""

import contextlib
import itertools
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import volfiles
from glupy import stores
from glupy.testing.logs import LogChecker, logs_below
from glupy.testing.processes import Brick, FuseMount, free_port

if TYPE_CHECKING:  # every run of pytest imports this file, not every one needs libgfapi
    from glupy.testing.gfapi import Client

STORE_SIZE = 1 << 30
REFUSALS = (
    r"\[server-rpc-fops_v2\.c:\d+:server4_\w+_cbk\] ",
    r"\[posix[\w-]*\.c:\d+:posix_\w+\] ",
    r"\[posix\.c:\d+:truncate_stat_cbk\] ",  # features/locks
    r"\[client-rpc-fops_v2\.c:\d+:client4_0_\w+_cbk\] ",
)
"""Where C logs that a fop is refused: an error."""

MakeBrick = Callable[..., Brick]
Connect = Callable[..., "Client"]
Fuzz = Callable[..., None]


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "expect_log(*patterns): log records (regular expressions) that must appear in this test",
        "allow_log(*patterns): log records (regular expressions) that may appear in this test",
    ):
        config.addinivalue_line("markers", line)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.Store]:
    folder = tmp_path_factory.mktemp("store")
    with stores.store(folder / "image", STORE_SIZE, folder / "mnt") as store:
        yield store


@pytest.fixture
def brick_dir(store: stores.Store) -> Iterator[Path]:
    folder = next(path for n in itertools.count() if not (path := store.folder / f"{n}").exists())
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def logs(request: pytest.FixtureRequest) -> Iterator[LogChecker]:
    logs = LogChecker()
    for mark in request.node.iter_markers("expect_log"):
        logs.expect(*mark.args)
    for mark in request.node.iter_markers("allow_log"):
        logs.allow(*mark.args)
    yield logs
    logs.check()


@pytest.fixture
def leaf() -> str:
    return "storage/pyposix"


@pytest.fixture
def make_brick(leaf: str, brick_dir: Path, tmp_path: Path, logs: LogChecker) -> Iterator[MakeBrick]:
    """`make_brick(directory=…, leaf=…, …)`: without them a new folder and the fixture's leaf."""
    numbers = itertools.count()
    with contextlib.ExitStack() as stack:

        def make(directory: Path | None = None, *, log_level: str = "INFO", **recipe: Any) -> Brick:
            name = f"brick-{next(numbers)}"
            if directory is None:
                directory = brick_dir / name
                directory.mkdir()
            recipe = {"leaf": leaf, "port": free_port(), **recipe}
            brick = Brick(volfiles.brick(directory, **recipe), tmp_path / name, log_level=log_level)
            logs.watch(brick.log, brick.output)
            return stack.enter_context(brick)

        yield make


@pytest.fixture
def brick(make_brick: MakeBrick) -> Brick:
    return make_brick()


@pytest.fixture
def backend(brick: Brick) -> Path:
    leaf = next(iter(brick.graph))
    return Path(leaf.options["directory"])


@pytest.fixture
def connect(tmp_path: Path, logs: LogChecker) -> Iterator[Connect]:
    """`connect(brick, options=…, inserts=…)`: the arguments of `Brick.client_graph`."""
    from glupy.testing.gfapi import Client  # noqa: PLC0415

    numbers = itertools.count()
    with contextlib.ExitStack() as stack:

        def connect(brick: Brick, **graph: Any) -> Client:
            log = tmp_path / f"client-{next(numbers)}.log"
            logs.watch(log)
            client = Client(brick.client_graph(**graph), log=log, background_fini=True)
            return stack.enter_context(client)

        yield connect


@pytest.fixture
def client(brick: Brick, connect: Connect) -> "Client":
    return connect(brick)


@pytest.fixture
def in_process(leaf: str, brick_dir: Path, tmp_path: Path, logs: LogChecker) -> Iterator["Client"]:
    from glupy.testing.gfapi import Client  # noqa: PLC0415

    log = tmp_path / "in-process.log"
    logs.watch(log)
    with Client(volfiles.leaf_graph(brick_dir, leaf=leaf), log=log) as client:
        yield client


@pytest.fixture
def fuzz(tmp_path: Path, logs: LogChecker) -> Fuzz:
    """`fuzz(target, inserts=…, faults=…, examples=…, seed=…)`: arguments of `open_target` and of
    `Search.run`; as many examples as Hypothesis's profile has, unless told otherwise. An error in
    a log fails the test, too, unless it is of a fop that C refuses: the model judges that."""
    from glupy.testing.fuzz import Search, open_target  # noqa: PLC0415

    logs.allow(*REFUSALS)

    def search(
        target: str,
        *,
        inserts: Sequence[volfiles.Insert] = (),
        faults: Sequence[str] = (),
        examples: int | None = None,
        seed: int | None = None,
    ) -> None:
        chosen = random.randrange(1 << 32) if seed is None else seed
        if "kill" in faults:
            logs.allow(r"saved_frames_unwind\] ")  # what a client has sent to a brick that ends
        if "io" in faults:
            logs.allow(r"-pybd: \S+ is not mapped: Input/output error")  # by its name
        with open_target(target, inserts=inserts, faults=faults, parent=tmp_path) as ground:
            finding = Search(ground).run(examples=examples, seed=chosen)
            logged = logs_below(tmp_path).values()
        errors = itertools.chain.from_iterable(map(logs.unexpected, logged))
        if trouble := finding or next(errors, None):
            pytest.fail(f"{target}, seed {chosen}:\n{trouble}", pytrace=False)

    return search


@pytest.fixture
def mount(brick: Brick, tmp_path: Path, logs: LogChecker) -> Iterator[FuseMount]:
    mountpoint = tmp_path / "mount"
    mountpoint.mkdir()
    mount = FuseMount(brick.client_graph(), mountpoint, tmp_path / "fuse")
    logs.watch(mount.log, mount.output)
    with mount:
        yield mount
