"""What an operator can do wrong or find broken: one line each, never a traceback."""


class CommandError(Exception):
    """The command could not do what it was asked; its text is one line for the operator."""
