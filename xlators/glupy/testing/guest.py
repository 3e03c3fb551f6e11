"""A command in a virtual machine with Debian's own kernel, on this machine's own file system.

For what the kernel here cannot do, such as device-mapper and SCSI: the guest can load all modules
of Debian's kernel, and its root is the host's, so a checkout and its environment are where they
always are.

>>> guest.run([sys.executable, "-m", "pytest", "tests/lvm"], cwd=checkout, modules=["scsi_debug"])

Each run is a machine of its own that starts in some seconds and is gone afterwards. Where KVM does
not truly work its processors are emulated: Python is 10 to 30 times slower than on the host then.
`machine` is one for several commands. In it,

- everything of the host's can be read as it was at the start, and everything can be written: to a
  copy, which goes with the machine. What is to stay goes to a folder that the caller shares;
- TMPDIR is on an ext4 of its own, not on the overlay that the root is; /run is empty;
- LVM is set up to live without udev, and keeps no copies of its metadata, which takes its time;
  127.0.0.1 is all of the network.

The kernel is downloaded once and kept in `CACHE`; without that folder the newest one comes again.
"""

import base64
import fcntl
import functools
import lzma
import os
import platform
import re
import secrets
import shlex
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from glupy import stores

CACHE = Path("/var/cache/glupy/guest")
GIB = 1 << 30

_PACKAGE = "linux-image-amd64"  # not -cloud-: that one has no 9p
# What it takes to reach the root; the rest is loaded from there.
_BOOT_MODULES = "virtio_pci virtio_console virtio_blk 9pnet_virtio 9p overlay crc32c_generic ext4"
_MODULES = "loop", "fuse", "sd_mod"  # there is no udev to load these when they are needed
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "TMPDIR": "/scratch",
}
_XZ = b"\xfd7zXZ\0"
_LVM_CONF = """\
activation { udev_sync=0 udev_rules=0 monitoring=0 }
devices { obtain_device_list_from_udev=0 external_device_info_source="none" use_devicesfile=0 }
backup { backup=0 archive=0 }
"""
# The first process is this and then the next one. If a line of theirs fails, the machine ends.
_INIT = """\
#!/bin/busybox sh
set -e
busybox mount -t proc proc /proc # where the shell finds itself, which is all commands
trap 'echo b > /proc/sysrq-trigger' EXIT
mount -t devtmpfs dev /dev
# Some serve another processor than the guest's.
for module in /modules/*; do insmod $module || true; done
until [ -e /dev/vport* ]; do sleep 0.01; done
ip link set lo up
hostname {hostname}
mount -t ext4 /dev/vda /disk
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose root /host
mkdir /disk/upper /disk/work /disk/scratch
chmod 1777 /disk/scratch
mount -t overlay -o lowerdir=/host,upperdir=/disk/upper,workdir=/disk/work root /root
cd /root
mkdir -p proc sys dev run scratch usr/lib/modules etc/lvm
mount --move /dev dev
mkdir dev/pts dev/shm
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -t devpts -o mode=620,ptmxmode=666 pts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t tmpfs -o mode=755 run run
mount -t proc proc proc
mount -t sysfs sys sys
mount --bind /disk/scratch scratch
mount --bind /host{kernel}/lib/modules usr/lib/modules
mkdir run/lock
cp /start run
cp /lvm.conf etc/lvm
exec switch_root /root /bin/sh /run/start
"""
_START = """\
set -e
trap 'echo b > /proc/sysrq-trigger' EXIT
{exports}
modprobe -a {modules}
{modules_with_options}
{shares}
ulimit -Hn 524288 # as under systemd
cd {cwd}
set -- /dev/vport*
exec 3<>"$1"
set +e
while read -r command <&3; do
    sh -c "$(echo "$command" | base64 -d)" >&3 2>&1 </dev/null
    printf '\\n%s %d\\n' {end} $? >&3
done
"""
_QEMU = "qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot"
_ACCELERATORS = {
    "KVM": ("-accel", "kvm", "-cpu", "host"),
    "TCG": ("-accel", "tcg,thread=multi", "-cpu", "qemu64,+rdrand"),
}
_PROBED_WITHIN = 20.0


class GuestError(Exception):
    """The machine could not be made, or it ended (or had to be ended) before the command did."""


class Machine:
    """A machine that runs, and does one command after the other."""

    def __init__(self, process: subprocess.Popen[str], end: str, console: Path) -> None:
        self._process = process
        self._end = end
        self._console = console

    def run(
        self, command: Sequence[str | Path], *, timeout: float = 600, echo: TextIO | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root: its exit status, and its output, stderr in it, as `stdout`.

        The output goes to `echo` as it comes, too. `timeout` is in seconds, those until the machine
        has started included. GuestError has the ends of the output and of the kernel's messages.
        """
        output, deadline = "", time.monotonic() + timeout
        process = self._process
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            line = base64.b64encode(shlex.join(map(str, command)).encode()).decode()
            with suppress(BrokenPipeError):  # it has ended: the output tells
                process.stdin.write(f"{line}\n")
                process.stdin.flush()
            for line in process.stdout:
                if line.startswith(self._end):
                    status = int(line.split()[1])
                    return subprocess.CompletedProcess(command, status, output.removesuffix("\n"))
                output += line
                if echo is not None:
                    echo.write(line)
                    echo.flush()
        finally:
            timer.cancel()
        what = "ended" if time.monotonic() < deadline else f"had no end within {timeout:g} s"
        console = self._console.read_text(errors="replace")
        ends = [*output.splitlines()[-20:], *console.splitlines()[-40:]]
        raise GuestError("\n".join([f"the machine {what}", *ends]))


@contextmanager
def machine(
    folder: Path,
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    modules: Sequence[str] = (),
    shared: Sequence[Path] = (),
    memory: int = 2 * GIB,
    disk: int = 16 * GIB,
    processors: int = 2,
    devices: Sequence[str] = (),
) -> Iterator[Machine]:
    """Start a machine that runs as long as the block does; it need not have come up yet.

    `folder` is for its files. `environment` is added to a small one, not to this process' own.
    `modules` are loaded before, each maybe with its options, as in "scsi_debug lbpu=1". What is
    written to the folders in `shared` is written on the host. `disk` is for all else that is
    written, and takes that much room here only if it is used. `devices` are more arguments of QEMU.
    """
    shares = {f"share{number}": path.resolve(strict=True) for number, path in enumerate(shared)}
    kernel = _kernel()
    end = secrets.token_hex(16)
    start = _START.format(
        exports=_lines("export {}={}", {**_ENVIRONMENT, **(environment or {})}.items()),
        modules=shlex.join(_MODULES),
        modules_with_options="\n".join(f"modprobe {module}" for module in modules),
        shares=_lines(
            "mkdir -p {1}; mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 {0} {1}",
            shares.items(),
        ),
        cwd=shlex.quote(str(cwd or Path.cwd())),
        end=end,
    )
    console, initrd, image = (folder / name for name in ("console", "initrd", "disk"))
    initrd.write_bytes(_initrd(kernel, start))
    with image.open("wb") as file:
        file.truncate(disk)
    _output("mke2fs", "-q", "-t", "ext4", image)
    command: list[str | Path] = [
        *(*_QEMU, *_ACCELERATORS[accelerator()]),
        *("-smp", str(processors), "-m", str(memory >> 20)),
        *("-kernel", kernel / "image", "-initrd", initrd),
        *("-append", "console=ttyS0 loglevel=5 panic=-1 oops=panic mitigations=off"),
        *("-chardev", f"file,id=console,path={_escaped(console)},append=on"),
        *("-serial", "chardev:console"),
        *("-chardev", "stdio,id=output,signal=off"),
        *("-device", "virtio-serial", "-device", "virtserialport,chardev=output"),
        *("-drive", f"if=none,id=disk,format=raw,cache=unsafe,file={_escaped(image)}"),
        *("-device", "virtio-blk,drive=disk"),  # the first of them, /dev/vda
        *_share("root", Path("/"), "readonly=on"),
        *(word for share in shares.items() for word in _share(*share)),
        *devices,
    ]
    with ExitStack() as undo:
        errors = undo.enter_context(console.open("ab"))
        with stores.held_back():  # what is started is ended
            process = subprocess.Popen(
                # However this thread ends, the machine ends with it.
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                errors="replace",
                process_group=0,  # a Ctrl-C is for the caller
            )
            undo.enter_context(process)
            undo.callback(process.kill)
        yield Machine(process, end, console)


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    modules: Sequence[str] = (),
    shared: Sequence[Path] = (),
    memory: int = 2 * GIB,
    disk: int = 16 * GIB,
    processors: int = 2,
    timeout: float = 600,
    echo: TextIO | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command in a machine of its own; arguments as for `machine` and `Machine.run`."""
    with (
        tempfile.TemporaryDirectory(prefix="glupy-guest-") as name,
        machine(
            Path(name),
            cwd=cwd,
            environment=environment,
            modules=modules,
            shared=shared,
            memory=memory,
            disk=disk,
            processors=processors,
        ) as started,
    ):
        return started.run(command, timeout=timeout, echo=echo)


@functools.cache
def accelerator() -> str:
    """What runs machines here: KVM, or TCG, which emulates the processors and always works.

    A /dev/kvm says little: inside a machine, say, it may not do all that a kernel asks for. So
    Debian's kernel is started, and must come as far as to miss its root.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "TCG"
    command = [
        *("setpriv", "--pdeathsig", "KILL", "prlimit", "--core=0"),
        *(*_QEMU, *_ACCELERATORS["KVM"], "-m", "256"),
        *("-kernel", str(_kernel() / "image"), "-append", "console=ttyS0 panic=-1"),
        *("-serial", "stdio"),
    ]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBED_WITHIN,
            process_group=0,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "TCG"
    return "KVM" if b"Unable to mount root fs" in done.stdout else "TCG"


def _kernel() -> Path:
    """The folder of the kernel, which is downloaded if there is none: `image` and `lib/modules`."""
    folder = CACHE / "kernel"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one downloads, the others wait for it
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as name:
                try:
                    _download(Path(name)).rename(folder)
                except GuestError as error:
                    why = f"no kernel could be downloaded, is there a network? {error}"
                    raise GuestError(why) from None
    return folder


def _download(folder: Path) -> Path:
    _output("apt-get", "-o", "APT::Update::Error-Mode=any", "update")
    (package,) = re.findall(
        r"Depends: (linux-image-\S+)", _output("apt-cache", "depends", _PACKAGE)
    )
    _output("apt-get", "-o", "APT::Sandbox::User=root", "download", package, cwd=folder)
    (archive,) = folder.glob("*.deb")
    made = folder / "kernel"
    _output("dpkg-deb", "--extract", archive, made)
    if not (made / "lib").exists():  # since Debian 13
        (made / "usr/lib").rename(made / "lib")
    _output("depmod", "-b", made, _version(made))
    data = (made / "boot" / f"vmlinuz-{_version(made)}").read_bytes()
    # To decompress it in the guest would take as long as all the rest of the start.
    if (compressed := data.find(_XZ)) >= 0:
        data = lzma.LZMADecompressor().decompress(data[compressed:])
    (made / "image").write_bytes(data)
    return made


def _version(kernel: Path) -> str:
    (modules,) = (kernel / "lib/modules").iterdir()
    return modules.name


def _module_files(kernel: Path, modules: str) -> Iterable[Path]:
    """The files of modules and of what these need, in the order to load them."""
    command = ["modprobe", "-d", str(kernel), "-S", _version(kernel), "-a", "--show-depends"]
    words = map(str.split, _output(*command, *modules.split()).splitlines())
    return dict.fromkeys(Path(path) for kind, path, *_ in words if kind == "insmod")


def _initrd(kernel: Path, start: str) -> bytes:
    """The archive of all that the guest has before it has its root."""
    init = _INIT.format(hostname=shlex.quote(platform.node()), kernel=kernel)
    files: dict[str, bytes | None] = dict.fromkeys(["bin", "proc", "modules", "disk", "host"])
    files |= {"init": init.encode(), "start": start.encode(), "lvm.conf": _LVM_CONF.encode()}
    files["bin/busybox"] = Path("/bin/busybox").read_bytes()
    for number, path in enumerate(_module_files(kernel, _BOOT_MODULES)):
        data = path.read_bytes()
        files[f"modules/{number:02}"] = lzma.decompress(data) if path.suffix == ".xz" else data
    files["TRAILER!!!"] = b""
    return b"".join(_archived(name, data) for name, data in files.items())


def _archived(name: str, data: bytes | None) -> bytes:
    """A file, or without data a folder, in a cpio archive of the kernel's kind."""
    mode = 0o755 | (stat.S_IFDIR if data is None else stat.S_IFREG)
    path, data = name.encode() + b"\0", data or b""
    inode = owner = group = changed = checksum = 0
    links, devices = 1, (0, 0, 0, 0)
    fields = inode, mode, owner, group, links, changed, len(data), *devices, len(path), checksum
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return b"".join(part + bytes(-len(part) % 4) for part in (head, data))


def _share(tag: str, folder: Path, *options: str) -> list[str]:
    """QEMU's arguments for a folder that the guest can mount by this tag."""
    words = [
        "local",
        f"id={tag}",
        f"path={_escaped(folder)}",
        "security_model=passthrough",
        "multidevs=remap",
    ]
    device = f"virtio-9p,fsdev={tag},mount_tag={tag}"
    return ["-fsdev", ",".join([*words, *options]), "-device", device]


def _escaped(path: Path) -> str:
    """A path in one of QEMU's comma-separated arguments."""
    return str(path).replace(",", ",,")


def _lines(template: str, rows: Iterable[tuple[object, ...]]) -> str:
    return "\n".join(template.format(*(shlex.quote(str(word)) for word in row)) for row in rows)


def _output(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command prints. GuestError if it cannot be run, or fails."""
    try:
        done = subprocess.run(
            command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise GuestError(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        raise GuestError(f"{shlex.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout
