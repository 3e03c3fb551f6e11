"""The operator's `glupy` command: one module for each command group."""

import sys


def main() -> None:
    """Run the command line; one line if what it needs is not installed."""
    try:
        from glupy_tools import cli  # noqa: PLC0415
    except ModuleNotFoundError as error:
        sys.exit(f"glupy: {error.name} is missing: pip install 'glupy[cli,testing]'")
    except ImportError as error:  # an extension whose libraries are not there, or have changed
        sys.exit(f"glupy: {error}: run tools/setup")
    cli.main()
