"""What an operator can do wrong or find broken: one line each, never a traceback."""


class CommandError(Exception):
    """The command could not do what it was asked; its text is one line for the operator.

    ``status`` is its exit status.
    """

    def __init__(self, text: str, *, status: int = 1) -> None:
        super().__init__(text)
        self.status = status
