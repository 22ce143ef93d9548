"""Why no report can be made of a file, in words for whoever sent it."""


class NotATable(ValueError):
    """The file cannot be reported on; `code` is one word for it, the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
