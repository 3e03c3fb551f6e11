"""QEMU's own tools on images of a brick: plain ones of each posix, and mapped ones (user/pybd)."""

import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from glupy.testing.pytest_plugin import MakeBrick
from glupy.testing.volfile_server import serving

KIB, MIB = 1 << 10, 1 << 20
KINDS = ["posix", "pyposix", "mapped"]
VOLUME = "volume"
PATIENCE = 30.0
# What of a mapped file is not its data: extents of its device, in blocks.
MORE = 16

Serve = Callable[[str], "Volume"]


@pytest.fixture(scope="session")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which a client ends at once: glfs_fini waits 10 s for a timer."""
    folder = tmp_path_factory.mktemp("hurried")
    source, library = folder / "fini.c", folder / "fini.so"
    source.write_text("int glfs_fini(void *fs) { return fs == 0; }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    return {**os.environ, "LD_PRELOAD": str(library)}


class Volume:
    """A brick, as QEMU reaches it."""

    def __init__(self, socket: Path, environment: dict[str, str]) -> None:
        self.socket = socket
        self.environment = environment

    def url(self, name: str) -> str:
        return f"gluster+unix:///{VOLUME}/{name}?socket={self.socket}"

    def command(self, *words: str | Path, status: int = 0) -> str:
        done = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == status, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def create(self, name: str, size: int, kind: str = "raw") -> None:
        self.command("qemu-img", "create", "-q", "-f", kind, self.url(name), str(size))

    def io(self, url: str, *commands: str, kind: str = "raw", discard: str = "unmap") -> None:
        words = [word for command in commands for word in ("-c", command)]
        output = self.command("qemu-io", "-d", discard, "-f", kind, *words, url)
        assert "verification failed" not in output

    def blocks(self, name: str) -> int:
        """The blocks of 512 bytes that a file has."""
        output = self.command("qemu-img", "info", "--output=json", "-f", "raw", self.url(name))
        size: int = json.loads(output)["actual-size"]
        return size // 512

    def contents(self, name: str, copy: Path) -> bytes:
        self.command("qemu-img", "convert", "-f", "raw", "-O", "raw", self.url(name), copy)
        return copy.read_bytes()


@pytest.fixture
def serve(
    make_brick: MakeBrick, brick_dir: Path, tmp_path: Path, hurried: dict[str, str]
) -> Iterator[Serve]:
    """`serve(kind)`: a brick of that kind, as a volume."""
    with ExitStack() as undo:

        def serve(kind: str) -> Volume:
            inserts = []
            if kind == "mapped":
                pool = brick_dir / "pool"
                pool.mkdir()
                inserts = [("user/pybd", {"pool": f"loop:{pool}", "map": "*=thin"})]
            brick = make_brick(leaf="posix" if kind == "posix" else "pyposix", inserts=inserts)
            socket = tmp_path / f"{kind}.socket"
            undo.enter_context(serving({VOLUME: brick.client_graph()}, socket))
            return Volume(socket, hurried)

        yield serve


@pytest.mark.parametrize("kind", KINDS)
def test_qemu_img(kind: str, serve: Serve, tmp_path: Path) -> None:
    volume, local = serve(kind), tmp_path / "local"
    data = random.Random(1).randbytes(3 * MIB)
    with local.open("wb") as file:
        file.write(data)
        file.seek(8 * MIB)
        file.write(data)
        file.truncate(20 * MIB)

    volume.create("image", 20 * MIB)
    url = volume.url("image")
    into = "convert", "-n", "--target-is-zero", "-f", "raw", "-O", "raw"
    volume.command("qemu-img", *into, local, url)
    volume.command("qemu-img", "compare", "-f", "raw", "-F", "raw", local, url)
    assert volume.blocks("image") * 512 == pytest.approx(6 * MIB, abs=MORE * 512)
    extents = json.loads(volume.command("qemu-img", "map", "-f", "raw", "--output=json", url))
    assert [(each["start"], each["length"]) for each in extents if each["data"]] == [
        (0, 3 * MIB),
        (8 * MIB, 3 * MIB),
    ]

    volume.command("qemu-img", "resize", "-q", "-f", "raw", url, str(24 * MIB))
    volume.command("qemu-img", "resize", "-q", "-f", "raw", "--shrink", url, str(9 * MIB))
    volume.command("qemu-img", "resize", "-q", "-f", "raw", url, str(10 * MIB))
    expected = local.read_bytes()[: 9 * MIB] + bytes(MIB)
    assert volume.contents("image", tmp_path / "copy") == expected
    assert volume.blocks("image") * 512 == pytest.approx(4 * MIB, abs=MORE * 512)
    volume.command("qemu-img", "compare", "-f", "raw", "-F", "raw", local, url, status=1)

    # without a target: it is made, and has all of its blocks
    volume.command("qemu-img", "convert", "-f", "raw", "-O", "raw", url, volume.url("other"))
    assert volume.contents("other", tmp_path / "copy") == expected


DISCARDS = [
    (1, 1),
    (511, 2),
    (4 * KIB - 1, 2),
    (8 * KIB, 4 * KIB),
    (16 * KIB + 1, 4 * KIB),
    (24 * KIB - 1, 4 * KIB + 2),
    (32 * KIB + 512, 8 * KIB),
    (100_003, 300_007),
    (MIB, MIB),
    (3 * MIB + 7, MIB - 7),
]


def test_discards_of_any_alignment(serve: Serve, tmp_path: Path) -> None:
    size, expected = 4 * MIB, bytearray(b"A" * 4 * MIB)
    for offset, length in DISCARDS:
        expected[offset : offset + length] = bytes(length)
    blocks = {}
    for kind in KINDS:
        volume = serve(kind)
        volume.create("image", size)
        url = volume.url("image")
        volume.io(url, f"write -P 0x41 0 {size}", "flush")
        full = volume.blocks("image")
        volume.io(url, *(f"discard {offset} {length}" for offset, length in DISCARDS), "flush")
        volume.io(url, *(f"read -P 0 {offset} {length}" for offset, length in DISCARDS))
        assert volume.contents("image", tmp_path / "copy") == expected
        blocks[kind] = volume.blocks("image")
        assert full - blocks[kind] >= 2 * MIB // 512
        volume.io(url, f"write -P 0x42 0 {size}", "flush")
        volume.io(url, f"discard 0 {size}", "flush", discard="ignore")
        assert volume.contents("image", tmp_path / "copy") == b"B" * size
        assert volume.blocks("image") == full
    assert blocks["pyposix"] == blocks["posix"]
    assert blocks["mapped"] == pytest.approx(blocks["posix"], abs=MORE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_qcow2_image_gives_clusters_back(kind: str, serve: Serve) -> None:
    volume = serve(kind)
    volume.create("image", 64 * MIB, "qcow2")
    url = volume.url("image")
    volume.io(url, "write -P 0x41 0 16M", "flush", kind="qcow2")
    full = volume.blocks("image")
    volume.io(url, "discard 1M 8M", "discard 12345 54321", "flush", kind="qcow2")
    assert full - volume.blocks("image") == pytest.approx(8 * MIB // 512, abs=MORE)
    volume.io(url, "read -P 0x41 0 1M", "read -P 0 1M 8M", "read -P 0x41 9M 7M", kind="qcow2")
    volume.command("qemu-img", "check", "-q", "-f", "qcow2", url)


@contextmanager
def exported(volume: Volume, name: str, folder: Path) -> Iterator[str]:
    """A file of the volume, exported over NBD by qemu-storage-daemon: its address."""
    socket = folder / "nbd"
    node = {
        "driver": "gluster",
        "node-name": "image",
        "volume": VOLUME,
        "path": name,
        "server": [{"type": "unix", "path": str(volume.socket)}],
        "discard": "unmap",
        "logfile": str(folder / "daemon.log"),
    }
    command = [
        *("qemu-storage-daemon", "--blockdev", json.dumps(node)),
        *("--nbd-server", f"addr.type=unix,addr.path={socket}"),
        *("--export", "nbd,id=export,node-name=image,name=image,writable=on"),
    ]
    with subprocess.Popen(command, env=volume.environment) as daemon:
        try:
            deadline = time.monotonic() + PATIENCE
            while not socket.exists():
                assert daemon.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield f"nbd+unix:///image?socket={socket}"
            daemon.terminate()
            assert daemon.wait(PATIENCE) == 0
        finally:
            daemon.kill()


@pytest.mark.parametrize("kind", KINDS)
def test_trims_through_nbd(kind: str, serve: Serve, tmp_path: Path) -> None:
    volume = serve(kind)
    volume.create("image", 20 * MIB)
    with exported(volume, "image", tmp_path) as url:
        volume.io(url, "write -P 0x41 0 16M", "flush")
        full = volume.blocks("image")
        volume.io(url, "discard 1M 8M", "discard 9437187 4099", "flush")
        assert full - volume.blocks("image") == pytest.approx(8 * MIB // 512, abs=MORE)
        volume.io(url, "read -P 0x41 0 1M", "read -P 0 1M 8M", "read -P 0x41 10M 6M")
    expected = bytearray(b"A" * 16 * MIB + bytes(4 * MIB))
    expected[MIB : 9 * MIB] = bytes(8 * MIB)
    contents = volume.contents("image", tmp_path / "copy")
    assert contents[: 9 * MIB] == expected[: 9 * MIB]
    assert contents[10 * MIB :] == expected[10 * MIB :]


def test_a_volume_that_is_not_served_is_refused(serve: Serve) -> None:
    volume = serve("posix")
    url = volume.url("image").replace(VOLUME, "another")
    volume.command("qemu-img", "create", "-q", "-f", "raw", url, "1M", status=1)
    volume.create("image", MIB)
