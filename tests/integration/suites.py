"""POSIX suites of others, run on a folder: what each of their cases came to.

| suite | whose | from |
|---|---|---|
| `python` | CPython's own tests of files | Debian's libpython3.N-testsuite |
| `libfuse` | libfuse's test_syscalls | Debian's source package fuse3 |
| `open_posix` | the Open POSIX Test Suite's parts on files | source package posixtestsuite |
| `stress` | stress-ng's class of file system stressors, verifying | Debian's stress-ng |

Each returns a dictionary: a case and its outcome, ``passed`` or a word of the suite's own; it
raises if a suite cannot be run at all.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

Outcomes = dict[str, str]
PASSED = "passed"

PYTHON_MODULES = """
    bufio dbm fcntl file fileinput fileio genericpath glob io largefile mmap os pathlib posix
    posixpath shutil sqlite3 stat tarfile tempfile unicode_file_functions zipfile
"""
OPEN_POSIX_AREAS = """
    aio_cancel aio_error aio_fsync aio_read aio_return aio_suspend aio_write fsync lio_listio mmap
    munmap
"""
OPEN_POSIX_RACES = {"aio_return/1-1"}
"""It closes its file while that is still being written to, and says that the write has failed."""
OPEN_POSIX_HEADERS = "signal.h", "sys/stat.h", "fcntl.h", "sys/mman.h", "sys/wait.h"
UNRESOLVED, TRIES = "unresolved", 50
OPEN_POSIX_WORDS = {0: PASSED, 1: "failed", 2: UNRESOLVED, 4: "unsupported", 5: "untested"}


def python(folder: Path, scratch: Path) -> Outcomes:
    """CPython's tests of files, with all their files in the folder."""
    report = scratch / "report.xml"
    command = ["python3", "-m", "test", "--tempdir", str(folder), "--junit-xml", str(report)]
    modules = [f"test_{name}" for name in PYTHON_MODULES.split()]
    # Debian's own Python: this test's environment has no test package.
    done = subprocess.run(
        [f"/usr/bin/{command[0]}", *command[1:], "--timeout=120", *modules],
        env={"PATH": os.environ["PATH"], "TMPDIR": str(folder), "LC_ALL": "C.UTF-8"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert report.exists(), done.stdout + done.stderr
    outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        words = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        outcomes[str(case.get("name"))] = words[0] if words else PASSED
    return outcomes


def libfuse(folder: Path, scratch: Path) -> Outcomes:
    """libfuse's test_syscalls."""
    source = fetched("fuse3", scratch)
    (scratch / "fuse_config.h").touch()
    program = scratch / "test_syscalls"
    (code,) = source.glob("fuse*/test/test_syscalls.c")
    _run("gcc", "-w", "-I", scratch, "-o", program, code)
    done = subprocess.run(
        [program, folder], capture_output=True, text=True, timeout=600, check=False
    )
    outcomes: Outcomes = {}
    for line in done.stderr.splitlines():
        if case := re.match(r" *\d+ \[(.*?)\](.*)", line):
            outcome = PASSED if case[2].strip() == "OK" else f"failed:{case[2]}"
            # A case may tell of several failures, and is never OK after one.
            outcomes.setdefault(case[1], outcome)
    return outcomes


def open_posix(folder: Path, scratch: Path) -> Outcomes:
    """The parts of the Open POSIX Test Suite that use files, which it has in /tmp by itself."""
    (suite,) = fetched("posixtestsuite", scratch).glob("posixtestsuite*/")
    outcomes = {}
    for area in OPEN_POSIX_AREAS.split():
        for code in sorted(suite.glob(f"conformance/interfaces/{area}/[0-9]*.c")):
            text = code.read_text(errors="surrogateescape")
            if '"/tmp' not in text or f"{area}/{code.stem}" in OPEN_POSIX_RACES:
                continue
            moved = code.with_suffix(".moved.c")
            text = text.replace('"/tmp', f'"{folder}')
            text = text.replace("!= 200112L", "< 200112L")  # what POSIX of 2008 has, too
            moved.write_text(text, errors="surrogateescape")
            program = code.with_suffix(".test")
            # Written for headers that included one another more freely.
            headers = [word for name in OPEN_POSIX_HEADERS for word in ("-include", name)]
            options: list[str | Path] = [
                "-w",
                "-D_GNU_SOURCE",
                *headers,
                "-I",
                suite / "include",
                "-o",
                program,
            ]
            _run("gcc", *options, moved, "-lpthread", "-lrt")
            word = UNRESOLVED
            for _ in range(TRIES):  # some hope for a race, such as to cancel what is on its way
                if word != UNRESOLVED:
                    break
                try:
                    done = subprocess.run([program], capture_output=True, timeout=60, check=False)
                except subprocess.TimeoutExpired:
                    word = "no end"
                else:
                    word = OPEN_POSIX_WORDS.get(done.returncode, f"status {done.returncode}")
            outcomes[f"{area}/{code.stem}"] = word
    return outcomes


def stress(folder: Path, scratch: Path, seconds: int = 3) -> Outcomes:
    """All of stress-ng's file system stressors, one after another."""
    done = subprocess.run(
        [
            *("stress-ng", "--class", "filesystem", "--sequential", "1", "--verify"),
            *("-t", str(seconds), "--temp-path", str(folder)),
        ],
        cwd=scratch,
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    told = done.stdout + done.stderr
    dispatched = re.search(r"dispatching hogs: (.*)", told)
    assert dispatched, told
    outcomes = dict.fromkeys(re.findall(r"\d+ ([\w-]+)", dispatched[1]), PASSED)
    for pattern, word in (
        (r"\] ([\w-]+): .*(?:skipping stress|not supported)", "skipped"),
        (r"process \[\d+\] \(([\w-]+)\) aborted", "aborted"),
        (r"process \d+ \(([\w-]+)\) terminated with an error", "failed"),
        (r"fail: +\[\d+\] ([\w-]+):", "failed"),
    ):
        outcomes.update(dict.fromkeys(re.findall(pattern, told), word))
    return outcomes


def fetched(package: str, scratch: Path) -> Path:
    """Fetch a source package of the Debian that runs here; return the folder it is unpacked in.

    The package sources that apt is set up with are asked for sources too, here only.
    """
    parts, lists = scratch / "parts", scratch / "lists"
    folder = scratch / package
    for each in parts, lists / "partial", folder:
        each.mkdir(parents=True, exist_ok=True)
    for sources in Path("/etc/apt").glob("sources.list.d/debian*.sources"):
        text = sources.read_text()
        (parts / sources.name).write_text(re.sub("^Types:.*", "Types: deb-src", text, flags=re.M))
    main = Path("/etc/apt/sources.list")
    if main.exists():
        lines = [line for line in main.read_text().splitlines() if line.startswith("deb ")]
        text = "".join(f"deb-src {line[4:]}\n" for line in lines if "/debian" in line)
        (parts / "main.list").write_text(text)
    options = [
        *("-o", "Dir::Etc::sourcelist=/dev/null", "-o", f"Dir::Etc::sourceparts={parts}"),
        *("-o", f"Dir::State::lists={lists}", "-o", "APT::Sandbox::User=root"),
        *("-o", "APT::Update::Error-Mode=any"),  # or no network is a warning only
    ]
    _run("apt-get", *options, "update")
    _run("apt-get", *options, "source", "--download-only", package, cwd=folder)
    for archive in folder.glob("*.orig.tar.*"):
        if archive.suffix != ".asc":
            _run("tar", "-xf", archive, cwd=folder)
    return folder


def _run(*command: str | Path, cwd: Path | None = None) -> None:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
