"""The extras: packages that Backroom does without until a setting asks for one, and what to say where it is missing."""


def installing(extra: str) -> str:
    """Return the sentence that says how to get the packages of an extra."""
    return (
        f"Install Backroom with its extra {extra!r}: pip install './backroom[{extra}]', where ./backroom is your clone."
    )
