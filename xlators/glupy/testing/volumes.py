"""Volumes made by ``gluster volume create`` on this machine, for as long as a `with` block runs.

    with Glusterd(folder) as glusterd:
        volume = glusterd.create("images", bricks, "replica", "3", options={…})
        with volume.mounted(folder / "mnt") as mnt:
            …

`Glusterd` keeps its state in its own folder, so the machine's own volumes are not touched; but
there can be only one on a machine, as it listens on port 24007. When its block ends its volumes are
stopped and its processes ended. Bricks and the self-heal daemon log to /var/log/glusterfs.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self
from xml.etree import ElementTree

from glupy import stores
from glupy.testing.processes import ProcessError

PORT = 24007
START_TIMEOUT = 60.0
HEAL_TIMEOUT = 180.0
END_TIMEOUT = 5.0
SCRUB_TIMEOUT = 60.0
_POLL = 0.2
LOGS = Path("/var/log/glusterfs")
_CORRUPTED = re.compile(r"^([0-9a-f-]{36}) ==>", re.MULTILINE)
_VOLFILE = """\
volume management
    type mgmt/glusterd
    option working-directory {folder}/work
    option transport-type socket
    option transport.socket.listen-port {port}
    option transport.socket.keepalive-time 10
    option transport.socket.keepalive-interval 2
    option transport.socket.read-fail-log off
    option ping-timeout 0
    option event-threads 1
    option max-port 60999
end-volume
"""


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + START_TIMEOUT
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            raise ProcessError(f"process 1 does not take note of the end of process {pid}")
        time.sleep(_POLL)


class Scrub(NamedTuple):
    """What the last scrub of a volume found."""

    ended: str
    """When, as gluster prints it."""
    files: int
    """How many files were scrubbed, on all bricks."""
    corrupted: list[str]
    """The gfids of those whose data is not what was signed."""


class Volume:
    """A volume. `bricks` are its directories, in gluster's order."""

    def __init__(self, glusterd: "Glusterd", name: str, bricks: Sequence[Path]) -> None:
        self._glusterd = glusterd
        self.name = name
        self.bricks = list(bricks)

    def log(self, brick: Path) -> Path:
        """The log of a brick."""
        return LOGS / "bricks" / f"{str(brick).lstrip('/').replace('/', '-')}.log"

    def pid(self, brick: Path) -> int:
        """The process that serves a brick; ProcessError if none does."""
        tree = self._glusterd.xml("volume", "status", self.name)
        for node in tree.iter("node"):
            pid = int(node.findtext("pid") or -1)
            if node.findtext("path") == str(brick) and pid > 0:
                return pid
        raise ProcessError(f"nobody serves {brick}")

    def kill(self, brick: Path) -> None:
        """End the process of a brick by SIGKILL, and wait until nothing of it is left.

        As long as process 1 has not taken note of its end, glusterd thinks that it runs.
        """
        _kill(self.pid(brick))

    def set(self, *words: str) -> None:
        """Set options: a name and a value, and so on."""
        self._glusterd.gluster("volume", "set", self.name, *words)

    def stop(self) -> None:
        """Stop the volume: its processes end."""
        self._glusterd.gluster("volume", "stop", self.name, "force")

    def start(self) -> None:
        """Start the volume again, and wait until all bricks are served."""
        self._glusterd.gluster("volume", "start", self.name)
        self.start_bricks()

    def start_bricks(self) -> None:
        """Start again what was killed, and wait until all bricks are served."""
        self._glusterd.gluster("volume", "start", self.name, "force")
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                for brick in self.bricks:
                    self.pid(brick)
                return
            except ProcessError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL)

    def heal(self, timeout: float = HEAL_TIMEOUT, *, full: bool = False) -> None:
        """Heal, and wait until `heal info` lists nothing any more.

        ProcessError if it still does after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            with contextlib.suppress(stores.StoreError):  # until the daemon is connected
                self._glusterd.gluster("volume", "heal", self.name, *(["full"] if full else []))
            with contextlib.suppress(stores.StoreError, ProcessError):
                if not self.pending():
                    return
            if time.monotonic() > deadline:
                left = ", ".join(self.pending())
                raise ProcessError(f"{self.name} is not healed: left are {left}")
            time.sleep(_POLL)

    def pending(self) -> list[str]:
        """What `heal info` lists: paths, or gfids. ProcessError if a brick cannot tell."""
        found: set[str] = set()
        for brick in self._glusterd.xml("volume", "heal", self.name, "info").iter("brick"):
            if not (brick.findtext("numberOfEntries") or "-").isdigit():
                raise ProcessError(f"{brick.findtext('name')}: {brick.findtext('status')}")
            found |= {entry.text or "" for entry in brick.iter("file")}
        return sorted(found)

    def add_bricks(self, *bricks: Path) -> None:
        """Add bricks."""
        words = [self._glusterd.brick(each) for each in bricks]
        self._glusterd.gluster("volume", "add-brick", self.name, *words, "force")
        self.bricks += bricks

    def replace_brick(self, old: Path, new: Path) -> None:
        """Let a new, empty brick take the place of one; heal fills it."""
        words = [self._glusterd.brick(each) for each in (old, new)]
        self._glusterd.gluster("volume", "replace-brick", self.name, *words, "commit", "force")
        self.bricks[self.bricks.index(old)] = new

    def rebalance(self, timeout: float = HEAL_TIMEOUT) -> None:
        """Move files to where they belong, and wait for that.

        ProcessError if one fails, the process is killed, or it takes more than `timeout` seconds:
        it is ended then.
        """
        self._glusterd.gluster("volume", "rebalance", self.name, "start", "force")
        deadline, complaint, gone = time.monotonic() + timeout, "", 0
        while time.monotonic() < deadline:
            try:
                tree = self._glusterd.xml("volume", "rebalance", self.name, "status")
            except stores.StoreError as error:
                complaint = f": {error}"  # glusterd asked the process that is just ending
            else:
                whole = tree.find(".//aggregate")
                status = whole.findtext("statusStr") if whole is not None else None
                if not self._moves():
                    gone += 1
                    # glusterd may go on saying that a process is at work that was killed.
                    if gone * _POLL > END_TIMEOUT:
                        raise ProcessError("the process that moves files was killed")
                if whole is not None and status == "completed":
                    failures = whole.findtext("failures")
                    if failures != "0":
                        raise ProcessError(f"{failures} files were not moved")
                    return
            time.sleep(_POLL)
        self.kill_rebalance()
        raise ProcessError(f"rebalance does not end{complaint}")

    def kill_rebalance(self) -> None:
        """End the process that moves files by SIGKILL, if there is one."""
        for pid in self._movers():
            with contextlib.suppress(ProcessLookupError):
                _kill(pid)

    def _moves(self) -> bool:
        return any(Path(f"/proc/{pid}").exists() for pid in self._movers())

    def _movers(self) -> list[int]:
        """The processes that move files, or did."""
        pidfiles = self._glusterd.folder.glob(f"work/vols/{self.name}/rebalance/*.pid")
        return [int(pidfile.read_text()) for pidfile in pidfiles]

    def enable_quota(self) -> None:
        """Turn quota on; what is used is looked up before each write, not now and then."""
        self._quota("enable")
        for timeout in "soft-timeout", "hard-timeout":
            self._quota(timeout, "0")

    def limit(self, folder: str, size: int) -> None:
        """Limit what a folder (``/…``) may use to `size` bytes."""
        self._quota("limit-usage", folder, str(size))

    def usage(self, folder: str) -> int:
        """The bytes that quota lists as used of a folder with a limit."""
        tree = self._glusterd.xml("volume", "quota", self.name, "list", folder)
        return int(tree.findtext(".//used_space") or -1)

    def _quota(self, *words: str) -> None:
        self._glusterd.gluster("volume", "quota", self.name, *words)

    def enable_bitrot(self) -> None:
        """Turn bitrot detection on, and wait until what was there already is about to be signed.

        From then on a file is signed a second after its last close.
        """
        log = LOGS / "bitd.log"
        size = log.stat().st_size if log.exists() else 0
        self.set("features.expiry-time", "1")
        self._bitrot("enable")
        deadline = time.monotonic() + START_TIMEOUT
        crawled = {f"Completed crawling brick [{{brick-path={brick}}}]" for brick in self.bricks}
        while crawled:
            if time.monotonic() > deadline:
                raise ProcessError(f"bitd has not come to all bricks, see {log}")
            time.sleep(_POLL)
            with log.open(errors="replace") as file:
                file.seek(size)
                text = file.read()
            crawled = {line for line in crawled if line not in text}

    def disable_bitrot(self) -> None:
        """Turn it off again; signatures stay."""
        self._bitrot("disable")

    def scrub(self) -> Scrub:
        """Scrub the volume, and wait for the end of that."""
        before = self._scrubbed()
        self._bitrot("scrub", "ondemand")
        deadline = time.monotonic() + SCRUB_TIMEOUT
        while (now := self._scrubbed()).ended in ("", before.ended):
            if time.monotonic() > deadline:
                raise ProcessError(f"{self.name} is not scrubbed: {now}")
            time.sleep(_POLL)
        return now

    def _bitrot(self, *words: str) -> str:
        return self._glusterd.gluster("volume", "bitrot", self.name, *words)

    def _scrubbed(self) -> Scrub:
        text = self._bitrot("scrub", "status")

        def value(key: str) -> str:
            found = re.search(rf"^{re.escape(key)}: (.*)$", text, re.MULTILINE)
            return found[1] if found else ""

        return Scrub(
            ended=value("Last completed scrub time"),
            files=int(value("Number of Scrubbed files") or 0),
            corrupted=_CORRUPTED.findall(text),
        )

    @contextlib.contextmanager
    def mounted(self, folder: Path) -> Iterator[Path]:
        """Mount the volume by FUSE for as long as the block runs."""
        folder.mkdir(exist_ok=True)
        where = f"{self._glusterd.host}:/{self.name}"
        stores.run("mount", "-t", "glusterfs", where, folder)
        try:
            yield folder
        finally:
            stores.unmount(folder)


class Glusterd:
    """A glusterd of its own, in a folder of the caller's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname()
        self._process: subprocess.Popen[bytes] | None = None
        self._volumes: list[Volume] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start it, without a `with` block: it runs on when this process ends.

        ProcessError if one runs already. Volumes that its folder has from earlier are its own.
        """
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", PORT)) == 0:
                raise ProcessError(f"a glusterd runs already: port {PORT} is taken")
        self.folder.mkdir(exist_ok=True)
        for needed in Path("/var/run/gluster"), LOGS / "bricks":
            needed.mkdir(parents=True, exist_ok=True)
        volfile = self.folder / "glusterd.vol"
        volfile.write_text(_VOLFILE.format(folder=self.folder, port=PORT))
        self._start()

    def restart(self) -> None:
        """End glusterd and start it again; bricks run on."""
        self._end()
        self._start()

    def _start(self) -> None:
        volfile, log = self.folder / "glusterd.vol", self.folder / "log"
        words = ["glusterd", "-N", "-f", str(volfile), "-l", str(log)]
        # Quota's crawls and lists complain there, whatever they find.
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                words,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=self.folder,  # a core dump goes there
            )
        try:
            self._wait()
        except BaseException:
            self._end()
            raise

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            assert self._process is not None
            if self._process.poll() is not None:
                raise ProcessError(f"glusterd has ended, see {self.folder / 'log'}")
            try:
                self.gluster("volume", "list")
                return
            except stores.StoreError:
                if time.monotonic() > deadline:
                    raise ProcessError(f"glusterd: no answer, see {self.folder / 'log'}") from None
                time.sleep(_POLL)

    def __exit__(self, *_: object) -> None:
        try:
            for volume in self._volumes:
                # With the last one its self-heal daemon goes.
                with contextlib.suppress(stores.StoreError):
                    self.gluster("volume", "stop", volume.name, "force")
                with contextlib.suppress(stores.StoreError):
                    self.gluster("volume", "delete", volume.name)
        finally:
            self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def gluster(self, *words: str) -> str:
        """What the command ``gluster`` prints; StoreError with its complaint."""
        return stores.run("gluster", "--mode=script", *words, timeout=120)

    def xml(self, *words: str) -> ElementTree.Element:
        """The same as XML."""
        return ElementTree.fromstring(self.gluster(*words, "--xml"))

    def brick(self, directory: Path) -> str:
        """How gluster names a brick."""
        return f"{self.host}:{directory}"

    def create(
        self,
        name: str,
        bricks: Sequence[Path],
        *kind: str,
        options: Mapping[str, str] | None = None,
        start: bool = True,
    ) -> Volume:
        """Make a volume, and start it; `kind` are gluster's words, such as ``replica 3``."""
        for brick in bricks:
            brick.mkdir(parents=True, exist_ok=True)
        words = [self.brick(each) for each in bricks]
        self.gluster("volume", "create", name, *kind, *words, "force")
        volume = Volume(self, name, bricks)
        self._volumes.append(volume)
        for key, value in (options or {}).items():
            self.gluster("volume", "set", name, key, value)
        if start:
            volume.start()
        return volume
