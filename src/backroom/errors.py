"""The one base of every error that Backroom raises on its own account, and how an error is told."""


class BackroomError(Exception):
    """Something Backroom refuses or cannot do; the message says what to do about it."""


class FromOutside(Exception):
    """Raised in a call for the sake of whoever made it, such as for its timeout: it says nothing of what was called."""


class Unavailable(BackroomError):
    """What keeps something cannot serve now, and may again later."""


def sentence(error: BaseException) -> str:
    """Return what an error says, on one line and with its full stop."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if text.endswith((".", "!", "?")) else f"{text}."
