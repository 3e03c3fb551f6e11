"""The installed GlusterFS runs what the recipes produce: bricks, their clients, a lone leaf."""

import errno
import os
import re
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from glupy.testing.processes import Brick, ProcessError
from volfiles import Graph, brick, client, leaf_graph, parse

TIMEOUT = 20  # seconds
HELLO = Path(__file__).parents[2] / "xlators" / "examples" / "hello.py"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def connects(family: socket.AddressFamily, address: tuple[str, int] | str) -> bool:
    with socket.socket(family) as probe:
        return probe.connect_ex(address) == 0


def is_mounted(mountpoint: Path) -> bool:
    """Without asking the file system, which may hang."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return str(mountpoint) in (line.split()[1] for line in mounts)


@contextmanager
def running(
    program: str, graph: Graph, folder: Path, ready: Callable[[], bool], *arguments: Path
) -> Iterator[None]:
    """Run a graph in the foreground, from when it is ready until the block ends."""
    volfile, log = folder / f"{program}.vol", folder / f"{program}.log"
    graph.write(volfile)
    pidfile = folder / f"{program}.pid"
    with subprocess.Popen(
        [program, "-N", "-f", volfile, "-l", log, "-p", pidfile, *arguments],
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            deadline = time.monotonic() + TIMEOUT
            while not ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{program} is not ready:\n{log.read_text()}")
                time.sleep(0.02)
            yield
        finally:
            process.terminate()
            try:
                process.wait(TIMEOUT)
            finally:
                process.kill()


@contextmanager
def served(graph: Graph, folder: Path) -> Iterator[None]:
    """Run a brick with glusterfsd."""
    options = graph.top.options

    def listens() -> bool:
        path = options.get("transport.socket.listen-path")
        if path is not None:
            return connects(socket.AF_UNIX, path)
        port = int(options["transport.socket.listen-port"])
        return connects(socket.AF_INET, ("127.0.0.1", port))

    with running("glusterfsd", graph, folder, listens):
        yield


@contextmanager
def mounted(graph: Graph, folder: Path) -> Iterator[Path]:
    """Mount a graph with FUSE."""
    mountpoint = folder / "mount"
    mountpoint.mkdir()
    try:
        with running("glusterfs", graph, folder, lambda: is_mounted(mountpoint), mountpoint):
            yield mountpoint
            subprocess.run(["umount", mountpoint], check=True)
    finally:
        if is_mounted(mountpoint):
            subprocess.run(["umount", "--lazy", mountpoint], check=True)
    assert not is_mounted(mountpoint)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A brick's directory, with a name that needs quotes."""
    path = tmp_path / r"""a "brick's" \ `one` #1"""
    path.mkdir()
    return path


def check(mount: Path, directory: Path, *, has_mdata: bool) -> None:
    """What is written through the mount arrives in the brick, with its times if so asked."""
    (mount / "file").write_bytes(b"hello")
    assert (mount / "file").read_bytes() == b"hello"
    assert (directory / "file").read_bytes() == b"hello"
    assert ("trusted.glusterfs.mdata" in os.listxattr(directory / "file")) == has_mdata


@pytest.mark.parametrize("ctime", [True, False])
def test_a_brick_on_a_port_serves_its_client(tmp_path: Path, directory: Path, ctime: bool) -> None:
    port = free_port()
    with (
        served(brick(directory, leaf="posix", port=port, ctime=ctime), tmp_path),
        mounted(client(port=port), tmp_path) as mount,
    ):
        check(mount, directory, has_mdata=ctime)


def test_a_brick_on_a_unix_socket_serves_its_client(tmp_path: Path, directory: Path) -> None:
    path = tmp_path / "socket"
    with (
        served(brick(directory, leaf="posix", socket=path), tmp_path),
        mounted(client(socket=path), tmp_path) as mount,
    ):
        check(mount, directory, has_mdata=False)


def test_a_brick_with_a_name_of_its_own_serves_its_client(tmp_path: Path, directory: Path) -> None:
    port, name = free_port(), str(directory)
    caching = [
        ("performance/write-behind", {}),
        ("performance/md-cache", {"md-cache-timeout": "1"}),
    ]
    with (
        served(brick(directory, leaf="posix", port=port, name=name), tmp_path),
        mounted(client(port=port, brick=name, inserts=caching), tmp_path) as mount,
    ):
        check(mount, directory, has_mdata=False)


def test_an_insert_is_in_the_graph(tmp_path: Path, directory: Path) -> None:
    port = free_port()
    inserts = [("features/read-only", {"read-only": "on"})]
    with (
        served(brick(directory, leaf="posix", port=port, inserts=inserts), tmp_path),
        mounted(client(port=port), tmp_path) as mount,
        pytest.raises(OSError) as caught,
    ):
        (mount / "file").touch()
    assert caught.value.errno == errno.EROFS


def test_what_the_command_prints_runs_as_it_is(tmp_path: Path, directory: Path) -> None:
    def glupy_volfile(*words: str) -> Graph:
        command = [sys.executable, "-m", "glupy_tools", "volfile", *words]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        graph = parse(text)
        assert str(graph) == text  # so it is the same file that runs below
        return graph

    hello = f"features/glupy,module={HELLO}:Hello"
    inserts = ["--insert", rf"{hello},greeting=one\, two", "--insert", f"{hello},greeting=three"]
    port = str(free_port())
    graph = glupy_volfile("brick", str(directory), "--port", port, *inserts)
    with (
        served(graph, tmp_path),
        mounted(glupy_volfile("client", f"127.0.0.1:{port}"), tmp_path) as mount,
    ):
        check(mount, directory, has_mdata=False)
    log = (tmp_path / "glusterfsd.log").read_text()
    assert re.findall(r" 0-(\S+): (.*), user 0: /file is yours", log) == [
        ("brick-glupy-2", "three"),  # the last one is above the others
        ("brick-glupy", "one, two"),
    ]


def test_what_is_inserted_above_the_volume_that_clients_ask_for_is_asked_too(
    tmp_path: Path, directory: Path
) -> None:
    """The server takes the whole of its subvolume that has what they ask for in it."""
    port = free_port()
    read_only = "features/read-only", {"read-only": "on"}
    graph = brick(directory, leaf="posix", port=port).insert(read_only, above="brick")
    with (
        served(graph, tmp_path),
        mounted(client(port=port), tmp_path) as mount,
        pytest.raises(OSError) as caught,
    ):
        (mount / "file").touch()
    assert caught.value.errno == errno.EROFS


def test_options_reach_the_leaf(tmp_path: Path, directory: Path) -> None:
    """storage/posix starts only on a directory that bears the volume's id."""
    volume_id = uuid.uuid4()
    port = free_port()
    graph = brick(directory, leaf="posix", port=port, options={"volume-id": str(volume_id)})
    with pytest.raises(ProcessError, match="volume-id"), Brick(graph, tmp_path / "refused"):
        pass
    os.setxattr(directory, "trusted.glusterfs.volume-id", volume_id.bytes)
    with served(graph, tmp_path), mounted(client(port=port), tmp_path) as mount:
        check(mount, directory, has_mdata=False)


def test_a_client_finds_a_brick_again(tmp_path: Path, directory: Path) -> None:
    port = free_port()
    graph = brick(directory, leaf="posix", port=port)
    with ExitStack() as first:
        first.enter_context(served(graph, tmp_path))
        with mounted(client(port=port), tmp_path) as mount:
            (mount / "before").touch()
            first.close()
            with pytest.raises(OSError) as caught:
                (mount / "between").touch()
            assert caught.value.errno == errno.ENOTCONN
            with served(graph, tmp_path):
                deadline = time.monotonic() + TIMEOUT
                while time.monotonic() < deadline:
                    with suppress(OSError):
                        check(mount, directory, has_mdata=False)
                        break
                    time.sleep(0.1)
                assert (mount / "before").exists()
                check(mount, directory, has_mdata=False)


def test_a_leaf_is_mounted_without_a_server(tmp_path: Path, directory: Path) -> None:
    with mounted(leaf_graph(directory, leaf="posix", ctime=True), tmp_path) as mount:
        check(mount, directory, has_mdata=True)
