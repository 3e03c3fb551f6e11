"""What is known of the installed GlusterFS; its differences are tested where they are met."""

import subprocess
from pathlib import Path

from glupy.testing import stock


def test_the_version_is_the_one_whose_translators_are_loaded() -> None:
    command = ["glusterfsd", "--print-xlatordir"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert ".".join(map(str, stock.version())) in Path(done.stdout.strip()).parts
