"""An OPTIONS dict from the settings becomes a frozen dataclass; what does not fit is told with a hint."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from backroom.errors import BackroomError


class OptionsError(BackroomError):
    """An OPTIONS dict has a key or a value that does not fit. `problems` has one sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


def problems_of(cls: type[_Dataclass], options: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each key that `cls` does not know and each value of the wrong type."""
    hints = typing.get_type_hints(cls)
    known = {field.name for field in dataclasses.fields(cls) if field.init}
    problems = []
    for key, value in options.items():
        if key not in known:
            problems.append(f"Unknown option {key!r}. {_suggestion(key, known)}")
        elif not _fits(value, hints[key]):
            problems.append(f"Option {key!r} is {value!r}. Use a value of type {_words(hints[key])}.")
    return problems


def parse[T: _Dataclass](cls: type[T], options: Mapping[str, Any]) -> T:
    """Return `cls` filled from `options`; raise `OptionsError` when a key is unknown or a value does not fit."""
    if problems := problems_of(cls, options):
        raise OptionsError(problems)
    return cls(**options)


def _suggestion(key: str, known: set[str]) -> str:
    if close := difflib.get_close_matches(key.lower(), known, n=1):
        return f"Did you mean {close[0]!r}?"
    return f"Known options: {', '.join(sorted(known))}."


def _alternatives(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        return typing.get_args(hint)
    return (hint,)


def _fits(value: object, hint: Any) -> bool:
    for alternative in _alternatives(hint):
        plain = typing.get_origin(alternative) or alternative
        if plain is float and isinstance(value, int | float) and not isinstance(value, bool):
            return True
        if plain is int and isinstance(value, bool):
            continue
        if isinstance(value, plain):
            return True
    return False


def _words(hint: Any) -> str:
    return " or ".join(getattr(alternative, "__name__", str(alternative)) for alternative in _alternatives(hint))
