"""The operator's `glupy` command: one module for each command group."""
