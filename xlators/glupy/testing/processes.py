"""Bricks and mounts as processes of their own, for as long as a `with` block runs.

Each has a folder with its volfile (`graph.vol`), its log (`log`), what it prints (`output`), its
`pid` file and a folder for statedumps. The folder is the caller's and stays; the process and the
mount do not, whatever happens. A Ctrl-C in the terminal reaches the test, not the processes.
"""

import contextlib
import functools
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import volfiles
from glupy import stores
from glupy.testing import logs, statedump

START_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0
# A client waits for an RPC timer of 10 s before it ends.
UNMOUNT_TIMEOUT = 60.0
DUMP_TIMEOUT = 10.0

LOOPBACK = "127.0.0.1"


class ProcessError(Exception):
    """A brick or mount that did not start, ended by itself, or would not end."""

    reason: str | None = None
    """What its log complains of first, in a line."""


class _Process:
    """What `Brick` and `FuseMount` share: a glusterfs process over a graph, in a folder."""

    _program: str
    _ready_means: str

    def __init__(
        self,
        graph: volfiles.Graph,
        folder: Path,
        *,
        log_level: str = "INFO",
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`folder` is made if need be; `environment` is added to this process' own."""
        self.graph = graph
        self.folder = folder.resolve()
        self.log = self.folder / "log"
        self.output = self.folder / "output"
        self._log_level = log_level
        self._arguments = arguments
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        try:
            self.stop()
        except ProcessError as problem:
            if error is None:
                raise
            error.add_note(str(problem))

    def start(self) -> None:
        """Start the process and return when it is ready. ProcessError has the end of its log."""
        if self._process is not None:
            raise ProcessError(f"{self} runs already")
        program = shutil.which(self._program)
        if program is None:
            raise ProcessError(f"{self._program} is not installed")
        self._prepare()
        volfile = self.folder / "graph.vol"
        self.graph.write(volfile)
        command: list[Path | str] = [program, "-N", "-f", volfile, "-l", self.log]
        try:
            # A signal between the two would leave a process that nobody knows.
            with self.output.open("ab") as output, stores.held_back():
                self._process = subprocess.Popen(
                    [*command, "-L", self._log_level, "-p", self.folder / "pid", *self._arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=self._environment,
                    cwd=self.folder,  # a core dump goes there
                    process_group=0,
                )
            self._wait_for(self._is_ready, START_TIMEOUT, self._ready_means)
        except BaseException:
            self.kill()
            raise

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """End the process by SIGTERM, and after `timeout` seconds by SIGKILL.

        ProcessError if SIGKILL was needed, or if the process had ended by itself before. Nothing
        to stop is fine."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            if process.poll() is not None:
                raise self._error(f"ended by itself: {_how(process.returncode)}")
            process.terminate()
            try:
                self._check_end(process.wait(timeout))
            except subprocess.TimeoutExpired:
                problem = f"did not end within {timeout:g} s of SIGTERM and was killed"
                raise self._error(problem) from None
        finally:
            self._process = process
            self.kill()

    def kill(self) -> None:
        """End the process by SIGKILL, if it still runs: a crash, as seen by its clients."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def wait(self, timeout: float = STOP_TIMEOUT) -> int:
        """Wait for a process that is meant to end by itself. Its exit status (-N for signal N)."""
        process = self._running()
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self._error(f"still runs after {timeout:g} s") from None
        self._process = None
        return status

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """It was started, and neither stopped nor killed since."""
        return self._process is not None

    @property
    def ended(self) -> str | None:
        """How it ended by itself, such as "signal SIGSEGV"; None: it runs, or was ended."""
        process = self._process
        if process is None or process.poll() is None:
            return None
        return _how(process.returncode)

    def rss(self) -> int:
        """Bytes of memory that the process has resident."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise ProcessError(f"{self} has no memory any more")

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def complaint(self) -> str | None:
        """What its log, else what it printed, complains of first, in a line."""
        return next(filter(None, map(logs.complaint, self._texts())), None)

    def statedump(self) -> statedump.Statedump:
        """What the process says of itself on SIGUSR1, everything included."""
        folder = self.folder / "statedumps"
        folder.mkdir(exist_ok=True)
        # A request like the one glusterd writes; the path must come first (statedump.c).
        request = _state_folder() / f"glusterdump.{self.pid}.options"
        request.write_text(f"path={folder}\nall=yes\n")
        try:
            os.kill(self.pid, signal.SIGUSR1)
            pattern = f"*.{self.pid}.dump.*"  # renamed to this when it is complete
            self._wait_for(lambda: any(folder.glob(pattern)), DUMP_TIMEOUT, "its statedump")
        finally:
            request.unlink(missing_ok=True)
        (dump,) = folder.glob(pattern)
        text = dump.read_text(errors="replace")
        dump.unlink()  # another one in the same second would have the same name
        return statedump.Statedump.parse(text)

    @contextlib.contextmanager
    def strace(
        self, calls: Sequence[str], *, error: str | None = None, path: Path | None = None
    ) -> Iterator[Path]:
        """Have strace(1) write down which of these system calls the process makes meanwhile.

        Yields the file, whole after the block. With ``error``, such as ``EIO``, the calls fail with
        that, as on a disk that is broken, and are not carried out. With ``path``, those of that
        file alone. FileNotFoundError if strace is not installed.
        """
        trace, names = self.folder / "strace", ",".join(calls)
        command = ["strace", "-f", "-e", f"trace={names}", "-o", str(trace)]
        command += ["-e", f"inject={names}:error={error}"] if error else []
        command += ["-P", str(path)] if path else []
        with subprocess.Popen([*command, "-p", str(self.pid)], stderr=subprocess.PIPE) as tracer:
            try:
                assert tracer.stderr is not None
                tracer.stderr.readline()  # attached
                yield trace
            finally:
                tracer.terminate()

    def _prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def _is_ready(self) -> bool:
        raise NotImplementedError

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ProcessError(f"{self} does not run")
        return self._process

    def _wait_for(self, ready: Callable[[], bool], timeout: float, what: str) -> None:
        process, deadline = self._running(), time.monotonic() + timeout
        while not ready():
            if process.poll() is not None:
                raise self._error(f"ended: {_how(process.returncode)}")
            if time.monotonic() > deadline:
                raise self._error(f"no sign of {what} after {timeout:g} s")
            time.sleep(0.01)

    def _check_end(self, status: int) -> None:
        # glusterfs turns SIGTERM into exit status 15; a mount that is gone does the same to itself
        if status not in (0, signal.SIGTERM, -signal.SIGTERM):
            raise self._error(f"ended badly: {_how(status)}")

    def _error(self, what: str, lines: int = 20) -> ProcessError:
        """The error that says what happened, with the end of the log and the output, and what the
        log complains of first."""
        words = [f"{self}: {what}"]
        for text in self._texts():
            words += text.splitlines()[-lines:]
        reason = self.complaint()
        if reason is not None and not any(reason in line for line in words):
            words.insert(1, reason)  # a crash logs more than those lines
        error = ProcessError("\n".join(words))
        error.reason = reason
        return error

    def _texts(self) -> list[str]:
        paths = [path for path in (self.log, self.output) if path.exists()]
        return [path.read_text(errors="replace") for path in paths]


class Brick(_Process):
    """A brick: `glusterfsd` over a graph with protocol/server on top (`volfiles.brick`).

    >>> graph = volfiles.brick("/bricks/one", leaf="posix", port=free_port())
    >>> with Brick(graph, Path("/tmp/one")) as brick, Client(brick.client_graph()) as client: ...
    """

    _program = "glusterfsd"
    _ready_means = "an answer to a client"

    def __str__(self) -> str:
        return f"brick {self.graph.top.subvolumes[0]} in {self.folder}"

    def client_graph(
        self,
        *,
        options: Mapping[str, str] | None = None,
        inserts: Sequence[volfiles.Insert] = (),
    ) -> volfiles.Graph:
        """A client's graph for the (first) brick here; arguments as for `volfiles.client`."""
        server = self.graph.top.options
        path, port = server.get(_SOCKET), int(server.get(_PORT, volfiles.PORT))
        name = self.graph.top.subvolumes[0]
        return volfiles.client(
            LOOPBACK, port, socket=path, options=options, inserts=inserts, brick=name
        )

    def _is_ready(self) -> bool:
        """Whether the brick answers what each client asks first: which programs it speaks.

        It listens long before: the server comes up first, while the leaf is still to be started.
        """
        server = self.graph.top.options
        address = server.get(_SOCKET) or (LOOPBACK, int(server.get(_PORT, volfiles.PORT)))
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        with socket.socket(family) as connection:
            # Who goes too soon leaves an error in the log: nobody was there to take the answer.
            connection.settimeout(START_TIMEOUT / 3)
            try:
                connection.connect(address)
                connection.sendall(_GF_DUMP)
                return bool(connection.recv(1))
            except OSError:
                return False


class FuseMount(_Process):
    """A FUSE mount: `glusterfs` over a client's graph or a leaf's, on a folder that exists."""

    _program = "glusterfs"
    _ready_means = "a mounted file system"

    def __init__(
        self,
        graph: volfiles.Graph,
        mountpoint: Path,
        folder: Path,
        *,
        log_level: str = "INFO",
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`arguments` are glusterfs' own, such as `--attribute-timeout=0`."""
        self.mountpoint = mountpoint.resolve()
        super().__init__(
            graph,
            folder,
            log_level=log_level,
            arguments=[*arguments, str(self.mountpoint)],
            environment=environment,
        )

    def __str__(self) -> str:
        return f"mount on {self.mountpoint}"

    def stop(self, timeout: float = UNMOUNT_TIMEOUT) -> None:
        """Unmount, which ends the process; then as for every process."""
        if self._process is None:
            return
        try:
            ended = self._process.poll() is not None
            stores.unmount(self.mountpoint)
            if not ended:
                self._check_end(self.wait(timeout))
        finally:
            super().stop(timeout)

    def kill(self) -> None:
        running = self._process is not None
        super().kill()
        if running:
            stores.unmount(self.mountpoint)

    def _prepare(self) -> None:
        stores.refuse_mounted(self.mountpoint)
        super()._prepare()

    def _is_ready(self) -> bool:
        if stores.mount_of(self.mountpoint) is None:
            return False
        try:
            return self.mountpoint.stat().st_ino == 1
        except OSError:  # mounted, not connected yet
            return False


def free_port() -> int:
    """A TCP port that nothing listens on now, outside the range that the kernel hands out."""
    while True:
        port = random.randrange(20000, 32768)
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        return port


_SOCKET = "transport.socket.listen-path"
_PORT = "transport.socket.listen-port"


def _rpc_call(program: int, version: int, procedure: int, arguments: bytes) -> bytes:
    """An ONC RPC call without credentials (RFC 5531), as one record."""
    call, rpc_version, no_auth = 0, 2, (0, 0)
    xid = 1
    header = xid, call, rpc_version, program, version, procedure, *no_auth, *no_auth
    message = struct.pack(">10I", *header) + arguments
    return struct.pack(">I", 1 << 31 | len(message)) + message


_GF_DUMP = _rpc_call(program=123451501, version=1, procedure=1, arguments=bytes(8))


@functools.cache
def _state_folder() -> Path:
    """Where glusterfs processes look for what a statedump should have.

    It goes with a reboot, and systemd makes it at the next one: without systemd it is made here."""
    command = ["glusterfsd", "--print-statedumpdir"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    folder = Path(done.stdout.strip())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _how(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
