"""QEMU's own tools on the images of a volume, by its gluster driver.

>>> with Brick(graph, folder) as brick, serving({"volume": brick.client_graph()}, socket):
...     images = Images("volume", socket)
...     images.create("image", 1 << 20)
...     images.io(images.url("image"), "write -P 0x41 0 64k", "discard 0 4k", "read -P 0 0 4k")
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from glupy.testing.volumes import PORT

TIMEOUT = 60.0
_START_TIMEOUT = 30.0
_FINI = "int glfs_fini(void *fs) { return fs == 0; }\n"


class QemuError(Exception):
    """A command of QEMU's that ended otherwise than it was to, and what it said."""


def hurried(folder: Path) -> dict[str, str]:
    """Make an environment in which a gfapi client ends at once: glfs_fini waits 10 s for a timer.

    `folder` is for the library that does it; the compiler is needed.
    """
    source, library = folder / "fini.c", folder / "fini.so"
    source.write_text(_FINI)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    return {"LD_PRELOAD": str(library)}


class Images:
    """The images of a volume."""

    def __init__(
        self, volume: str, server: Path | str, environment: Mapping[str, str] | None = None
    ) -> None:
        """`server` is the host of a glusterd, or the socket of `glupy.testing.volfile_server`;
        `environment` is added to this process' own."""
        self.volume = volume
        self._server = server
        self._environment = {**os.environ, **(environment or {})}

    def url(self, name: str) -> str:
        """What QEMU calls an image."""
        if isinstance(self._server, Path):
            # With :/// QEMU 10 calls it invalid: an empty host is one, to its parser of URIs.
            return f"gluster+unix:/{self.volume}/{name}?socket={self._server}"
        return f"gluster://{self._server}/{self.volume}/{name}"

    def command(self, *words: str | Path, status: int = 0) -> str:
        """What a command prints; QemuError if it ends with another status."""
        done = subprocess.run(
            words,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if done.returncode != status:
            raise QemuError(f"{words}: status {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def create(self, name: str, size: int, kind: str = "raw") -> None:
        """Make an image; `size` is in bytes."""
        self.command("qemu-img", "create", "-q", "-f", kind, self.url(name), str(size))

    def io(self, url: str, *commands: str, kind: str = "raw", discard: str = "unmap") -> None:
        """Do commands of qemu-io; QemuError if one fails, or reads what it should not."""
        words = [word for command in commands for word in ("-c", command)]
        output = self.command("qemu-io", "-d", discard, "-f", kind, *words, url)
        if "verification failed" in output:
            raise QemuError(f"{words}: {output}")

    def blocks(self, name: str) -> int:
        """The blocks of 512 bytes that a file has."""
        output = self.command("qemu-img", "info", "--output=json", "-f", "raw", self.url(name))
        size: int = json.loads(output)["actual-size"]
        return size // 512

    def contents(self, name: str, copy: Path) -> bytes:
        """What is in a raw image; `copy` is a file to make."""
        self.command("qemu-img", "convert", "-f", "raw", "-O", "raw", self.url(name), copy)
        return copy.read_bytes()

    def node(self, name: str, *, discard: str = "unmap") -> dict[str, object]:
        """The block node of an image, as `-blockdev` takes it in JSON; its name is `image`."""
        if isinstance(self._server, Path):
            address = {"type": "unix", "path": str(self._server)}
        else:
            address = {"type": "inet", "host": self._server, "port": str(PORT)}
        return {
            "driver": "gluster",
            "node-name": "image",
            "volume": self.volume,
            "path": name,
            "server": [address],
            "discard": discard,
        }

    @contextmanager
    def exported(self, name: str, folder: Path) -> Iterator[str]:
        """Have qemu-storage-daemon export a raw image over NBD while the block runs: its URL."""
        socket = folder / "nbd"
        node = self.node(name) | {"logfile": str(folder / "daemon.log")}
        command = [
            *("qemu-storage-daemon", "--blockdev", json.dumps(node)),
            *("--nbd-server", f"addr.type=unix,addr.path={socket}"),
            *("--export", "nbd,id=export,node-name=image,name=image,writable=on"),
        ]
        with subprocess.Popen(command, env=self._environment) as daemon:
            try:
                deadline = time.monotonic() + _START_TIMEOUT
                while not socket.exists():
                    if daemon.poll() is not None or time.monotonic() > deadline:
                        raise QemuError("qemu-storage-daemon does not listen")
                    time.sleep(0.02)
                yield f"nbd+unix:///image?socket={socket}"
                daemon.terminate()
                if daemon.wait(_START_TIMEOUT) != 0:
                    raise QemuError(f"qemu-storage-daemon: status {daemon.returncode}")
            finally:
                daemon.kill()
