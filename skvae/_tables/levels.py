"""Levels: the values that the codes of a column of categories stand for.

A level may have any type that its dtype holds, such as dates or intervals. Its key
stands for it where levels are compared, sorted or shown: the level itself if it is a
string, a boolean or a number, else its text. Fitted columns hold keys; the levels are
part of the schema of their column, as plain values, and are taken from it by their
place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

#: A string, boolean, integer or float, as the built-in type.
Key = str | bool | int | float

# Also of subclasses, such as the members of an enumeration of strings.
_AS_BUILT_IN: dict[type, Callable[[Any], Key]] = {
    bool: bool,
    str: str.__str__,
    int: int.__index__,
    float: float.__float__,
}


def key_of(level: Any) -> Key:
    """Return the key of a level."""
    if isinstance(level, np.generic) and level.dtype.kind in "biufU":
        level = level.item()
    for type_, convert in _AS_BUILT_IN.items():
        if isinstance(level, type_):
            return convert(level)
    return str(level)


def keys_of(levels: Iterable[Any]) -> list[Key]:
    """Return the keys of levels."""
    return [key_of(level) for level in levels]


def joined(declared: list, trained: list, added: Iterable[Any]) -> list:
    """Return the declared keys with those that are added.

    If the keys of training include all of them, these are returned, in their order.
    """
    known = set(declared)
    new = [key for key in dict.fromkeys(added) if key not in known]
    if new and known.union(new) <= set(trained):
        return list(trained)
    return [*declared, *new]


# -- Python objects as plain values --------------------------------------------------
_WRITERS: dict[type, Callable[[Any], Any]] = {
    bytes: bytes.hex,
    date: date.isoformat,
    datetime: datetime.isoformat,
    time: time.isoformat,
    timedelta: lambda value: [value.days, value.seconds, value.microseconds],
    Decimal: str,
}
_READERS: dict[str, Callable[[Any], Any]] = {
    "bytes": bytes.fromhex,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda parts: timedelta(*parts),
    "Decimal": Decimal,
}


def object_to_plain(level: Any) -> Any:
    """Return a Python object as a plain value: its key, or its type and its parts.

    Raises
    ------
    TypeError
        If its type has no such form.
    """
    if type(level) in _WRITERS:
        return [type(level).__name__, _WRITERS[type(level)](level)]
    key = key_of(level)
    if isinstance(key, str) and not isinstance(level, str):
        raise TypeError(f"Values of the type {type(level).__name__} cannot be stored.")
    return key


def object_from_plain(plain: Any) -> Any:
    """Return the object that :func:`object_to_plain` was called on."""
    return _READERS[plain[0]](plain[1]) if isinstance(plain, list) else plain
