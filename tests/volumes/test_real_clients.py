"""Programs that nobody here wrote: QEMU's tools, fio, loop devices.

QEMU's run on images of single bricks (`posix`, `pyposix` and `mapped`, which is user/pybd above
it), and of volumes of three replicas that gluster made, all of whose bricks are on pyposix.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from glupy import stores
from glupy.testing import stock
from glupy.testing.logs import LogChecker
from glupy.testing.pytest_plugin import MakeBrick
from glupy.testing.qemu import Images, hurried
from glupy.testing.volfile_server import serving
from glupy.testing.volumes import Glusterd, Volume
from glupy.testing.waiting import wait_until
from glupy_tools import image_users

from .leaves import KIB, MIB, PARTING, volume_on

SHARD = 4 * MIB
SHARDED = {"features.shard": "on", "features.shard-block-size": f"{SHARD}"}
BRICKS = ["posix", "pyposix", "mapped"]
VOLUMES = ["replica", "sharded"]
KINDS = [*BRICKS, *VOLUMES]
each_kind = pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.long if k == "sharded" else ()) for k in KINDS]
)
SHARDED_C = "sharded-c"
# In blocks of 512 bytes: what a file has for its xattrs, and what of a mapped file is not its
# data but extents of its device.
XATTRS, MORE = 8, 16

Serve = Callable[[str], "Served"]


class Mounted(NamedTuple):
    """A volume and a mount of it, both for the whole module."""

    volume: Volume
    mnt: Path


class Served(NamedTuple):
    """Images that QEMU reaches, and the bricks that have them as files; or the pool that does."""

    images: Images
    bricks: list[Path]

    def blocks(self) -> list[int]:
        """What the files of each brick have."""
        return [
            sum(
                path.stat().st_blocks
                for path in brick.rglob("*")
                if path.is_file() and ".glusterfs" not in path.parts
            )
            for brick in self.bricks
        ]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return hurried(tmp_path_factory.mktemp("hurried"))


@pytest.fixture(scope="module")
def volumes(
    glusterd: Glusterd, store: stores.Store, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Mounted]]:
    """`volumes(kind)`: the volume of that kind, made when it is asked for."""
    made: dict[str, Mounted] = {}
    logs = LogChecker()
    logs.allow(
        *PARTING,
        # what a client that has ended without glfs_fini still had open or locked
        r"Matching lock not found for unlock",
        r"server4_f?(inodelk|xattrop)_cbk\] .*{errno=(9|22)}",
        r"server4_flush_cbk\] .*{errno=9}",
    )
    with ExitStack() as undo:

        def get(kind: str) -> Mounted:
            if kind not in made:
                leaf = "posix" if kind == SHARDED_C else "pyposix"
                words, options = ("replica", "3"), {} if kind == "replica" else SHARDED
                making = volume_on(leaf, glusterd, store, logs, 3, *words, options=options)
                volume = undo.enter_context(making)
                mnt = undo.enter_context(volume.mounted(tmp_path_factory.mktemp(kind)))
                made[kind] = Mounted(volume, mnt)
            return made[kind]

        yield get
    logs.check()


@pytest.fixture
def mounted(volumes: Callable[[str], Mounted]) -> Iterator[Callable[[str], Mounted]]:
    """The same, and what a test has put there goes with it."""
    asked = set()

    def get(kind: str) -> Mounted:
        asked.add(kind)
        return volumes(kind)

    yield get
    for kind in asked:
        for path in volumes(kind).mnt.iterdir():
            path.unlink()


@pytest.fixture
def serve(
    request: pytest.FixtureRequest,
    make_brick: MakeBrick,
    brick_dir: Path,
    tmp_path: Path,
    environment: dict[str, str],
) -> Iterator[Serve]:
    """`serve(kind)`: what is of that kind, as QEMU reaches it."""
    with ExitStack() as undo:

        def serve(kind: str) -> Served:
            if kind not in BRICKS:
                volume, _ = request.getfixturevalue("mounted")(kind)
                host = request.getfixturevalue("glusterd").host
                return Served(Images(volume.name, host, environment), volume.bricks)
            inserts, directory = [], brick_dir / kind
            files = directory
            directory.mkdir()
            if kind == "mapped":
                files = brick_dir / "pool"
                files.mkdir()
                inserts = [("user/pybd", {"pool": f"loop:{files}", "map": "*=thin"})]
            leaf = "posix" if kind == "posix" else "pyposix"
            brick = make_brick(directory, leaf=leaf, inserts=inserts)
            socket = tmp_path / f"{kind}.socket"
            undo.enter_context(serving({"volume": brick.client_graph()}, socket))
            return Served(Images("volume", socket, environment), [files])

        yield serve


def check_freed(before: list[int], served: Served, size: int) -> None:
    """Each brick has given back so many bytes, and hardly more."""
    for full, now in zip(before, served.blocks(), strict=True):
        assert full - now == pytest.approx(size // 512, abs=MORE)


@each_kind
def test_qemu_img(kind: str, serve: Serve, tmp_path: Path) -> None:
    images, local = serve(kind).images, tmp_path / "local"
    data = random.Random(1).randbytes(3 * MIB)
    with local.open("wb") as file:
        file.write(data)
        file.seek(8 * MIB)
        file.write(data)
        file.truncate(20 * MIB)

    images.create("image", 20 * MIB)
    url = images.url("image")
    into = "convert", "-n", "--target-is-zero", "-f", "raw", "-O", "raw"
    images.command("qemu-img", *into, local, url)
    images.command("qemu-img", "compare", "-f", "raw", "-F", "raw", local, url)
    assert images.blocks("image") * 512 == pytest.approx(6 * MIB, abs=MORE * 512)
    extents = json.loads(images.command("qemu-img", "map", "-f", "raw", "--output=json", url))
    data_of = [(each["start"], each["length"]) for each in extents if each["data"]]
    # features/shard has no seek: all of the file is data then
    whole = [(0, 20 * MIB)]
    assert data_of == (whole if kind == "sharded" else [(0, 3 * MIB), (8 * MIB, 3 * MIB)])

    images.command("qemu-img", "resize", "-q", "-f", "raw", url, str(24 * MIB))
    images.command("qemu-img", "resize", "-q", "-f", "raw", "--shrink", url, str(9 * MIB))
    images.command("qemu-img", "resize", "-q", "-f", "raw", url, str(10 * MIB))
    expected = local.read_bytes()[: 9 * MIB] + bytes(MIB)
    assert images.contents("image", tmp_path / "copy") == expected
    assert images.blocks("image") * 512 == pytest.approx(4 * MIB, abs=MORE * 512)
    images.command("qemu-img", "compare", "-f", "raw", "-F", "raw", local, url, status=1)

    # without a target: it is made, and has all of its blocks
    images.command("qemu-img", "convert", "-f", "raw", "-O", "raw", url, images.url("other"))
    assert images.contents("other", tmp_path / "copy") == expected


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
    (2 * SHARD - 5000, 10_001),
    (3 * SHARD - MIB, 2 * MIB),
]


def test_discards_of_any_alignment(serve: Serve, tmp_path: Path) -> None:
    size = 4 * SHARD
    expected = bytearray(b"A" * size)
    for offset, length in DISCARDS:
        expected[offset : offset + length] = bytes(length)
    shown, on_bricks = {}, {}
    for kind in [*KINDS, SHARDED_C]:
        served = serve(kind)
        images = served.images
        images.create("image", size)
        url = images.url("image")
        images.io(url, f"write -P 0x41 0 {size}", "flush")
        full, all_full = images.blocks("image"), served.blocks()
        images.io(url, *(f"discard {offset} {length}" for offset, length in DISCARDS), "flush")
        images.io(url, *(f"read -P 0 {offset} {length}" for offset, length in DISCARDS))
        assert images.contents("image", tmp_path / "copy") == expected
        shown[kind], on_bricks[kind] = images.blocks("image"), served.blocks()
        # Shard adds up what replies say of before and after, and posix 11 has no before
        # (docs/upstream-defects.md).
        counted = kind != SHARDED_C or "discard" not in stock.without_pre()
        if counted:
            assert full - shown[kind] >= 4 * MIB // 512
        else:
            assert shown[kind] > full
        images.io(url, f"write -P 0x42 0 {size}", "flush")
        images.io(url, f"discard 0 {size}", "flush", discard="ignore")
        assert images.contents("image", tmp_path / "copy") == b"B" * size
        assert images.blocks("image") == full or not counted
        # On the disk what is written anew may need another block for the extents of a file.
        files = size // SHARD if kind.startswith("sharded") else 1
        assert served.blocks() == pytest.approx(all_full, abs=XATTRS * files)
    assert shown["posix"] == shown["pyposix"] == shown["replica"]
    assert shown["mapped"] == pytest.approx(shown["posix"], abs=MORE)
    assert shown["sharded"] == shown[SHARDED_C] or not counted
    assert on_bricks["posix"] == on_bricks["pyposix"] == [shown["posix"]]
    assert on_bricks["replica"] == on_bricks["posix"] * 3
    more = XATTRS * (size // SHARD - 1)
    assert on_bricks["sharded"] == on_bricks[SHARDED_C] == [shown["posix"] + more] * 3


@each_kind
def test_a_qcow2_image_gives_clusters_back(kind: str, serve: Serve) -> None:
    served = serve(kind)
    images = served.images
    images.create("image", 64 * MIB, "qcow2")
    url = images.url("image")
    images.io(url, "write -P 0x41 0 16M", "flush", kind="qcow2")
    full = served.blocks()
    images.io(url, "discard 1M 8M", "discard 12345 54321", "flush", kind="qcow2")
    check_freed(full, served, 8 * MIB)
    images.io(url, "read -P 0x41 0 1M", "read -P 0 1M 8M", "read -P 0x41 9M 7M", kind="qcow2")
    images.command("qemu-img", "check", "-q", "-f", "qcow2", url)


@each_kind
def test_trims_through_nbd(kind: str, serve: Serve, tmp_path: Path) -> None:
    served = serve(kind)
    images = served.images
    images.create("image", 20 * MIB)
    with images.exported("image", tmp_path) as url:
        images.io(url, "write -P 0x41 0 16M", "flush")
        full = served.blocks()
        images.io(url, "discard 1M 8M", "discard 9437187 4099", "flush")
        check_freed(full, served, 8 * MIB)
        images.io(url, "read -P 0x41 0 1M", "read -P 0 1M 8M", "read -P 0x41 10M 6M")
    expected = bytearray(b"A" * 16 * MIB + bytes(4 * MIB))
    expected[MIB : 9 * MIB] = bytes(8 * MIB)
    contents = images.contents("image", tmp_path / "copy")
    assert contents[: 9 * MIB] == expected[: 9 * MIB]
    assert contents[10 * MIB :] == expected[10 * MIB :]


def test_a_volume_that_is_not_served_is_refused(serve: Serve) -> None:
    images, _ = serve("posix")
    url = images.url("image").replace("/volume/", "/another/")
    images.command("qemu-img", "create", "-q", "-f", "raw", url, "1M", status=1)
    images.create("image", MIB)


@pytest.mark.parametrize("kind", VOLUMES)
@pytest.mark.parametrize("engine", ["gfapi", pytest.param("gfapi_async", marks=pytest.mark.long)])
def test_fio(
    engine: str,
    kind: str,
    serve: Serve,
    mounted: Callable[[str], Mounted],
    glusterd: Glusterd,
    tmp_path: Path,
) -> None:
    """It writes and verifies by libgfapi; its engine there cannot trim (Debian's build), the one
    that calls fallocate on a mount can."""
    served, size = serve(kind), 6 * MIB
    volume, mnt = mounted(kind)
    job = (
        "fio",
        f"--aux-path={tmp_path}",
        "--name=job",
        "--filename=image",
        "--randseed=1",
        "--output-format=json",
    )
    there = f"--ioengine={engine}", f"--volume={volume.name}", f"--brick={glusterd.host}"
    for words in (
        (f"--size={size}", "--rw=randwrite", "--bsrange=512-64k", "--iodepth=8", "--verify=crc32c"),
        ("--size=1M", "--rw=randrw", "--bs=5001", "--verify=md5"),
    ):
        output = served.images.command(*job, *there, *words)
        (done,) = json.loads(output[output.index("{") :])["jobs"]
        assert done["error"] == 0
        assert done["read"]["total_ios"] > 100
        assert done["write"]["total_ios"] > 100
    assert min(served.blocks()) >= size // 512
    words = "--ioengine=falloc", f"--filename={mnt / 'image'}", "--rw=randtrim", "--bs=64k"
    served.images.command("fio", "--name=job", f"--size={size}", *words)
    assert max(served.blocks()) <= XATTRS * -(-size // SHARD)
    assert served.images.contents("image", tmp_path / "copy") == bytes(size)
    Path("/tmp/fio_gfapi.log").unlink(missing_ok=True)  # its engine leaves that, wherever it runs


@pytest.mark.parametrize("kind", VOLUMES)
def test_a_file_system_on_a_loop_device(
    kind: str, serve: Serve, mounted: Callable[[str], Mounted], tmp_path: Path
) -> None:
    """ext4, mounted with discard, on a loop device on a file of a mount."""
    served, (_, mnt) = serve(kind), mounted(kind)
    inner = tmp_path / "inner"
    data = random.Random(3).randbytes(20 * MIB)
    little = 2 * MIB // 512  # what a removed file leaves in the journal and the tables

    def now() -> list[int]:
        stores.run("sync", "--file-system", inner)
        return served.blocks()

    with stores.store(mnt / "image", 64 * MIB, inner):
        empty = now()
        for trim in (), ("fstrim", str(inner)):
            if trim:  # a file system that does not discard by itself
                stores.run("mount", "-o", "remount,nodiscard", inner)
            (inner / "file").write_bytes(data)
            full = now()
            assert min(b - a for a, b in zip(empty, full, strict=True)) >= len(data) // 512
            assert (inner / "file").read_bytes() == data
            (inner / "file").unlink()
            if trim:
                assert min(b - a for a, b in zip(empty, now(), strict=True)) >= len(data) // 512
                stores.run(*trim)
            wait_until(
                lambda: max(b - a for a, b in zip(empty, now(), strict=True)) <= little,
                "blocks that are given back",
            )


# features/shard unlocks what a client that ends had locked
@pytest.mark.allow_log(r"unlock on .* attempted but no matching lock found", "server4_entrylk_cbk")
@pytest.mark.long
@pytest.mark.parametrize("kind", [*VOLUMES, "mapped"])
def test_a_guest(kind: str, serve: Serve, tmp_path: Path) -> None:
    """The well-known walkthrough: a virtual machine removes a file, every brick has its blocks; or
    it has when the machine trims, if that does not discard by itself."""
    served, size = serve(kind), 40 * MIB // 512
    little = size // 20
    served.images.create("image", 64 * MIB)
    disk = image_users.disk("virtio-scsi", "unmap")
    with image_users.in_guest(served.images, "image", tmp_path / "guest", disk) as user:
        empty = served.blocks()

        def taken() -> list[int]:
            user.run("sync", "--file-system", user.folder)
            return [b - a for a, b in zip(empty, served.blocks(), strict=True)]

        file = user.folder / "file"
        for trims in False, True:
            if trims:
                user.run("mount", "-o", "remount,nodiscard", user.folder)
            user.run("dd", f"if={user.source}", f"of={file}", "bs=1M", "count=40")
            assert min(taken()) >= size - little
            user.run("rm", file)
            if trims:
                assert min(taken()) >= size - little
                user.run("fstrim", user.folder)
            # it discards some time after its journal's commit
            wait_until(lambda: max(taken()) <= little, "blocks that are given back")
