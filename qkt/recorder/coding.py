"""Facts, events and other values of qkt as JSON that says what it is, and back again.

A Decimal is ``"=1.50"``, an enum member ``"#Side.BUY"``, an attrs value an object whose ``_`` names its class and which
leaves out fields at their default. Only the classes of `qkt.events`, `qkt.orders.facts` and `qkt.model` are read back:
a file cannot name anything else. Pure.
"""

from __future__ import annotations

import enum
import importlib
import pkgutil
from collections.abc import Mapping, Set
from decimal import Decimal
from types import ModuleType
from typing import Any

import attrs

import qkt.events
import qkt.model
import qkt.orders.facts
from qkt.errors import InvalidRequestError

_DECIMAL, _MEMBER, _TEXT = "=", "#", "~"
_MARKS = (_DECIMAL, _MEMBER, _TEXT)

_MODULES: tuple[ModuleType, ...] = (
    *(importlib.import_module(f"qkt.model.{found.name}") for found in pkgutil.iter_modules(qkt.model.__path__)),
    qkt.events,
    qkt.orders.facts,
)


def encode(value: Any) -> Any:
    """The value in JSON types; raises TypeError for a type that is not known here."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, enum.Enum):
        return f"{_MEMBER}{type(value).__name__}.{value.name}"
    if isinstance(value, str):
        return f"{_TEXT}{value}" if value.startswith(_MARKS) else value
    if isinstance(value, Decimal):
        return f"{_DECIMAL}{value}"
    if isinstance(value, Mapping):
        return {"_": "map", "items": [[encode(name), encode(item)] for name, item in value.items()]}
    if isinstance(value, Set):
        return {"_": "set", "items": sorted((encode(item) for item in value), key=str)}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    return _encode_attrs(value)


def _encode_attrs(value: Any) -> dict[str, Any]:
    cls = type(value)
    if _CLASSES.get(cls.__name__) is not cls:
        raise TypeError(f"{cls.__name__} cannot be recorded")
    told: dict[str, Any] = {"_": cls.__name__}
    for name, default in _fields_of(cls):
        item = getattr(value, name)
        if item is not default and (isinstance(item, Decimal) or item != default):  # 0.00 equals 0 and is not the same
            told[name] = encode(item)
    return told


def decode(told: Any) -> Any:
    """The value that `encode` was given; lists come back as tuples. Raises InvalidRequestError for anything else."""
    try:
        return _decode(told)
    except InvalidRequestError:
        raise
    except (TypeError, ValueError, KeyError, ArithmeticError) as error:
        raise InvalidRequestError(f"not a recorded value: {error}") from error


def _decode(told: Any) -> Any:
    if isinstance(told, str):
        if told.startswith(_DECIMAL):
            return Decimal(told[1:])
        if told.startswith(_MEMBER):
            name, _, member = told[1:].partition(".")
            return _ENUMS[name][member]
        return told.removeprefix(_TEXT)
    if isinstance(told, list):
        return tuple(_decode(item) for item in told)
    if not isinstance(told, dict):
        return told
    fields = dict(told)
    name = fields.pop("_")
    if name == "map":
        return {_decode(key): _decode(item) for key, item in fields["items"]}
    if name == "set":
        return frozenset(_decode(item) for item in fields["items"])
    return _CLASSES[name](**{field: _decode(item) for field, item in fields.items()})


def _fields_of(cls: type[Any]) -> tuple[tuple[str, object], ...]:
    """Name and default of each field; a field without a default is always written."""
    found = _fields.get(cls)
    if found is None:
        found = _fields[cls] = tuple((field.name, _default_of(field)) for field in attrs.fields(cls))
    return found


def _default_of(field: attrs.Attribute[Any]) -> object:
    default = field.default
    return default.factory() if isinstance(default, attrs.Factory) else default  # type: ignore[arg-type, union-attr]


def _found(base: type[Any], has_fields: bool) -> dict[str, type[Any]]:
    found: dict[str, type[Any]] = {}
    for module in _MODULES:
        for name, value in vars(module).items():
            if isinstance(value, type) and value.__module__ == module.__name__:
                if has_fields and attrs.has(value):
                    found[name] = value
                if not has_fields and issubclass(value, base):
                    found[name] = value
    return found


_fields: dict[type[Any], tuple[tuple[str, object], ...]] = {}
_CLASSES: dict[str, type[Any]] = _found(object, True)
_ENUMS: dict[str, Any] = _found(enum.Enum, False)
