"""Arguments and return values on their way into JSON text: what JSON cannot carry is refused, and named."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Final

from backroom.compact import dumps
from backroom.tasks.exceptions import InvalidArguments

PLAIN: Final = frozenset({str, int, bool, type(None)})
"""What travels as it is; looked for before anything else is done with a value."""


def normalized(value: Any, name: str) -> Any:
    """Return `value` in the types that JSON has, as Django's `normalize_json` does, but strict.

    Raise `InvalidArguments` naming the place for what JSON would change or refuse: NaN and infinities, keys that
    are not strings, bytes that are not UTF-8, and any other type.
    """
    # The exact types come first: they are nearly all there is, and a subclass check costs five times as much.
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind is float:
        return _finite(value, name)
    if kind is list or kind is tuple:
        return [normalized(item, f"{name}[{index}]") for index, item in enumerate(value)]
    if kind is dict:
        return _normalized_mapping(value, name)
    return _normalized_other(value, name)


def payload_of(args: Sequence[Any], kwargs: Mapping[str, Any], *, limit: int) -> tuple[list[Any], dict[str, Any], str]:
    """Return the arguments as JSON types and as the payload's text.

    Raise `InvalidArguments` when JSON cannot carry them or when they take more than `limit` bytes.
    """
    try:
        plain_args = [
            value if type(value) in PLAIN else normalized(value, f"argument {index}")
            for index, value in enumerate(args, 1)
        ]
        plain_kwargs = {
            key: value if type(value) in PLAIN else normalized(value, f"argument {key!r}")
            for key, value in kwargs.items()
        }
    except RecursionError:
        msg = "The arguments are nested too deeply, or contain themselves. Pass an id and load the rest in the task."
        raise InvalidArguments(msg) from None
    try:
        payload = dumps({"args": plain_args, "kwargs": plain_kwargs})
    except ValueError:
        # Python does not write down an integer of thousands of digits.
        raise InvalidArguments(_too_long(plain_args, plain_kwargs)) from None
    if len(payload) > limit:
        raise InvalidArguments(_too_large(plain_args, plain_kwargs, len(payload), limit))
    return plain_args, plain_kwargs, payload


def result_of(value: Any, *, limit: int) -> str:
    """Return a return value as JSON text; raise `TypeError` when JSON cannot carry it, `InvalidArguments` its size."""
    if value is None:
        return "null"
    try:
        text = dumps(normalized(value, "return value"))
    except InvalidArguments as error:
        # The very class that Django's own backends record for it.
        raise TypeError(str(error)) from None
    if len(text) > limit:
        msg = (
            f"The return value takes {len(text):,} bytes as JSON; the limit is {limit:,}. "
            "Store the data yourself and return its key, or raise the backend's option 'max_result_bytes'."
        )
        raise InvalidArguments(msg)
    return text


def _finite(value: float, name: str) -> float:
    if isfinite(value):
        return value
    msg = f"Unsupported value: {name} is {value!r}, which JSON does not have. Pass None or a string instead."
    raise InvalidArguments(msg)


def _normalized_mapping(value: Mapping[Any, Any], name: str) -> dict[str, Any]:
    for key in value:
        if not isinstance(key, str):
            msg = (
                f"Unsupported type: {name} has the key {key!r} of {type(key)}; JSON keys are strings, and {key!r} "
                "would come back as one. Convert the keys first."
            )
            raise InvalidArguments(msg)
    return {str(key): normalized(item, f"{name}[{key!r}]") for key, item in value.items()}


def _normalized_other(value: Any, name: str) -> Any:
    match value:
        case Mapping():
            return _normalized_mapping(value, name)
        case bytes():
            return _decoded(value, name)
        case str():
            return str.__str__(value)
        case int():
            return int(value)
        case float():
            return _finite(float(value), name)
        case Sequence():
            return [normalized(item, f"{name}[{index}]") for index, item in enumerate(value)]
    msg = (
        f"Unsupported type: {type(value)} as {name}. JSON carries strings, numbers, booleans, None, lists and "
        "dicts; make a string of it, or give an id under which it can be loaded."
    )
    raise InvalidArguments(msg)


def _decoded(value: bytes, name: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        msg = f"Unsupported value: {name} is {type(value)} that is not UTF-8. Encode it, in Base64 for example."
        raise InvalidArguments(msg) from None


def _named(args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    positional = {f"argument {index}": value for index, value in enumerate(args, 1)}
    return positional | {f"argument {key!r}": value for key, value in kwargs.items()}


def _too_long(args: list[Any], kwargs: dict[str, Any]) -> str:
    for name, value in _named(args, kwargs).items():
        try:
            dumps(value)
        except ValueError as error:
            return f"Unsupported value: {name} cannot be written as JSON: {error}. Pass large numbers as strings."
    return "The arguments cannot be written as JSON."


def _too_large(args: list[Any], kwargs: dict[str, Any], size: int, limit: int) -> str:
    sizes = {name: len(dumps(value)) for name, value in _named(args, kwargs).items()}
    largest = max(sizes, key=lambda name: sizes[name])
    return (
        f"The arguments take {size:,} bytes as JSON, {sizes[largest]:,} of them {largest}; the limit is {limit:,}. "
        "Store the data and pass its key, or raise the backend's option 'max_payload_bytes'."
    )
