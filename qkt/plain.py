"""qkt's values as plain JSON types, exactly: what `to_dict` and `to_json` of events, views and reports return.

A Decimal becomes a string of digits, so that no reader turns it into a binary float; an enum its word; a set a sorted
list. Field names and their order are those of the class. The pages of ``docs/reference`` list them.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Set
from decimal import Decimal
from typing import Any, ClassVar

import attrs

# Longer numbers are written with an exponent: the digits of 1e999999999 would fill the memory.
_MOST_DIGITS = 60

_names: dict[type, tuple[str, ...]] = {}


def to_plain(value: Any) -> Any:
    """The value with nothing but dict, list, str, int, bool and None in it."""
    if value is None or isinstance(value, str | bool | int):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, PlainValue):
        return value.to_dict()
    if isinstance(value, enum.Enum):
        return to_plain(value.value)
    if isinstance(value, Mapping):
        return {str(name): to_plain(item) for name, item in value.items()}
    if isinstance(value, Set):
        return sorted(to_plain(item) for item in value)
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if attrs.has(type(value)):
        return {name: to_plain(getattr(value, name)) for name in _fields_of(type(value))}
    raise TypeError(f"{type(value).__name__} has no plain form")


def decimal_text(number: Decimal) -> str:
    """Every digit of a number, in plain notation where that is short: reading it back gives the same Decimal."""
    if number.is_finite() and abs(number.adjusted()) <= _MOST_DIGITS:
        return format(number, "f")
    return str(number)


class PlainValue:
    """Gives an attrs value `to_dict` and `to_json`. ``plain_properties`` names properties that are written, too."""

    __slots__ = ()

    plain_properties: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """The value as plain JSON types: Decimals are strings, enums their words, sets sorted lists."""
        names = (*_fields_of(type(self)), *self.plain_properties)
        return {name: to_plain(getattr(self, name)) for name in names}

    def to_json(self) -> str:
        """`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, separators=(",", ":"))


def _fields_of(cls: type) -> tuple[str, ...]:
    names = _names.get(cls)
    if names is None:
        names = _names[cls] = tuple(field.name for field in attrs.fields(cls))
    return names
