"""What the decorators of the cache are told, held against their own signatures while the module that says it is imported."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from string import Formatter
from typing import Any, Final, Never, Unpack, get_args, get_origin, get_type_hints

from backroom.options import OptionsError, problems_of_values

NAME: Final = re.compile(r"[^.\[]*")
"""The argument in a field of a template: `user` in `{user.pk}`."""


class MistakenOptions(OptionsError, TypeError):
    """A decorator of the cache, or `fetch()`, was told what it does not take."""


def check_decorator(name: str, decorator: Callable[..., Any], said: Mapping[str, Any]) -> None:
    """As `check()`, for what stands over a function and begins with a timeout."""
    if callable(said["timeout"]):
        raise MistakenOptions(
            [f"It has no brackets. Write {name}(300), with the seconds to keep a result."], place=name
        )
    check(name, decorator, said)


def check(name: str, declared: Callable[..., Any], said: Mapping[str, Any]) -> None:
    """Raise `MistakenOptions` when arguments are not what the signature of `declared` has."""
    members = [*_problems_of_tags(said["tags"]), *_problems_of_vary_on(said.get("vary_on", ()))]
    if problems := [*problems_of_values(_hints_of(declared), said), *members]:
        raise MistakenOptions(problems, place=name)


def unknown_fields(tags: Iterable[str], parameters: Collection[str]) -> list[str]:
    """Return what stands between braces in tags and is no parameter. Raise `ValueError` for an odd brace."""
    fields = (field for tag in tags for _, field, _, _ in Formatter().parse(tag) if field is not None)
    return [field for field in fields if NAME.match(field)[0] not in parameters]  # type: ignore[index] # it always matches


def _hints_of(declared: Callable[..., Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, hint in get_type_hints(declared).items():
        if get_origin(hint) is Unpack:
            found |= get_type_hints(get_args(hint)[0])
        elif name != "return" and hint is not Never:
            found[name] = hint
    return found


def _problems_of_tags(tags: Any) -> Iterator[str]:
    # What can be read only once is not read here; invalidating by what is no string raises an error as well.
    for tag in tags if isinstance(tags, (list, tuple, set, frozenset)) else ():
        if not isinstance(tag, str):
            yield f"Option 'tags' has {tag!r}. Use strings, such as 'product:7'."


def _problems_of_vary_on(vary_on: Any) -> Iterator[str]:
    for each in vary_on if isinstance(vary_on, (list, tuple)) else ():
        if not callable(each):
            yield f"Option 'vary_on' has {each!r}. Use functions without arguments, such as get_language."
