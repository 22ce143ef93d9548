"""The one base of every error that Backroom raises on its own account."""


class BackroomError(Exception):
    """Something Backroom refuses or cannot do; the message says what to do about it."""


class Unavailable(BackroomError):
    """What keeps something cannot serve now, and may again later."""
