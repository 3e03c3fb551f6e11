"""Lifetimes once more, with freed memory overwritten: what is read too late is noticed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).with_name("test_lifetimes.py")


def test_lifetimes() -> None:
    # mallopt(3), M_PERTURB. A process of its own, since malloc reads it when it starts; Python's
    # own objects are malloc's then, too.
    environment = {**os.environ, "MALLOC_PERTURB_": "165", "PYTHONMALLOC": "malloc"}
    command = [sys.executable, "-X", "faulthandler", "-m", "pytest", "-qx", str(TESTS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
