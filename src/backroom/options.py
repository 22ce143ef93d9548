"""What a project's settings say becomes values; what does not fit is told with a hint.

An OPTIONS dict becomes a frozen dataclass. The one dict `BACKROOM`, for what Django's settings have no home for, has a
`Setting` for each of its keys, declared by the module that reads it.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from math import isfinite
from numbers import Integral, Real
from typing import Any, ClassVar, Final, Protocol

from django.conf import settings

from backroom.errors import BackroomError


class OptionsError(BackroomError):
    """An OPTIONS dict has a key or a value that does not fit. `problems` has one sentence for each; `place` is where."""

    def __init__(self, problems: list[str], *, place: str = "") -> None:
        super().__init__(" ".join([f"{place}:", *problems] if place else problems))
        self.problems = problems


@dataclasses.dataclass(frozen=True, slots=True)
class AtLeast:
    """The lowest value of an option: `Annotated[int, AtLeast(1)]`."""

    bound: float

    def admits(self, value: float) -> bool:
        """Tell whether the value is not below the bound."""
        return value >= self.bound

    def __str__(self) -> str:
        return f"of at least {self.bound:,}"


@dataclasses.dataclass(frozen=True, slots=True)
class Above:
    """The bound that an option must exceed: `Annotated[float, Above(0)]`."""

    bound: float

    def admits(self, value: float) -> bool:
        """Tell whether the value is above the bound."""
        return value > self.bound

    def __str__(self) -> str:
        return f"above {self.bound:,}"


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


def problems_of(cls: type[_Dataclass], options: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each key that `cls` does not know and each value of the wrong type."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = [field for field in dataclasses.fields(cls) if field.init]
    secret = {field.name for field in fields if not field.repr}
    return problems_of_values({field.name: hints[field.name] for field in fields}, options, secret=secret)


def problems_of_values(
    hints: Mapping[str, Any], values: Mapping[str, Any], *, secret: Collection[str] = ()
) -> list[str]:
    """Return a sentence for each name without a hint and each value that its hint does not admit."""
    problems = []
    for key, value in values.items():
        if key not in hints:
            problems.append(f"Unknown option {key!r}. {suggestion(key, hints)}")
        elif not _fits(value, hints[key]):
            problems.append(f"Option {key!r} is {_shown(value, is_secret=key in secret)}. Use {_words(hints[key])}.")
    return problems


def parse[T: _Dataclass](cls: type[T], options: Mapping[str, Any], *, place: str = "") -> T:
    """Return `cls` filled from `options`; raise `OptionsError` when a key is unknown or a value does not fit.

    `place` is where the settings have them.
    """
    if problems := problems_of(cls, options):
        raise OptionsError(problems, place=place)
    return cls(**options)


_declared: dict[str, "Setting[Any]"] = {}


class Setting[T]:
    """One key of the dict `BACKROOM` in the project's settings. A module constant: making it declares the key."""

    def __init__(self, name: str, hint: Any, *, default: T, is_secret: bool = False) -> None:
        self.name = name
        self.is_secret = is_secret
        self.hint = hint
        self.default = default
        _declared[name] = self

    @property
    def value(self) -> T:
        """What the project says, or the default."""
        found: T = getattr(settings, "BACKROOM", {}).get(self.name, self.default)
        return found


REDIS_URL: Final = Setting("REDIS_URL", str, default="", is_secret=True)
"""The server of every part on Redis whose own OPTIONS name none. Declared here, for a project may name it before it
uses any of them."""


def problems_of_settings() -> list[str]:
    """Return a sentence for each key of `BACKROOM` that nothing declared and each value of the wrong type."""
    found = getattr(settings, "BACKROOM", {})
    if not isinstance(found, Mapping):
        return [f"BACKROOM is of type {type(found).__name__}. Use a dict."]
    problems = []
    for key, value in found.items():
        if key not in _declared:
            problems.append(f"BACKROOM has an unknown key {key!r}. {suggestion(key, _declared)}")
        elif not _fits(value, _declared[key].hint):
            shown = _shown(value, is_secret=_declared[key].is_secret)
            problems.append(f"BACKROOM[{key!r}] is {shown}. Use {_words(_declared[key].hint)}.")
    return problems


def suggestion(key: object, known: Collection[str]) -> str:
    """Return the sentence that says what may be meant by an unknown name, or else what there is."""
    near = meant(key, known)
    return f"Known: {', '.join(sorted(known))}." if near is None else f"Did you mean {near!r}?"


def meant(key: object, known: Collection[str]) -> str | None:
    """Return the known name that is near to an unknown one, in whichever case, or None."""
    by_lower_case = {name.lower(): name for name in known}
    close = difflib.get_close_matches(str(key).lower(), by_lower_case, n=1, cutoff=2 / 3)
    return by_lower_case[close[0]] if close else None


def is_no_share(key: str, value: object) -> str:
    """Return the sentence that says of an option what a share is."""
    return f"Option {key!r} is {value!r}. It is a share, such as 0.1 for up to a tenth."


def _shown(value: object, *, is_secret: bool) -> str:
    if is_secret:
        return f"of type {type(value).__name__}"
    return f"{value!r}, which is not finite" if isinstance(value, float) and not isfinite(value) else repr(value)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    if isinstance(hint, typing.TypeAliasType):
        return _alternatives(hint.__value__)
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        return tuple(each for one in typing.get_args(hint) for each in _alternatives(one))
    return (hint,)


def _fits(value: object, hint: Any) -> bool:
    return any(_fits_one(value, alternative) for alternative in _alternatives(hint))


def _fits_one(value: object, hint: Any) -> bool:
    if typing.get_origin(hint) is typing.Annotated:
        plain, *bounds = typing.get_args(hint)
        return _fits(value, plain) and all(bound.admits(value) for bound in bounds)
    plain = typing.get_origin(hint) or hint
    if plain in {int, float}:
        # True is an int to Python, and no number of seconds is infinite.
        accepted: Any = Real if plain is float else Integral
        return isinstance(value, accepted) and not isinstance(value, bool) and isfinite(value)
    # A string is a sequence of its letters, and nobody means these.
    return isinstance(value, plain) and not (plain in {Sequence, Collection, Iterable} and isinstance(value, str))


_NAMES: Final[dict[Any, str]] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a string",
    list: "a list",
    tuple: "a tuple",
    dict: "a dict",
    Mapping: "a dict",
    Sequence: "a list",
    Collection: "a list",
    Iterable: "a list",
    Callable: "a function",
    timedelta: "a timedelta",
    types.NoneType: "None",
}


def _words(hint: Any) -> str:
    *others, last = [_word(alternative) for alternative in _alternatives(hint)]
    return f"{', '.join(others)} or {last}" if others else last


def _word(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Annotated:
        plain, *bounds = typing.get_args(hint)
        return f"{_words(plain)} {' and '.join(map(str, bounds))}"
    plain = typing.get_origin(hint) or hint
    return _NAMES.get(plain) or f"a value of type {plain.__name__}"
