"""`python -m glupy_tools` is `glupy`."""

from glupy_tools.cli import main

if __name__ == "__main__":
    main()
